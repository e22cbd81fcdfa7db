"""The models on one device: loaded on first use, then cached."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from calotype.checkpoints.hashes import INDEX, SHARDS, shards_of, weights_in
from calotype.checkpoints.model_cache import ModelCache, expected_bytes
from calotype.checkpoints.store import Checkpoint, ModelStore, check_kind
from calotype.models.network import Network, computes_int8, pick_device, pick_dtype
from calotype.ops.color import to_uint8_rgb
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.checkpoints.lora import Adapter
    from calotype.models.diffusion import Diffusion
    from calotype.models.face_detector import DetectedFace, Detector
    from calotype.models.face_identity import FaceIdentity
    from calotype.models.face_mesh import FaceMesh
    from calotype.picture import Picture

GENERAL = "realesr-general-x4v3"  # the only network whose weights are interpolated with those of a twin


class Models:
    """Gives pipelines their networks, the face detector and the amount of free memory.

    A cached model is the one that an empty cache would load: it is cached by name and files, and loaded again when one
    of the files changes. No state of a task is kept here; the faces of a picture are forgotten with it.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.store = ModelStore(settings)
        self.device = pick_device(settings.device)
        self.cache = ModelCache(int(settings.memory * 2**30))
        self._face_identity: FaceIdentity | None = None
        self._found_faces: WeakKeyDictionary[Picture, list[DetectedFace]] = WeakKeyDictionary()

    @property
    def loaded(self) -> frozenset[str]:
        """The names of the cached models."""
        return self.cache.names

    def upscaler(self, name: str, denoise: float = 0.5, deep: bool = False) -> Network:
        """A super-resolution network by catalog name or path.

        Args:
            denoise: only for realesr-general-x4v3.
            deep: the picture has 16 bits per channel; bfloat16 and int8, of 8 bits, are not used for it.

        Raises:
            CalotypeError: unknown, not available, unreadable, or not a super-resolution network.
        """
        checkpoint = self.store.find(name, kind="upscale")
        return self._network("upscale", checkpoint, denoise if checkpoint.name == GENERAL else None, deep)

    def faces(self, name: str, deep: bool = False) -> Network:
        """A face restoration network by catalog name or path."""
        return self._network("faces", self.store.find(name, kind="faces"), None, deep)

    def repairer(self, name: str) -> Network:
        """A network that finds scratches, by catalog name or path."""
        return self._network("repair", self.store.find(name, kind="repair"), None, False)

    def inpainter(self, name: str) -> Network:
        """A network that fills holes, such as LaMa, by name or path."""
        return self._network("inpaint", self.store.find(name, kind="inpaint"), None, False)

    def detector(self) -> "Detector":
        from calotype.models.face_detector import Detector

        checkpoint = self.store.find("yunet", kind="detect")
        return self._cached("detect", [checkpoint], (), lambda: Detector(checkpoint.path))

    def found_faces(self, picture: "Picture") -> "list[DetectedFace]":
        """The faces of a picture, in no order. Searched for once: what repairs a photo asks for them as well."""
        if picture not in self._found_faces:
            self._found_faces[picture] = self.detector().find(to_uint8_rgb(picture.pixels))
        return self._found_faces[picture]

    def face_mesh(self) -> "FaceMesh":
        from calotype.models.face_mesh import FaceMesh

        mesh, iris = (self.store.find(name, kind="detect") for name in ("facemesh", "facemesh-iris"))
        return self._cached("detect", [mesh, iris], (), lambda: FaceMesh(mesh.path, iris.path))

    def face_identity(self) -> "FaceIdentity":
        """dlib's descriptors of faces; `models.face_identity.is_installed` says whether they are there."""
        from calotype.models.face_identity import FaceIdentity

        if self._face_identity is None:
            self._face_identity = FaceIdentity()
        return self._face_identity

    def diffusion(self, name: str, vae: str = "", prediction: str = "auto") -> "Diffusion":
        """A diffusion model by catalog name, file or diffusers folder; `vae` replaces its VAE.

        Args:
            prediction: epsilon or v where the model does not declare what it predicts; auto: as it declares.

        The attached adapters are those of its last use; each use attaches its own
        (`inference.diffusion.plan.attach_adapters`).

        Raises:
            CalotypeError: unknown, not available, unreadable, or of another kind.
        """
        checkpoint = self.store.find(name, kind="diffusion")
        vae_checkpoint = self.store.find(vae, kind="vae") if vae else None
        checkpoints = [checkpoint, *([vae_checkpoint] if vae_checkpoint else [])]
        dtype, _ = pick_dtype(self.device, self.settings.precision)
        return self._cached(
            "diffusion",
            checkpoints,
            (),
            lambda: self._diffusion(checkpoint, vae_checkpoint, prediction),
            dtype,
            (prediction,),
        )

    def _diffusion(self, checkpoint: Any, vae: Any, prediction: str) -> "Diffusion":
        from calotype.checkpoints.open_diffusion import open_diffusion
        from calotype.checkpoints.prediction import check_sampled
        from calotype.models.diffusion import Diffusion

        dtype, _ = pick_dtype(self.device, self.settings.precision)
        opened = open_diffusion(checkpoint, vae, prediction)
        check_sampled(opened.training.get("prediction_type", "epsilon"), opened.name)
        return Diffusion(opened, self.device, dtype)

    def gan(self, checkpoint: Checkpoint) -> Any:
        """The generator of a GAN, as saved by the task train_gan."""
        from calotype.checkpoints.open_gan import read

        return self._cached("gan", [checkpoint], (), lambda: read(checkpoint))

    def adapter(self, name: str) -> "Adapter":
        """A LoRA by the name under which it was added, or by its path."""
        from calotype.checkpoints.lora import read_adapter

        checkpoint = self.store.find(name, kind="lora")
        return self._cached("lora", [checkpoint], (), lambda: read_adapter(checkpoint.path, checkpoint.name))

    def embedding(self, name: str) -> Any:
        """A textual inversion embedding by the name under which it was added."""
        from calotype.checkpoints.textual_inversion import read_embedding

        checkpoint = self.store.find(name, kind="embedding")
        return self._cached("embedding", [checkpoint], (), lambda: read_embedding(checkpoint.path, checkpoint.name))

    def _network(self, kind: str, checkpoint: Checkpoint, denoise: float | None, deep: bool) -> Network:
        from calotype.checkpoints.open_network import load

        def load_first() -> Any:
            return load(checkpoint, denoise=denoise)

        loaded = self._cached(kind, [checkpoint], ("loaded", denoise), load_first)
        check_kind(loaded.name, loaded.kind, kind)
        dtype, _ = pick_dtype(self.device, self.settings.precision, loaded)
        if deep and dtype == torch.bfloat16 and self.settings.precision == "auto":
            dtype = torch.float32
        is_int8 = bool(loaded.activation_ranges) and not deep and computes_int8(self.device, self.settings.precision)
        part = "network", denoise, dtype, is_int8
        return self._cached(kind, [checkpoint], part, lambda: Network(loaded, self.device, dtype, is_int8), dtype)

    def _cached(
        self,
        kind: str,
        checkpoints: list[Checkpoint],
        part: tuple,
        load: Callable[[], Any],
        dtype: torch.dtype | None = None,
        options: tuple = (),
    ) -> Any:
        """Loads outside inference mode: tensors created in `torch.inference_mode` cannot be trained.

        Args:
            dtype: of the weights on the device; None: they are loaded on the CPU, in float32.
            options: with which the model is loaded.
        """

        def load_trainable() -> Any:
            with torch.inference_mode(False):
                return load()

        def needed() -> dict[str, int]:
            if part[:1] == ("network",) and self.device.type == "cpu" and dtype == torch.float32:
                return {}  # it is the one that is loaded already
            files = [path for checkpoint in checkpoints for path in _weights(checkpoint)]
            return {self.device.type if dtype else "cpu": expected_bytes(files, dtype or torch.float32)}

        identity = *map(_identity, checkpoints), *options
        state = [_file_state(checkpoint) for checkpoint in checkpoints]
        return self.cache.get(kind, checkpoints[0].name, identity, part, state, load_trainable, needed)

    def free_memory(self, device: torch.device, needed: float = 0) -> int:
        """Bytes of memory that networks may use on a device, within the limit of the settings.

        Args:
            needed: models that are not in use are removed as long as fewer bytes are free.
        """
        return self.cache.free(device, needed)

    def computed(self, network: Any | None, **more: Any) -> dict[str, Any]:
        """The versions and settings that the bits of a result depend on, for its record."""
        by_rows = isinstance(network, Network) and network.is_int8 and not more.get("tile")
        dtype = "int8" if by_rows else str(network.dtype).removeprefix("torch.") if network else "float32"
        return {
            "torch": torch.__version__.partition("+")[0],
            "device": self.device.type,
            "precision": dtype,
            "threads": torch.get_num_threads(),
            **more,
        }


def _identity(checkpoint: Checkpoint) -> tuple:
    """Cache key of a checkpoint: its name and paths, without the content of the files."""
    return checkpoint.name, checkpoint.path, checkpoint.twin, checkpoint.entry is not None


def _file_state(checkpoint: Checkpoint) -> tuple:
    """Changes when a file of the model changes, or the sha256 expected of it."""
    return checkpoint.sha256, [(str(path), *_stat(path)) for path in _files(checkpoint)]


def _files(checkpoint: Checkpoint) -> Iterator[Path]:
    yield from (path for path in (checkpoint.path, checkpoint.twin) if path is not None)
    yield from (checkpoint.path.with_suffix(end) for end in (".yaml", ".yml"))  # may declare what a model predicts
    if checkpoint.path.name == INDEX:
        yield from _weights(checkpoint)
        yield from sorted(path for end in ("json", "txt") for path in checkpoint.path.parent.glob(f"*/*.{end}"))
    elif checkpoint.path.suffix.lower() in (".param", ".bin"):  # the two files of ncnn
        yield from (checkpoint.path.with_suffix(end) for end in (".param", ".bin"))


def _weights(checkpoint: Checkpoint) -> Iterator[Path]:
    """The files of weights: one, or those of a diffusers folder."""
    if checkpoint.path.name != INDEX:
        is_ncnn = checkpoint.path.suffix.lower() == ".param"
        yield checkpoint.path.with_suffix(".bin") if is_ncnn else checkpoint.path
        return
    for weights in weights_in(checkpoint.path.parent).values():
        yield weights
        yield from shards_of(weights) if weights.name.endswith(SHARDS) else ()


def _stat(path: Path) -> tuple[int, ...]:
    with contextlib.suppress(OSError):  # loading it reports the error
        stat = path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
    return ()
