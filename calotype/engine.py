"""One device and the models on it: takes a task, yields progress, then the result."""

from collections.abc import Iterator
from typing import Any

import torch

from calotype.checkpoints.cache import Models
from calotype.models.network import pick_dtype
from calotype.pipelines import pipeline
from calotype.record import Result
from calotype.settings import Settings
from calotype.tasks import Note, Progress, kind_of


class Engine:
    """Keeps models between tasks. Closing a run cancels it within one tile."""

    def __init__(self, settings: Settings):
        self.settings = settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.models = Models(settings)

    def run(self, task: Any) -> Iterator[Progress | Note | Result]:
        """Raises CalotypeError for what the person can mend."""
        return pipeline(kind_of(task))(task, self.models)

    def explain(self) -> dict[str, Any]:
        """What computes and why, for `calotype doctor`."""
        dtype, why = pick_dtype(self.models.device, self.settings.precision)
        return {
            "device": self.models.device.type,
            "precision": str(dtype).removeprefix("torch."),
            "why": why,
            "threads": torch.get_num_threads(),
            "free_memory": self.models.free_memory(self.models.device),
            "torch": torch.__version__,
        }
