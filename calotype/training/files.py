"""Which files a run leaves on its way, by sd-scripts' options; and that no two runs write the same ones."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from calotype.errors import CalotypeError
from calotype.tasks.training import TrainLora


@dataclass(frozen=True)
class Due:
    """A file to write after this step, and the one that it outlives."""

    name: str  # without ending
    when: str
    outlived: str = ""


def files_due(task: TrainLora, done: int, total: int, per_epoch: int) -> Iterator[Due]:
    """After `done` of `total` steps, `per_epoch` of which are an epoch; the last file of all is not among them."""
    if done == total:
        return
    name, every = task.output_name, _every_epochs(task, math.ceil(total / per_epoch))
    epoch, rest = divmod(done, per_epoch)
    if every and not rest and epoch % every == 0:
        old = epoch - every * task.save_last_n_epochs
        yield Due(f"{name}-{epoch:06d}", f"epoch {epoch}", f"{name}-{old:06d}" if task.save_last_n_epochs else "")
    every = task.save_every_n_steps
    if every and done % every == 0:
        old = done - task.save_last_n_steps - 1
        old -= old % every
        yield Due(f"{name}-step{done:08d}", f"step {done}", f"{name}-step{old:08d}" if task.save_last_n_steps else "")


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Within, no other run of this program takes the same names in this folder.

    Raises:
        CalotypeError: one is at work there, or nothing can be written there.
    """
    path, process = folder / f"{name}.running", psutil.Process()
    told = f"{process.pid} {process.create_time()}"
    while True:
        try:
            _made(folder)
            with path.open("x", encoding="utf-8") as file:
                file.write(told)
            break
        except FileExistsError:
            if _is_at_work(path):
                raise CalotypeError(
                    f"another run is at work on {folder / name}; wait for it, or give another --output-name"
                ) from None
            path.unlink(missing_ok=True)  # its run was ended without a chance to clear up
        except OSError as fault:
            raise CalotypeError(f"{path} cannot be written: {fault.strerror}; give another --output-dir") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CalotypeError(f"{folder} is a file, and no folder; give another --output-dir") from None


def _is_at_work(path: Path) -> bool:
    try:
        pid, begun = path.read_text("utf-8").split()
        return abs(psutil.Process(int(pid)).create_time() - float(begun)) < 1
    except (OSError, ValueError, psutil.Error):
        return False


def _every_epochs(task: TrainLora, epochs: int) -> int:
    """save_n_epoch_ratio asks for at least so many files."""
    return max(1, epochs // task.save_n_epoch_ratio) if task.save_n_epoch_ratio else task.save_every_n_epochs
