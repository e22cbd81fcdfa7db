"""The models of one device: opened when first wanted, then kept."""

from pathlib import Path
from typing import Any

import psutil
import torch

from calotype.checkpoints.catalog import Shelf
from calotype.checkpoints.open import load
from calotype.models.detector import Detector
from calotype.models.network import Network, pick_device, pick_dtype
from calotype.settings import Settings

GENERAL = "realesr-general-x4v3"  # the one network that mixes with a twin


class Models:
    """What pipelines ask for networks, the face detector and free memory."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.shelf = Shelf(settings)
        self.device = pick_device(settings.device)
        self.preferred_faces: str | None = None  # what "auto" means, where a record says it
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

    def detector(self) -> Detector:
        key = ("detector",)
        if key not in self._kept:
            self._kept[key] = Detector(self.shelf.find("yunet", kind="detect").path)
        return self._kept[key]

    def _network(self, found: Any, denoise: float | None, deep: bool) -> Network:
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

    def computed(self, network: Network | None, **more: Any) -> dict[str, Any]:
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
