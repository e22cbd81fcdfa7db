"""Noise of the second-order degradation: Gaussian and Poisson, coloured or grey.

Wang et al. 2021, "Real-ESRGAN" (arXiv 2107.10833), §3.1; Poisson noise as in the published program.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from calotype.ops.color import LUMA


@dataclass(frozen=True)
class NoiseRanges:
    """What noise is drawn from; the defaults are the first stage of the published recipe."""

    gaussian: float = 0.5  # probability; the rest is Poisson
    sigma: tuple[float, float] = (1.0, 30.0)  # of 255
    poisson: tuple[float, float] = (
        0.05,
        3.0,
    )  # strength: 1 is the noise of counting as many photons as there are values
    grey: float = 0.4  # probability that all channels share the noise


@dataclass(frozen=True)
class Noise:
    """A kind of noise and its strength: sigma of 255 for "gaussian", a factor for "poisson"."""

    kind: str
    strength: float
    is_grey: bool


def draw_noise(chance: Random, ranges: NoiseRanges) -> Noise:
    kind = "gaussian" if chance.random() < ranges.gaussian else "poisson"
    strength = chance.uniform(*(ranges.sigma if kind == "gaussian" else ranges.poisson))
    return Noise(kind, strength, chance.random() < ranges.grey)


def noisy(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) in [0, 1] with noise, clamped to [0, 1]; the generator lives on x's device."""
    if noise.kind == "gaussian":
        added = noise.strength / 255 * normal(x[:, :1] if noise.is_grey else x, generator)
    else:
        added = noise.strength * _poisson(grey(x) if noise.is_grey else x, generator)
    return (x + added).clamp(0, 1)


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape, type and place of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def grey(x: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W) luma of BT.601."""
    return (x * torch.tensor(LUMA, dtype=x.dtype, device=x.device)[:, None, None]).sum(1, keepdim=True)


def _poisson(x: Tensor, generator: torch.Generator) -> Tensor:
    """Counting noise: each value of the 8-bit picture counts photons, white as many as there are different values.

    That number is rounded up to a power of two, as in the published recipe: a picture of few values is a dark or flat
    one, and so a noisier one.
    """
    x = (x.clamp(0, 1) * 255).round() / 255
    different = [max(2, picture.unique().numel()) for picture in x]
    photons = torch.tensor([2 ** (n - 1).bit_length() for n in different], dtype=x.dtype, device=x.device)
    photons = photons[:, None, None, None]
    return torch.poisson(x * photons, generator=generator) / photons - x
