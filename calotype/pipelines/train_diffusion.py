"""Training of a small Stable Diffusion from scratch: tokenizer, then the KL-VAE, then text encoder and U-Net.

The loop of both stages is in plain sight here; their steps are in training/diffusion/autoencoder.py and
training/diffusion/denoiser.py.
"""

import contextlib
import copy
import gc
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints.models import Models
from calotype.checkpoints.tokenizer import trained_tokenizer
from calotype.dialects.sd_scripts.prompts import Prompt, prompts_from_captions, read_prompts
from calotype.errors import CalotypeError, Message, plural
from calotype.files import check_folder, read_text, run_lock, uninterrupted
from calotype.inference.diffusion.schedulers import sqrt_alphas_cumprod
from calotype.models.network import is_mixed
from calotype.ops.prompt.chunks import LENGTH
from calotype.tasks import Note, Progress, TrainDiffusion, note
from calotype.training.data.captioned import CaptionedSet, read_pairs, repeated, validation_indices
from calotype.training.diffusion import autoencoder
from calotype.training.diffusion import denoiser as diffusing
from calotype.training.diffusion.autoencoder import AutoencoderTrainer
from calotype.training.diffusion.denoiser import DenoiserTrainer, LatentDataset
from calotype.training.diffusion.evaluator import DiffusionEvaluator, score_message
from calotype.training.diffusion.export import write_folder
from calotype.training.diffusion.networks import Compute, new_text, new_unet, new_vae
from calotype.training.diffusion.retrieval import Score
from calotype.training.monitor.monitor import Monitor, option_facts, tensorboard_folder
from calotype.training.run.fingerprint import Fingerprint, hashed_options
from calotype.training.run.result import TrainResult
from calotype.training.run.resume import State, weights_under
from calotype.training.run.time_budget import TimeBudget, TimedSteps
from calotype.training.run.trainer_state import Snapshot, TrainerState

MIN_TIMED_STEPS = 3  # of each kind of step, the first one not counted
TIMING_FRACTION = 0.01  # of the time, for timing each kind of step
PLANNED_FRACTION = 0.92  # of the time is planned for: the rest is for samples and the end of the run
TRAINING_FRACTION = 0.97  # of the time, after which no step is taken
READING_FRACTION = 0.5  # of the time, above which the time for reading pictures is reported
MAX_CAPTIONS = 32  # of a picture
MIN_GAIN = (
    1.0  # dB above the PSNR of the pictures' mean colours, below which an autoencoder has hardly learned anything
)
UNHASHED = {"output_dir", "output_name", "save_state_every", "save_precision", "dry_run", "photos", "held_out"}
UNHASHED |= {"sample_count", "sample_prompts", "logging_dir", "log_prefix", "log_with"}
UNHASHED |= {"vae_learning_rate", "learning_rate"}  # these may differ when a run is resumed


def train_diffusion(task: TrainDiffusion, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: no captioned pictures, a state that does not fit, another run at work under this name, no room,
            a loss that is NaN.
    """
    clock = TimeBudget()
    _check_free(task)
    logs, notes = tensorboard_folder(task)
    pairs: Any = None
    max_pixels = models.settings.max_pixels
    for pairs in read_pairs(task.photos, task.resolution, task.caption_extension, max_pixels, task.output_dir):
        if isinstance(pairs, Progress):
            yield pairs
    run = DiffusionRun(task, models, pairs, logs, clock)
    yield from map(note, (*notes, *pairs.notes, *run.notes))
    with contextlib.nullcontext() if task.dry_run else run_lock(task.output_dir, task.output_name):
        _check_free(task)  # a run may have ended meanwhile
        run.resume()
        if not run.is_resumed:
            yield from run.plan_steps()
        yield from map(note, run.plan())
        if not task.dry_run:
            yield from run.train()


def _check_free(task: TrainDiffusion) -> None:
    check_folder(task.output_dir)
    if (task.output_dir / task.output_name).exists():
        raise CalotypeError(
            "{path} is there already; give another {option:output_name}", path=task.output_dir / task.output_name
        )


@dataclass(frozen=True)
class _Stage:
    """How the loop names a stage."""

    part: str  # whose learning rate it is
    metric: str  # name of its loss
    option: str  # of its learning rate


STAGES = (_Stage("vae", "vae", "vae_learning_rate"), _Stage("unet", "loss", "learning_rate"))


class DiffusionRun:
    """One run."""

    def __init__(self, task: TrainDiffusion, models: Models, pairs: CaptionedSet, logs: Path | None, clock: TimeBudget):
        self.task, self.models, self.pairs, self.logs, self.clock = task, models, pairs, logs, clock
        self.compute = _compute(task, models)
        is_gpu = self.compute.device.type == "cuda"
        names = read_text(task.held_out).splitlines() if task.held_out else ()
        self.validation = validation_indices(pairs.pairs, task.validation_split, task.seed, names)
        validation = set(self.validation)
        self.training = torch.tensor([n for n in range(len(pairs.pairs)) if n not in validation])
        self.batches = (task.vae_batch_size or (96 if is_gpu else 12), task.train_batch_size or (512 if is_gpu else 32))
        self.tokenizer = trained_tokenizer(self._texts(), task.vocab_size)
        self.sqrt_alphas_cumprod = sqrt_alphas_cumprod(diffusing.TRAINING)
        self.prompts, self.notes = self._prompts()
        self.file: State | None = None  # of an interrupted run, until it is loaded
        self.is_resumed, self.steps = False, (task.vae_train_steps, task.max_train_steps)
        self.number, self.looks, self.stage = 0, 0, TimedSteps(clock, self.steps[0])
        self.trainer: Any = None  # Autoencoding, then Diffusing
        self.vae: nn.Module | None = None  # in the second stage
        self.evaluated_at = 0  # the step of the last evaluation
        self.state = TrainerState(task, self._fingerprint, self._snapshot)

    def resume(self) -> None:
        """Reads the state of an interrupted run, if there is one.

        Raises:
            CalotypeError: it has other pictures or settings.
        """
        found = self.state.load()
        if found is None:
            return
        self.file, self.is_resumed = found.file, True
        self.state.resume(found.file)
        weights = found.file.weights
        self.steps = tuple(weights["plan"].tolist())
        self.clock.earlier, begin, end, *counts = weights["stage"].tolist()
        self.number, _, self.looks = map(int, counts[:3])
        self.stage = TimedSteps(self.clock, self.steps[self.number], begin, end, *counts[3:])  # old states: no reserve

    @property
    def _rates(self) -> list[float]:
        return [self.task.vae_learning_rate, self.task.learning_rate]

    @property
    def n(self) -> int:
        """Completed steps of this stage."""
        return self.state.step - (self.steps[0] if self.number else 0)

    def _texts(self) -> list[str]:
        return [caption for n in self.training.tolist() for caption in self.pairs.pairs[n].captions]

    def _prompts(self) -> tuple[list[Prompt], list[Message]]:
        if not self.task.sample_count:
            return [], []
        if self.task.sample_prompts:
            return read_prompts(self.task.sample_prompts)
        indices = self.validation or self.training.tolist()
        return prompts_from_captions([self.pairs.pairs[n].captions[0] for n in indices]), []

    # ------------------------------------------------------------------ the plan

    def plan_steps(self) -> Iterator[Progress | Note]:
        """Sets how many steps fit into the time: a few of each kind are timed, on networks that are not kept."""
        task, (first, second) = self.task, self.steps
        if first and second:
            return
        seconds = []
        for n, kind in enumerate(("plain", "judged", "diffusing"), 1):
            seconds.append(0.0 if kind == "diffusing" and second else self._timed(kind))
            yield Progress(n, 3, "kinds of steps timed")
        plain, judged, diffused = seconds
        late = min(1.0, task.adversarial_share + autoencoder.DISCRIMINATOR_WARMUP) if task.adversarial_share else 0.0
        each = (1 - late) * plain + late * judged
        spent, time_given = self.clock.now, task.minutes * 60
        if spent > READING_FRACTION * time_given:
            yield note(
                "{spent:.1f} of the {minutes:g} minutes are over before the first step",
                spent=spent / 60,
                minutes=task.minutes,
            )
        budget = PLANNED_FRACTION * time_given - spent
        if not first:
            first = max(1, int(task.vae_share * budget / each))
        elif first * each > budget:
            raise CalotypeError(
                "{steps} steps of the VAE take about {needed:.1f} minutes here, so nothing is left of {minutes:g} for "
                "the U-Net; give more {option:minutes}, or {option:max_train_steps}",
                steps=first,
                needed=first * each / 60,
                minutes=task.minutes,
            )
        if not second:
            second = max(1, int((budget - first * each) / diffused))
        self.steps = (first, second)

    def _timed(self, kind: str) -> float:
        """Seconds of the quickest of several steps: the time limit ends a plan that is too long."""
        if kind == "diffusing":
            trainer: Any = self._diffusing(self._cache(self._new_vae(), range(0, min(16, len(self.training)))), 10**6)
        else:
            trainer = self._autoencoding(10**6)
        seconds, start, limit = [], time.monotonic(), TIMING_FRACTION * 60 * self.task.minutes
        while len(seconds) < MIN_TIMED_STEPS or time.monotonic() - start < limit:
            before = time.monotonic()
            trainer.step(len(seconds), 1.0 if kind == "judged" else 0.0)
            seconds.append(time.monotonic() - before)
        return min(seconds[1:])

    def _limited(self, number: int) -> TimedSteps:
        """Stage 0 or 1 from now on, without a time limit if its steps are given."""
        task, now = self.task, self.clock.now
        end = TRAINING_FRACTION * task.minutes * 60
        if task.max_train_steps if number else task.vae_train_steps:
            end = math.inf
        elif number == 0:
            end = now + task.vae_share * max(0.0, end - now)
        return TimedSteps(self.clock, self.steps[number], now, end)

    def plan(self) -> list[Message]:
        task, groups = self.task, {pair.group for pair in self.pairs.pairs}
        parts = (self._new_vae(), self._new_unet(), self._new_text())
        vae, unet, text = (sum(p.numel() for p in part.parameters()) / 1e6 for part in parts)
        (first, second), (crops, batch) = self.steps, self.batches
        plan = [
            plural(
                max(1, len(groups)),
                "{pictures} pictures of {side}x{side} to train on, {validation} for validation; {tokens} tokens",
                "{pictures} pictures of {side}x{side} to train on, {validation} for validation, in {count} groups; "
                "{tokens} tokens",
                pictures=len(self.training),
                side=task.resolution,
                validation=len(self.validation),
                tokens=self.tokenizer.inner.get_vocab_size(),
            ),
            Message(
                "KL-VAE with {vae:.1f} million parameters: {vae_steps} steps of batch size {vae_batch}; then U-Net "
                "with {unet:.1f} and text encoder with {text:.1f}: {steps} steps of {batch}, in {dtype}",
                vae=vae,
                vae_steps=first,
                vae_batch=crops,
                unet=unet,
                text=text,
                steps=second,
                batch=batch,
                dtype=str(self.compute.dtype).removeprefix("torch."),
            ),
        ]
        if self.prompts:
            plan.append(
                Message(
                    "samples are drawn {count} times during training, into {folder}",
                    count=task.sample_count,
                    folder=task.output_dir / "sample",
                )
            )
        return plan

    # ------------------------------------------------------------------ the parts

    def _new_vae(self) -> nn.Module:
        task = self.task
        return new_vae(task.vae_widths, task.latent_channels, task.resolution, task.seed, self.compute)

    def _new_unet(self) -> nn.Module:
        task = self.task
        side = task.resolution // task.factor
        return new_unet(task.unet_widths, task.latent_channels, side, task.text_width, task.seed, self.compute)

    def _new_text(self) -> Any:
        task = self.task
        return new_text(
            task.text_width, task.text_layers, self.tokenizer.inner.get_vocab_size(), task.seed, self.compute
        )

    def _autoencoding(self, steps: int) -> AutoencoderTrainer:
        task, adversarial = self.task, self.task.adversarial_share
        config = autoencoder.AutoencoderConfig(
            *(steps, self.batches[0], task.vae_learning_rate, task.seed, adversarial, task.adversarial_weight)
        )
        return AutoencoderTrainer(self._new_vae(), self.pairs.pixels, self.training, self.compute, config)

    def _diffusing(self, cache: LatentDataset, steps: int) -> DenoiserTrainer:
        task, batch = self.task, self.batches[1]
        config = diffusing.DenoiserConfig(
            *(steps, batch, task.learning_rate, task.seed, task.caption_dropout_rate, task.min_snr_gamma),
            task.ema_decay,
        )
        return DenoiserTrainer(self._new_unet(), self._new_text(), cache, self.compute, config)

    # ------------------------------------------------------------------ the loop

    def train(self) -> Iterator[Progress | Note | TrainResult]:
        if self.state.step:
            changed = Message("rate") if self.file.weights["rates"].tolist() != self._rates else ""
            yield note(self.state.resumed_message(sum(self.steps), changed))
        monitor = self._monitor()
        evaluator = self._evaluator(monitor)
        try:
            with self.state.saved_on_interrupt():
                self._load()
                if self.number == 0:
                    yield from self._train_stage(monitor, evaluator)
                    yield from self._start_second_stage(monitor, evaluator)
                yield from self._train_stage(monitor, evaluator)
                if self.n < self.steps[1]:
                    yield note(
                        "the {minutes:g} minutes are over after {steps} of {total} steps",
                        minutes=self.task.minutes,
                        steps=self.state.step,
                        total=sum(self.steps),
                    )
                yield from self._undo_collapse()
                score = yield from evaluator.score(self.trainer, self.vae, self._remaining)
                path = self._save_model(score)
                self.state.finish()
                monitor.finish()
        finally:
            monitor.close()
        self.state.close(keep=False)
        yield note("report: {path}", path=monitor.path)
        found, count = (score.hits, score.count) if score else (0, 0)
        extra = {"held_out": {"found": found, "of": count}}
        yield TrainResult(path, tuple(self.state.losses), len(self.training), monitor.path, extra)

    def _load(self) -> None:
        """Makes the trainer of the first stage, or that of the stage in which the run was interrupted."""
        if self.number == 0:
            self.trainer = self._autoencoding(self.steps[0])
        else:
            self.vae = self._new_vae()
            self.vae.load_state_dict(weights_under(self.file.weights, "vae"))
            self.vae.register_to_config(scaling_factor=1.0)
            self.vae.eval().requires_grad_(False)
            self.trainer = self._diffusing(self._cache(self.vae), self.steps[1])
        if self.file:
            self.trainer.load(self.file.weights, self.file.optimizer)
            self.file = None  # it takes as much memory as the networks
        else:
            self.stage = self._limited(0)

    def _train_stage(self, monitor: Monitor, evaluator: DiffusionEvaluator) -> Iterator[Progress | Note]:
        stage, steps = STAGES[self.number], self.steps[self.number]
        yield from self._after_step(evaluator)  # may have been interrupted
        while self.n < steps and not (self.n and self.stage.is_late):
            with self.state.update():
                loss, metrics = self.trainer.step(self.n, self.stage.progress(self.n))
                self.state.count(loss, is_complete=True)
                rates = {stage.part: self.trainer.optimizer.param_groups[0]["lr"]}
                numbers = {f"{stage.metric}/{name}": value for name, value in metrics.items()}
                event = monitor.log_step(self.state.step, loss, rates, stage.metric, **numbers)
            if self.state.is_diverged:
                raise self._diverged(stage.option)
            yield replace(event, remaining=min(event.remaining, max(0.0, self._remaining())))
            yield from self._after_step(evaluator)
            self.state.save_if_due(sum(self.steps) if self.number else steps)
        yield from self._evaluate(evaluator)  # if the time was over after the last step

    def _after_step(self, evaluator: DiffusionEvaluator) -> Iterator[Progress | Note]:
        if self.number == 1 and self.n and self.n % diffusing.WINDOW == 0:
            yield from self._check_collapse()
        yield from self._evaluate(evaluator)

    def _evaluate(self, evaluator: DiffusionEvaluator) -> Iterator[Progress | Note]:
        """Reconstructions, or samples and the validation loss, if they are due."""
        looks = self._looks()
        if looks == self.looks or self.state.step == self.evaluated_at:
            self.looks = looks
            return
        if self.number == 0:
            quality = yield from evaluator.log_reconstructions(self.trainer.ema, self.state.step)
            yield note("step {step}: reconstructions of {quality:.2f} dB", step=self.state.step, quality=quality)
            if not self.trainer.update_best(quality):
                yield note(
                    "that is {loss:.1f} dB less than before: the autoencoder has collapsed, and is kept as it was "
                    "before; a lower {option:adversarial_weight} or {option:vae_learning_rate} would help",
                    loss=self.trainer.best_psnr - quality,
                )
        else:
            start = self.clock.now
            yield from evaluator.validate_and_sample(self.trainer, self.vae, self.state.step)
            self.stage.reserve = self.clock.now - start  # the last evaluation takes as long
        self.looks, self.evaluated_at = looks, self.state.step

    def _looks(self) -> int:
        """How many evaluations are due: evenly over a stage, at its end, and before the adversarial loss is added."""
        if not self.n:
            return 0
        count, late = max(1, self.task.sample_count), self.task.adversarial_share
        marks = {n / count for n in range(1, count + 1)} | ({1 - late} if self.number == 0 else set())
        return sum(mark <= self.stage.progress(self.n) + 1e-9 for mark in marks)

    def _check_collapse(self) -> Iterator[Note]:
        """Keeps a copy of the networks while their loss is low enough; reports a collapse."""
        *before, is_sound = diffusing.sound_windows(self.state.losses[self.steps[0] :])
        if is_sound:
            self.trainer.back_up()
        elif before[-1]:
            yield note(
                "step {step}: the loss is far above what it was: the U-Net has collapsed, and is kept as it was "
                "{window} steps ago; a lower {option:learning_rate} would help",
                step=self.state.step,
                window=diffusing.WINDOW,
            )

    def _start_second_stage(self, monitor: Monitor, evaluator: DiffusionEvaluator) -> Iterator[Note]:
        if self.n < self.steps[0]:
            yield note(
                "the autoencoder's part of the time is over after {steps} of {total} steps",
                steps=self.n,
                total=self.steps[0],
            )
            self.steps = (self.n, self.steps[1])
            monitor.set_total_steps(sum(self.steps))
        vae = yield from self._trained_vae(evaluator)
        autoencoder.normalize_latents(vae, self._moments(vae, self._subset(1024), sampled=True)[0])
        vae.eval().requires_grad_(False)
        trainer = self._diffusing(self._cache(vae), self.steps[1])
        with uninterrupted():
            self.vae, self.trainer, self.number, self.looks = vae, trainer, 1, 0
            self.stage = self._limited(1)
        gc.collect()
        yield note("the autoencoder is trained; U-Net and text encoder follow")
        self.state.save()

    def _trained_vae(self, evaluator: DiffusionEvaluator) -> Iterator[Note]:
        """Returns a copy of the first stage's autoencoder: the last one, or the best one if it is much better."""
        trainer, quality = self.trainer, evaluator.measure_psnr(self.trainer.ema)
        is_sound = quality >= trainer.best_psnr - autoencoder.MAX_PSNR_DROP
        if not is_sound:
            yield note(
                "the autoencoder is taken as it was at its best, with {best:.1f} dB, not as it is at the end, "
                "with {quality:.1f}",
                best=trainer.best_psnr,
                quality=quality,
            )
        flat = evaluator.mean_color_psnr()
        if max(quality, trainer.best_psnr) < flat + MIN_GAIN:
            yield note(
                "the autoencoder has hardly learned more than the mean colours of pictures, which give {flat:.1f} "
                "dB, so little can be seen in what is drawn; give more {option:minutes} or "
                "{option:vae_train_steps}",
                flat=flat,
            )
        return copy.deepcopy(trainer.ema if is_sound else trainer.best_ema)

    def _diverged(self, option: str) -> CalotypeError:
        """NaN steps change no weights, so the state from before them is saved."""
        step = self.state.first_nonfinite
        self.state.undo_nonfinite()
        if self.state.step == 0:
            return CalotypeError(
                "the loss or its gradients are NaN since step {step}: the rate is too high; begin again with a "
                "lower {option}",
                step=step,
                option=option,
            )
        self.state.save()
        return CalotypeError(
            "the loss or its gradients are NaN since step {step}: the rate is too high; step {kept} is kept, "
            "and the same command with a lower {option} goes on from it",
            step=step,
            kept=self.state.step,
            option=option,
        )

    def _undo_collapse(self) -> Iterator[Note]:
        if not all(diffusing.sound_windows(self.state.losses[self.steps[0] :])[-1:]):
            with uninterrupted():
                self.trainer.restore_backup()
            yield note("the U-Net has collapsed at the end, so it is as it was when its loss was low enough last")

    def _remaining(self) -> float:
        """Seconds; infinite if steps are given and no time."""
        return math.inf if self.task.max_train_steps else self.task.minutes * 60 - self.clock.now

    # ------------------------------------------------------------------ latents

    def _subset(self, max_count: int) -> list[int]:
        """Indices of training pictures, evenly from all groups: the set is sorted by them."""
        return self.training[:: math.ceil(len(self.training) / max_count)].tolist()

    @torch.no_grad()
    def _moments(self, vae: nn.Module, indices: Sequence[int], sampled: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, or samples of them in float32; (N, C, h, w) on the device."""
        device, moments = self.compute.device, []
        for n, chunk in enumerate(torch.tensor(list(indices)).split(64)):
            x = self.pairs.pixels[chunk].to(device).float() / 127.5 - 1
            with self.compute.autocast():
                distribution = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            mean, std = distribution.mean.float(), distribution.std.float()
            if sampled:
                generator = torch.Generator(device).manual_seed(self.task.seed + n)
                mean = mean + std * torch.randn(mean.shape, generator=generator, device=device)
            moments.append((mean, std) if sampled else (mean.half(), std.half()))
        means, stds = zip(*moments, strict=True)
        return torch.cat(means), torch.cat(stds)

    def _cache(self, vae: nn.Module, indices: Sequence[int] | None = None) -> LatentDataset:
        indices, device = list(indices or range(len(self.pairs.pairs))), self.compute.device
        mean, std = self._moments(vae, indices)
        pairs = [self.pairs.pairs[n] for n in indices]
        count = min(MAX_CAPTIONS, max(len(pair.captions) for pair in pairs))
        rows = [[self._padded(caption) for caption in repeated(pair.captions, count)] for pair in pairs]
        validation = set(self.validation)
        weights = [0.0 if n in validation else float(pair.weight) for n, pair in zip(indices, pairs, strict=True)]
        return LatentDataset(
            mean,
            std,
            torch.tensor(rows, dtype=torch.int32, device=device),
            torch.tensor(self._padded(""), dtype=torch.int32, device=device),
            torch.tensor(weights if any(weights) else [1.0] * len(weights), device=device),
            self.sqrt_alphas_cumprod.to(device),
        )

    def _padded(self, caption: str) -> list[int]:
        tokenizer = self.tokenizer
        tokens = tokenizer.encode(caption)[:LENGTH]
        return [tokenizer.bos, *tokens, tokenizer.eos] + [tokenizer.pad] * (LENGTH - len(tokens))

    # ------------------------------------------------------------------ monitoring

    def _evaluator(self, monitor: Monitor) -> DiffusionEvaluator:
        indices = (self.validation, self.training.tolist())
        return DiffusionEvaluator(
            self.task, self.models, self.compute, self.pairs, indices, self.tokenizer, self.prompts, monitor
        )

    def _monitor(self) -> Monitor:
        task, device = self.task, self.compute.device
        about = {
            "pictures": str(task.photos),
            "computed": f"on {device.type}, with torch {torch.__version__.partition('+')[0]}",
        }
        facts = {"plan": list(map(str, self.plan())), "about": about, **option_facts(task)}
        steps = (self.state.step, sum(self.steps), 0)
        return Monitor(task.output_dir, task.output_name, steps, device, facts, self.logs)

    # ------------------------------------------------------------------ files

    def _fingerprint(self) -> Fingerprint:
        options = hashed_options(self.task, UNHASHED)
        pixels = hashlib.sha256(self.pairs.pixels.numpy().data).hexdigest()
        pairs = [(pair.name, pair.captions, pair.weight) for pair in self.pairs.pairs]
        return Fingerprint(options, [pixels, pairs, self.validation, self.batches, str(self.compute.dtype)])

    def _snapshot(self) -> Snapshot:
        stage = [self.clock.now, self.stage.begin, self.stage.end, self.number, self.n, self.looks, self.stage.reserve]
        weights = {"plan": torch.tensor(self.steps), "stage": torch.tensor(stage, dtype=torch.float64)}
        weights |= {"rates": torch.tensor(self._rates, dtype=torch.float64), **self.trainer.weights()}
        weights |= {f"vae.{key}": value for key, value in self.vae.state_dict().items()} if self.vae else {}
        return Snapshot(weights, self.trainer.optimizer.state_dict())

    def _save_model(self, score: Score | None) -> Path:
        path = self.task.output_dir / self.task.output_name
        parts = (self.trainer.unet_ema, self.vae, self.trainer.text_ema)
        write_folder(path, parts, self.tokenizer, diffusing.TRAINING, self._card(score), self.task.save_precision)
        return path

    def _card(self, score: Score | None) -> str:
        task = self.task
        lines = [
            f"# {task.output_name}",
            "",
            f"Trained from scratch with `train_diffusion` of Calotype {__version__}.",
            "",
        ]
        lines += [f"- {line}" for line in self.plan()]
        lines += [f"- seed {task.seed}; v-prediction, zero terminal SNR; draws at {task.resolution} pixels"]
        lines += [f"- {score_message(score)}"] if score else []
        lines += ["", "## Data", "", self.pairs.about.strip()] if self.pairs.about.strip() else []
        return "\n".join(lines) + "\n"


def _compute(task: TrainDiffusion, models: Models) -> Compute:
    device, setting = models.device, models.settings.compile
    is_bfloat16 = is_mixed(task.mixed_precision, device)
    is_long = device.type == "cuda" and (task.minutes >= 8 and not task.max_train_steps)
    is_compiled = setting == "on" or (setting == "auto" and is_long)
    return Compute(device, torch.bfloat16 if is_bfloat16 else torch.float32, is_compiled, task.factor)
