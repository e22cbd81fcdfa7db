"""Evaluation of a LoRA during training: samples, validation loss, and notes about epochs."""

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


def sample_prompts(task: TrainLora, photos: Sequence[Example]) -> tuple[list[Prompt], list[Message]]:
    """The prompts of the samples, if any are requested, and notes about them."""
    if not any(task.samples_after):
        return [], []
    if task.sample_prompts:
        return read_prompts(task.sample_prompts)
    return prompts_from_captions([photo.caption for photo in photos if not photo.is_regularization]), []


def describe_samples(task: TrainLora, prompts: Sequence[Prompt]) -> list[Message]:
    """Lines of the plan about the samples."""
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
    """Called after every step; it never changes the training."""

    task: TrainLora
    monitor: Monitor
    model: Diffusion
    models: Models
    adapters: Adapters
    optimizer: torch.optim.Optimizer
    size: tuple[int, int]  # default (width, height) of samples
    steps: tuple[int, int]  # steps of an epoch, steps of the run
    prompts: Sequence[Prompt]
    compute_validation_loss: Callable[[], float] | None  # None without validation photos
    save_lora: Callable[[str, int], Path]  # saves the LoRA under a name, with its number of steps

    def before(self) -> Iterator[Progress | Note]:
        if self.task.sample_at_first:
            yield from self._draw_samples(0)

    def after(self, done: int) -> Iterator[Progress | Note]:
        """Evaluates after `done` steps."""
        task, (steps_per_epoch, total) = self.task, self.steps
        (epoch, step_in_epoch), (epochs, steps) = divmod(done, steps_per_epoch), task.samples_after
        is_end = done == total
        if self.compute_validation_loss and (
            is_end or (not step_in_epoch and epoch % task.validate_every_n_epochs == 0)
        ):
            yield self._validate(done)
        if is_end or (epochs and not step_in_epoch and epoch % epochs == 0) or (steps and done % steps == 0):
            yield from self._draw_samples(done)
        if not step_in_epoch and (message := self.monitor.end_epoch()):
            yield message

    def _validate(self, done: int) -> Note:
        """Computes the validation loss, and saves the LoRA if it is the lowest so far."""
        with self._evaluation_mode():
            loss = self.compute_validation_loss()
            is_best = self.monitor.log_validation_loss(loss)
            if is_best:
                self.monitor.log_best_file(self.save_lora(f"{self.task.output_name}-best", done))
        when = self._when(done)
        if is_best:
            return note("{when}: validation loss {loss:.4f}, the lowest so far", when=when, loss=loss)
        if best := self.monitor.best_validation():
            return note(
                "{when}: validation loss {loss:.4f}; it was lowest, {lowest:.4f}, after {moment}",
                when=when,
                loss=loss,
                lowest=best[1],
                moment=self._when(best[0]),
            )
        return note("{when}: validation loss {loss:.4f}", when=when, loss=loss)

    def _draw_samples(self, done: int) -> Iterator[Progress | Note]:
        """Draws the samples with the current LoRA.

        An error before the first step ends the run; later the samples of that step are skipped.
        """
        if not self.prompts:
            return
        task, (epoch, step_in_epoch) = self.task, divmod(done, self.steps[0])
        name = f"{task.output_name}_{done:06d}" if step_in_epoch else f"{task.output_name}_e{epoch:06d}"
        sampler = "auto" if task.sample_sampler == "auto" else to_a1111_sampler(task.sample_sampler)
        config = SampleConfig(self.size, task.seed, sampler, task.clip_skip)
        progress, folder = f"{task.output_name}, {self._when(done)}", task.output_dir / "sample"
        sheet = []
        try:
            with self._evaluation_mode():
                for event in draw_samples(self.prompts, config, self.model, self.models, folder, name, progress):
                    if isinstance(event, Sample):
                        self.monitor.log_sample(event.path, event.prompt, event.how, event.picture.pixels, event.number)
                        sheet.append(event.picture.pixels)
                    else:
                        yield event
        except CalotypeError as error:
            if done == 0:
                raise
            yield note("{when}: samples are skipped: {fault}", when=self._when(done), fault=error)
        except torch.OutOfMemoryError:
            yield note("{when}: samples are skipped: out of memory", when=self._when(done))
        if sheet:
            yield self.monitor.sampled(sheet)

    def _when(self, done: int) -> Message:
        epoch, rest = divmod(done, self.steps[0])
        if rest:
            return Message("step {step}", step=done)
        return Message("epoch {epoch}, step {step}", epoch=epoch, step=done)

    @contextlib.contextmanager
    def _evaluation_mode(self) -> Iterator[None]:
        """Disables dropout and uses evaluation weights; restores everything bit for bit.

        Schedule-free optimizers have different weights for training and for evaluation.
        """
        layers, optimizer = [(lora, lora.training) for lora in self.adapters.layers.values()], self.optimizer
        is_schedule_free: Any = hasattr(optimizer, "eval")
        saved = [(p, p.detach().clone()) for lora, _ in layers for p in lora.parameters()] if is_schedule_free else []
        for lora, _ in layers:
            lora.eval()
        if is_schedule_free:
            optimizer.eval()
        try:
            yield
        finally:
            if is_schedule_free:
                optimizer.train()
            with torch.no_grad():
                for parameter, value in saved:
                    parameter.copy_(value)
            for lora, was_training in layers:
                lora.train(was_training)
