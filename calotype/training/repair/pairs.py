"""Pairs for a network that finds marks on prints: a worn print, and where its marks are."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor

from calotype.models.repairer import local_noise
from calotype.ops.degrade.age import age_marks, faded, film_grain, softened
from calotype.ops.degrade.details import with_details
from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.marks import damaged
from calotype.ops.degrade.noise import grey

REDUCED = (1.0, 1.5, 2.0, 3.0)  # a crop is downscaled by one of them: then it is sharp even if the photo is not
TILTED, TONED = 0.5, 0.5  # probability of a crop at any angle, and of one in other light
UNMARKED = 0.25  # probability of a patch without marks
DETAILED = 0.3  # and of one with drawn details that have to stay
VISIBLE, OF_NOISE = 9 / 255, 1.2  # change from which a pixel is marked: of white, and of the noise around it
FAINT = 4 / 255  # and from which it is neither marked nor clean
UNIT = 0.7, 2.2  # widths of marks


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch; all in [0, 1].

    Attributes:
        marked: (N, 3, H, W), the network's input.
        mask: (N, 1, H, W), 1 where marks are visible.
        weight: (N, 1, H, W), 0 where they are faint.
    """

    marked: Tensor
    mask: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Pairs":
        return Pairs(*(getattr(self, spec.name).to(device) for spec in fields(self)))


def make_pairs(pick: Callable[[random.Random], np.ndarray], count: int, side: int, seed: str) -> Pairs:
    """Args:
    pick: gives a photo, (H, W, 3) uint8.
    seed: of everything that is random.
    """
    rng = random.Random(seed)
    pairs = [_pair(pick(rng), side, rng) for _ in range(count)]
    marked, marks = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))
    return Pairs(marked, (marks == 2).float(), (marks != 1).float())


def _pair(photo: np.ndarray, side: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """A marked patch, (3, side, side), and its marks, (1, side, side): 2 visible, 1 faint, 0 none."""
    unit = rng.uniform(*UNIT)
    generator = torch.Generator().manual_seed(rng.getrandbits(40))
    pixels = random_patch(photo, side, rng)
    if rng.random() < DETAILED:
        pixels = with_details(pixels, rng, unit)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    x = printed(x, rng, generator, unit).clamp(0, 1)
    y = x
    if rng.random() >= UNMARKED:
        if rng.random() < 0.5:
            y = age_marks(x, rng, unit, rng.uniform(0, 1.5))
        if y is x or rng.random() < 0.5:
            marked = damaged(y[0].permute(1, 2, 0).numpy(), rng, unit, rng.uniform(0.1, 2.0))
            y = torch.from_numpy(marked).permute(2, 0, 1)[None]
    change = (y - x).abs().amax(1, keepdim=True)
    is_visible = (change > VISIBLE) & (change > OF_NOISE * local_noise(x.mean(1, keepdim=True)))
    marks = torch.where(is_visible, 2, (change > FAINT).int())
    if rng.random() < 0.8:
        quality = rng.uniform(50, 98)
        y = jpeg(y, quality)
    return (y[0].clamp(0, 1) * 255).round() / 255, marks[0]


def random_patch(photo: np.ndarray, side: int, rng: random.Random) -> np.ndarray:
    """(side, side, 3) float32 in [0, 1]: a random square, half of them tilted, reduced, flipped, turned and toned."""
    height, width = photo.shape[:2]
    tilt = rng.uniform(-math.pi / 4, math.pi / 4) if rng.random() < TILTED else 0.0
    cos, sin = math.cos(tilt), math.sin(tilt)
    frame = abs(cos) + abs(sin)  # width and height of what holds the tilted square, over its side
    whole = min(round(side * rng.choice(REDUCED)), int(min(height, width) / frame))
    reach = whole * frame / 2
    middle_y, middle_x = (rng.uniform(reach, size - reach) for size in (height, width))
    if tilt:
        crop = _tilted(photo, whole, (middle_x, middle_y), (cos, sin))
    else:
        top, left = round(middle_y - reach), round(middle_x - reach)
        crop = photo[top : top + whole, left : left + whole]
    how = cv2.INTER_AREA if whole >= side else cv2.INTER_CUBIC
    crop = cv2.resize(crop, (side, side), interpolation=how).astype(np.float32) / 255
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    crop = np.ascontiguousarray(np.rot90(crop, rng.randrange(4)))
    return _toned(crop, rng) if rng.random() < TONED else crop


def _tilted(photo: np.ndarray, whole: int, middle: tuple[float, float], turn: tuple[float, float]) -> np.ndarray:
    """The square of `whole` pixels around a point (x, y) of a photo, turned by the angle of this cosine and sine."""
    (x, y), (cos, sin), half = middle, turn, (whole - 1) / 2
    corner_x, corner_y = x - 0.5 - half * (cos - sin), y - 0.5 - half * (cos + sin)
    affine, flags = np.array([[cos, -sin, corner_x], [sin, cos, corner_y]]), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(photo, affine, (whole, whole), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _toned(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """With other light: each channel to a power, and a narrower range. (H, W, 3) in [0, 1]."""
    exponent = rng.gauss(0, 0.35)
    powers = np.array([math.exp(exponent + rng.gauss(0, 0.08)) for _ in range(3)], np.float32)
    contrast = rng.uniform(0.6, 1)
    return rng.uniform(0, 1 - contrast) + contrast * pixels**powers


def printed(x: Tensor, rng: random.Random, generator: torch.Generator, unit: float) -> Tensor:
    """As a print: blurred, grainy, faded, often grey; one in four is sharp as it is."""
    if rng.random() < 0.4:
        x = grey(x).expand(-1, 3, -1, -1)
    if rng.random() < 0.25:
        return x
    amount = rng.uniform(0.1, 1)
    x = softened(x, rng.uniform(0.2, 1.2) * amount * unit)
    x = x + film_grain(x, generator, min(unit, 1.2)) * amount * rng.random() * 1.5
    return faded(x, generator, amount=amount) if rng.random() < 0.6 else x
