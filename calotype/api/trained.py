"""Keeping what a training has made as a model."""

import contextlib
import shutil
from pathlib import Path, PurePosixPath

from calotype.api.service import Caller, Service
from calotype.checkpoints.previews import OURS
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.files import atomic_path, make_folder, write_atomic
from calotype.jobs.jobs import Job, StoredResult
from calotype.outputs.publish import thumbnail

TRAINED = {"train_lora": "lora", "train_gan": "diffusion", "train_upscaler": "upscale", "train_restorer": "faces"}
TRAINED |= {"train_repairer": "repair"}
PREVIEW_SIDE = 320  # pixels


def keep_trained(service: Service, caller: Caller, job: Job, result: StoredResult, owner: str) -> str:
    """Keeps a file of a training as a model; the same file again has the name that it was given first.

    Args:
        owner: the account that alone may use it; empty: everybody may.
    Raises:
        CalotypeError: it is no file of a model.
        OverBudget: the account has too many files.
    """
    if job.kind not in TRAINED or not result.name.endswith(".safetensors"):
        raise CalotypeError("{option} is no file of a model", option="result")
    service.check_storage(caller)
    models = ModelStore(service.settings, trusted=False)
    folder = models.trained / job.id
    make_folder(folder, "home")
    path = folder / PurePosixPath(result.name).name  # of a worker, perhaps on another computer
    with atomic_path(path, "home") as whole:
        shutil.copyfile(service.store.files.result(result.id), whole)
    _save_preview(service, job, path)
    return models.register(path, TRAINED[job.kind], owner)


def owner_of(caller: Caller) -> str:
    """The account that alone may use what a caller keeps on the page: everybody may use what the owner of the service
    keeps there, which is empty; what others keep is theirs alone."""
    return "" if caller.is_admin else caller.owner


def _save_preview(service: Service, job: Job, model: Path) -> None:
    """A small copy of the last samples of the training beside the model."""
    files = service.store.files
    pictures = [files.result(result.id) for result in job.results if result.is_picture]
    samples = pictures[-1] if pictures else files.preview(job.id)
    with contextlib.suppress(CalotypeError):  # there are none, or no picture: then the model has no preview
        write_atomic(model.with_name(model.stem + OURS), thumbnail(samples, PREVIEW_SIDE, service.settings.max_pixels))
