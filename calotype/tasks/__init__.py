"""Tasks: requests as plain data. Imports no torch."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from calotype.errors import CalotypeError
from calotype.options import as_data, as_name, nearest, read
from calotype.tasks.adapters import ConvertLora, ExtractLora, LoraFileOutput, MergeLora, ResizeLora
from calotype.tasks.captions import Caption
from calotype.tasks.diffusion import TrainDiffusion
from calotype.tasks.drawing import Hires, Imagine, Sampling, Start, read_margins, read_size
from calotype.tasks.enhancing import TrainRestorer, TrainUpscaler
from calotype.tasks.events import Drawing, Learning, Note, Progress, Sampled, note
from calotype.tasks.pictures import (
    FORMATS,
    Colour,
    FindFaces,
    Restore,
    Saving,
    Split,
    Strengths,
    Tiling,
    Upscale,
    chosen_faces,
    chosen_repairs,
)
from calotype.tasks.training import TrainLora
from calotype.tasks.training_gan import TrainGan
from calotype.tasks.training_repair import TrainRepairer

if TYPE_CHECKING:
    from calotype.tasks.guard import Files, Names
    from calotype.tasks.limits import Limits

__all__ = [
    "FORMATS",
    "TASKS",
    "Caption",
    "Colour",
    "ConvertLora",
    "Drawing",
    "ExtractLora",
    "FindFaces",
    "Hires",
    "Imagine",
    "Learning",
    "Limits",
    "LoraFileOutput",
    "MergeLora",
    "Note",
    "Progress",
    "ResizeLora",
    "Restore",
    "Sampled",
    "Sampling",
    "Saving",
    "Split",
    "Start",
    "Strengths",
    "Tiling",
    "TrainDiffusion",
    "TrainGan",
    "TrainLora",
    "TrainRepairer",
    "TrainRestorer",
    "TrainUpscaler",
    "Upscale",
    "chosen_faces",
    "chosen_repairs",
    "is_training",
    "kind_of",
    "note",
    "options_of",
    "read_margins",
    "read_size",
    "read_task",
]

TASKS: dict[str, type] = {
    "restore": Restore,
    "upscale": Upscale,
    "split": Split,
    "colour": Colour,
    "imagine": Imagine,
    "find_faces": FindFaces,
    "train_lora": TrainLora,
    "train_diffusion": TrainDiffusion,
    "caption": Caption,
    "merge_lora": MergeLora,
    "resize_lora": ResizeLora,
    "extract_lora": ExtractLora,
    "convert_lora": ConvertLora,
    "train_gan": TrainGan,
    "train_upscaler": TrainUpscaler,
    "train_restorer": TrainRestorer,
    "train_repairer": TrainRepairer,
}


def read_task(
    kind: str,
    data: Mapping[str, Any],
    trusted: bool = True,
    *,
    names: "Names | None" = None,
    files: "Files | None" = None,
    limits: "Limits | None" = None,
) -> Any:
    """Makes a task from external data, and validates it.

    Args:
        trusted: whether the data come from the owner of the computer. Untrusted data may name no file or folder, no
            module, only models in the store, and stay within the limits; see `tasks.guard`.
        names: the names allowed in an untrusted request, by kind: "diffusion", "upscale", "faces", "vae", "lora"
            (`ModelStore.names`), and "style".
        files: uploaded files, by option: {"source": Path(...)}; in nested options by their path.
        limits: of an untrusted request; `limits.LIMITS` if None.

    Raises:
        CalotypeError: an unknown kind, name, type or range, or something not allowed in an untrusted request.
    """
    if not isinstance(kind, str) or kind not in TASKS:
        raise CalotypeError("there is no task {kind}{hint}", kind=as_name(kind), hint=nearest(kind, TASKS))
    if trusted and not files:
        return read(TASKS[kind], data)
    from calotype.tasks.guard import read_request, with_files
    from calotype.tasks.limits import LIMITS

    if trusted:
        return read(TASKS[kind], with_files(TASKS[kind], data, files))
    return read_request(TASKS[kind], data, names, files, limits or LIMITS)


def kind_of(task: Any) -> str:
    return next(kind for kind, cls in TASKS.items() if cls is type(task))


def is_training(kind: str) -> bool:
    """Whether a kind of task is a training run."""
    return hasattr(TASKS.get(kind), "output_dir")


# options that records of earlier versions do not know: left out at their defaults
LATER = ("page", "repair", "fading", "min_likeness", "unclear_strength", "damaged_file")
LATER_OF_RESTORE = ("mask", "repair_model", "inpaint_model")  # pictures that are drawn have had a mask from the start


def options_of(task: Any) -> dict[str, Any]:
    """The task as JSON data, without its sources and the options whose resolved values the record stores elsewhere."""
    excluded = ("source", "init", "tile", "auto_seconds", "dry_run", "examined", "has_uncertainty", "has_mask")
    excluded += ("auto_face_model", "auto_upscaler", "auto_repair", "auto_face_mesh", "auto_identity")
    later = LATER + (LATER_OF_RESTORE if isinstance(task, Restore) else ())
    usual = {spec.name: spec.default for spec in fields(task) if spec.name in later}
    return {
        name: value
        for name, value in as_data(task).items()
        if name not in excluded and not (name in usual and value == usual[name])
    }
