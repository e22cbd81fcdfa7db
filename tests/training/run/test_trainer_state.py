"""The upkeep of every trainer, with one that trains a single weight."""

import math
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from calotype.errors import CalotypeError
from calotype.training.run import resume
from calotype.training.run.fingerprint import Fingerprint
from calotype.training.run.trainer_state import MAX_NONFINITE, Snapshot, TrainerState


@dataclass
class Task:
    output_dir: Path
    output_name: str = "own"
    save_state_every: int = 0
    rate: float = 0.5
    seed: int = 0


class Trainer:
    """Adds the rate to a weight at each step; `at` is called within the update of a step, and `after` behind it."""

    def __init__(self, task, at=lambda step: None, after=lambda step: None):
        self.task, self.at, self.after = task, at, after
        self.weight = torch.zeros(1)
        self.state = TrainerState(task, self.fingerprint, self.snapshot)

    def fingerprint(self):
        return Fingerprint({"rate": self.task.rate, "seed": self.task.seed}, [], ("rate",), names_changes=True)

    def snapshot(self):
        return Snapshot({"w": self.weight.clone()}, {"state": {}, "param_groups": []})

    def train(self, total, keep=False):
        state = self.state
        if found := state.load():
            self.weight = found.file.weights["w"]
            state.check_length(found.file, total)
            state.resume(found.file)
            yield str(state.resumed_message(total, ", ".join(sorted(found.changes))))
        with state.saved_on_interrupt():
            for step in range(state.step, total):
                with state.update():
                    loss = self.at(step)
                    self.weight += self.task.rate
                    state.count(float(self.weight) if loss is None else loss)
                if state.is_diverged:
                    raise CalotypeError("NaN since step {step}", step=state.first_nonfinite)
                yield state.step
                self.after(step)
                state.is_complete = True
                state.save_if_due(total)
            if keep:
                state.save()
        state.close(keep)


@pytest.fixture
def task(tmp_path):
    return Task(tmp_path)


def run(task, total, **hooks):
    trainer = Trainer(task, **hooks)
    return trainer, list(trainer.train(total))


def stored(task):
    return resume.load(resume.state_path(task))


def test_a_run_to_its_end_leaves_no_state_unless_it_is_kept(task):
    run(task, 3)
    assert not resume.state_path(task).exists()
    assert list(Trainer(task).train(3, keep=True)) == [1, 2, 3] and stored(task).step == 3


def test_a_closed_run_resumes_at_its_last_step(task):
    first = Trainer(task)
    steps = first.train(5)
    assert [next(steps), next(steps)] == [1, 2]
    steps.close()
    state = stored(task)
    assert state.step == 2 and state.losses == (0.5, 1.0) and not state.is_complete
    again, events = run(task, 5)
    assert events == ["going on after step 2 of 5", 3, 4, 5]
    assert float(again.weight) == 2.5 and again.state.losses == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_an_interrupt_within_an_update_waits_for_its_end(task):
    def interrupt(step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(task, 5, at=interrupt)
    assert stored(task).step == 2 and float(stored(task).weights["w"]) == 1.0


def test_half_an_update_is_never_saved(task):
    def interrupt(step):
        if step == 2:
            raise KeyboardInterrupt  # a second Ctrl-C

    task.save_state_every = 1
    with pytest.raises(KeyboardInterrupt):
        run(task, 5, at=interrupt)
    assert stored(task).step == 2 and float(stored(task).weights["w"]) == 1.0


def test_an_interrupt_before_the_first_step_saves_nothing(task):
    steps = Trainer(task).train(5)
    next(steps)
    steps.close()
    before = resume.state_path(task).read_bytes()
    steps = Trainer(task).train(5)
    assert next(steps) == "going on after step 1 of 5"
    steps.close()
    assert resume.state_path(task).read_bytes() == before


def test_nan_stops_the_run_and_keeps_the_state_before_it(task):
    task.save_state_every = 1
    trainer = Trainer(task, at=lambda step: math.nan if step >= 2 else None)
    with pytest.raises(CalotypeError, match="NaN since step 3"):
        list(trainer.train(9))
    assert trainer.state.step == 2 + MAX_NONFINITE and stored(task).step == 2
    trainer.state.undo_nonfinite()
    assert (trainer.state.step, trainer.state.losses, trainer.state.nonfinite) == (2, [0.5, 1.0], 0)


def test_single_nan_losses_stop_nothing(task):
    trainer, events = run(task, 9, at=lambda step: math.nan if step % 3 else None)
    assert events == list(range(1, 10)) and not trainer.state.is_diverged


def test_weights_that_are_nan_replace_no_state(task):
    task.save_state_every = 1
    trainer = Trainer(task)
    snapshot = trainer.state._snapshot
    trainer.state = TrainerState(task, trainer.fingerprint, lambda: None if trainer.state.step > 1 else snapshot())
    steps = trainer.train(5)
    assert [next(steps) for _ in range(4)] == [1, 2, 3, 4]
    steps.close()
    assert stored(task).step == 1


def test_a_full_disk_keeps_the_earlier_state(task, monkeypatch):
    steps = Trainer(task).train(5)
    assert [next(steps), next(steps)] == [1, 2]
    steps.close()

    def full(path, data):
        raise CalotypeError("the disk is full")

    monkeypatch.setattr(resume, "write_atomic", full)
    task.save_state_every = 1
    with pytest.raises(CalotypeError, match="full"):
        run(task, 5)
    assert stored(task).step == 2


def test_the_state_of_other_settings_is_refused_and_stays(task):
    steps = Trainer(task).train(5)
    next(steps)
    steps.close()
    with pytest.raises(CalotypeError, match="other pictures or settings"):
        run(Task(task.output_dir, seed=1), 5)
    assert stored(task).step == 1


def test_a_changed_free_option_is_named(task):
    steps = Trainer(task).train(5)
    next(steps)
    steps.close()
    _, events = run(Task(task.output_dir, rate=1.0), 3)
    assert events[0] == "going on after step 1 of 3, with another rate than before"


def test_a_state_with_more_steps_than_asked_for_is_refused(task):
    list(Trainer(task).train(4, keep=True))
    with pytest.raises(CalotypeError, match="4 steps behind it, and 2 are asked for"):
        run(task, 2)


def test_another_file_is_read_only_if_the_run_has_none(task, tmp_path):
    other = Task(tmp_path, "other", seed=7)
    list(Trainer(other).train(2, keep=True))
    found = Trainer(task).state.load(resume.state_path(other))
    assert found.path == resume.state_path(other) and found.file.step == 2 and found.changes is None
    list(Trainer(task).train(1, keep=True))
    assert Trainer(task).state.load(resume.state_path(other)).path == resume.state_path(task)


def test_only_the_first_of_several_processes_writes(task):
    trainer = Trainer(task)
    trainer.state = TrainerState(task, trainer.fingerprint, trainer.snapshot, is_main_process=False)
    list(trainer.train(2, keep=True))
    assert not resume.state_path(task).exists()
