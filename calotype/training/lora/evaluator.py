"""What a LoRA run shows on its way: sample pictures, the loss on photos held back, and what is told of an epoch."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calotype.checkpoints.models import Models
from calotype.dialects.sd_scripts.prompts import Prompt, prompts_from_captions, read_prompts
from calotype.errors import CalotypeError, Message, listed, plural
from calotype.models.diffusion import Diffusion
from calotype.tasks import Note, Progress, note
from calotype.tasks.training import TrainLora, to_a1111_sampler
from calotype.training.data.dataset import Example
from calotype.training.lora.network import Adapters
from calotype.training.monitor.monitor import Monitor
from calotype.training.monitor.samples import Sample, SampleConfig, draw_samples


def wanted(task: TrainLora, photos: Sequence[Example]) -> tuple[list[Prompt], list[Message]]:
    """The prompts of the sample pictures, none where there shall be none; and what to say of them."""
    if not any(task.samples_after):
        return [], []
    if task.sample_prompts:
        return read_prompts(task.sample_prompts)
    return prompts_from_captions([photo.caption for photo in photos if not photo.is_regularization]), []


def planned(task: TrainLora, prompts: Sequence[Prompt]) -> list[Message]:
    """What the plan says about them."""
    if not prompts:
        return []
    epochs, steps = task.samples_after
    moments = [Message("before the first step")] if task.sample_at_first else []
    moments += [plural(epochs, "every epoch", "every {count} epochs")] if epochs else []
    moments += [plural(steps, "every step", "every {count} steps")] if steps else []
    return [
        Message(
            "{pictures} drawn {moments} and at the end, into {folder}",
            pictures=plural(len(prompts), "a sample picture", "{count} sample pictures"),
            moments=listed(moments),
            folder=task.output_dir / "sample",
        )
    ]


@dataclass(frozen=True, eq=False)
class LoraEvaluator:
    """Asked after every step. Nothing that it does changes what is learnt."""

    task: TrainLora
    watch: Monitor
    model: Diffusion
    models: Models
    adapters: Adapters
    optimizer: torch.optim.Optimizer
    size: tuple[int, int]  # width, height of samples that say nothing themselves
    steps: tuple[int, int]  # of an epoch, of all
    prompts: Sequence[Prompt]
    measure: Callable[[], float] | None  # the validation loss, where photos are held back
    keep: Callable[[str, int], Path]  # writes the LoRA under a name, after so many steps

    def before(self) -> Iterator[Progress | Note]:
        if self.task.sample_at_first:
            yield from self._sampled(0)

    def after(self, done: int) -> Iterator[Progress | Note]:
        """What is due after `done` steps."""
        task, (each, total) = self.task, self.steps
        (epoch, rest), (epochs, steps) = divmod(done, each), task.samples_after
        is_end = done == total
        if self.measure and (is_end or (not rest and epoch % task.validate_every_n_epochs == 0)):
            yield self._validated(done)
        if is_end or (epochs and not rest and epoch % epochs == 0) or (steps and done % steps == 0):
            yield from self._sampled(done)
        if not rest and (said := self.watch.end_epoch()):
            yield said

    def _validated(self, done: int) -> Note:
        """The LoRA is kept where it is the best so far."""
        with self._at_rest():
            loss = self.measure()
            is_best = self.watch.log_validation_loss(loss)
            if is_best:
                self.watch.log_best_file(self.keep(f"{self.task.output_name}-best", done))
        when = self._when(done)
        if is_best:
            return note("{when}: validation loss {loss:.4f}, the lowest so far", when=when, loss=loss)
        if best := self.watch.best_validation():
            return note(
                "{when}: validation loss {loss:.4f}; it was lowest, {lowest:.4f}, after {moment}",
                when=when,
                loss=loss,
                lowest=best[1],
                moment=self._when(best[0]),
            )
        return note("{when}: validation loss {loss:.4f}", when=when, loss=loss)

    def _sampled(self, done: int) -> Iterator[Progress | Note]:
        """The sample pictures, with the LoRA as it is now.

        What cannot be drawn is known before the first step, and ends the run then; later it costs no more than a set.
        """
        if not self.prompts:
            return
        task, (epoch, rest) = self.task, divmod(done, self.steps[0])
        name = f"{task.output_name}_{done:06d}" if rest else f"{task.output_name}_e{epoch:06d}"
        sampler = "auto" if task.sample_sampler == "auto" else to_a1111_sampler(task.sample_sampler)
        ways = SampleConfig(self.size, task.seed, sampler, task.clip_skip)
        when, folder = f"{task.output_name}, {self._when(done)}", task.output_dir / "sample"
        try:
            with self._at_rest():
                for event in draw_samples(self.prompts, ways, self.model, self.models, folder, name, when):
                    if isinstance(event, Sample):
                        self.watch.log_sample(event.path, event.prompt, event.how, event.picture.pixels, event.number)
                    else:
                        yield event
        except CalotypeError as fault:
            if done == 0:
                raise
            yield note("{when}: samples are left out: {fault}", when=self._when(done), fault=fault)
        except torch.OutOfMemoryError:
            yield note("{when}: samples are left out: the memory of the device does not suffice", when=self._when(done))

    def _when(self, done: int) -> Message:
        epoch, rest = divmod(done, self.steps[0])
        if rest:
            return Message("step {step}", step=done)
        return Message("epoch {epoch}, step {step}", epoch=epoch, step=done)

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Dropout off, and the weights that count; afterwards all is as it was, to the bit.

        Schedule-free optimizers learn with other weights than those that they hand over.
        """
        layers, optimizer = [(lora, lora.training) for lora in self.adapters.layers.values()], self.optimizer
        has_two: Any = hasattr(optimizer, "eval")
        kept = [(p, p.detach().clone()) for lora, _ in layers for p in lora.parameters()] if has_two else []
        for lora, _ in layers:
            lora.eval()
        if has_two:
            optimizer.eval()
        try:
            yield
        finally:
            if has_two:
                optimizer.train()
            with torch.no_grad():
                for parameter, value in kept:
                    parameter.copy_(value)
            for lora, was_learning in layers:
                lora.train(was_learning)
