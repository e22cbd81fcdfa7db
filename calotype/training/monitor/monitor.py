"""Monitoring of a training run: metrics log, TensorBoard files, the report page, and progress events.

A training loop creates one Monitor, logs every step to it, and closes it in `finally`. It never changes the run.
"""

import contextlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from calotype.errors import CalotypeError, Message
from calotype.options import visible
from calotype.tasks import Learning, Note, Sampled, note
from calotype.training.monitor import contact_sheet, report
from calotype.training.monitor.metrics_log import SECONDS, LoggedSample, MetricsLog
from calotype.training.monitor.report import VALIDATION
from calotype.training.monitor.tensorboard import Board, is_installed, missing

WINDOW = 50  # steps that the shown loss is averaged over
MAX_EPOCH_NOTES = 20  # epochs of a run that get a note
REPORT_INTERVAL = 10.0  # seconds between two writes of the report during the run


class Monitor:
    """Logs of one run; all files are in `folder`, except TensorBoard's."""

    def __init__(
        self,
        folder: Path,
        name: str,
        steps: tuple[int, int, int],
        device: torch.device,
        facts: Mapping[str, Any],
        logs: Path | None = None,
        is_main_process: bool = True,
    ):
        """Args:
            steps: completed steps, steps of the whole run, and steps of an epoch (0: no epochs).
            facts: for the report: "plan" (messages), "about", "options" (by name), "changed" (names of options).
            logs: folder for TensorBoard's files.
            is_main_process: only the main process writes files.

        Raises:
            CalotypeError: a file cannot be written, or TensorBoard is not installed.
        """
        self.folder, self.name, self.device, self._is_main_process = folder, name, device, is_main_process
        self._start, self._total, self._steps_per_epoch = steps
        self._done, self._is_finished, self._report_time = self._start, False, -math.inf
        self.metrics_log = MetricsLog(folder / f"{name}.log.jsonl", self._start, is_main_process)
        self.path = report.report_path(folder, name)
        self._board = self._open_board(logs) if logs and is_main_process else None
        for fact, value in {**facts, "steps of an epoch": self._steps_per_epoch}.items():
            self.metrics_log.fact(fact, value)
        self._clock = time.monotonic()
        self._earlier_seconds = self.metrics_log.last(SECONDS, 0.0)  # of the runs that this one resumes

    def _open_board(self, logs: Path) -> Board:
        """A resumed run continues in its folder."""
        earlier = Path(str(self.metrics_log.facts.get("tensorboard", "")))
        folder = earlier if earlier.is_dir() and earlier.parent.parent == logs.parent.parent else logs
        board = Board(folder, self._start)
        self.metrics_log.fact("tensorboard", str(folder))
        return board

    # ------------------------------------------------------------------ called by the training loop

    def log_step(
        self, step: int, loss: float, lrs: Mapping[str, float], kind: str = "loss", **metrics: float
    ) -> Learning:
        """Logs a step.

        Args:
            loss: of the step.
            lrs: learning rates by network.
            kind: prefix of the loss's name, for runs that train several networks in turn.
            metrics: other metrics by name, e.g. "loss/discriminator".
        """
        self._done, seconds = step, time.monotonic() - self._clock
        losses = [value for _, value in self.metrics_log.numbers.get(f"{kind}/current", ())[-WINDOW + 1 :]] + [loss]
        average = sum(losses) / len(losses)
        values = {f"{kind}/current": loss, f"{kind}/average": average, **{f"lr/{name}": v for name, v in lrs.items()}}
        self._log(step, {**values, **metrics, SECONDS: round(self._earlier_seconds + seconds, 3)})
        remaining = seconds / (step - self._start) * (self._total - step)
        finite = average if math.isfinite(average) else None
        return Learning(
            step, self._total, "steps", remaining, finite, max(lrs.values(), default=None), memory_in_use(self.device)
        )

    def set_total_steps(self, total: int) -> None:
        """Changes the number of steps of the run."""
        self._total = total

    def end_epoch(self) -> Note | None:
        """Logs the mean loss of an epoch after its last step; returns a note for some of the epochs."""
        epoch, epochs = self._done // self._steps_per_epoch, math.ceil(self._total / self._steps_per_epoch)
        losses = [value for _, value in self.metrics_log.numbers["loss/current"][-self._steps_per_epoch :]]
        self._log(self._done, {"loss/epoch_average": sum(losses) / len(losses)})
        self.write_report()
        if epoch % math.ceil(epochs / MAX_EPOCH_NOTES) and epoch != epochs:
            return None
        average = sum(losses) / len(losses)
        return note("epoch {epoch} of {epochs}: loss {loss:.4f}", epoch=epoch, epochs=epochs, loss=average)

    def log_validation_loss(self, loss: float) -> bool:
        """Logs the validation loss; returns whether it is the lowest so far."""
        best = self.metrics_log.minimum(VALIDATION)
        self._log(self._done, {VALIDATION: loss})
        return math.isfinite(loss) and (best is None or loss < best[1])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Logs other metrics by name, e.g. "PSNR/held back"."""
        self._log(self._done, metrics)

    def log_best_file(self, path: Path) -> None:
        """Logs the file that has the best weights so far, those of the current step."""
        self.metrics_log.fact("best file", path.name)
        self.metrics_log.fact("best step", self._done)

    def best_validation(self) -> tuple[int, float] | None:
        """The step with the lowest validation loss, and that loss."""
        return self.metrics_log.minimum(VALIDATION)

    def log_sample(self, path: Path, prompt: str, settings: str, pixels: np.ndarray, number: int) -> None:
        """Logs the sample saved at `path`: (H, W, 3) uint8, the `number`-th of its set."""
        self.metrics_log.show(LoggedSample(self._done, path.relative_to(self.folder).as_posix(), prompt, settings))
        if self._board:
            self._board.picture(self._done, f"samples/{number:02d}", pixels)
            self._board.text(f"samples/{number:02d}", f"{prompt}\n\n{settings}")

    def sampled(self, pictures: Sequence[np.ndarray]) -> Sampled:
        """The event of what was drawn after the last step: (H, W, 3) uint8 each."""
        return Sampled(self._done, self._total, "steps", look=lambda: contact_sheet.sheet_of(pictures))

    def finish(self) -> None:
        """Marks the run as finished: all steps are done and the result is saved."""
        self._is_finished = True

    # ------------------------------------------------------------------ output

    def write_report(self, is_last: bool = False) -> None:
        """Writes the report; during the run at most once per REPORT_INTERVAL."""
        now = time.monotonic()
        if not self._is_main_process or (not is_last and now - self._report_time < REPORT_INTERVAL):
            return
        self._report_time = now
        if self._is_finished:
            state = f"finished after {self._done} steps"
        elif is_last:
            state = f"stopped after step {self._done} of {self._total}; the same command goes on"
        else:
            state = f"step {self._done} of {self._total}, going on"
        self.metrics_log.fact("memory", peak_memory(self.device))
        report.write_report(self.path, self.metrics_log, self.name, state)

    def close(self) -> None:
        """Writes the report and closes the files; after a failed run it hides no error of the run by one of its own."""
        try:
            with contextlib.nullcontext() if self._is_finished else contextlib.suppress(CalotypeError):
                self.write_report(is_last=True)
        finally:
            self.metrics_log.close()
            if self._board:
                self._board.close()

    def _log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.metrics_log.note(step, metrics)
        for name, value in metrics.items():
            if self._board and name != SECONDS:
                self._board.number(step, name, value)


def tensorboard_folder(task: Any) -> tuple[Path | None, list[Message]]:
    """The folder of a run's TensorBoard files, named as by sd-scripts, or None; and notes.

    Raises:
        CalotypeError: TensorBoard is requested but not installed.
    """
    if task.log_with == "none" or (task.log_with == "auto" and task.logging_dir is None):
        return None, []
    if not is_installed():
        if task.log_with == "tensorboard":
            raise missing()
        return None, [Message("nothing is written to {folder}: {fault}", folder=task.logging_dir, fault=missing())]
    now = time.strftime("%Y%m%d%H%M%S")
    return (task.logging_dir or task.output_dir / "logs") / f"{task.log_prefix}{now}" / "network_train", []


def option_facts(task: Any) -> dict[str, Any]:
    """A task's options as facts for the report: all of them as text, and the names of those that are not defaults."""
    specs = [spec for spec in visible(type(task)) if spec.name != "dry_run"]
    values = {spec.name: getattr(task, spec.name) for spec in specs}
    texts = {name: "" if value is None else str(value) for name, value in values.items()}
    return {"options": texts, "changed": [spec.name for spec in specs if values[spec.name] != spec.default]}


def memory_in_use(device: torch.device) -> int:
    """Bytes of GPU memory, or of this process on the CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere
