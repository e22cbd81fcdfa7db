"""Checks of a request before torch or a model is loaded: names, files, folders, output paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calotype.checkpoints.content import SAFETENSORS
from calotype.checkpoints.hashes import INDEX
from calotype.checkpoints.header import check_file, check_not_truncated
from calotype.errors import CalotypeError
from calotype.files import check_folder
from calotype.settings import Settings
from calotype.suffixes import SUFFIXES
from calotype.tasks import Imagine, kind_of
from calotype.tasks.guard import STORED, names_in
from calotype.tasks.limits import Limits, check_work
from calotype.tasks.optimizers import check_known
from calotype.tasks.sheets import cells

# Options that are files to read.
FILE_OPTIONS = ("init", "mask", "hints", "reference")
FILE_OPTIONS += ("network_weights", "vgg", "discriminator", "tagger", "tagger_tags")
NO_FOLDER = {
    "train_gan": "there is no folder {folder}; give the folder with your pictures",
    "train_upscaler": "there is no folder {folder}; give the folder with your pictures",
    "train_repairer": "there is no folder {folder}; give the folder with your pictures",
    "train_restorer": "there is no folder {folder}; give the folder with faces",
    "train_diffusion": "there is no {folder}; give a folder of pictures with captions, or a .tar of them",
}


def check(task: Any, settings: Settings, limits: Limits | None = None) -> None:
    """Checks the names, files and folders of a task, without loading torch or a model.

    Args:
        limits: of an untrusted request, whose picture sizes are checked too; None: no limits.
    Raises:
        CalotypeError: a model that is unknown, not downloaded or of another kind; a file that is missing or not a
            checkpoint; a dataset or output folder that cannot be used; limits are exceeded.
    """
    tasks = [cell.task for cell in cells(task)] if isinstance(task, Imagine) else [task]
    _check_names(tasks, settings)
    for name in FILE_OPTIONS:
        path = getattr(task, name, None)
        if path is not None and not path.exists():
            raise CalotypeError("{path} does not exist; check the name", path=path, option=name)
    if hasattr(task, "output_dir"):
        check_folder(task.output_dir)
    if any(getattr(task, name, None) is not None for name in ("photos", "dataset_config", "in_json")):
        _check_photos(task, kind_of(task))
    if limits is not None and isinstance(task, Imagine) and task.init:
        from calotype.picture import size_of

        check_work(task, tasks, limits, size_of(task.init, settings.max_pixels))


def _check_names(tasks: Sequence[Any], settings: Settings) -> None:
    """Checks each name once, however many cells of an X/Y grid have it."""
    from calotype.checkpoints.store import ModelStore

    store = ModelStore(settings)
    for kind, name in dict.fromkeys((kind, name) for task in tasks for _, kind, name in names_in(task)):
        if kind == "lora" and Path(name).is_dir():  # in peft's format
            continue
        if kind in STORED:
            _check_weights(store.find(name, kind=kind).path)
        elif kind == "optimizer":
            check_known(name)


def _check_weights(path: Path) -> None:
    """Checks the first bytes of a file of weights; further checks are made when it is opened."""
    if path.name != INDEX and check_file(path) == SAFETENSORS:
        check_not_truncated(path)


def _check_photos(task: Any, kind: str) -> None:
    """Checks that the dataset exists, and for a LoRA that its captions can be read."""
    from calotype.training.data.dataset import find_folders, pictures_below
    from calotype.training.data.training_set import find_training_set

    folder = task.photos
    if kind == "train_lora":
        find_training_set(task)
    elif kind == "caption":
        find_folders(folder)
    elif not folder.exists() or (kind != "train_diffusion" and not folder.is_dir()):
        raise CalotypeError(NO_FOLDER[kind], folder=folder)
    elif folder.is_dir() and not pictures_below(folder, task.output_dir)[0]:
        raise CalotypeError(
            "{folder} has no pictures to train on; put some there ({names})",
            folder=folder,
            names=", ".join(SUFFIXES),
        )
