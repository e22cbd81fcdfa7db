"""One run of learning to enlarge or to restore faces: its steps and data, where it goes, and how it goes on."""

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.errors import CalotypeError, Message, named
from calotype.files import check_folder
from calotype.tasks import options_of
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, Phase
from calotype.training.run import resume as states
from calotype.training.run.resume import State

HELD, LEARNT = "held back", "learnt from"  # whose the numbers are
FEW = 8  # pictures learnt from that are measured where none are held back
KINDS = (".safetensors", ".pth")  # of files that a run may write
UNFELT = ("save_", "sample_", "validat", "log", "output_")  # options that change nothing of what is learnt
RATES = ("learning_rate", "discriminator_lr", "lr_scheduler")
WEIGHTS = ("l1_weight", "perceptual_weight", "gan_weight", "identity_weight", "parts_weight")
LENGTHS = ("l1_steps", "gan_steps", "gan_warmup_steps", "minutes")
IDLE = ("dry_run", "photos", "model", "vgg", "discriminator")  # what these name is told by its contents


@dataclass(frozen=True, eq=False)
class Test:
    """A picture to measure with."""

    name: str
    low: Tensor  # (3, h, w) in [0, 1]
    true: Tensor  # (3, H, W) in [0, 1], as sharp as it is taught


@dataclass(frozen=True)
class Spans:
    """How many steps of each kind."""

    l1: int
    gan: int
    quiet: int  # of the second stage, those in which the expert is not yet heard

    @property
    def total(self) -> int:
        return self.l1 + self.gan

    def times(self, share: float) -> "Spans":
        """Longer or shorter as a whole; what there is does not vanish."""
        l1, gan, quiet = (max(min(1, n), round(n * share)) for n in (self.l1, self.gan, self.quiet))
        return Spans(l1, gan, min(quiet, gan))

    def until(self, done: int) -> "Spans":
        """Those that were taken, where it ended after so many."""
        l1 = min(self.l1, done)
        return Spans(l1, done - l1, min(self.quiet, done - l1))


@dataclass(eq=False)
class EnhanceRun:
    """One run: all that the loop needs to know of what is learnt."""

    task: Any  # with EnhanceTrainingOptions, LossOptions and EnhanceOutput of tasks.enhancing
    rivals: AdversarialTrainer
    lesson: Callable[[int], Batch]  # of a step; all chance in it comes from the seed and the step's number
    tests: Sequence[Test]  # held back
    written: Callable[[str, nn.Module, int], Path]  # a network, under a name, after so many steps
    photos: int
    told: list[Message]  # the plan
    about: dict[str, str]
    decides: Sequence[Any]  # what the result depends on besides the options, as JSON-ready data
    features_first: bool = False  # features count in stage one too
    spans: Spans = field(init=False)
    is_sound: bool = True  # not worse by far than it was before

    def __post_init__(self) -> None:
        task = self.task
        self.spans = Spans(task.l1_stage_steps, task.gan_steps, min(task.gan_warmup_steps, task.gan_steps))

    def phase(self, step: int) -> Phase:
        """Stage one, then features and an expert that only learns, then the expert's verdict too."""
        if step < self.spans.l1:
            return Phase(perceptual=self.features_first)
        return Phase(True, True, step >= self.spans.l1 + self.spans.quiet)

    @cached_property
    def measured(self) -> Sequence[Test]:
        """What is held back, or else what steps that never come would learn from: a collapse shows there as well."""
        return self.tests or dealt(self.lesson)

    @property
    def whose(self) -> str:
        return HELD if self.tests else LEARNT

    @property
    def state_path(self) -> Path:
        return states.state_path(self.task)

    @property
    def expert_path(self) -> Path:
        return expert_path(self.task)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides about the result, of that without what may change on the way, and that itself."""
        options = {k: v for k, v in options_of(self.task).items() if k not in IDLE and not k.startswith(UNFELT)}
        options["l1_steps"] = self.task.l1_stage_steps
        free = {name: options[name] for name in (*RATES, *WEIGHTS, *LENGTHS) if name in options}
        core = {name: value for name, value in options.items() if name not in free}
        told = (json.dumps([kept, list(self.decides)], sort_keys=True).encode() for kept in (options, core))
        return " ".join((*(hashlib.sha256(one).hexdigest() for one in told), json.dumps(free)))


def dealt(lesson: Callable[[int], Batch]) -> list[Test]:
    """A few pieces that the seed deals before step 0; those with nothing to mend only where there are no others."""
    found: list[Test] = []
    while len(found) < 2 * FEW:
        batch = lesson(-1 - len(found))
        pairs = zip(batch.low.cpu(), batch.target.cpu(), strict=True)
        found += [Test(f"learnt from, {len(found) + n}", low, true) for n, (low, true) in enumerate(pairs, 1)]
    return sorted(found, key=lambda test: torch.equal(test.low, test.true))[:FEW]


# ---------------------------------------------------------------------- where it goes


def check_free(task: Any) -> None:
    """Makes and changes nothing, so that it can be asked before anything else.

    Raises:
        CalotypeError: the folder cannot be written to, or an earlier run has left its result, or its last sound
            network, under this name, and no state to go on from.
    """
    check_folder(task.output_dir)
    if os.path.exists(states.state_path(task)):  # a name that cannot be has nothing
        return
    expert = expert_path(task)
    if task.save_discriminator and os.path.exists(expert):
        raise CalotypeError(
            "{path} is there already, from a run that ended; give another {option:output_name}", path=expert
        )
    for kind in KINDS:
        path, good = (task.output_dir / f"{name}{kind}" for name in (task.output_name, good_name(task)))
        if os.path.exists(path):
            raise CalotypeError(
                "{path} is there already, from a run that ended; give another {option:output_name}", path=path
            )
        if os.path.exists(good):
            raise CalotypeError(
                "{path} is there already, the last sound network of a run that was broken off; give another "
                "{option:output_name}, or move it away",
                path=good,
            )


def expert_path(task: Any) -> Path:
    return task.output_dir / f"{task.output_name}-discriminator.safetensors"


def good_name(task: Any) -> str:
    """Of the file that is kept while the network is sound."""
    return f"{task.output_name}-good"


# ---------------------------------------------------------------------- going on


def resumed(course: EnhanceRun) -> tuple[int, list[float], bool, list[Message]]:
    """Steps done, their losses, whether nothing of the last one is left to do, and what to say of it.

    A run that differs in rates, weights of losses or length alone goes on at the state's step.
    """
    path = course.state_path
    if not path.is_file():
        check_free(course.task)
        return 0, [], True, _timed(course)
    state = states.load(path)
    weights = dict(state.weights)
    _check_stages(course, weights)
    changed = _changed(course, state.fingerprint)
    was = Spans(*(int(n) for n in weights.pop("spans")))
    course.rivals.load(weights, state.optimizer, str(path))
    notes = _timed(course) if changed & {*LENGTHS} else []
    course.spans = _continued(course, was, state.step) if changed & {*LENGTHS} else was
    done, total = state.step, course.spans.total
    results = (course.task.output_dir / f"{course.task.output_name}{kind}" for kind in KINDS)
    if done == total and (ended := next((result for result in results if result.exists()), None)):
        raise CalotypeError(
            "{path} is there already, from a run that ended after {steps} steps; give more to learn on, or another "
            "{option:output_name}",
            path=ended,
            steps=done,
        )
    return done, list(state.losses), state.is_whole, [*notes, _going_on(done, total, changed)]


def _going_on(step: int, total: int, changed: set[str]) -> Message:
    if not changed:
        return Message("going on after step {step} of {total}", step=step, total=total)
    return Message(
        "going on after step {step} of {total}, with another {options} than before",
        step=step,
        total=total,
        options=named(sorted(changed)),
    )


def _changed(course: EnhanceRun, before: str) -> set[str]:
    """The options in which a run that goes on differs. Raises CalotypeError where it is another run."""
    (whole, kin, free), (whole_before, *more) = course.fingerprint.split(" ", 2), before.split(" ", 2)
    if whole == whole_before:
        return set()
    if len(more) < 2 or kin != more[0]:
        raise CalotypeError(
            "{path} is the state of a run with other pictures or settings; delete it to begin anew, or give another "
            "{option:output_name}",
            path=course.state_path,
        )
    free, free_before = (json.loads(told) for told in (free, more[1]))
    return {name for name in free if free[name] != free_before.get(name)}


def _check_stages(course: EnhanceRun, weights: Mapping[str, Tensor]) -> None:
    """Raises CalotypeError where one has a second stage, and the other has not: its networks are others."""
    has_expert = any(key.startswith("expert.") for key in weights)
    if has_expert and course.rivals.expert is None:
        raise CalotypeError(
            "{path} is of a run with a second stage ({option:gan_steps}); give another {option:output_name}, and with "
            "{option:model} what was learnt",
            path=course.state_path,
        )
    if course.rivals.expert is not None and not has_expert:
        raise CalotypeError(
            "{path} is of a run without a second stage ({option:gan_steps}); give another {option:output_name}, and "
            "with {option:model} what was learnt",
            path=course.state_path,
        )


def _continued(course: EnhanceRun, was: Spans, done: int) -> Spans:
    """The steps that are asked for now, where `done` of others are behind it; no stage is gone back to.

    Raises:
        CalotypeError: more are behind it than are asked for, or stage one would be.
    """
    asked, path = course.spans, course.state_path
    if course.task.minutes:
        l1 = was.l1 if done > was.l1 else max(asked.l1, done)
        asked = Spans(l1, max(0, asked.total - l1), asked.quiet)
    if asked.total < done:
        raise CalotypeError(
            "{path} has {steps} steps behind it, and {total} are asked for; give more",
            path=path,
            steps=done,
            total=asked.total,
        )
    if done > was.l1 and asked.l1 != was.l1:
        raise CalotypeError(
            "{path} is in its second stage, after {steps} steps of the first; give {option:l1_steps} {steps} and "
            "{option:gan_steps} for more",
            path=path,
            steps=was.l1,
        )
    if asked.l1 < min(done, was.l1):
        raise CalotypeError(
            "{path} has {steps} steps of stage one behind it; give as many {option:l1_steps}, or more",
            path=path,
            steps=done,
        )
    return asked


def save_state(course: EnhanceRun, step: int, losses: Sequence[float], is_whole: bool = True) -> None:
    spans = course.spans
    weights = {"spans": torch.tensor([spans.l1, spans.gan, spans.quiet]), **course.rivals.state()}
    course.task.output_dir.mkdir(parents=True, exist_ok=True)
    optimizer = course.rivals.optimizer.state_dict()
    states.save(
        course.state_path, State(step, weights, optimizer, tuple(losses), course.fingerprint, is_whole=is_whole)
    )


def _timed(course: EnhanceRun) -> list[Message]:
    """Where minutes are given, makes it as many steps of each kind as fit in; what to say of it.

    Measured with copies of all that learns.
    """
    task, spans, cost = course.task, course.spans, 0.0
    if not task.minutes:
        return []
    trial = copy.deepcopy(course.rivals)
    for count, first in ((spans.l1, 0), (spans.gan, spans.l1 + spans.quiet)):
        if count:
            seconds = []
            for n in (0, 1, 2):
                begun = time.monotonic()
                trial.step(0, course.lesson(n), course.phase(first), 1.0, 0.9, task.max_grad_norm)
                seconds.append(time.monotonic() - begun)
            cost += count * min(seconds[1:])
    course.spans = spans.times(60 * task.minutes / cost)
    return [Message("{minutes:g} minutes are about {steps} steps here", minutes=task.minutes, steps=course.spans.total)]
