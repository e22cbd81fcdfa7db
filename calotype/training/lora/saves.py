"""Which files a run leaves on its way, by sd-scripts' options."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from calotype.tasks.training import TrainLora


@dataclass(frozen=True)
class DueFile:
    """A file to write after this step, and the one that it outlives."""

    name: str  # without ending
    when: str
    outlived: str = ""


def files_due(task: TrainLora, done: int, total: int, per_epoch: int) -> Iterator[DueFile]:
    """After `done` of `total` steps, `per_epoch` of which are an epoch; the last file of all is not among them."""
    if done == total:
        return
    name, every = task.output_name, _every_epochs(task, math.ceil(total / per_epoch))
    epoch, rest = divmod(done, per_epoch)
    if every and not rest and epoch % every == 0:
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
    """save_n_epoch_ratio asks for at least so many files."""
    return max(1, epochs // task.save_n_epoch_ratio) if task.save_n_epoch_ratio else task.save_every_n_epochs
