"""A person's own files on the shelf: looked into first, then used where they lie."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from calotype.checkpoints.layouts import UNET, VAE, detect_layout
from calotype.checkpoints.shapes import shapes_in
from calotype.checkpoints.store import CATALOG, ENDINGS, INDEX, KINDS, Checkpoint, ModelStore, known_name
from calotype.errors import CalotypeError

FOLDERS = {  # of A1111 and Forge, below `models` or the program's own folder; ComfyUI's names where they differ
    "Stable-diffusion": "diffusion",
    "checkpoints": "diffusion",
    "Lora": "lora",
    "LyCORIS": "lora",
    "loras": "lora",
    "VAE": "vae",
    "vae": "vae",
    "embeddings": "embedding",
    "ESRGAN": "upscale",
    "RealESRGAN": "upscale",
    "upscale_models": "upscale",
    "GFPGAN": "faces",
    "Codeformer": "faces",
    "facerestore_models": "faces",
}


def add(store: ModelStore, file: str | Path, name: str | None = None) -> Checkpoint:
    """Looks into the file to see what it is for, then gives it a name.

    A catalog name may be given for a file that was fetched in another way. A diffusers folder is added as one model.

    Raises:
        CalotypeError: the file cannot be used, or the name is taken or no name.
    """
    path = Path(file).expanduser().absolute()
    path = path / INDEX if (path / INDEX).is_file() else path
    name = known_name(name or (path.parent.name if path.name == INDEX else path.stem))
    store.check_name(name)
    kind = kind_of_file(path, name)
    if name in CATALOG and CATALOG[name].kind != kind:
        raise CalotypeError(
            "{path} is for {purpose}, and {name} is for {wanted}",
            path=path,
            purpose=KINDS[kind],
            name=name,
            wanted=KINDS[CATALOG[name].kind],
        )
    return store.put(name, path, kind)


def kind_of_file(path: Path, name: str = "") -> str:
    """What a file is for, a key of KINDS: by its keys where they tell, else by opening it.

    Raises:
        CalotypeError: it cannot be read, or nothing of Calotype's takes it.
    """
    if path.name == INDEX:
        return "diffusion"
    shapes = shapes_in(path)
    if any(key.startswith(UNET) for key in shapes):
        detect_layout(shapes, path)
        return "diffusion"
    kind = next((kind for kind, is_so in _SIGNS.items() if is_so(shapes)), None)
    if kind:
        return kind
    from calotype.checkpoints.open_network import load

    return load(Checkpoint(name or path.stem, path)).kind


def _is_lora(shapes: dict[str, tuple[int, ...]]) -> bool:
    signs = (".lora_down.", ".lora_up.", ".lora_A.", ".lora.down.", "_lora.down.", ".lora_linear_layer.")
    signs += (".hada_w1_a", ".hada_w2_a", ".lokr_w1", ".lokr_w2", ".diff", ".w_norm")
    return any(sign in key for key in shapes for sign in signs)


def _is_vae(shapes: dict[str, tuple[int, ...]]) -> bool:
    plain = {key.removeprefix(VAE) for key in shapes}
    return {"decoder.conv_in.weight", "encoder.conv_in.weight", "post_quant_conv.weight"} <= plain


def _is_embedding(shapes: dict[str, tuple[int, ...]]) -> bool:
    return 1 <= len(shapes) <= 2 and all(len(shape) <= 2 and shape and shape[-1] in WIDTHS for shape in shapes.values())


def _is_gan_generator(shapes: dict[str, tuple[int, ...]]) -> bool:
    return {"first", "scale.weight", "stages.0.0.join.weight", "out.weight"} <= shapes.keys()


WIDTHS = (256, 768, 1024, 1280)  # of the text encoders that words are learned for
_SIGNS: dict[str, Callable[[dict[str, tuple[int, ...]]], bool]] = {
    "lora": _is_lora,
    "diffusion": _is_gan_generator,  # which draws as well; its own metadata tells it apart
    "vae": _is_vae,
    "embedding": _is_embedding,
}


@dataclass(frozen=True)
class Imported:
    """What became of one file of another program: added, known (it was on the shelf) or failed, with the `fault`."""

    path: Path
    name: str
    kind: str
    state: str = "added"
    fault: CalotypeError | None = None


def import_from(store: ModelStore, folder: Path) -> Iterator[Imported]:
    """Puts all models of an A1111, Forge or ComfyUI folder on the shelf, where they lie: nothing is copied.

    One file that cannot be used does not stop the others. What is on the shelf already is passed over.

    Raises:
        CalotypeError: there is no such folder, or none of the known ones in it.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}", folder=folder)
    folders = [(folder / below / name, kind) for below in ("", "models") for name, kind in FOLDERS.items()]
    folders = [(directory, kind) for directory, kind in folders if directory.is_dir()]
    if not folders:
        known = ", ".join(FOLDERS)
        raise CalotypeError(
            "{folder} has none of the folders in which A1111 or ComfyUI keep models ({known})",
            folder=folder,
            known=known,
        )
    visited: set[Path] = set()
    for directory, kind in folders:
        for path in sorted(directory.rglob("*")):
            if path.suffix.lower() in ENDINGS and path.is_file() and path.resolve() not in visited:
                visited.add(path.resolve())
                yield _imported(store, path, kind)


def _imported(store: ModelStore, path: Path, kind: str) -> Imported:
    name = store.free_name(path)
    if not name:
        return Imported(path, path.stem, kind, "known")
    try:
        detected = kind_of_file(path, name)
        if detected != kind and "embedding" in (detected, kind):
            raise CalotypeError("{path} is for {purpose}", path=path, purpose=KINDS[detected])
        store.put(name, path, detected)
    except CalotypeError as fault:
        return Imported(path, name, kind, "failed", fault)
    return Imported(path, name, detected)
