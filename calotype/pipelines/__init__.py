"""One file for each kind of task; each is a generator that yields progress and, last, the result."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

_PLACES = {
    "restore": "restore",
    "upscale": "upscale",
    "split": "split",
    "colour": "colour",
    "imagine": "imagine",
    "find_faces": "find_faces",
    "train_lora": "train_lora",
    "train_diffusion": "train_diffusion",
    "caption": "caption",
    **dict.fromkeys(("merge_lora", "resize_lora", "extract_lora", "convert_lora"), "lora_tools"),
    "train_gan": "train_gan",
    "train_upscaler": "train_upscaler",
    "train_restorer": "train_restorer",
    "train_repairer": "train_repairer",
}  # kind: module and function


def pipeline(kind: str) -> Callable[..., Iterator[Any]]:
    """Imported when first wanted: drawing needs nothing of what restoring needs, and each import takes seconds."""
    return getattr(importlib.import_module(f"calotype.pipelines.{_PLACES[kind]}"), kind)
