"""The second-order degradation of Real-ESRGAN, for training super-resolution networks.

Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (arXiv 2107.10833),
§3 and figure 2; probabilities and ranges as published for the x4plus network.

Parameters are drawn first, for each picture alone and as plain data (`draw`), then applied (`apply_draw`): so a draw
can be inspected, stored and repeated, and a picture's result does not depend on the rest of its batch. The published
program draws sizes once for a batch and compensates with a pool of 180 pictures; here no pool is needed.
"""

import math
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.kernels import SIZES, Kernel, KernelRanges, blur, draw_kernel, draw_sinc, weights
from calotype.ops.degrade.noise import Noise, NoiseRanges, draw_noise, noisy

MODES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class DegradationStage:
    """One round of blur, resize, noise and JPEG; the defaults are the first round."""

    kernels: KernelRanges = KernelRanges()
    blurred: float = 1.0  # probability
    resized: tuple[float, float, float] = (0.2, 0.7, 0.1)  # probabilities: larger, smaller, same size
    factor: tuple[float, float] = (0.15, 1.5)  # smallest and largest
    noise: NoiseRanges = NoiseRanges()
    quality: tuple[float, float] = (30.0, 95.0)  # of JPEG


SECOND = DegradationStage(
    kernels=KernelRanges(sigma=(0.2, 1.5)),
    blurred=0.8,
    resized=(0.3, 0.4, 0.3),
    factor=(0.3, 1.2),
    noise=NoiseRanges(sigma=(1.0, 25.0), poisson=(0.05, 2.5)),
)


@dataclass(frozen=True)
class SecondOrder:
    """The complete recipe."""

    scale: int = 4  # downscaling factor of the result
    first: DegradationStage = DegradationStage()
    second: DegradationStage = SECOND
    sinc: float = 0.8  # probability of the last filter, which causes ringing as sharpening does
    sinc_sizes: tuple[int, ...] = SIZES
    sinc_cutoff: tuple[float, float] = (math.pi / 3, math.pi)
    jpeg_last: float = 0.5  # probability that JPEG comes after the last filter, not before


@dataclass(frozen=True)
class Round:
    """The random parameters of one stage."""

    kernel: Kernel | None
    factor: float
    mode: str
    noise: Noise
    quality: float


@dataclass(frozen=True)
class Draw:
    """The random parameters of one picture: with the seed, all that its degradation depends on."""

    first: Round
    second: Round
    sinc: Kernel | None
    is_jpeg_last: bool
    mode: str
    seed: int  # of the noise


def second_order(x: Tensor, generator: torch.Generator, recipe: SecondOrder = SecondOrder()) -> Tensor:
    """Degrades each picture of a batch with its own parameters.

    Args:
        x: (N, 3, H, W) RGB in [0, 1], sides of at least `recipe.scale`.
        generator: on the CPU; gives one seed for each picture, in order.

    Returns:
        (N, 3, H // scale, W // scale) in [0, 1], quantized to 1/255, on x's device. The same generator state gives the
        same result on the same device; other devices draw other noise.
    """
    draws = [draw(seed, recipe) for seed in seeds(generator, len(x))]
    return torch.cat([apply_draw(picture[None], drawn, recipe.scale) for picture, drawn in zip(x, draws, strict=True)])


def seeds(generator: torch.Generator, count: int) -> list[int]:
    """Draws seeds one by one, so that the first ones do not depend on `count`."""
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(count)]


def draw(seed: int, recipe: SecondOrder) -> Draw:
    """Draws the parameters of one picture."""
    rng = Random(seed)
    first, second = _draw_round(rng, recipe.first), _draw_round(rng, recipe.second)
    sinc = None
    if rng.random() < recipe.sinc:
        sinc = draw_sinc(rng, rng.choice(recipe.sinc_sizes), recipe.sinc_cutoff)
    return Draw(first, second, sinc, rng.random() < recipe.jpeg_last, rng.choice(MODES), seed)


def _draw_round(rng: Random, stage: DegradationStage) -> Round:
    kernel = draw_kernel(rng, stage.kernels) if rng.random() < stage.blurred else None
    low, high = stage.factor
    direction = rng.choices(("larger", "smaller", "same"), stage.resized)[0]
    factor = {"larger": rng.uniform(1, high), "smaller": rng.uniform(low, 1), "same": 1.0}[direction]
    return Round(kernel, factor, rng.choice(MODES), draw_noise(rng, stage.noise), rng.uniform(*stage.quality))


def apply_draw(x: Tensor, drawn: Draw, scale: int) -> Tensor:
    """Degrades (N, 3, H, W), all with these parameters but different noise, to (N, 3, H // scale, W // scale)."""
    height, width = x.shape[-2:]
    generator = torch.Generator(x.device).manual_seed(drawn.seed)

    first = drawn.first
    x = _blurred(x, first.kernel)
    x = resized(x, (height * first.factor, width * first.factor), first.mode)
    x = noisy(x, first.noise, generator)
    x = jpeg(x, first.quality)

    second = drawn.second
    x = _blurred(x, second.kernel)
    x = resized(x, (height / scale * second.factor, width / scale * second.factor), second.mode)
    x = noisy(x, second.noise, generator)

    # Only these two orders: others distort lines (§3.3).
    size = (height // scale, width // scale)
    if drawn.is_jpeg_last:
        x = jpeg(_blurred(resized(x, size, drawn.mode), drawn.sinc), second.quality)
    else:
        x = _blurred(resized(jpeg(x, second.quality), size, drawn.mode), drawn.sinc)
    return (x * 255).round().clamp(0, 255) / 255


def _blurred(x: Tensor, kernel: Kernel | None) -> Tensor:
    return x if kernel is None else blur(x, weights(kernel))


def resized(x: Tensor, size: tuple[float, float], mode: str) -> Tensor:
    """(N, C, H, W) to `size` rounded down, at least one pixel; as published, without a filter against aliasing."""
    return F.interpolate(x, [max(1, int(side)) for side in size], mode=mode)
