"""Which files a run leaves on its way, by sd-scripts' options; and that no two runs write the same ones."""

import contextlib
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from calotype.errors import CalotypeError
from calotype.picture.saving import Arriving
from calotype.tasks.training import TrainLora
from calotype.training.interrupts import whole


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


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Within, no other run of this program takes the same names in this folder, which is made where there is none.

    Raises:
        CalotypeError: one is at work there, or the folder cannot be written to.
    """
    path, process = folder / f"{name}.running", psutil.Process()
    told = f"{process.pid} {process.create_time()} {secrets.token_hex(6)}"
    made(folder)
    try:
        while not _is_taken(path, told):
            others = _words(path)
            if others is None:  # it has ended meanwhile
                continue
            if _is_at_work(others):
                raise CalotypeError(
                    "another run is at work on {folder}; wait for it, or give another {option:output_name}",
                    folder=folder / name,
                )
            _cleared(path, others, told)  # its run was ended without a chance to clear up
        yield
    finally:
        with contextlib.suppress(OSError):
            if _words(path) == told:
                path.unlink()


def check_place(folder: Path) -> None:
    """Raises CalotypeError where nothing can be written into a folder that may not be there yet; makes nothing."""
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as fault:  # a name that is too long
        raise CalotypeError(
            "folder {folder} cannot be made ({reason}); give another {option:output_dir}",
            folder=folder,
            reason=fault.strerror,
        ) from None
    there = next((path for path in (folder, *folder.absolute().parents) if os.path.exists(path)), None)
    if there is None:  # a drive that is not there
        raise CalotypeError(
            "folder {folder} cannot be made, for no folder above it is there; give another {option:output_dir}",
            folder=folder,
        )
    if not there.is_dir():
        raise CalotypeError("{there} is a file, not a folder; give another {option:output_dir}", there=there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise CalotypeError("folder {there} cannot be written to; give another {option:output_dir}", there=there)


def _is_taken(path: Path, told: str) -> bool:
    """Puts the file there, unless there is one; it is never there without its words, which others read."""
    try:
        with Arriving(path, is_new=True) as file:
            file.write(told.encode())
    except FileExistsError:
        return False
    return True


def made(folder: Path) -> None:
    """Raises CalotypeError where it cannot be, such as where a file has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CalotypeError(
            "{folder} is a file, not a folder; give another {option:output_dir}", folder=folder
        ) from None
    except OSError as fault:
        raise CalotypeError(
            "folder {folder} cannot be made ({reason}); give another {option:output_dir}",
            folder=folder,
            reason=fault.strerror,
        ) from None


def _cleared(path: Path, judged: str, told: str) -> None:
    """Deletes the file if it still says what was judged. One run at a time may, so that no other's is deleted."""
    claim = path.with_name(f"{path.name}.cleared")
    with whole():
        if _is_taken(claim, told):
            try:
                if _words(path) == judged:
                    path.unlink(missing_ok=True)
            finally:
                claim.unlink()
        elif (others := _words(claim)) is not None and not _is_at_work(others):
            claim.unlink(missing_ok=True)


def _words(path: Path) -> str | None:
    """None where there is no file, and nothing where it cannot be read."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return "" if path.is_symlink() else None  # a link to nothing
    except (OSError, ValueError):
        return ""


def _is_at_work(words: str) -> bool:
    try:
        pid, begun, *_ = words.split()
        return abs(psutil.Process(int(pid)).create_time() - float(begun)) < 1
    except (ValueError, psutil.Error):
        return False


def _every_epochs(task: TrainLora, epochs: int) -> int:
    """save_n_epoch_ratio asks for at least so many files."""
    return max(1, epochs // task.save_n_epoch_ratio) if task.save_n_epoch_ratio else task.save_every_n_epochs
