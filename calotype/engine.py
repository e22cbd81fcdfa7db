"""One device and the models on it: takes a task, yields progress, then the result."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from calotype.files import uninterrupted
from calotype.settings import Settings
from calotype.tasks import Note, Progress, kind_of

if TYPE_CHECKING:
    from calotype.checkpoints.models import Models
    from calotype.record import Result


class Engine:
    """Keeps models between tasks. Closing a run cancels it within one tile.

    A task finds nothing of another one, whether it comes after it or takes turns with it, step by step: its result is
    that of a fresh engine, bit for bit.

    Neither making one nor asking what it is loads torch: that happens at the first task.

    Args:
        before_loading: called once, before torch is imported.
    """

    def __init__(self, settings: Settings, before_loading: Callable[[], None] | None = None):
        self.settings = settings
        self._before_loading = before_loading

    @property
    def is_loaded(self) -> bool:
        """Whether torch is there, and a device was chosen."""
        return "models" in vars(self)

    @cached_property
    def models(self) -> "Models":
        with uninterrupted():  # libraries that are interrupted while they load may swallow it, or go on half loaded
            if self._before_loading:
                self._before_loading()
            import torch

            from calotype.checkpoints.models import Models

        if self.settings.threads:  # of the whole process
            torch.set_num_threads(self.settings.threads)
        return Models(self.settings)

    def run(self, task: Any) -> "Iterator[Progress | Note | Result]":
        """Raises CalotypeError for what the person can mend."""
        models = self.models  # torch is loaded here
        from calotype.models.process_state import isolated
        from calotype.pipelines import pipeline

        with uninterrupted():
            run = pipeline(kind_of(task))
        return isolated(run(task, models), models.device)

    def explain(self) -> dict[str, Any]:
        """What computes and why, for `calotype doctor`."""
        import torch

        from calotype.models.network import pick_dtype

        dtype, why = pick_dtype(self.models.device, self.settings.precision)
        return {
            "device": self.models.device.type,
            "precision": str(dtype).removeprefix("torch."),
            "why": why,
            "threads": torch.get_num_threads(),
            "free_memory": self.models.free_memory(self.models.device),
            "torch": torch.__version__,
        }
