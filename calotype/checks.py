"""What can be said of a request before torch or a model is loaded: names, files, folders, places of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calotype.checkpoints.hashes import INDEX
from calotype.checkpoints.header import check_file, check_whole
from calotype.errors import CalotypeError
from calotype.files import check_folder
from calotype.settings import Settings
from calotype.suffixes import SUFFIXES
from calotype.tasks import Imagine, kind_of
from calotype.tasks.guard import STORED, names_in
from calotype.tasks.limits import Limits, check_work
from calotype.tasks.optimizers import check_known
from calotype.tasks.sheets import cells

FILES = ("init", "mask", "network_weights", "vgg", "discriminator", "tagger", "tagger_tags")  # options that are read
MISSING = {
    "train_gan": "there is no folder {folder}; give the folder with your pictures",
    "train_upscaler": "there is no folder {folder}; give the folder with your pictures",
    "train_restorer": "there is no folder {folder}; give the folder with faces",
    "train_diffusion": "there is no {folder}; give a folder of pictures with captions, or a .tar of them",
}


def check(task: Any, settings: Settings, limits: Limits | None = None) -> None:
    """Checks names, files and folders of a task. Loads neither torch nor a model.

    Args:
        limits: of a request from a stranger, whose pictures are measured too; None: there are none.
    Raises:
        CalotypeError: a model that is unknown, not at hand or for another purpose; a file that is missing or is no
            checkpoint; a folder to learn from, or for results, that cannot be used; more than the limits.
    """
    parts = [cell.task for cell in cells(task)] if isinstance(task, Imagine) else [task]
    _check_names(parts, settings)
    for name in FILES:
        path = getattr(task, name, None)
        if path is not None and not path.exists():
            raise CalotypeError("{path} does not exist; check the name", path=path, option=name)
    if hasattr(task, "output_dir"):
        check_folder(task.output_dir)
    if getattr(task, "photos", None) is not None:
        _check_photos(task, kind_of(task))
    if limits is not None and isinstance(task, Imagine) and task.init:
        from calotype.picture import size_of

        check_work(task, parts, limits, size_of(task.init, settings.max_pixels))


def _check_names(parts: Sequence[Any], settings: Settings) -> None:
    """Each name once, however many cells of a sheet have it."""
    from calotype.checkpoints.store import ModelStore

    shelf = ModelStore(settings)
    for kind, name in dict.fromkeys((kind, name) for part in parts for _, kind, name in names_in(part)):
        if kind == "lora" and Path(name).is_dir():  # peft's form
            continue
        if kind in STORED:
            _check_weights(shelf.find(name, kind=kind).path)
        elif kind == "optimizer":
            check_known(name)


def _check_weights(path: Path) -> None:
    """Whether a file of weights can be one, by its first bytes; opening it says the rest."""
    if path.name != INDEX:
        check_file(path)
    if path.suffix.lower() == ".safetensors":
        check_whole(path)


def _check_photos(task: Any, kind: str) -> None:
    """What is learnt from is there; the captions of a LoRA's photos can be read."""
    from calotype.training.data.dataset import find_photos, find_rooms, pictures_below

    folder = task.photos
    if kind == "train_lora":
        find_photos(folder, task.caption_extension, has_wildcards=task.enable_wildcard)
    elif kind == "caption":
        find_rooms(folder)
    elif not folder.exists() or (kind != "train_diffusion" and not folder.is_dir()):
        raise CalotypeError(MISSING[kind], folder=folder)
    elif folder.is_dir() and not pictures_below(folder, task.output_dir)[0]:
        raise CalotypeError(
            "{folder} has no pictures that can be learnt from; put some there ({names})",
            folder=folder,
            names=", ".join(SUFFIXES),
        )
