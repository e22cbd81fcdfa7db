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
    """The distributions of noise; the defaults are the first stage of the published recipe."""

    gaussian: float = 0.5  # probability; the rest is Poisson
    sigma: tuple[float, float] = (1.0, 30.0)  # of 255
    poisson: tuple[float, float] = (0.05, 3.0)  # strength; 1: as many photons as distinct values
    grey: float = 0.4  # probability that all channels share the noise


@dataclass(frozen=True)
class Noise:
    """A kind of noise and its strength: sigma of 255 for "gaussian", a factor for "poisson"."""

    kind: str
    strength: float
    is_grey: bool


def draw_noise(rng: Random, ranges: NoiseRanges) -> Noise:
    kind = "gaussian" if rng.random() < ranges.gaussian else "poisson"
    strength = rng.uniform(*(ranges.sigma if kind == "gaussian" else ranges.poisson))
    return Noise(kind, strength, rng.random() < ranges.grey)


def noisy(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) in [0, 1] with noise, clamped to [0, 1]; the generator is on x's device."""
    if noise.kind == "gaussian":
        residual = noise.strength / 255 * normal(x[:, :1] if noise.is_grey else x, generator)
    else:
        residual = noise.strength * _poisson(grey(x) if noise.is_grey else x, generator)
    return (x + residual).clamp(0, 1)


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape, type and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def grey(x: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W) luma of BT.601."""
    return (x * torch.tensor(LUMA, dtype=x.dtype, device=x.device)[:, None, None]).sum(1, keepdim=True)


def _poisson(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shot noise: each value of the 8-bit picture is a photon count, that of white the number of distinct values.

    That number is rounded up to a power of two, as in the published recipe: a picture with few distinct values is dark
    or flat, and gets more noise.
    """
    x = (x.clamp(0, 1) * 255).round() / 255
    distinct = [max(2, picture.unique().numel()) for picture in x]
    photons = torch.tensor([2 ** (n - 1).bit_length() for n in distinct], dtype=x.dtype, device=x.device)
    photons = photons[:, None, None, None]
    return torch.poisson(x * photons, generator=generator) / photons - x
