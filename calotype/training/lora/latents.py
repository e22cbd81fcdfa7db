"""Photos as the network sees them: brought to their bucket, sometimes changed a little, and as latents.

What never changes is computed once, and kept on disk where that is wished; what changes is computed at each step, all
chance in it from the dice of that step. Latents are a sample of what the VAE gives, as in sd-scripts, not its mean.
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as packed
from torch import Tensor

from calotype.files import write_atomic
from calotype.models.diffusion import Diffusion
from calotype.ops.color import to_tensor
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.tasks.training import TrainLora
from calotype.training.data.buckets import Fit
from calotype.training.data.dataset import Example

COLOR_OFTEN = 0.33  # of the times that a picture is shown
HUE = 16.0  # degrees to both sides; sd-scripts counts 8 of 180
GAMMA = (0.95, 1.05)


@dataclass(frozen=True, eq=False)
class CachedLatents:
    """One photo, ready: its latents and, where flipped too, its mirror image's; or its pixels."""

    photo: Example
    fit: Fit
    weight: float  # of its loss
    latents: tuple[Tensor, ...] = ()  # (C, h, w) each; none where every step sees another picture
    pixels: Tensor | None = None  # (3, H, W) uint8, scaled and not cropped


def is_changing(task: TrainLora) -> bool:
    """Whether a photo looks different from step to step, so that its latents cannot be kept."""
    return task.color_aug or task.random_crop


def lesson(
    photo: Example, fit: Fit, sha256: str, task: TrainLora, model: Diffusion, max_pixels: int, home: Path
) -> CachedLatents:
    """Reads a photo; what its latents are drawn from is looked up below `home`, and kept there, where the task says so.

    The draw depends on the photo's content and the run's seed alone.
    """
    weight = task.prior_loss_weight if photo.is_regularization else 1.0

    def scaled() -> Tensor:
        return _scaled(Picture.open(photo.path, max_pixels).pixels, fit)

    if is_changing(task):
        return CachedLatents(photo, fit, weight, pixels=(scaled() * 255).round().byte())
    if not task.cache_latents_to_disk:
        return CachedLatents(
            photo, fit, weight, _drawn(_spreads(_cropped(scaled(), fit), task, model), sha256, task.seed)
        )
    told = [
        2,
        sha256,
        model.sha256 or model.name,
        task.vae,
        fit.scaled,
        fit.bucket,
        task.flip_aug,
        str(model.vae.dtype),
    ]
    name = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    place = home / "latents" / name[:2] / f"{name}.safetensors"
    spreads = _kept(place, lambda: _spreads(_cropped(scaled(), fit), task, model))
    return CachedLatents(photo, fit, weight, _drawn(spreads, sha256, task.seed))


def shown(lessons: Sequence[CachedLatents], task: TrainLora, model: Diffusion, dice: random.Random) -> Tensor:
    """Latents of a batch for one step, (N, C, h, w)."""
    if lessons[0].latents:
        return torch.stack([dice.choice(one.latents) for one in lessons])
    views = torch.stack([_view(one, task, dice) for one in lessons])
    with torch.no_grad():
        mean, deviation = model.encode(views)
    return mean + deviation * torch.randn(mean.shape, generator=torch.Generator().manual_seed(dice.getrandbits(60)))


def crop_of(fit: Fit) -> tuple[int, int]:
    """Left and top of the middle."""
    return tuple((scaled - wanted) // 2 for scaled, wanted in zip(fit.scaled, fit.bucket, strict=True))


def color_changed(pixels: Tensor, dice: random.Random) -> Tensor:
    """(3, H, W) in [0, 1]; now and then with another hue or gamma, as albumentations once did it for sd-scripts."""
    if dice.random() > COLOR_OFTEN:
        return pixels
    if dice.random() > 0.5:
        turn = dice.uniform(-HUE, HUE)
        hsv = cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + turn) % 360
        return torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).permute(2, 0, 1).clamp(0, 1).contiguous()
    return pixels ** dice.uniform(*GAMMA)


def _view(one: CachedLatents, task: TrainLora, dice: random.Random) -> Tensor:
    """A photo as this step sees it, (3, h, w) in [0, 1]."""
    left, top = crop_of(one.fit)
    if task.random_crop:
        pairs = zip(one.fit.scaled, one.fit.bucket, strict=True)
        left, top = (dice.randint(0, scaled - wanted) for scaled, wanted in pairs)
    width, height = one.fit.bucket
    pixels = one.pixels[:, top : top + height, left : left + width].float() / 255
    if task.flip_aug and dice.random() < 0.5:
        pixels = pixels.flip(2)
    return color_changed(pixels, dice) if task.color_aug else pixels


def _scaled(pixels: np.ndarray, fit: Fit) -> Tensor:
    """(H, W, C) to (3, H, W) in [0, 1] that covers the bucket."""
    width, height = fit.scaled
    if pixels.shape[:2] == (height, width):
        return to_tensor(pixels).clamp(0, 1)
    return resized_region(pixels, (height, width), slice(0, height), slice(0, width)).clamp(0, 1)


def _cropped(pixels: Tensor, fit: Fit) -> Tensor:
    (left, top), (width, height) = crop_of(fit), fit.bucket
    return pixels[:, top : top + height, left : left + width]


def _spreads(pixels: Tensor, task: TrainLora, model: Diffusion) -> tuple[Tensor, ...]:
    """Mean and deviation of its latents, (2, C, h, w); where it is flipped too, its mirror image's as well."""
    views = [pixels, pixels.flip(2)] if task.flip_aug else [pixels]
    return tuple(torch.cat(model.encode(view[None])) for view in views)


def _drawn(spreads: Sequence[Tensor], sha256: str, seed: int) -> tuple[Tensor, ...]:
    """A sample of each."""
    found = []
    for n, (mean, deviation) in enumerate(spreads):
        told = hashlib.sha256(f"{sha256} {n} {seed}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(told[:7], "big"))
        found.append(mean + deviation * torch.randn(mean.shape, generator=generator))
    return tuple(found)


def _kept(place: Path, made: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Read from the disk, or made and written there. A file that is damaged is made anew."""
    try:
        found = load_file(place)
        return tuple(found[str(n)] for n in range(len(found)))
    except (OSError, SafetensorError, KeyError):
        spreads = made()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, packed({str(n): one.contiguous() for n, one in enumerate(spreads)}))
        return spreads
