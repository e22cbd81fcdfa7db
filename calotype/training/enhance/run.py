"""A run that trains an upscaler or a face restorer: its stages and data, its output files, and how it resumes."""

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.errors import CalotypeError, Message, named
from calotype.files import check_folder
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, Phase
from calotype.training.run.fingerprint import Fingerprint, hashed_options
from calotype.training.run.resume import State, state_path
from calotype.training.run.trainer_state import Snapshot, TrainerState

VALIDATION, TRAINING = "held back", "learnt from"  # keys of the metrics log
FEW = 8  # training pictures that are measured if there are none for validation
KINDS = (".safetensors", ".pth")  # of files that a run may write
UNHASHED = ("save_", "sample_", "validat", "log", "output_")  # prefixes of options that do not affect the result
RATES = ("learning_rate", "discriminator_lr", "lr_scheduler")
WEIGHTS = (
    *("l1_weight", "perceptual_weight", "gan_weight", "identity_weight", "landmark_weight", "eye_weight"),
    *("descriptor_weight", "parts_weight"),
)
LENGTHS = ("l1_steps", "gan_steps", "gan_warmup_steps", "minutes")
IDLE = ("dry_run", "photos", "model", "vgg", "discriminator")  # the contents of these are hashed instead


@dataclass(frozen=True, eq=False)
class Test:
    """A picture to measure on."""

    name: str
    low: Tensor  # (3, h, w) in [0, 1]
    true: Tensor  # (3, H, W) in [0, 1], the target


@dataclass(frozen=True)
class Stages:
    """The number of steps of each stage."""

    l1: int
    gan: int
    warmup: int  # of the second stage, without the GAN loss

    @property
    def total(self) -> int:
        return self.l1 + self.gan

    def scaled(self, factor: float) -> "Stages":
        """All stages longer or shorter; none that exists becomes 0."""
        l1, gan, warmup = (max(min(1, n), round(n * factor)) for n in (self.l1, self.gan, self.warmup))
        return Stages(l1, gan, min(warmup, gan))

    def until(self, step: int) -> "Stages":
        """The stages of a run that ended after a step."""
        l1 = min(self.l1, step)
        return Stages(l1, step - l1, min(self.warmup, step - l1))


@dataclass(eq=False)
class EnhanceRun:
    """One run: everything that the loop needs to know about what is trained."""

    task: Any  # with EnhanceTrainingOptions, LossOptions and EnhanceOutput of tasks.enhancing
    trainer: AdversarialTrainer
    batch: Callable[[int], Batch]  # of a step; all randomness in it comes from the seed and the step
    validation: Sequence[Test]
    save_network: Callable[[str, nn.Module, int], Path]  # a network, under a name, after a number of steps
    pictures: int
    plan: list[Message]
    about: dict[str, str]
    data: Sequence[Any]  # what the result depends on besides the options, JSON-ready
    has_perceptual_first: bool = False  # the perceptual loss is on in stage one too
    stages: Stages = field(init=False)
    state: TrainerState = field(init=False)
    is_sound: bool = True  # the network has not collapsed

    def __post_init__(self) -> None:
        task = self.task
        self.stages = Stages(task.l1_stage_steps, task.gan_steps, min(task.gan_warmup_steps, task.gan_steps))
        self.state = TrainerState(task, self._fingerprint, self._snapshot)

    def phase(self, step: int) -> Phase:
        """Stage one; then the perceptual loss and the training of the discriminator; then the GAN loss too."""
        if step < self.stages.l1:
            return Phase(perceptual=self.has_perceptual_first)
        return Phase(True, True, step >= self.stages.l1 + self.stages.warmup)

    @cached_property
    def measured(self) -> Sequence[Test]:
        """The validation pictures, or else a few training patches, on which a collapse shows as well."""
        return self.validation or training_patches(self.batch)

    @property
    def measured_on(self) -> str:
        return VALIDATION if self.validation else TRAINING

    # ------------------------------------------------------------------ resume

    def _fingerprint(self) -> Fingerprint:
        options = {k: v for k, v in hashed_options(self.task, IDLE).items() if not k.startswith(UNHASHED)}
        options["l1_steps"] = self.task.l1_stage_steps
        return Fingerprint(options, [list(self.data)], (*RATES, *WEIGHTS, *LENGTHS), names_changes=True)

    def _snapshot(self) -> Snapshot:
        stages = torch.tensor([self.stages.l1, self.stages.gan, self.stages.warmup])
        return Snapshot({"spans": stages, **self.trainer.state()}, self.trainer.optimizer.state_dict())

    def resume(self) -> list[Message]:
        """Loads the state of an interrupted run, if there is one; messages about it.

        A run that differs in rates, loss weights or length only continues at the state's step.
        """
        found = self.state.load(check=self._check_stages)
        if found is None:
            check_free(self.task)
            return self._fit_into_minutes()
        weights, changes = dict(found.file.weights), found.changes
        before = Stages(*(int(n) for n in weights.pop("spans")))
        self.trainer.load(weights, found.file.optimizer, str(found.path))
        messages = self._fit_into_minutes() if changes & {*LENGTHS} else []
        self.stages = self._continued(before, found.file) if changes & {*LENGTHS} else before
        self.state.resume(found.file)
        step, total = self.state.step, self.stages.total
        results = (self.task.output_dir / f"{self.task.output_name}{kind}" for kind in KINDS)
        if step == total and (result := next((path for path in results if path.exists()), None)):
            raise CalotypeError(
                "{path} is there already, from a run that ended after {steps} steps; give more steps, or another "
                "{option:output_name}",
                path=result,
                steps=step,
            )
        return [*messages, self.state.resumed_message(total, named(sorted(changes)) if changes else "")]

    def _check_stages(self, state: State) -> None:
        """Raises CalotypeError if only one of the runs has a second stage: then they train different networks."""
        had_discriminator = any(key.startswith("expert.") for key in state.weights)
        has_discriminator = self.trainer.discriminator is not None
        if had_discriminator and not has_discriminator:
            raise CalotypeError(
                "{path} is of a run with a second stage ({option:gan_steps}); give another {option:output_name}, and "
                "with {option:model} what was trained",
                path=self.state.path,
            )
        if has_discriminator and not had_discriminator:
            raise CalotypeError(
                "{path} is of a run without a second stage ({option:gan_steps}); give another {option:output_name}, "
                "and with {option:model} what was trained",
                path=self.state.path,
            )

    def _continued(self, before: Stages, file: State) -> Stages:
        """The stages that are asked for now, after the steps of others; a finished stage cannot be resumed.

        Raises:
            CalotypeError: more steps are done than are asked for, in all or in stage one.
        """
        stages, path, step = self.stages, self.state.path, file.step
        if self.task.minutes:
            l1 = before.l1 if step > before.l1 else max(stages.l1, step)
            stages = Stages(l1, max(0, stages.total - l1), stages.warmup)
        self.state.check_length(file, stages.total)
        if step > before.l1 and stages.l1 != before.l1:
            raise CalotypeError(
                "{path} is in its second stage, after {steps} steps of the first; give {option:l1_steps} {steps} and "
                "{option:gan_steps} for more",
                path=path,
                steps=before.l1,
            )
        if stages.l1 < min(step, before.l1):
            raise CalotypeError(
                "{path} has {steps} steps of stage one behind it; give as many {option:l1_steps}, or more",
                path=path,
                steps=step,
            )
        return stages

    def _fit_into_minutes(self) -> list[Message]:
        """If minutes are given, scales the stages to what fits into them, measured with a copy of the trainer."""
        task, stages, cost = self.task, self.stages, 0.0
        if not task.minutes:
            return []
        trial = copy.deepcopy(self.trainer)
        for count, first in ((stages.l1, 0), (stages.gan, stages.l1 + stages.warmup)):
            if count:
                seconds = []
                for n in (0, 1, 2):
                    start = time.monotonic()
                    trial.step(0, self.batch(n), self.phase(first), 1.0, 0.9, task.max_grad_norm)
                    seconds.append(time.monotonic() - start)
                cost += count * min(seconds[1:])
        self.stages = stages.scaled(60 * task.minutes / cost)
        return [
            Message("{minutes:g} minutes are about {steps} steps here", minutes=task.minutes, steps=self.stages.total)
        ]


def training_patches(batch_of: Callable[[int], Batch]) -> list[Test]:
    """A few patches from before step 0; those with nothing to restore only if there are no others."""
    tests: list[Test] = []
    while len(tests) < 2 * FEW:
        batch = batch_of(-1 - len(tests))
        pairs = zip(batch.low.cpu(), batch.target.cpu(), strict=True)
        tests += [Test(f"learnt from, {len(tests) + n}", low, true) for n, (low, true) in enumerate(pairs, 1)]
    return sorted(tests, key=lambda test: torch.equal(test.low, test.true))[:FEW]


# ---------------------------------------------------------------------- output files


def check_free(task: Any) -> None:
    """Checks the output folder, without changing anything.

    Raises:
        CalotypeError: the folder cannot be written to, or an earlier run has left its result, or its last good
            network, under this name, and no state to resume from.
    """
    check_folder(task.output_dir)
    if os.path.exists(state_path(task)):  # also of names that cannot exist
        return
    discriminator = discriminator_path(task)
    if task.save_discriminator and os.path.exists(discriminator):
        raise CalotypeError(
            "{path} is there already, from a run that ended; give another {option:output_name}", path=discriminator
        )
    for kind in KINDS:
        path, good = (task.output_dir / f"{name}{kind}" for name in (task.output_name, good_name(task)))
        if os.path.exists(path):
            raise CalotypeError(
                "{path} is there already, from a run that ended; give another {option:output_name}", path=path
            )
        if os.path.exists(good):
            raise CalotypeError(
                "{path} is there already, the last good network of a run that was interrupted; give another "
                "{option:output_name}, or move it away",
                path=good,
            )


def discriminator_path(task: Any) -> Path:
    return task.output_dir / f"{task.output_name}-discriminator.safetensors"


def good_name(task: Any) -> str:
    """The name of the file that is kept while the network has not collapsed."""
    return f"{task.output_name}-good"
