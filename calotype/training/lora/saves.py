"""Files saved during a run, by sd-scripts' options."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from calotype.tasks.training import TrainLora


@dataclass(frozen=True)
class DueFile:
    """A file to save after this step, and an older one to delete."""

    name: str  # without suffix
    when: str
    expired: str = ""


def files_due(task: TrainLora, done: int, total: int, per_epoch: int) -> Iterator[DueFile]:
    """The files due after `done` of `total` steps, with `per_epoch` steps per epoch; the final file is not included."""
    if done == total:
        return
    name, every = task.output_name, _every_epochs(task, math.ceil(total / per_epoch))
    epoch, step_in_epoch = divmod(done, per_epoch)
    if every and not step_in_epoch and epoch % every == 0:
        old = epoch - every * task.save_last_n_epochs
        yield DueFile(f"{name}-{epoch:06d}", f"epoch {epoch}", f"{name}-{old:06d}" if task.save_last_n_epochs else "")
    every = task.save_every_n_steps
    if every and done % every == 0:
        old = done - task.save_last_n_steps - 1
        old -= old % every
        yield DueFile(
            f"{name}-step{done:08d}", f"step {done}", f"{name}-step{old:08d}" if task.save_last_n_steps else ""
        )


def _every_epochs(task: TrainLora, epochs: int) -> int:
    """Epochs between files; save_n_epoch_ratio is the minimum number of files."""
    return max(1, epochs // task.save_n_epoch_ratio) if task.save_n_epoch_ratio else task.save_every_n_epochs
