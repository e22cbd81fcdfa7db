"""Adds a user's own files to the model store: inspected first, then used in place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calotype.checkpoints import file_kinds
from calotype.checkpoints.layouts import EMA, UNET, detect_layout
from calotype.checkpoints.shapes import shapes_in
from calotype.checkpoints.store import CATALOG, ENDINGS, INDEX, KINDS, Checkpoint, ModelStore, known_name
from calotype.errors import CalotypeError, Message
from calotype.files import files_below

FOLDERS = {  # of A1111 and Forge, below `models` or the root folder; ComfyUI's names where they differ
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
    """Inspects the file to find its kind, then adds it to the store under a name.

    A catalog name may be given for a file that was downloaded by other means. A diffusers folder is added as one model.

    Raises:
        CalotypeError: the file cannot be used, or the name is taken or invalid.
    """
    path = Path(file).expanduser().absolute()
    path = path / INDEX if (path / INDEX).is_file() else path
    name = known_name(name or (path.parent.name if path.name == INDEX else path.stem))
    store.check_name(name)
    kind = kind_of_file(path, name)
    if name in CATALOG and CATALOG[name].kind != kind:
        raise CalotypeError(
            "{path} is for {purpose}, and {name} is for {required}",
            path=path,
            purpose=KINDS[kind],
            name=name,
            required=KINDS[CATALOG[name].kind],
        )
    return store.put(name, path, kind)


def kind_of_file(path: Path, name: str = "") -> str:
    """The kind of a file, a key of KINDS: by its tensor names where they are enough, otherwise by loading it.

    Raises:
        CalotypeError: it cannot be read, or no task of Calotype uses it.
    """
    if path.name == INDEX:
        return "diffusion"
    shapes = shapes_in(path)
    if any(key.startswith((UNET, EMA)) for key in shapes):
        detect_layout(shapes, path)
        return "diffusion"
    kind = file_kinds.kind_of_file(shapes) if shapes else None
    if kind is not None and kind.purpose in ("lora", "vae", "embedding", "diffusion"):
        return kind.purpose
    if kind is not None and not kind.purpose:
        raise file_kinds.wrong_kind_error(path, shapes, Message("a model for a task of Calotype"))
    from calotype.checkpoints.open_network import load

    return load(Checkpoint(name or path.stem, path)).kind


@dataclass(frozen=True)
class Imported:
    """The outcome for one file of another program: added, known (already in the store) or failed, with the `fault`."""

    path: Path
    name: str
    kind: str
    state: str = "added"
    fault: CalotypeError | None = None


def import_from(store: ModelStore, folder: Path) -> Iterator[Imported]:
    """Adds all models of an A1111, Forge or ComfyUI folder to the store, in place: nothing is copied.

    A file that cannot be used does not stop the others. Files that are already in the store are skipped.

    Raises:
        CalotypeError: there is no such folder, or it has none of the known subfolders.
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
        for path in sorted(files_below(directory)):
            if path.suffix.lower() in ENDINGS and path.resolve() not in visited:
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
