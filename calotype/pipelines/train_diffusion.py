"""Stable Diffusion in miniature, from nothing: tokenizer, then the KL-VAE, then text encoder and U-Net.

The loop of both stages is in plain sight here; what a step of each does stands in training/autoencoder.py and
training/diffusing.py.
"""

import contextlib
import copy
import gc
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from calotype.tasks import Learning, Note, Progress, TrainDiffusion, note, options_of
from calotype.training.data.captioned import CaptionedSet, read_pairs, repeated, validation_indices
from calotype.training.diffusion import autoencoder
from calotype.training.diffusion import denoiser as diffusing
from calotype.training.diffusion.autoencoder import AutoencoderTrainer
from calotype.training.diffusion.denoiser import DenoiserTrainer, LatentDataset
from calotype.training.diffusion.evaluator import DiffusionEvaluator, score_message
from calotype.training.diffusion.export import write_folder
from calotype.training.diffusion.networks import Compute, new_text, new_unet, new_vae, sub_state_dict
from calotype.training.diffusion.retrieval import Score
from calotype.training.monitor.monitor import Monitor, option_facts, tensorboard_folder
from calotype.training.run import resume as state
from calotype.training.run.result import mean_loss
from calotype.training.run.resume import State, state_path
from calotype.training.run.save_timer import SaveTimer
from calotype.training.run.time_budget import TimeBudget, TimedSteps

FAILED = 3  # steps with a loss that is no number before the run is stopped
TRIED = 3  # steps of each kind that are timed at least, the first one not counted
TRYING = 0.01  # of the time, for each kind
SPARE = 0.92  # of the time is planned for: the rest is for samples, and for what comes at the end
LEARNING = 0.97  # of the time, after which no step is taken
TIGHT = 0.5  # of the time, which reading may take before that is said
CAPTIONS = 32  # of a picture, at most
FLAT = 1.0  # dB above what the pictures' mean colours give, below which an autoencoder has learnt hardly anything


@dataclass(frozen=True)
class Trained:
    """What training ends in."""

    path: Path
    losses: tuple[float, ...]
    pictures: int
    report: Path
    hits: tuple[int, int] = (0, 0)  # pictures held back that were found again, of so many

    @property
    def facts(self) -> dict[str, Any]:
        """What the last event says besides the file."""
        return mean_loss(self.losses) | {"held_out": {"found": self.hits[0], "of": self.hits[1]}}


def train_diffusion(task: TrainDiffusion, models: Models) -> Iterator[Progress | Note | Trained]:
    """Yields progress, and Trained last. Closing it keeps the very step; the same command goes on from there.

    Raises:
        CalotypeError: no captioned pictures, a state that does not fit, another run at work under this name, no room,
            a loss that is no number.
    """
    clock = TimeBudget()
    _check_free(task)
    logs, notes = tensorboard_folder(task)
    pairs: Any = None
    most = models.settings.max_pixels
    for pairs in read_pairs(task.photos, task.resolution, task.caption_extension, most, task.output_dir):
        if isinstance(pairs, Progress):
            yield pairs
    run = DiffusionRun(task, models, pairs, logs, clock)
    yield from map(note, (*notes, *pairs.notes, *run.notes))
    with contextlib.nullcontext() if task.dry_run else run_lock(task.output_dir, task.output_name):
        _check_free(task)  # also from what has ended meanwhile
        run.resume()
        if not run.is_resumed:
            yield from run.planned()
        yield from map(note, run.told())
        if not task.dry_run:
            yield from run.trained()


def _check_free(task: TrainDiffusion) -> None:
    check_folder(task.output_dir)
    if (task.output_dir / task.output_name).exists():
        raise CalotypeError(
            "{path} is there already; give another {option:output_name}", path=task.output_dir / task.output_name
        )


@dataclass(frozen=True)
class _Kind:
    """What sets a stage apart in the loop."""

    part: str  # whose rate it is
    noted: str  # what its loss is noted as
    option: str  # of its rate


KINDS = (_Kind("vae", "vae", "vae_learning_rate"), _Kind("unet", "loss", "learning_rate"))


class DiffusionRun:
    """The parts of one run: settled once, then stepped through."""

    def __init__(self, task: TrainDiffusion, models: Models, pairs: CaptionedSet, logs: Path | None, clock: TimeBudget):
        self.task, self.models, self.pairs, self.logs, self.clock = task, models, pairs, logs, clock
        self.means = _means(task, models)
        is_gpu = self.means.device.type == "cuda"
        names = read_text(task.held_out).splitlines() if task.held_out else ()
        self.held = validation_indices(pairs.pairs, task.validation_split, task.seed, names)
        held = set(self.held)
        self.learnt = torch.tensor([n for n in range(len(pairs.pairs)) if n not in held])
        self.batches = (task.vae_batch_size or (96 if is_gpu else 12), task.train_batch_size or (512 if is_gpu else 32))
        self.tokenizer = trained_tokenizer(self._texts(), task.vocab_size)
        self.signals = sqrt_alphas_cumprod(diffusing.TRAINING)
        self.prompts, self.notes = self._prompts()
        self.found: State | None = None  # until it is taken up
        self.is_resumed, self.steps = False, (task.vae_train_steps, task.max_train_steps)
        self.losses: list[float] = []
        self.number, self.n, self.looks, self.stage = 0, 0, 0, TimedSteps(clock, self.steps[0])
        self.learning: Any = None  # Autoencoding, then Diffusing
        self.vae: nn.Module | None = None  # from the second stage on
        self.is_changing, self.due = False, SaveTimer(task.save_state_every)
        self.seen_at = 0  # the step of the last look, which is not taken twice

    def resume(self) -> None:
        """Reads the state of a run that was stopped, if there is one.

        Raises:
            CalotypeError: it has other pictures or settings.
        """
        if not self._state_path.is_file():
            return
        found = state.load(self._state_path)
        if found.fingerprint != self._fingerprint:
            raise CalotypeError(
                "{path} is the state of a run with other pictures or settings; delete it to begin anew, or give "
                "another {option:output_name}",
                path=self._state_path,
            )
        self.found, self.is_resumed = found, True
        self.steps, self.losses = tuple(found.weights["plan"].tolist()), list(found.losses)
        self.clock.earlier, begin, end, *counts = found.weights["stage"].tolist()
        self.number, self.n, self.looks = map(int, counts[:3])
        self.stage = TimedSteps(
            self.clock, self.steps[self.number], begin, end, *counts[3:]
        )  # states once had no reserve

    @property
    def _rates(self) -> list[float]:
        return [self.task.vae_learning_rate, self.task.learning_rate]

    @property
    def done(self) -> int:
        """Steps of both stages."""
        return self.n + (self.steps[0] if self.number else 0)

    def _texts(self) -> list[str]:
        return [caption for n in self.learnt.tolist() for caption in self.pairs.pairs[n].captions]

    def _prompts(self) -> tuple[list[Prompt], list[Message]]:
        if not self.task.sample_count:
            return [], []
        if self.task.sample_prompts:
            return read_prompts(self.task.sample_prompts)
        return prompts_from_captions([self.pairs.pairs[n].captions[0] for n in self.held or self.learnt.tolist()]), []

    # ------------------------------------------------------------------ before

    def planned(self) -> Iterator[Progress | Note]:
        """How many steps fit into the time: a few of each kind are timed, on networks that are thrown away."""
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
        if spent > TIGHT * time_given:
            yield note(
                "{spent:.1f} of the {minutes:g} minutes are over before the first step",
                spent=spent / 60,
                minutes=task.minutes,
            )
        budget = SPARE * time_given - spent
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
        """Seconds of the quickest of several steps: time ends a plan too long, and one too short would waste it."""
        if kind == "diffusing":
            learning: Any = self._diffusing(self._lessons(self._new_vae(), range(0, min(16, len(self.learnt)))), 10**6)
        else:
            learning = self._autoencoding(10**6)
        seconds, begun = [], time.monotonic()
        while len(seconds) < TRIED or time.monotonic() - begun < TRYING * 60 * self.task.minutes:
            before = time.monotonic()
            learning.step(len(seconds), 1.0 if kind == "judged" else 0.0)
            seconds.append(time.monotonic() - before)
        return min(seconds[1:])

    def _limited(self, number: int) -> TimedSteps:
        """Stage 0 or 1, from now on. Where its steps were given, only they count."""
        task, now = self.task, self.clock.now
        end = LEARNING * task.minutes * 60
        if task.max_train_steps if number else task.vae_train_steps:
            end = math.inf
        elif number == 0:
            end = now + task.vae_share * max(0.0, end - now)
        return TimedSteps(self.clock, self.steps[number], now, end)

    def told(self) -> list[Message]:
        """The plan in sentences."""
        task, groups = self.task, {pair.group for pair in self.pairs.pairs}
        parts = (self._new_vae(), self._new_unet(), self._new_text())
        vae, unet, text = (sum(p.numel() for p in part.parameters()) / 1e6 for part in parts)
        (first, second), (crops, batch) = self.steps, self.batches
        told = [
            plural(
                max(1, len(groups)),
                "{pictures} pictures of {side}x{side} to learn, {held} held back; {tokens} tokens",
                "{pictures} pictures of {side}x{side} to learn, {held} held back, in {count} groups; {tokens} tokens",
                pictures=len(self.learnt),
                side=task.resolution,
                held=len(self.held),
                tokens=self.tokenizer.inner.get_vocab_size(),
            ),
            Message(
                "KL-VAE, {vae:.1f} million numbers: {vae_steps} steps of {vae_batch}; then U-Net, {unet:.1f}, and text "
                "encoder, {text:.1f}: {steps} steps of {batch}, in {dtype}",
                vae=vae,
                vae_steps=first,
                vae_batch=crops,
                unet=unet,
                text=text,
                steps=second,
                batch=batch,
                dtype=str(self.means.dtype).removeprefix("torch."),
            ),
        ]
        if self.prompts:
            told.append(
                Message(
                    "samples drawn {count} times on the way, into {folder}",
                    count=task.sample_count,
                    folder=task.output_dir / "sample",
                )
            )
        return told

    # ------------------------------------------------------------------ the parts

    def _new_vae(self) -> nn.Module:
        task = self.task
        return new_vae(task.vae_widths, task.latent_channels, task.resolution, task.seed, self.means)

    def _new_unet(self) -> nn.Module:
        task = self.task
        side = task.resolution // task.factor
        return new_unet(task.unet_widths, task.latent_channels, side, task.text_width, task.seed, self.means)

    def _new_text(self) -> Any:
        task = self.task
        return new_text(task.text_width, task.text_layers, self.tokenizer.inner.get_vocab_size(), task.seed, self.means)

    def _autoencoding(self, steps: int) -> AutoencoderTrainer:
        task, adversarial = self.task, self.task.adversarial_share
        way = autoencoder.AutoencoderConfig(
            *(steps, self.batches[0], task.vae_learning_rate, task.seed, adversarial, task.adversarial_weight)
        )
        return AutoencoderTrainer(self._new_vae(), self.pairs.pixels, self.learnt, self.means, way)

    def _diffusing(self, lessons: LatentDataset, steps: int) -> DenoiserTrainer:
        task, batch = self.task, self.batches[1]
        way = diffusing.DenoiserConfig(
            *(steps, batch, task.learning_rate, task.seed, task.caption_dropout_rate, task.min_snr_gamma),
            task.ema_decay,
        )
        return DenoiserTrainer(self._new_unet(), self._new_text(), lessons, self.means, way)

    # ------------------------------------------------------------------ the loop

    def trained(self) -> Iterator[Progress | Note | Trained]:
        begin, path = self.done, None
        if begin:
            yield self._going_on(begin)
        watch = self._watch(begin)
        seen = self._seen(watch)
        try:
            self._taken_up()
            if self.number == 0:
                yield from self._learnt(watch, seen)
                yield from self._turned(watch, seen)
            yield from self._learnt(watch, seen)
            if self.n < self.steps[1]:
                yield note(
                    "the {minutes:g} minutes are over after {steps} of {total} steps",
                    minutes=self.task.minutes,
                    steps=self.done,
                    total=sum(self.steps),
                )
            yield from self._sound()
            score = yield from seen.score(self.learning, self.vae, self._remaining)
            path = self._written(score)
            watch.finish()
        except (GeneratorExit, KeyboardInterrupt):
            if self.done > begin and path is None and not self.is_changing:
                self._save_state()
            raise
        finally:
            watch.close()
        self._state_path.unlink(missing_ok=True)
        yield note("report: {path}", path=watch.path)
        hits = (score.hits, score.count) if score else (0, 0)
        yield Trained(path, tuple(self.losses), len(self.learnt), watch.path, hits)

    def _going_on(self, step: int) -> Note:
        if self.found.weights["rates"].tolist() == self._rates:
            return note("going on after step {step} of {total}", step=step, total=sum(self.steps))
        return note(
            "going on after step {step} of {total}, with another rate than before", step=step, total=sum(self.steps)
        )

    def _taken_up(self) -> None:
        """Makes what learns in the first stage, or in the one in which the run was stopped, as it was then."""
        if self.number == 0:
            self.learning = self._autoencoding(self.steps[0])
        else:
            self.vae = self._new_vae()
            self.vae.load_state_dict(sub_state_dict(self.found.weights, "vae"))
            self.vae.register_to_config(scaling_factor=1.0)
            self.vae.eval().requires_grad_(False)
            self.learning = self._diffusing(self._lessons(self.vae), self.steps[1])
        if self.found:
            self.learning.load(self.found.weights, self.found.optimizer)
            self.found = None  # it takes as much memory as the networks
        else:
            self.stage = self._limited(0)

    def _learnt(self, watch: Monitor, seen: DiffusionEvaluator) -> Iterator[Progress | Note]:
        """The steps of a stage."""
        kind, steps = KINDS[self.number], self.steps[self.number]
        yield from self._followed(seen)  # a stop may have left that undone
        while self.n < steps and not (self.n and self.stage.is_late):
            with uninterrupted():
                self.is_changing = True
                loss, told = self.learning.step(self.n, self.stage.progress(self.n))
                self.n += 1
                self.losses.append(loss)
                self.is_changing = False
                rates = {kind.part: self.learning.optimizer.param_groups[0]["lr"]}
                numbers = {f"{kind.noted}/{name}": value for name, value in told.items()}
                event = watch.log_step(self.done, loss, rates, kind.noted, **numbers)
            self._check(kind.option)
            yield self._in_time(event)
            yield from self._followed(seen)
            if self.n < steps and math.isfinite(loss) and self.due(self.done):
                self._save_state()
        yield from self._looked_at(seen)  # where time ran out behind the last step

    def _followed(self, seen: DiffusionEvaluator) -> Iterator[Progress | Note]:
        """What comes after a step, where it is due."""
        if self.number == 1 and self.n and self.n % diffusing.WINDOW == 0:
            yield from self._judged()
        yield from self._looked_at(seen)

    def _looked_at(self, seen: DiffusionEvaluator) -> Iterator[Progress | Note]:
        """Reconstructions, or samples and the loss on what is held back, where they are due."""
        looks = self._looks()
        if looks == self.looks or self.done == self.seen_at:
            self.looks = looks
            return
        if self.number == 0:
            quality = seen.log_reconstructions(self.learning.ema, self.done)
            yield note("step {step}: reconstructions of {quality:.2f} dB", step=self.done, quality=quality)
            if not self.learning.update_best(quality):
                yield note(
                    "that is {less:.1f} dB less than before: the autoencoder has become worse by far, and is kept as "
                    "it was; a lower {option:adversarial_weight} or {option:vae_learning_rate} would help",
                    less=self.learning.best_psnr - quality,
                )
        else:
            begun = self.clock.now
            yield from seen.validate_and_sample(self.learning, self.vae, self.done)
            self.stage.reserve = self.clock.now - begun  # the last look takes as long
        self.looks, self.seen_at = looks, self.done

    def _looks(self) -> int:
        """How many are due until now: evenly spread over a stage, at its end, and before the adversarial loss joins."""
        if not self.n:
            return 0
        count, late = max(1, self.task.sample_count), self.task.adversarial_share
        marks = {n / count for n in range(1, count + 1)} | ({1 - late} if self.number == 0 else set())
        return sum(mark <= self.stage.progress(self.n) + 1e-9 for mark in marks)

    def _judged(self) -> Iterator[Note]:
        """Keeps the networks while their loss is sound; says so when they have collapsed."""
        *before, is_sound = diffusing.sound_windows(self.losses[self.steps[0] :])
        if is_sound:
            self.learning.back_up()
        elif before[-1]:
            yield note(
                "step {step}: the loss is far above what it was: the U-Net has collapsed, and is kept as it was "
                "{window} steps ago; a lower {option:learning_rate} would help",
                step=self.done,
                window=diffusing.WINDOW,
            )

    def _turned(self, watch: Monitor, seen: DiffusionEvaluator) -> Iterator[Note]:
        """From the first stage to the second."""
        if self.n < self.steps[0]:
            yield note(
                "the autoencoder's part of the time is over after {steps} of {total} steps",
                steps=self.n,
                total=self.steps[0],
            )
            self.steps = (self.n, self.steps[1])
            watch.set_total_steps(sum(self.steps))
        vae = yield from self._autoencoder(seen)
        autoencoder.normalize_latents(vae, self._moments(vae, self._spread(1024), sampled=True)[0])
        vae.eval().requires_grad_(False)
        learning = self._diffusing(self._lessons(vae), self.steps[1])
        with uninterrupted():
            self.vae, self.learning, self.number, self.n, self.looks = vae, learning, 1, 0, 0
            self.stage = self._limited(1)
        gc.collect()
        yield note("the autoencoder is done; U-Net and text encoder learn")
        self._save_state()

    def _autoencoder(self, seen: DiffusionEvaluator) -> Iterator[Note]:
        """Returns what the first stage has learnt, a copy: as it is at its end, or at its best where that is better."""
        learning, quality = self.learning, seen.measure_psnr(self.learning.ema)
        is_sound = quality >= learning.best_psnr - autoencoder.MAX_PSNR_DROP
        if not is_sound:
            yield note(
                "the autoencoder is taken as it was at its best, with {best:.1f} dB, not as it is at the end, "
                "with {quality:.1f}",
                best=learning.best_psnr,
                quality=quality,
            )
        flat = seen.mean_color_psnr()
        if max(quality, learning.best_psnr) < flat + FLAT:
            yield note(
                "the autoencoder has learnt hardly more than the mean colours of pictures, which give {flat:.1f} "
                "dB, so little can be seen in what is drawn; give more {option:minutes} or "
                "{option:vae_train_steps}",
                flat=flat,
            )
        return copy.deepcopy(learning.ema if is_sound else learning.best_ema)

    def _check(self, option: str) -> None:
        """Steps that are no numbers change nothing: after some in a row, the state from before them is kept."""
        if len(self.losses) < FAILED or any(map(math.isfinite, self.losses[-FAILED:])):
            return
        begin = self.done - FAILED + 1
        self.n -= FAILED
        del self.losses[-FAILED:]
        if self.done == 0:
            raise CalotypeError(
                "the loss or its gradients are no numbers since step {step}: the rate is too high; begin again with a "
                "lower {option}",
                step=begin,
                option=option,
            )
        self._save_state()
        raise CalotypeError(
            "the loss or its gradients are no numbers since step {step}: the rate is too high; step {kept} is kept, "
            "and the same command with a lower {option} goes on from it",
            step=begin,
            kept=self.done,
            option=option,
        )

    def _sound(self) -> Iterator[Note]:
        """Where the networks have collapsed, they are at the end what they were before."""
        if not all(diffusing.sound_windows(self.losses[self.steps[0] :])[-1:]):
            with uninterrupted():
                self.learning.restore_backup()
            yield note("the U-Net has collapsed at the end, so it is as it was when its loss was sound last")

    def _in_time(self, event: Learning) -> Learning:
        """No more seconds are left than the minutes have."""
        return replace(event, remaining=min(event.remaining, max(0.0, self._remaining())))

    def _remaining(self) -> float:
        """Seconds, infinite where steps were given and no time."""
        return math.inf if self.task.max_train_steps else self.task.minutes * 60 - self.clock.now

    # ------------------------------------------------------------------ latents

    def _spread(self, count: int) -> list[int]:
        """Places of so many pictures at most to learn from, evenly from all groups: the set is sorted by them."""
        return self.learnt[:: math.ceil(len(self.learnt) / count)].tolist()

    @torch.no_grad()
    def _moments(self, vae: nn.Module, places: Sequence[int], sampled: bool = False) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) each on the device: means and deviations of the latents; `sampled`: drawn from them, float32."""
        device, found = self.means.device, []
        for n, some in enumerate(torch.tensor(list(places)).split(64)):
            x = self.pairs.pixels[some].to(device).float() / 127.5 - 1
            with self.means.autocast():
                given = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            mean, spread = given.mean.float(), given.std.float()
            if sampled:
                generator = torch.Generator(device).manual_seed(self.task.seed + n)
                mean = mean + spread * torch.randn(mean.shape, generator=generator, device=device)
            found.append((mean, spread) if sampled else (mean.half(), spread.half()))
        means, spreads = zip(*found, strict=True)
        return torch.cat(means), torch.cat(spreads)

    def _lessons(self, vae: nn.Module, places: Sequence[int] | None = None) -> LatentDataset:
        places, device = list(places or range(len(self.pairs.pairs))), self.means.device
        mean, spread = self._moments(vae, places)
        pairs = [self.pairs.pairs[n] for n in places]
        count = min(CAPTIONS, max(len(pair.captions) for pair in pairs))
        rows = [[self._framed(said) for said in repeated(pair.captions, count)] for pair in pairs]
        held = set(self.held)
        weights = [0.0 if n in held else float(pair.weight) for n, pair in zip(places, pairs, strict=True)]
        return LatentDataset(
            mean,
            spread,
            torch.tensor(rows, dtype=torch.int32, device=device),
            torch.tensor(self._framed(""), dtype=torch.int32, device=device),
            torch.tensor(weights if any(weights) else [1.0] * len(weights), device=device),
            self.signals.to(device),
        )

    def _framed(self, caption: str) -> list[int]:
        own = self.tokenizer
        tokens = own.encode(caption)[:LENGTH]
        return [own.bos, *tokens, own.eos] + [own.pad] * (LENGTH - len(tokens))

    # ------------------------------------------------------------------ what is seen

    def _seen(self, watch: Monitor) -> DiffusionEvaluator:
        places = (self.held, self.learnt.tolist())
        return DiffusionEvaluator(
            self.task, self.models, self.means, self.pairs, places, self.tokenizer, self.prompts, watch
        )

    def _watch(self, begin: int) -> Monitor:
        task, device = self.task, self.means.device
        about = {
            "pictures": str(task.photos),
            "computed": f"on {device.type}, with torch {torch.__version__.partition('+')[0]}",
        }
        facts = {"plan": list(map(str, self.told())), "about": about, **option_facts(task)}
        return Monitor(task.output_dir, task.output_name, (begin, sum(self.steps), 0), device, facts, self.logs)

    # ------------------------------------------------------------------ what is kept

    @property
    def _state_path(self) -> Path:
        return state_path(self.task)

    @cached_property
    def _fingerprint(self) -> str:
        """Of everything that decides about the numbers."""
        idle = {"output_dir", "output_name", "save_state_every", "save_precision", "dry_run", "photos", "held_out"}
        idle |= {"vae_learning_rate", "learning_rate"}  # a run may go on with others
        idle |= {"sample_count", "sample_prompts", "logging_dir", "log_prefix", "log_with"}
        options = {key: value for key, value in options_of(self.task).items() if key not in idle}
        pixels = hashlib.sha256(self.pairs.pixels.numpy().data).hexdigest()
        pairs = [(pair.name, pair.captions, pair.weight) for pair in self.pairs.pairs]
        told = json.dumps([options, pixels, pairs, self.held, self.batches, str(self.means.dtype)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _save_state(self) -> None:
        own = self.stage
        stage = [self.clock.now, own.begin, own.end, self.number, self.n, self.looks, own.reserve]
        weights = {"plan": torch.tensor(self.steps), "stage": torch.tensor(stage, dtype=torch.float64)}
        weights |= {"rates": torch.tensor(self._rates, dtype=torch.float64), **self.learning.weights()}
        weights |= {f"vae.{key}": value for key, value in self.vae.state_dict().items()} if self.vae else {}
        plain = {key: value.detach().cpu() for key, value in weights.items()}
        optimizer = self.learning.optimizer.state_dict()
        state.save(self._state_path, State(self.done, plain, optimizer, tuple(self.losses), self._fingerprint))
        self.due.saved()

    def _written(self, score: Score | None) -> Path:
        path = self.task.output_dir / self.task.output_name
        parts = (self.learning.unet_ema, self.vae, self.learning.text_ema)
        write_folder(path, parts, self.tokenizer, diffusing.TRAINING, self._card(score), self.task.save_precision)
        return path

    def _card(self, score: Score | None) -> str:
        task = self.task
        lines = [
            f"# {task.output_name}",
            "",
            f"Learnt from nothing with `train_diffusion` of Calotype {__version__}.",
            "",
        ]
        lines += [f"- {line}" for line in self.told()]
        lines += [f"- seed {task.seed}; v-prediction, zero terminal SNR; draws at {task.resolution} pixels"]
        lines += [f"- {score_message(score)}"] if score else []
        lines += ["", "## Data", "", self.pairs.about.strip()] if self.pairs.about.strip() else []
        return "\n".join(lines) + "\n"


def _means(task: TrainDiffusion, models: Models) -> Compute:
    device, wish = models.device, models.settings.compile
    has_half = is_mixed(task.mixed_precision, device)
    is_long = device.type == "cuda" and (task.minutes >= 8 and not task.max_train_steps)
    is_compiled = wish == "on" or (wish == "auto" and is_long)
    return Compute(device, torch.bfloat16 if has_half else torch.float32, is_compiled, task.factor)
