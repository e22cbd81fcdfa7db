"""Watching a training run: its diary, TensorBoard's files, the page about it, and what the person at the door sees.

A loop makes one Watch, tells it of every step, and closes it in `finally`; nothing that it does changes the run.
"""

import contextlib
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from calotype.errors import CalotypeError, Message
from calotype.options import visible
from calotype.tasks import Learning, Note, note
from calotype.training.monitor import report
from calotype.training.monitor.metrics_log import SECONDS, LoggedSample, MetricsLog
from calotype.training.monitor.report import VALIDATION
from calotype.training.monitor.tensorboard import Board, is_installed, missing

RECENT = 50  # steps over which the loss that is shown is the mean
TOLD = 20  # epochs of a run that are told of in a sentence
APART = 10.0  # seconds between two pages that are written while the run goes on


class Monitor:
    """Everything that is seen of one run; all of it lies in `folder`, TensorBoard's files apart."""

    def __init__(
        self,
        folder: Path,
        name: str,
        steps: tuple[int, int, int],
        device: torch.device,
        facts: Mapping[str, Any],
        logs: Path | None = None,
        is_first: bool = True,
    ):
        """Args:
            steps: those that are done already, those of the whole run, and those of an epoch (0: it has none).
            facts: what `report` shows: "plan" (sentences), "about", "options" (by name), "changed" (names of options).
            logs: folder for TensorBoard's files.
            is_first: of several processes the first one writes; the others count along.

        Raises:
            CalotypeError: a file cannot be written, or TensorBoard's library is missing.
        """
        self.folder, self.name, self.device, self._is_first = folder, name, device, is_first
        self._begin, self._total, self._each = steps
        self._done, self._is_finished, self._written_at = self._begin, False, -math.inf
        self.diary = MetricsLog(folder / f"{name}.log.jsonl", self._begin, is_first)
        self.path = report.place(folder, name)
        self._board = self._boarded(logs) if logs and is_first else None
        for fact, value in {**facts, "steps of an epoch": self._each}.items():
            self.diary.fact(fact, value)
        self._clock = time.monotonic()
        self._before = self.diary.last(SECONDS, 0.0)  # of earlier sittings

    def _boarded(self, logs: Path) -> Board:
        """A run that goes on goes on in its folder."""
        kept = Path(str(self.diary.facts.get("tensorboard", "")))
        folder = kept if kept.is_dir() and kept.parent.parent == logs.parent.parent else logs
        board = Board(folder, self._begin)
        self.diary.fact("tensorboard", str(folder))
        return board

    # ------------------------------------------------------------------ told by the loop

    def stepped(
        self, step: int, loss: float, rates: Mapping[str, float], kind: str = "loss", **more: float
    ) -> Learning:
        """After a step.

        Args:
            loss: of the step.
            rates: learning rates by the part that learns.
            kind: what the loss is noted and plotted as, for runs that learn one thing after another.
            more: other numbers, by names such as "loss/discriminator".
        """
        self._done, worked = step, time.monotonic() - self._clock
        losses = [value for _, value in self.diary.numbers.get(f"{kind}/current", ())[-RECENT + 1 :]] + [loss]
        recent = sum(losses) / len(losses)
        numbers = {f"{kind}/current": loss, f"{kind}/average": recent, **{f"lr/{name}": v for name, v in rates.items()}}
        self._note(step, {**numbers, **more, SECONDS: round(self._before + worked, 3)})
        left = worked / (step - self._begin) * (self._total - step)
        shown = recent if math.isfinite(recent) else None
        return Learning(step, self._total, "steps", left, shown, max(rates.values(), default=None), in_use(self.device))

    def shortened(self, total: int) -> None:
        """The run will have only so many steps."""
        self._total = total

    def epoch_ended(self) -> Note | None:
        """After an epoch's last step: its loss goes into the logs; now and then there is a sentence."""
        epoch, epochs = self._done // self._each, math.ceil(self._total / self._each)
        losses = [value for _, value in self.diary.numbers["loss/current"][-self._each :]]
        self._note(self._done, {"loss/epoch_average": sum(losses) / len(losses)})
        self.page_written()
        if epoch % math.ceil(epochs / TOLD) and epoch != epochs:
            return None
        mean = sum(losses) / len(losses)
        return note("epoch {epoch} of {epochs}: loss {loss:.4f}", epoch=epoch, epochs=epochs, loss=mean)

    def validated(self, loss: float) -> bool:
        """The loss on what was held back, as the run stands now; whether it is the lowest so far."""
        before = self.diary.least(VALIDATION)
        self._note(self._done, {VALIDATION: loss})
        return math.isfinite(loss) and (before is None or loss < before[1])

    def measured(self, numbers: Mapping[str, float]) -> None:
        """Other numbers as the run stands now, by names such as "PSNR/held back"."""
        self._note(self._done, numbers)

    def kept_best(self, path: Path) -> None:
        """What was learnt lies in this file as it is now, at its best so far."""
        self.diary.fact("best file", path.name)
        self.diary.fact("best step", self._done)

    def best(self) -> tuple[int, float] | None:
        """The step after which the validation loss was lowest, and that loss."""
        return self.diary.least(VALIDATION)

    def sampled(self, path: Path, what: str, how: str, pixels: np.ndarray, number: int) -> None:
        """A sample picture that lies at `path`: (H, W, 3) uint8, the `number`-th of its set."""
        self.diary.show(LoggedSample(self._done, path.relative_to(self.folder).as_posix(), what, how))
        if self._board:
            self._board.picture(self._done, f"samples/{number:02d}", pixels)
            self._board.text(f"samples/{number:02d}", f"{what}\n\n{how}")

    def finished(self) -> None:
        """All steps are done, and what was learnt lies in its file."""
        self._is_finished = True

    # ------------------------------------------------------------------ what comes of it

    def page_written(self, is_last: bool = False) -> None:
        """The page as of now; while the run goes on not more often than every few seconds."""
        now = time.monotonic()
        if not self._is_first or (not is_last and now - self._written_at < APART):
            return
        self._written_at = now
        if self._is_finished:
            state = f"finished after {self._done} steps"
        elif is_last:
            state = f"stopped after step {self._done} of {self._total}; the same command goes on"
        else:
            state = f"step {self._done} of {self._total}, going on"
        self.diary.fact("memory", peaked(self.device))
        report.write(self.path, self.diary, self.name, state)

    def close(self) -> None:
        """Writes the page and closes the files. Where the run was broken off, the cause of that is what is told."""
        try:
            with contextlib.nullcontext() if self._is_finished else contextlib.suppress(CalotypeError):
                self.page_written(is_last=True)
        finally:
            self.diary.close()
            if self._board:
                self._board.close()

    def _note(self, step: int, numbers: Mapping[str, float]) -> None:
        self.diary.note(step, numbers)
        for name, value in numbers.items():
            if self._board and name != SECONDS:
                self._board.number(step, name, value)


def logs_of(task: Any) -> tuple[Path | None, list[Message]]:
    """The folder of a run's TensorBoard files, as sd-scripts names it, where there shall be any; and what to say.

    Raises:
        CalotypeError: they are asked for by name, and TensorBoard's library is missing.
    """
    if task.log_with == "none" or (task.log_with == "auto" and task.logging_dir is None):
        return None, []
    if not is_installed():
        if task.log_with == "tensorboard":
            raise missing()
        return None, [Message("nothing is written to {folder}: {fault}", folder=task.logging_dir, fault=missing())]
    begun = time.strftime("%Y%m%d%H%M%S")
    return (task.logging_dir or task.output_dir / "logs") / f"{task.log_prefix}{begun}" / "network_train", []


def options_told(task: Any) -> dict[str, Any]:
    """A task's options as facts for the page: all of them as text, and the names of those that were chosen."""
    specs = [spec for spec in visible(type(task)) if spec.name != "dry_run"]
    values = {spec.name: getattr(task, spec.name) for spec in specs}
    told = {name: "" if value is None else str(value) for name, value in values.items()}
    return {"options": told, "changed": [spec.name for spec in specs if values[spec.name] != spec.default]}


def in_use(device: torch.device) -> int:
    """Bytes: of the device, or of this process where the processor computes."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def peaked(device: torch.device) -> int:
    """The most bytes in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # bytes there, KiB elsewhere
