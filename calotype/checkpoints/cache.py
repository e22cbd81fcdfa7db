"""The models of one device: opened when first wanted, then kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from calotype.checkpoints.catalog import Checkpoint, Shelf
from calotype.models.network import Network, pick_device, pick_dtype
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.models.detector import Detector
    from calotype.models.diffusion import Diffusion
    from calotype.ops.prompt import Extra

GENERAL = "realesr-general-x4v3"  # the one network that mixes with a twin


class Models:
    """What pipelines ask for networks, the face detector and free memory."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.shelf = Shelf(settings)
        self.device = pick_device(settings.device)
        self.preferred_faces: str | None = None  # what "auto" means, where a record says it
        self.unfit: list[str] = []  # modules of the LoRAs put on last that the model does not have
        self._kept: dict[tuple, Any] = {}

    def upscaler(self, name: str, denoise: float = 0.5, deep: bool = False) -> Network:
        """A super-resolution network by catalog name or file.

        Args:
            denoise: for realesr-general-x4v3 alone.
            deep: the picture has 16 bits; bfloat16, which has 8 significant ones, is not used for it.

        Raises:
            CalotypeError: unknown, not at hand, unreadable, or not for enlarging.
        """
        found = self.shelf.find(name, kind="upscale")
        return self._network(found, denoise if found.name == GENERAL else None, deep)

    def faces(self, name: str, deep: bool = False) -> Network:
        """A face restoration network by catalog name or file."""
        return self._network(self.shelf.find(name, kind="faces"), None, deep)

    def detector(self) -> "Detector":
        from calotype.models.detector import Detector

        return self._once(("detector",), lambda: Detector(self.shelf.find("yunet", kind="detect").path))

    def diffusion(self, name: str, vae: str = "") -> "Diffusion":
        """A model that makes pictures, by catalog name, file or diffusers folder; with a VAE of one's own where named.

        Only the last one is kept: two would fill most memories.

        Raises:
            CalotypeError: unknown, not at hand, unreadable, or for another purpose.
        """
        found = self.shelf.find(name, kind="diffusion")
        other = self.shelf.find(vae, kind="vae") if vae else None
        key = ("diffusion", found.path, other and other.path)
        if key not in self._kept:
            for old in [key for key in self._kept if key[0] in ("diffusion", "adapter")]:
                del self._kept[old]
        return self._once(key, lambda: self._diffusion(found, other))

    def _diffusion(self, found: Any, vae: Any) -> "Diffusion":
        from calotype.checkpoints.diffusion import open_diffusion
        from calotype.models.diffusion import Diffusion

        dtype, _ = pick_dtype(self.device, self.settings.precision)
        return Diffusion(open_diffusion(found, vae), self.device, dtype)

    def forger(self, found: Checkpoint) -> Any:
        """The generator of a GAN, as `calotype train gan` writes it; again where the file has become another."""
        from calotype.checkpoints.gan import read

        stat = found.path.stat()
        key = ("forger", found.path, stat.st_size, stat.st_mtime_ns)
        for old in [old for old in self._kept if old[:2] == key[:2] and old != key]:
            del self._kept[old]
        return self._once(key, lambda: read(found))

    def adapter(self, name: str) -> Any:
        """A LoRA by the name under which it was added, or by its file."""
        from calotype.checkpoints.lora import read_adapter

        found = self.shelf.find(name, kind="lora")
        return self._once(("adapter", found.path), lambda: read_adapter(found.path, found.name))

    def put_on(self, wanted: "Sequence[Extra]", model: "Diffusion") -> Callable[[], None]:
        """LoRAs onto a model's weights; what comes back takes them off and leaves no trace."""
        if not wanted:
            return lambda: None
        from calotype.checkpoints.lora import attach

        adapters = [(self.adapter(lora.name), lora.text, lora.unet) for lora in wanted]
        attached = attach(adapters, model.unet, [part.encoder for part in model.text], model.name)
        self.unfit = list(attached.unfit)
        return attached.remove

    def embedding(self, name: str) -> Any:
        """A learned word (textual inversion) by the name under which it was added."""
        from calotype.checkpoints.embeddings import read_embedding

        found = self.shelf.find(name, kind="embedding")
        return self._once(("embedding", found.path), lambda: read_embedding(found.path, found.name))

    def _network(self, found: Any, denoise: float | None, deep: bool) -> Network:
        from calotype.checkpoints.open import load

        loaded = self._once(("loaded", found.path, denoise), lambda: load(found, denoise=denoise))
        dtype, _ = pick_dtype(self.device, self.settings.precision, loaded)
        if deep and dtype == torch.bfloat16 and self.settings.precision == "auto":
            dtype = torch.float32
        return self._once((found.path, denoise, dtype), lambda: Network(loaded, self.device, dtype))

    def _once(self, key: tuple, make: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def free_memory(self, device: torch.device) -> int:
        """Bytes that networks may take on a device, within what the settings allow."""
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
        else:
            free = min(psutil.virtual_memory().available, _left_in_container())
        limit = int(self.settings.memory * 2**30)
        return min(free, limit) if limit else free

    def computed(self, network: Any | None, **more: Any) -> dict[str, Any]:
        """What else the bits of a result depend on, for its record."""
        dtype = str(network.dtype).removeprefix("torch.") if network else "float32"
        return {
            "torch": torch.__version__.partition("+")[0],
            "device": self.device.type,
            "precision": dtype,
            "threads": torch.get_num_threads(),
            **more,
        }


def _left_in_container() -> int:
    """Bytes that a cgroup (version 2) still allows; a large number where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**62
