"""What every trainer needs besides its own step: resuming, counting, saving, interrupts and the NaN guard.

A trainer makes one TrainerState and writes its loop around it:

    if found := state.load():
        ...  # load found.file.weights and found.file.optimizer
        state.resume(found.file)
    with state.saved_on_interrupt():
        for step in range(state.step, total):
            with state.update():
                loss = ...  # changes the weights
                state.count(loss)
            if state.is_diverged:
                raise ...
            yield Progress(...)
            ...  # samples and files that are due
            state.is_complete = True
            state.save_if_due(total)
    state.close(keep=task.save_state)
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.errors import CalotypeError, Message
from calotype.files import make_folder, uninterrupted
from calotype.training.run import resume
from calotype.training.run.fingerprint import Fingerprint
from calotype.training.run.resume import State
from calotype.training.run.save_timer import SaveTimer

MAX_NONFINITE = 3  # consecutive steps with a NaN or infinite loss or gradient before a run stops


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that determines how a run continues: tensors by name, the optimizer's state, the loss scale."""

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    scale: tuple[float, int] = (1.0, 0)


@dataclass(frozen=True, eq=False)
class Found:
    """A state file.

    Attributes:
        changes: options in which its run differs from this one; None if it is another run.
    """

    path: Path
    file: State
    changes: set[str] | None


class TrainerState:
    """The progress of a run and its state file, NAME.state.safetensors in the output folder.

    Attributes:
        step: completed steps.
        losses: of all steps.
        is_complete: whether the files, samples and measurements of the last step are done too.
        nonfinite: consecutive steps, up to the last one, with a NaN or infinite loss or gradient.
    """

    def __init__(
        self,
        task: Any,
        fingerprint: Callable[[], Fingerprint],
        snapshot: Callable[[], Snapshot | None],
        is_main_process: bool = True,
    ):
        """Args:
        task: has `output_dir`, `output_name` and `save_state_every`.
        fingerprint: called once, when it is needed.
        snapshot: the current state of everything that is trained; None if weights are NaN: nothing is saved then.
        is_main_process: of several processes only the first one writes.
        """
        self.path = resume.state_path(task)
        self.step, self.losses, self.is_complete, self.nonfinite = 0, [], True, 0
        self._make_fingerprint, self._snapshot, self._is_main_process = fingerprint, snapshot, is_main_process
        self._timer = SaveTimer(task.save_state_every)
        self._first_step, self._is_updating, self._is_finished = 0, False, False

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return self._make_fingerprint()

    # ------------------------------------------------------------------ resume

    def load(self, fallback: Path | None = None, check: Callable[[State], None] | None = None) -> Found | None:
        """Reads the run's state file, or else `fallback`; None if there is neither.

        Args:
            check: called before the fingerprints are compared, to raise a more specific error.

        Raises:
            CalotypeError: the file is damaged, or the run's own state file is of other pictures or settings.
        """
        path = self.path if self.path.is_file() else fallback
        if path is None:
            return None
        file = resume.load(path)
        if check:
            check(file)
        changes = self.fingerprint.changes(file.fingerprint)
        if changes is None and path == self.path:
            raise CalotypeError(
                "{path} is the state of a run with other pictures or settings; delete it to begin anew, or give "
                "another {option:output_name}",
                path=path,
            )
        return Found(path, file, changes)

    def resume(self, file: State) -> None:
        """Continues counting after a state's last step; the trainer itself loads its weights."""
        self.step = self._first_step = file.step
        self.losses, self.is_complete = list(file.losses), file.is_complete

    def check_length(self, file: State, total: int) -> None:
        """Raises CalotypeError if a state has more steps than the run is to have."""
        if file.step > total:
            raise CalotypeError(
                "{path} has {step} steps behind it, and {total} are asked for; give more",
                path=self.path,
                step=file.step,
                total=total,
            )

    def resumed_message(self, total: int, changed: Message | str = "") -> Message:
        """Args:
        changed: the options that differ from before, in words.
        """
        if not changed:
            return Message("going on after step {step} of {total}", step=self.step, total=total)
        return Message(
            "going on after step {step} of {total}, with another {options} than before",
            step=self.step,
            total=total,
            options=changed,
        )

    # ------------------------------------------------------------------ steps

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """While weights change: an interrupt is raised only afterwards, and no state of half a step is saved."""
        with uninterrupted():
            self._is_updating = True
            yield
            self._is_updating = False

    def count(self, loss: float | None = None, is_finite: bool | None = None, is_complete: bool = False) -> None:
        """Counts a step.

        Args:
            loss: None if the trainer keeps no losses.
            is_finite: whether loss and gradients are finite; by default whether the loss is.
        """
        self.step, self.is_complete = self.step + 1, is_complete
        if loss is not None:
            self.losses.append(loss)
        if is_finite is None:
            is_finite = math.isfinite(loss)
        self.nonfinite = 0 if is_finite else self.nonfinite + 1

    @property
    def is_diverged(self) -> bool:
        """Whether the loss or its gradients were NaN for too many consecutive steps."""
        return self.nonfinite >= MAX_NONFINITE

    @property
    def first_nonfinite(self) -> int:
        """The first of the consecutive steps that were NaN, counted from 1."""
        return self.step - self.nonfinite + 1

    def undo_nonfinite(self) -> None:
        """Takes back the consecutive NaN steps, which changed no weights."""
        if self.nonfinite:
            del self.losses[-self.nonfinite :]
        self.step, self.nonfinite = self.step - self.nonfinite, 0

    # ------------------------------------------------------------------ save

    def save_if_due(self, total: int, is_due: bool = False) -> None:
        """Saves after a step, by the timer or if `is_due`. After the last step `close` decides."""
        is_due = self._timer(self.step) or is_due
        if is_due and self.step < total and not self.nonfinite:
            self.save()

    def save(self) -> None:
        """Raises CalotypeError if the disk is full; the previous file stays then."""
        snapshot = self._snapshot() if self._is_main_process else None
        if snapshot is None:
            return
        make_folder(self.path.parent)
        tensors = {name: value.detach().cpu() for name, value in snapshot.weights.items()}
        rest = (tuple(self.losses), str(self.fingerprint), snapshot.scale, self.is_complete)
        resume.save(self.path, State(self.step, tensors, snapshot.optimizer, *rest))
        self._timer.saved()

    @contextlib.contextmanager
    def saved_on_interrupt(self) -> Iterator[None]:
        """Saves the last complete step if the block is interrupted or its generator is closed."""
        try:
            yield
        except (GeneratorExit, KeyboardInterrupt):
            if self.step > self._first_step and not self._is_updating and not self._is_finished:
                self.save()
            raise

    def finish(self) -> None:
        """The result is written: an interrupt saves no state any more."""
        self._is_finished = True

    def close(self, keep: bool) -> None:
        """After the run: removes the state file unless it is to be kept."""
        if self._is_main_process and not keep:
            self.path.unlink(missing_ok=True)
