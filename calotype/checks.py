"""What can be said of a request before torch or a model is loaded: models by name, folders, places of results."""

from typing import Any

from calotype.errors import CalotypeError
from calotype.files import check_folder
from calotype.settings import Settings
from calotype.tasks import kind_of

NAMED = {
    "restore": {"upscaler": "upscale", "face_model": "faces"},
    "upscale": {"model": "upscale"},
    "imagine": {"model": "diffusion", "vae": "vae"},
    "train_lora": {"model": "diffusion", "vae": "vae"},
    "train_upscaler": {"model": "upscale"},
    "train_restorer": {"model": "faces"},
}  # kind of task: its options that name models, and what these are for
MISSING = {
    "train_gan": "there is no folder {folder}; give the folder with your pictures",
    "train_upscaler": "there is no folder {folder}; give the folder with your pictures",
    "train_restorer": "there is no folder {folder}; give the folder with faces",
    "train_diffusion": "there is no {folder}; give a folder of pictures with captions, or a .tar of them",
}
NO_MODELS = ("", "none", "auto")


def check(task: Any, settings: Settings) -> None:
    """Raises CalotypeError for a model that is unknown, not at hand or for another purpose, and for a folder to learn
    from, or for results, that cannot be used."""
    kind = kind_of(task)
    _check_models(task, NAMED.get(kind, {}), settings)
    for path in (getattr(task, "init", None), getattr(task, "mask", None)):
        if path is not None and not path.exists():
            raise CalotypeError("{path} does not exist; check the name", path=path)
    if hasattr(task, "output_dir"):
        check_folder(task.output_dir)
    if getattr(task, "photos", None) is not None:
        _check_photos(task, kind)


def _check_models(task: Any, named: dict[str, str], settings: Settings) -> None:
    from calotype.checkpoints.catalog import Shelf

    for option, purpose in named.items():
        name = getattr(task, option)
        if name not in NO_MODELS:
            Shelf(settings).find(name, kind=purpose)


def _check_photos(task: Any, kind: str) -> None:
    """What is learnt from is there; the captions of a LoRA's photos can be read."""
    from calotype.training.photos import find_photos, find_rooms

    if kind == "train_lora":
        find_photos(task.photos, task.caption_extension, has_wildcards=task.enable_wildcard)
    elif kind == "caption":
        find_rooms(task.photos)
    elif not task.photos.exists() or (kind != "train_diffusion" and not task.photos.is_dir()):
        raise CalotypeError(MISSING[kind], folder=task.photos)
