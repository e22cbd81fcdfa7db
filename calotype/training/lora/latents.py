"""Latents of training photos: resized to their bucket, augmented and encoded.

Without augmentation latents are computed once, and cached on disk on request; with augmentation they are computed at
each step, with the rng of that step. Latents are sampled from the VAE's distribution, as in sd-scripts, not its mean.
"""

import functools
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.ops.color import to_tensor
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.tasks.training import TrainLora
from calotype.training.data.buckets import Fit
from calotype.training.data.dataset import Example
from calotype.training.data.disk_cache import load_or_compute
from calotype.training.data.masks import alpha_of, read_mask

COLOR_PROBABILITY = 0.33  # of color jitter
HUE = 16.0  # degrees to both sides; sd-scripts counts 8 of 180
GAMMA = (0.95, 1.05)


@dataclass(frozen=True, eq=False)
class CachedLatents:
    """One photo with its latents, and those of its flipped image with flip_aug; or with its pixels.

    Its mask is at the latents' resolution, or at that of the pixels.
    """

    photo: Example
    fit: Fit
    weight: float  # of its loss
    latents: tuple[Tensor, ...] = ()  # (C, h, w) each; empty with augmentation in each step
    pixels: Tensor | None = None  # (3, H, W) uint8, scaled and not cropped
    mask: Tensor | None = None  # (1, h, w) weights of the loss in [0, 1], or (1, H, W) with pixels


def is_augmented(task: TrainLora) -> bool:
    """Whether photos are augmented in each step, so that latents cannot be cached."""
    return task.color_aug or task.random_crop


def load_example(
    photo: Example, fit: Fit, sha256: str, task: TrainLora, model: Diffusion, max_pixels: int, home: Path
) -> CachedLatents:
    """Reads a photo, with its latents; their distribution is cached below `home` if the task requests it.

    The sampled latents depend only on the photo's content and the seed of the run.
    """
    weight = task.prior_loss_weight if photo.is_regularization else 1.0

    @functools.cache
    def picture() -> Picture:
        return Picture.open(photo.path, max_pixels)

    def scaled() -> Tensor:
        return _scaled(picture().pixels, fit)

    mask = None
    if photo.mask is not None:
        mask = _scaled_mask(read_mask(photo.mask, fit.original, max_pixels)[0], fit)
    elif task.alpha_mask and (alpha := alpha_of(picture())) is not None:
        mask = _scaled_mask(alpha, fit)
    if is_augmented(task):
        return CachedLatents(photo, fit, weight, pixels=(scaled() * 255).round().byte(), mask=mask)
    mask = None if mask is None else _at_latents(_cropped(mask, fit), model)
    if not task.cache_latents_to_disk:
        latents = _sample(_encode(_cropped(scaled(), fit), task, model), sha256, task.seed)
        return CachedLatents(photo, fit, weight, latents, mask=mask)
    key = [
        2,
        sha256,
        model.sha256 or model.name,
        task.vae,
        fit.scaled,
        fit.bucket,
        task.flip_aug,
        str(model.vae.dtype),
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = home / "latents" / name[:2] / f"{name}.safetensors"

    def compute() -> Mapping[str, Tensor]:
        return {str(n): values for n, values in enumerate(_encode(_cropped(scaled(), fit), task, model))}

    names = [str(n) for n in range(1 + task.flip_aug)]
    distributions = load_or_compute(path, names, compute)
    latents = _sample([distributions[name] for name in names], sha256, task.seed)
    return CachedLatents(photo, fit, weight, latents, mask=mask)


def batch_latents(
    examples: Sequence[CachedLatents], tasks: Sequence[TrainLora], model: Diffusion, rng: random.Random
) -> tuple[Tensor, Tensor | None]:
    """Latents of a batch for one step, (N, C, h, w), and masks of the loss, (N, 1, h, w), if there are any.

    Args:
        tasks: the options of each example.
    """
    latents: list[Tensor] = []
    masks: list[Tensor | None] = []
    views = {}  # pixels of the examples that are augmented in this step, by index
    for n, (example, task) in enumerate(zip(examples, tasks, strict=True)):
        if example.latents:
            view = rng.choice(range(len(example.latents)))
            latents.append(example.latents[view])
            masks.append(example.mask.flip(2) if example.mask is not None and view else example.mask)
        else:
            views[n], mask = _augmented(example, task, rng)
            latents.append(views[n])
            masks.append(None if mask is None else _at_latents(mask, model))
    if views:
        with torch.no_grad():
            mean, std = model.encode(torch.stack(list(views.values())))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(rng.getrandbits(60)))
        for n, encoded in zip(views, mean + std * noise, strict=True):
            latents[n] = encoded
    batch = torch.stack(latents)
    if all(mask is None for mask in masks):
        return batch, None
    return batch, torch.stack([torch.ones(1, *batch.shape[2:]) if mask is None else mask for mask in masks])


def center_crop(fit: Fit) -> tuple[int, int]:
    """Left and top of the center crop."""
    return tuple((scaled - size) // 2 for scaled, size in zip(fit.scaled, fit.bucket, strict=True))


def color_jitter(pixels: Tensor, rng: random.Random) -> Tensor:
    """(3, H, W) in [0, 1]: random change of hue or gamma, as albumentations did for sd-scripts."""
    if rng.random() > COLOR_PROBABILITY:
        return pixels
    if rng.random() > 0.5:
        shift = rng.uniform(-HUE, HUE)
        hsv = cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + shift) % 360
        return torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).permute(2, 0, 1).clamp(0, 1).contiguous()
    return pixels ** rng.uniform(*GAMMA)


def _augmented(example: CachedLatents, task: TrainLora, rng: random.Random) -> tuple[Tensor, Tensor | None]:
    """An augmented photo, (3, h, w) in [0, 1], and its mask, (1, h, w), which is cropped and flipped with it."""
    left, top = center_crop(example.fit)
    if task.random_crop:
        pairs = zip(example.fit.scaled, example.fit.bucket, strict=True)
        left, top = (rng.randint(0, scaled - size) for scaled, size in pairs)
    width, height = example.fit.bucket
    rows, columns = slice(top, top + height), slice(left, left + width)
    pixels = example.pixels[:, rows, columns].float() / 255
    mask = None if example.mask is None else example.mask[:, rows, columns]
    if task.flip_aug and rng.random() < 0.5:
        pixels, mask = pixels.flip(2), None if mask is None else mask.flip(2)
    return color_jitter(pixels, rng) if task.color_aug else pixels, mask


def _scaled_mask(mask: np.ndarray, fit: Fit) -> Tensor:
    """(H, W, 1) to (1, H, W) in [0, 1] that covers the bucket, as the photo does."""
    return _scaled(mask, fit)[:1].contiguous()


def _at_latents(mask: Tensor, model: Diffusion) -> Tensor:
    """(1, H, W) to (1, h, w) by area, as in sd-scripts."""
    height, width = mask.shape[1:]
    return F.interpolate(mask[None], (height // model.factor, width // model.factor), mode="area")[0]


def _scaled(pixels: np.ndarray, fit: Fit) -> Tensor:
    """(H, W, C) to (3, H, W) in [0, 1] that covers the bucket."""
    width, height = fit.scaled
    if pixels.shape[:2] == (height, width):
        return to_tensor(pixels).clamp(0, 1)
    return resized_region(pixels, (height, width), slice(0, height), slice(0, width)).clamp(0, 1)


def _cropped(pixels: Tensor, fit: Fit) -> Tensor:
    (left, top), (width, height) = center_crop(fit), fit.bucket
    return pixels[:, top : top + height, left : left + width]


def _encode(pixels: Tensor, task: TrainLora, model: Diffusion) -> tuple[Tensor, ...]:
    """Mean and std of the latents, (2, C, h, w); with flip_aug also those of the flipped image."""
    views = [pixels, pixels.flip(2)] if task.flip_aug else [pixels]
    return tuple(torch.cat(model.encode(view[None])) for view in views)


def _sample(distributions: Sequence[Tensor], sha256: str, seed: int) -> tuple[Tensor, ...]:
    """One sample of each distribution."""
    latents = []
    for n, (mean, std) in enumerate(distributions):
        digest = hashlib.sha256(f"{sha256} {n} {seed}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        latents.append(mean + std * torch.randn(mean.shape, generator=generator))
    return tuple(latents)
