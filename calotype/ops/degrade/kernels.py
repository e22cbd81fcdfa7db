"""Blur kernels of the second-order degradation, and blurring with them.

Wang et al. 2021, "Real-ESRGAN" (arXiv 2107.10833), §3.1 (Gaussian, generalised Gaussian, plateau) and §3.3 (sinc).
"""

import math
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.ops.tile import mirrored

SIZES = tuple(range(7, 22, 2))
SHAPES = (
    ("iso", 0.45),
    ("aniso", 0.25),
    ("generalized_iso", 0.12),
    ("generalized_aniso", 0.03),
    ("plateau_iso", 0.12),
    ("plateau_aniso", 0.03),
)
WIDE = 25  # above this width the FFT is faster


@dataclass(frozen=True)
class KernelRanges:
    """The distributions of kernels; the defaults are the first stage of the published recipe."""

    sizes: tuple[int, ...] = SIZES  # odd, pixels
    shapes: tuple[tuple[str, float], ...] = SHAPES  # if it is not a sinc: name, probability
    sigma: tuple[float, float] = (0.2, 3.0)  # pixels
    generalized: tuple[float, float] = (0.5, 4.0)  # shape exponent; half of the draws lie below 1
    plateau: tuple[float, float] = (1.0, 2.0)
    sinc: float = 0.1  # probability
    cutoff: tuple[float, float] = (math.pi / 3, math.pi)  # radians a pixel
    cutoff_wide: tuple[float, float] = (math.pi / 5, math.pi)  # from 13 pixels on


@dataclass(frozen=True)
class Kernel:
    """The parameters of a kernel, from which `weights` computes it."""

    shape: str  # one of SHAPES, or "sinc"
    size: int  # odd, pixels
    sigmas: tuple[float, float] = (1.0, 1.0)  # along the two axes before rotation, pixels
    angle: float = 0.0  # radians
    beta: float = 1.0  # exponent of generalised and plateau shapes
    cutoff: float = math.pi  # sinc only, radians a pixel


def draw_kernel(rng: Random, ranges: KernelRanges) -> Kernel:
    """Draws one kernel from the ranges."""
    size = rng.choice(ranges.sizes)
    if rng.random() < ranges.sinc:
        return draw_sinc(rng, size, ranges.cutoff if size < 13 else ranges.cutoff_wide)
    names, probabilities = zip(*ranges.shapes, strict=True)
    shape = rng.choices(names, probabilities)[0]
    sigma_x, sigma_y = rng.uniform(*ranges.sigma), rng.uniform(*ranges.sigma)
    angle = rng.uniform(-math.pi, math.pi)
    sigmas, angle = ((sigma_x, sigma_y), angle) if shape.endswith("aniso") else ((sigma_x, sigma_x), 0.0)
    return Kernel(shape, size, sigmas, angle, _draw_beta(rng, shape, ranges))


def draw_sinc(rng: Random, size: int, cutoff: tuple[float, float]) -> Kernel:
    return Kernel("sinc", size, cutoff=rng.uniform(*cutoff))


def _draw_beta(rng: Random, shape: str, ranges: KernelRanges) -> float:
    """Draws the exponent: below 1 and above 1 equally often."""
    if shape.startswith("generalized"):
        low, high = ranges.generalized
    elif shape.startswith("plateau"):
        low, high = ranges.plateau
    else:
        return 1.0
    return rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high)


def weights(kernel: Kernel) -> Tensor:
    """(size, size) float64 that sum to 1.

    Gaussians exp(-d/2), generalised exp(-d**beta / 2), plateaus 1 / (1 + d**beta), d the squared distance in sigmas.
    """
    if kernel.shape == "sinc":
        return sinc(kernel.size, kernel.cutoff)
    distance = _distance(kernel)
    if kernel.shape.startswith("plateau"):
        values = 1 / (1 + distance**kernel.beta)
    else:
        values = torch.exp(-0.5 * distance**kernel.beta)
    return values / values.sum()


def sinc(size: int, cutoff: float) -> Tensor:
    """An ideal low-pass filter of `cutoff` radians a pixel, cut to (size, size) float64, summing to 1.

    Equation 6 of the paper: cutoff / (2 pi r) * J1(cutoff * r); at r = 0 its limit, cutoff**2 / (4 pi).
    """
    y, x = _centred_grid(size)
    r = torch.hypot(y, x)
    values = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    values[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return values / values.sum()


def _distance(kernel: Kernel) -> Tensor:
    y, x = _centred_grid(kernel.size)
    cos, sin = math.cos(kernel.angle), math.sin(kernel.angle)
    along, across = cos * x + sin * y, cos * y - sin * x
    return (along / kernel.sigmas[0]) ** 2 + (across / kernel.sigmas[1]) ** 2


def _centred_grid(size: int) -> tuple[Tensor, ...]:
    from_centre = torch.arange(size, dtype=torch.float64) - size // 2
    return torch.meshgrid(from_centre, from_centre, indexing="ij")


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """(N, C, H, W) filtered with one (k, k) kernel, k odd; borders are reflected, for pictures of any size."""
    channels, pad = x.shape[1], kernel.shape[0] // 2
    kernel = kernel.to(x)
    if kernel.shape[0] > WIDE:
        return _blurred_by_fourier(reflected(x, pad), kernel)
    return F.conv2d(reflected(x, pad), kernel.expand(channels, 1, -1, -1), groups=channels)


def _blurred_by_fourier(padded: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of a padded tensor; equals correlation, since all kernels here are point-symmetric."""
    size, k = padded.shape[-2:], kernel.shape[0]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., k - 1 :, k - 1 :]


def reflected(x: Tensor, pad: int) -> Tensor:
    """(..., H, W) -> (..., H + 2 pad, W + 2 pad), reflected at the outermost pixels, for any pad."""
    for dim in (-2, -1):
        size = x.shape[dim]
        index = mirrored(size + pad, size)[abs(torch.arange(-pad, size + pad)).numpy()]
        x = x.index_select(dim, torch.as_tensor(index, device=x.device))
    return x
