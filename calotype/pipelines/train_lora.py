"""Learning a face, a thing or a style as a LoRA: the loop, in plain sight. Semantics of kohya's train_network.py."""

import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints.cache import Models
from calotype.checkpoints.catalog import digest
from calotype.checkpoints.diffusion import open_diffusion
from calotype.errors import CalotypeError
from calotype.models.diffusion import Diffusion
from calotype.models.network import has_bfloat16
from calotype.ops.color import to_tensor
from calotype.ops.resize import part as scaled_part
from calotype.picture import Picture
from calotype.pipelines.imagine.schedulers import signals
from calotype.tasks import Progress, Said, options_of, read_size
from calotype.tasks.training import TrainLora, warmup
from calotype.training import kohya, plan
from calotype.training.adapter import Adapters, Ranks, text_layers, text_parts, unet_layers
from calotype.training.buckets import Fit, fit, fit_unscaled, sizes
from calotype.training.captions import CaptionWays, changed
from calotype.training.losses import noised, offset_noise, snr_weight, target
from calotype.training.optimizers import optimizer_named
from calotype.training.photos import Photo, balanced, find_photos
from calotype.training.rates import factor
from calotype.training.state import State, dtype_named, load, save

FAILED = 3  # steps with a loss that is no number before the run is stopped


@dataclass(frozen=True)
class Learned:
    """What training ends in."""

    path: Path
    losses: tuple[float, ...]
    photos: int


@dataclass(frozen=True, eq=False)
class Lesson:
    """One photo, ready: its latents (and mirrored ones), its bucket, and how much its loss counts."""

    photo: Photo
    fit: Fit
    latents: tuple[Tensor, ...]  # (C, h, w) each
    weight: float


def train_lora(task: TrainLora, models: Models) -> Iterator[Progress | Said | Learned]:
    """Yields progress, and Learned last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: no photos, a model or a state that does not fit, no room on disk, a loss that is no number.
    """
    found, notes = _photos(task)
    for note in notes:
        yield Said(note)
    model = _opened(task, models)
    run = _Run(task, model, found)
    yield from run.plan_told()
    if task.dry_run:
        return
    yield from run.lessons_made(models.settings.max_pixels)
    yield from run.trained()


def _photos(task: TrainLora) -> tuple[tuple[Photo, ...], list[str]]:
    found = find_photos(task.photos, task.caption_extension)
    notes = list(found.notes)
    if task.regular is None:
        return found.photos, notes
    regular = find_photos(task.regular, task.caption_extension, is_regular=True)
    return found.photos + balanced(found.photos, regular.photos), notes + list(regular.notes)


def _opened(task: TrainLora, models: Models) -> Diffusion:
    """A model of the run's own: what is hung on it must not reach other drawings."""
    names = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if task.mixed_precision in names:
        dtype = names[task.mixed_precision]
    elif models.device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    else:
        dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    model = Diffusion(open_diffusion(models.shelf.find(task.model, "diffusion")), models.device, dtype)
    if model.is_for_holes:
        raise CalotypeError(f"{model.name} is an inpainting model; train on the plain one, the LoRA works on both")
    if task.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    return model


class _Run:
    """The parts of one run: settled once, then stepped through."""

    def __init__(self, task: TrainLora, model: Diffusion, photos: Sequence[Photo]):
        self.task, self.model = task, model
        self.photos = list(photos)
        self.size = (read_size(task.resolution, "--resolution") or (model.native, model.native))[::-1]
        self.fits = [self._fit(photo) for photo in self.photos]
        self.shown = [
            plan.Shown(n, f.bucket, p.repeats) for n, (p, f) in enumerate(zip(self.photos, self.fits, strict=True))
        ]
        self.per_epoch = math.ceil(plan.count(self.shown, task.train_batch_size) / task.gradient_accumulation_steps)
        self.total = task.max_train_steps or self.per_epoch * task.max_train_epochs
        self.signals = signals(model.training)
        self.prediction = model.training.get("prediction_type", "epsilon")
        self.lessons: list[Lesson] = []
        self.adapters = self._adapters()
        self.texts: dict[str, Tensor] = {}

    def _fit(self, photo: Photo) -> Fit:
        task, multiple = self.task, self.model.multiple
        height, width = _size_of(photo.path)
        step = max(task.bucket_reso_steps, multiple)
        if not task.enable_bucket:
            return fit((width, height), [self.size])
        if task.bucket_no_upscale:
            return fit_unscaled((width, height), self.size, step)
        least = min(task.min_bucket_reso, *self.size)
        return fit((width, height), sizes(self.size, least, max(task.max_bucket_reso, *self.size), step))

    def _adapters(self) -> Adapters:
        task, model = self.task, self.model
        ranks = Ranks(
            task.network_dim, task.alpha, task.conv_dim, task.conv_alpha or task.conv_dim, task.network_dropout
        )
        unet_rate, text_rate = task.rates
        adapters = Adapters()
        if unet_rate:
            adapters.hang("unet", model.unet, unet_layers(model.unet, ranks), ranks)
        encoders = [p.encoder for p in model.text]
        if text_rate:
            for name, encoder in zip(text_parts(encoders), encoders, strict=True):
                adapters.hang(name, encoder, text_layers(encoder, ranks), ranks)
        if not adapters.layers:
            raise CalotypeError("every rate is 0, so nothing would be learnt; give --learning-rate")
        for lora in adapters.layers.values():
            lora.to(model.device)
        if task.network_weights:
            from calotype.checkpoints.state import read_state

            adapters.load(read_state(task.network_weights), str(task.network_weights))
        return adapters

    # ------------------------------------------------------------------ before

    def plan_told(self) -> Iterator[Said]:
        """The plan in sentences: pictures, buckets, steps, what is trained."""
        task, learnt = self.task, [p for p in self.photos if not p.is_regular]
        buckets: dict[tuple[int, int], int] = {}
        for one in self.shown:
            buckets[one.bucket] = buckets.get(one.bucket, 0) + 1
        told = ", ".join(f"{count} at {w}x{h}" for (w, h), count in sorted(buckets.items(), key=lambda b: -b[1])[:6])
        yield Said(f"{len(learnt)} photos to learn, {len(self.photos) - len(learnt)} to hold the rest in place: {told}")
        epochs = math.ceil(self.total / self.per_epoch)
        numbers = sum(p.numel() for lora in self.adapters.layers.values() for p in lora.parameters())
        yield Said(
            f"{self.total} steps of {task.train_batch_size} in {epochs} epochs; {len(self.adapters.layers)} layers "
            f"with {numbers / 1e6:.1f} million numbers learn, in {str(self.model.dtype).removeprefix('torch.')}"
        )

    @torch.inference_mode()
    def lessons_made(self, max_pixels: int) -> Iterator[Progress]:
        """Every photo as latents, once."""
        for n, (photo, fitted) in enumerate(zip(self.photos, self.fits, strict=True)):
            pixels = _brought(
                Picture.open(photo.path, max_pixels).pixels, fitted, random.Random(self.task.seed + n), self.task
            )
            views = [pixels, pixels.flip(2)] if self.task.flip_aug else [pixels]
            latents = tuple(self.model.latents(view[None])[0].clone() for view in views)
            weight = self.task.prior_loss_weight if photo.is_regular else 1.0
            self.lessons.append(Lesson(photo, fitted, latents, weight))
            yield Progress(n + 1, len(self.photos), "photos")

    # ------------------------------------------------------------------ the loop

    def trained(self) -> Iterator[Progress | Said | Learned]:
        task = self.task
        optimizer = optimizer_named(task.optimizer_type, self._groups(), task.optimizer_args)
        begin, losses = self._resumed(optimizer)
        if begin:
            yield Said(f"going on after step {begin} of {self.total}")
        clock, failed = time.monotonic(), 0
        for step in range(begin, self.total):
            loss = self._step(step, optimizer)
            failed = failed + 1 if not math.isfinite(loss) else 0
            if failed == FAILED:
                raise CalotypeError(
                    f"the loss is no number since step {step - FAILED + 2}: the rate {task.learning_rate:g} is too "
                    "high, or fp16 too coarse; give a lower --learning-rate or --mixed-precision bf16. The last state "
                    "is kept"
                )
            losses.append(loss)
            done = step + 1
            each = (time.monotonic() - clock) / (done - begin)
            recent = sum(losses[-50:]) / len(losses[-50:])
            yield Progress(done, self.total, f"steps, loss {recent:.4f}", each * (self.total - done))
            if done % task.save_state_every == 0 and done < self.total and not failed:
                self._save_state(done, optimizer, losses)
            yield from self._epoch_kept(done)
        path = self._written(self.task.output_name, self.total)
        self._state_path.unlink(missing_ok=True)
        yield Learned(path, tuple(losses), len(self.photos))

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> float:
        """One change of the weights. All chance in it comes from the seed and the step's number."""
        task, total = self.task, 0.0
        rate = factor(
            task.lr_scheduler,
            step,
            self.total,
            warmup(task.lr_warmup_steps, self.total),
            task.lr_scheduler_num_cycles,
            task.lr_scheduler_power,
        )
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        parts = task.gradient_accumulation_steps
        for n in range(parts):
            number = step * parts + n
            torch.manual_seed((task.seed * 1_000_003 + number) % 2**63)  # dropout's
            loss = self._loss(self._batch(number), number) / parts
            loss.backward()
            total += float(loss.detach())
        if math.isfinite(total):
            if task.max_grad_norm:
                nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], task.max_grad_norm)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _batch(self, number: int) -> list[int]:
        """The pictures of a batch, counted over all epochs."""
        per_epoch = plan.count(self.shown, self.task.train_batch_size)
        epoch, place = divmod(number, per_epoch)
        if getattr(self, "_planned", None) is None or self._planned[0] != epoch:
            self._planned = (epoch, plan.batches(self.shown, self.task.train_batch_size, self.task.seed, epoch))
        return self._planned[1][place]

    def _loss(self, indices: list[int], number: int) -> Tensor:
        """kohya's: the mean over pixels of each picture, weighed, then the mean over the batch."""
        task, model = self.task, self.model
        generator = torch.Generator().manual_seed((task.seed * 7_919 + number) % 2**63)
        dice = random.Random(f"{task.seed} {number}")
        lessons = [self.lessons[n] for n in indices]
        clean = torch.stack([dice.choice(lesson.latents) for lesson in lessons])
        noise = offset_noise(torch.randn(clean.shape, generator=generator), task.noise_offset, generator)
        times = torch.randint(0, len(self.signals), (len(clean),), generator=generator)
        signal = self.signals[times]
        states, pooled = self._states([self._caption(lesson, dice) for lesson in lessons])
        x = noised(clean, noise, signal).to(model.device, model.dtype).contiguous(memory_format=torch.channels_last)
        added = self._added(lessons, pooled)
        answer = model.unet(x, times.to(model.device), states.to(model.dtype), added_cond_kwargs=added).sample.float()
        wanted = target(clean, noise, signal, self.prediction).to(answer)
        each = ((answer - wanted) ** 2).mean((1, 2, 3))
        weight = torch.tensor([lesson.weight for lesson in lessons])
        if task.min_snr_gamma:
            weight = weight * snr_weight(signal, task.min_snr_gamma, self.prediction)
        return (each * weight.to(each)).mean()

    def _caption(self, lesson: Lesson, dice: random.Random) -> str:
        task = self.task
        ways = CaptionWays(
            shuffle=task.shuffle_caption,
            keep_tokens=task.keep_tokens,
            dropout=task.caption_dropout_rate,
            tag_dropout=task.caption_tag_dropout_rate,
        )
        return changed(lesson.photo.caption, ways, dice)

    def _states(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """(N, L, D) for the U-Net; kept where the text encoders are frozen."""
        if self.task.rates[1]:
            return encoded(self.model, captions, self.task.max_token_length, self.task.clip_skip)
        for caption in set(captions) - self.texts.keys():
            with torch.no_grad():
                self.texts[caption] = encoded(self.model, [caption], self.task.max_token_length, self.task.clip_skip)
        found = [self.texts[caption] for caption in captions]
        pooled = torch.cat([one[1] for one in found]) if found[0][1] is not None else None
        return torch.cat([one[0] for one in found]), pooled

    def _added(self, lessons: list[Lesson], pooled: Tensor | None) -> dict[str, Tensor] | None:
        if pooled is None or self.model.family != "sdxl":
            return None
        numbers = [
            [float(n) for n in (*lesson.fit.scaled[::-1], *_crop(lesson.fit)[::-1], *lesson.fit.bucket[::-1])]
            for lesson in lessons
        ]
        device, dtype = self.model.device, self.model.dtype
        return {"text_embeds": pooled.to(device, dtype), "time_ids": torch.tensor(numbers).to(device, dtype)}

    # ------------------------------------------------------------------ what is kept

    def _groups(self) -> list[dict[str, Any]]:
        unet, text = self.task.rates
        groups = [(self.adapters.parameters(True), unet), (self.adapters.parameters(False), text)]
        return [{"params": ps, "lr": rate, "initial_lr": rate} for ps, rate in groups if ps]

    @property
    def _state_path(self) -> Path:
        return self.task.output_dir / f"{self.task.output_name}.state.safetensors"

    def _fingerprint(self) -> str:
        """Of everything that decides about the numbers."""
        idle = {"output_dir", "output_name", "dry_run", "photos", "regular", "network_weights", "model"}
        options = {k: v for k, v in options_of(self.task).items() if k not in idle and not k.startswith("save_")}
        photos = [(digest(p.path), p.caption, p.repeats, p.is_regular) for p in self.photos]
        weights = digest(self.task.network_weights) if self.task.network_weights else ""
        told = json.dumps([options, photos, self.model.sha256, weights, str(self.model.dtype)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _resumed(self, optimizer: torch.optim.Optimizer) -> tuple[int, list[float]]:
        if not self._state_path.is_file():
            return 0, []
        state = load(self._state_path)
        if state.fingerprint != self._fingerprint():
            raise CalotypeError(
                f"{self._state_path} is the state of a run with other photos or settings; delete it to begin anew, or "
                "give another --output-name"
            )
        self.adapters.load(state.weights, str(self._state_path))
        optimizer.load_state_dict(state.optimizer)
        return state.step, list(state.losses)

    def _save_state(self, step: int, optimizer: torch.optim.Optimizer, losses: list[float]) -> None:
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        state = State(step, self.adapters.state(), optimizer.state_dict(), tuple(losses), self._fingerprint())
        save(self._state_path, state)

    def _epoch_kept(self, done: int) -> Iterator[Said]:
        """A file at the end of every so many epochs; of these the last few."""
        every, epoch = self.task.save_every_n_epochs, done // self.per_epoch
        if not every or done % self.per_epoch or epoch % every or done == self.total:
            return
        path = self._written(f"{self.task.output_name}-{epoch:06d}", done)
        old = epoch - every * self.task.save_last_n_epochs
        if self.task.save_last_n_epochs and old > 0:
            path.with_name(f"{self.task.output_name}-{old:06d}.safetensors").unlink(missing_ok=True)
        yield Said(f"epoch {epoch}: {path}")

    def _written(self, name: str, steps: int) -> Path:
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.task.output_dir / f"{name}.safetensors"
        kohya.write(path, self.adapters.state(dtype_named(self.task.save_precision)), self._metadata(steps))
        return path

    def _metadata(self, steps: int) -> dict[str, Any]:
        """By kohya's names; what changes from run to run, such as the time, is left out."""
        task = self.task
        return {
            "ss_output_name": task.output_name,
            "ss_learning_rate": task.learning_rate,
            "ss_unet_lr": task.unet_lr,
            "ss_text_encoder_lr": task.text_encoder_lr,
            "ss_num_train_images": sum(p.repeats for p in self.photos if not p.is_regular),
            "ss_num_reg_images": sum(p.repeats for p in self.photos if p.is_regular),
            "ss_num_batches_per_epoch": plan.count(self.shown, task.train_batch_size),
            "ss_num_epochs": math.ceil(self.total / self.per_epoch),
            "ss_epoch": math.ceil(steps / self.per_epoch),
            "ss_steps": steps,
            "ss_max_train_steps": self.total,
            "ss_gradient_checkpointing": task.gradient_checkpointing,
            "ss_gradient_accumulation_steps": task.gradient_accumulation_steps,
            "ss_batch_size_per_device": task.train_batch_size,
            "ss_total_batch_size": task.train_batch_size * task.gradient_accumulation_steps,
            "ss_resolution": str(self.size),
            "ss_lr_warmup_steps": task.lr_warmup_steps,
            "ss_lr_scheduler": task.lr_scheduler,
            "ss_network_module": "networks.lora",
            "ss_network_dim": task.network_dim,
            "ss_network_alpha": task.alpha,
            "ss_network_dropout": task.network_dropout or None,
            "ss_network_args": {"conv_dim": task.conv_dim, "conv_alpha": task.conv_alpha or task.conv_dim}
            if task.conv_dim
            else {},
            "ss_mixed_precision": {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.model.dtype, "no"),
            "ss_v2": self.model.family == "sd2",
            "ss_base_model_version": {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}.get(
                self.model.family, self.model.family
            ),
            "ss_clip_skip": task.clip_skip or None,
            "ss_max_token_length": task.max_token_length,
            "ss_cache_latents": True,
            "ss_seed": task.seed,
            "ss_noise_offset": task.noise_offset or None,
            "ss_min_snr_gamma": task.min_snr_gamma or None,
            "ss_zero_terminal_snr": bool(self.model.training.get("rescale_betas_zero_snr")),
            "ss_training_comment": f"Calotype {__version__}",
            "ss_optimizer": f"{task.optimizer_type}({task.optimizer_args})",
            "ss_max_grad_norm": task.max_grad_norm,
            "ss_caption_dropout_rate": task.caption_dropout_rate,
            "ss_caption_tag_dropout_rate": task.caption_tag_dropout_rate,
            "ss_prior_loss_weight": task.prior_loss_weight,
            "ss_shuffle_caption": task.shuffle_caption,
            "ss_keep_tokens": task.keep_tokens,
            "ss_flip_aug": task.flip_aug,
            "ss_random_crop": task.random_crop,
            "ss_enable_bucket": task.enable_bucket,
            "ss_bucket_no_upscale": task.bucket_no_upscale,
            "ss_min_bucket_reso": task.min_bucket_reso,
            "ss_max_bucket_reso": task.max_bucket_reso,
            "ss_tag_frequency": self._tags(),
            "ss_sd_model_name": self.model.name,
            "ss_new_sd_model_hash": self.model.sha256,
        }

    def _tags(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for photo in self.photos:
            room = found.setdefault(photo.path.parent.name, {})
            for tag in photo.caption.split(","):
                if tag.strip():
                    room[tag.strip()] = room.get(tag.strip(), 0) + 1
        return found


def encoded(model: Diffusion, captions: list[str], length: int, skip: int) -> tuple[Tensor, Tensor | None]:
    """(N, L, D) as kohya has them: begin, all tokens, end; 150 and 225 tokens go through in chunks and are joined.

    Gradients flow through the text encoders where something hangs on them.
    """
    states, pooled, count = [], None, length // 75
    for part in model.text:
        tok = part.tokenizer
        rows, ends = [], []
        for caption in captions:
            tokens = tok.encode(caption)[:length]
            for n in range(count):
                chunk = tokens[n * 75 : (n + 1) * 75]
                rows.append([tok.bos, *chunk, tok.eos] + [tok.pad] * (75 - len(chunk)))
                ends.append(len(chunk) + 1)
        ids, where = torch.tensor(rows, device=model.device), torch.tensor(ends, device=model.device)
        told = part.encoder(part.encoder.embed(ids), where)
        layer = told.layers[-(part.layer if skip == 0 or part.is_fixed else min(skip, len(told.layers)))]
        layer = part.encoder.normalised(layer) if part.is_normalised else layer
        layer = layer.unflatten(0, (len(captions), count))
        middle = layer[:, :, 1:-1].flatten(1, 2)
        states.append(torch.cat([layer[:, 0, :1], middle, layer[:, -1, -1:]], 1))
        if told.pooled is not None:
            pooled = told.pooled.unflatten(0, (len(captions), count))[:, 0]
    return torch.cat(states, -1), pooled


def _size_of(path: Path) -> tuple[int, int]:
    return Picture.open(path).pixels.shape[:2]


def _crop(fitted: Fit) -> tuple[int, int]:
    """Left and top of the middle."""
    return tuple((scaled - wanted) // 2 for scaled, wanted in zip(fitted.scaled, fitted.bucket, strict=True))


def _brought(pixels: np.ndarray, fitted: Fit, dice: random.Random, task: TrainLora) -> Tensor:
    """(H, W, C) to (3, h, w) in [0, 1] of the bucket: scaled, then cropped in the middle or anywhere."""
    width, height = fitted.scaled
    x = (
        to_tensor(pixels)
        if pixels.shape[:2] == (height, width)
        else scaled_part(pixels, (height, width), slice(0, height), slice(0, width))
    )
    left, top = _crop(fitted)
    if task.random_crop:
        left, top = (
            dice.randint(0, scaled - wanted) for scaled, wanted in zip(fitted.scaled, fitted.bucket, strict=True)
        )
    return x.clamp(0, 1)[:, top : top + fitted.bucket[1], left : left + fitted.bucket[0]]
