"""One device and the models on it: runs tasks, yields progress, then the result."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from calotype.errors import CalotypeError
from calotype.files import uninterrupted
from calotype.settings import Settings
from calotype.tasks import Note, Progress, kind_of

if TYPE_CHECKING:
    from calotype.checkpoints.models import Models
    from calotype.record import Result

MIN_ADDRESS_SPACE = 512 << 20  # bytes, for networks and what else is imported


class Engine:
    """Keeps models loaded between tasks, as long as there is memory for them. Closing a run cancels it within one tile.

    Tasks do not affect each other, whether they run in sequence or interleaved step by step: each result is that of a
    new engine, bit for bit.

    Creating an engine does not import torch: that happens at the first task.

    Args:
        before_loading: called once, before torch is imported.
    """

    def __init__(self, settings: Settings, before_loading: Callable[[], None] | None = None):
        self.settings = settings
        self._before_loading = before_loading

    @property
    def is_loaded(self) -> bool:
        """Whether torch is imported and a device chosen."""
        return "models" in vars(self)

    @cached_property
    def models(self) -> "Models":
        with uninterrupted():  # libraries may swallow an interrupt during import, or stay half imported
            if self._before_loading:
                self._before_loading()
            _import_torch()
            import torch

            from calotype.checkpoints.models import Models

        if self.settings.threads:  # of the whole process
            torch.set_num_threads(self.settings.threads)
        return Models(self.settings)

    def run(self, task: Any) -> "Iterator[Progress | Note | Result]":
        """Runs a task. Raises CalotypeError for errors that the user can fix."""
        models = self.models  # torch is loaded here
        from calotype.models.process_state import isolated
        from calotype.pipelines import pipeline

        with uninterrupted():
            run = pipeline(kind_of(task))
        models.cache.begin_run()
        if hasattr(task, "output_dir"):  # training takes whatever memory there is
            models.cache.remove_idle()
        return isolated(run(task, models), models.device)

    def unload(self) -> None:
        """Drops all models, between two runs; a later run loads them again."""
        if self.is_loaded:
            self.models.cache.begin_run()
            self.models.cache.remove_idle()

    def explain(self) -> dict[str, Any]:
        """Device, precision and the reason for it, for `calotype doctor`."""
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


def _import_torch() -> None:
    """Imports torch. Raises CalotypeError if a limit of address space leaves too little for it, and for networks."""
    from calotype import memory

    limit = memory.address_space_limit()
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, MemoryError):
        if limit == memory.UNLIMITED:
            raise
        has_room = False
    else:
        has_room = memory.free_address_space() >= MIN_ADDRESS_SPACE
    if not has_room:
        raise CalotypeError(
            "the address space is limited to {limit:.1f} GiB (`ulimit -v`), too little for torch and a network; raise "
            "the limit to 8 GiB or more",
            limit=limit / 2**30,
        )
