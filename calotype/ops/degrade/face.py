"""GFPGAN's degradation of aligned faces, for training face restorers.

Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative Facial Prior" (arXiv 2101.04061), §3.5
(equation 9) and §4.1; colour changes as in the published training options of version 1.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.kernels import Kernel, KernelRanges, blur, draw_kernel, weights
from calotype.ops.degrade.noise import Noise, grey, noisy
from calotype.ops.degrade.second_order import resized, seeds

KERNELS = KernelRanges(sizes=(41,), shapes=(("iso", 0.5), ("aniso", 0.5)), sigma=(0.1, 10.0), sinc=0.0)
CHANGES = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class FaceRecipe:
    """Ranges for faces of 512 pixels. Set `shifted` and `coloured` to 0 to keep grey photos grey."""

    kernels: KernelRanges = KERNELS
    smaller: tuple[float, float] = (0.8, 8.0)  # downscaling factor
    sigma: tuple[float, float] = (0.0, 20.0)  # of the noise, of 255
    quality: tuple[float, float] = (60.0, 100.0)  # of JPEG
    shifted: float = 0.3  # probability that each channel moves by up to `shift`
    shift: float = 20 / 255
    coloured: float = 0.3  # probability of the four changes below, in any order
    brightness: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.0, 1.5)
    hue: tuple[float, float] = (-0.1, 0.1)  # in turns
    grey: float = 0.01  # probability


@dataclass(frozen=True)
class FaceDraw:
    """The random parameters of one face."""

    kernel: Kernel
    smaller: float
    sigma: float
    quality: float
    shift: tuple[float, float, float]
    changes: tuple[tuple[str, float], ...]
    is_grey: bool
    seed: int  # of the noise


def degrade_faces(x: Tensor, generator: torch.Generator, recipe: FaceRecipe = FaceRecipe()) -> Tensor:
    """Degrades each face of a batch with its own parameters: blur, downscaling, noise, JPEG, upscaling, colours.

    Args:
        x: (N, 3, H, W) RGB in [0, 1]; the ranges are meant for 512x512.
        generator: on the CPU; gives one seed for each picture, in order.

    Returns:
        (N, 3, H, W) in [0, 1], quantized to 1/255, on x's device.
    """
    draws = [draw_face(seed, recipe) for seed in seeds(generator, len(x))]
    return torch.cat([apply_face_draw(face[None], drawn) for face, drawn in zip(x, draws, strict=True)])


def draw_face(seed: int, recipe: FaceRecipe) -> FaceDraw:
    """Draws the parameters of one face."""
    rng = Random(seed)
    kernel = draw_kernel(rng, recipe.kernels)
    smaller, sigma, quality = (rng.uniform(*r) for r in (recipe.smaller, recipe.sigma, recipe.quality))
    max_shift = recipe.shift if rng.random() < recipe.shifted else 0.0
    shift = tuple(rng.uniform(-max_shift, max_shift) for _ in range(3))
    is_grey = rng.random() < recipe.grey
    is_coloured = rng.random() < recipe.coloured
    changes = [(name, rng.uniform(*getattr(recipe, name))) for name in rng.sample(CHANGES, len(CHANGES))]
    return FaceDraw(kernel, smaller, sigma, quality, shift, tuple(changes) if is_coloured else (), is_grey, seed)


def apply_face_draw(x: Tensor, drawn: FaceDraw) -> Tensor:
    """Degrades (N, 3, H, W) with these parameters; same shape."""
    height, width = x.shape[-2:]
    generator = torch.Generator(x.device).manual_seed(drawn.seed)
    x = blur(x, weights(drawn.kernel))
    x = resized(x, (height // drawn.smaller, width // drawn.smaller), "bilinear")
    x = noisy(x, Noise("gaussian", drawn.sigma, is_grey=False), generator)
    x = jpeg(x, drawn.quality)
    x = resized(x, (height, width), "bilinear")
    x = (x + torch.tensor(drawn.shift, dtype=x.dtype, device=x.device)[:, None, None]).clamp(0, 1)
    if drawn.is_grey:
        x = grey(x).expand_as(x)
    for name, amount in drawn.changes:
        x = adjusted(x, name, amount)
    return (x * 255).round().clamp(0, 255) / 255


def adjusted(x: Tensor, name: str, amount: float) -> Tensor:
    """(N, 3, H, W) in [0, 1] with one of CHANGES; the identity is 1, for hue (in turns) 0."""
    if name == "hue":
        return _hue_turned(x, amount)
    still = {
        "brightness": torch.zeros_like(x),
        "contrast": grey(x).mean((1, 2, 3), keepdim=True),
        "saturation": grey(x),
    }[name]
    return (still + amount * (x - still)).clamp(0, 1)


def _hue_turned(x: Tensor, turns: float) -> Tensor:
    """Rotates the hue of HSV; the value of HSV (the largest channel) stays."""
    high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = high - low
    red, green, blue = ((channel - low) / chroma.clamp(min=1e-8) for channel in x.split(1, 1))
    at_red, at_green = (x[:, :1] == high), (x[:, 1:2] == high)
    sixth = torch.where(at_red, green - blue, torch.where(at_green, 2 + blue - red, 4 + red - green))
    sixth = (sixth + 6 * turns) % 6
    offsets = torch.tensor([5.0, 3.0, 1.0], dtype=x.dtype, device=x.device)[:, None, None]
    k = (offsets + sixth) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
