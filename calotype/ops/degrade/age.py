"""Makes a photo look like an old print that was scanned: for examples, and for training on what people really bring.

No paper stands behind the figures, they were chosen by eye. The order is that in which the harm is done: lens and film,
print and paper, decades in a drawer, scanner and file. Lengths are in pixels of a picture whose shorter side is 512;
they grow with it.
"""

import math
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.kernels import Kernel, blur, weights
from calotype.ops.degrade.noise import grey, normal

REFERENCE = 512  # the shorter side that lengths below are meant for
PAPER = (0.93, 0.88, 0.77)  # the lightest that old paper gives
INK = (0.14, 0.105, 0.085)  # the darkest that a faded print keeps


@dataclass(frozen=True)
class Wear:
    """How much of everything at amount 1."""

    blur: float = 1.4  # sigma of lens and enlarger, pixels
    grain: float = 0.03  # standard deviation in middle tones, of white
    grain_size: float = 0.8  # sigma, pixels
    fading: float = 0.75  # how far black and white move towards INK and PAPER
    toning: float = 0.6  # how far colours move towards brown
    stains: float = 0.05  # slow unevenness of fading, of white
    vignette: float = 0.16  # darkening of the corners, of white
    texture: float = 0.012  # relief of the paper, of white
    scratches: float = 5.0  # on the average
    specks: float = 36.0  # dust and dirt, on the average
    smaller: float = 1.3  # how many times the scan is smaller
    quality: float = 72.0  # of the scan's JPEG


TONES_KEPT = Wear(fading=0.0, toning=0.0, stains=0.0, vignette=0.0)


def age(pixels: Tensor, seed: int, amount: float = 1.0, wear: Wear = Wear()) -> Tensor:
    """An old print of this photo, scanned.

    Args:
        pixels: (3, H, W) RGB in [0, 1].
        seed: of everything that is drawn; the same seed, size and device give the same damage.
        amount: 0 gives the picture back, 1 a print that was kept badly; more is possible.

    Returns:
        (3, H, W) in [0, 1], in steps of 1/255 where amount is not 0.
    """
    if amount <= 0:
        return pixels.clone()
    chance, generator = Random(seed), torch.Generator(pixels.device).manual_seed(seed)
    unit = min(pixels.shape[-2:]) / REFERENCE
    x = pixels[None].float()
    x = softened(x, wear.blur * amount * unit)
    x = x + _grain(x, generator, wear, unit) * amount
    x = faded(x, generator, wear, min(1.0, amount))
    x = x - _vignette(x, wear) * amount + _texture(x, generator, unit) * wear.texture * amount
    x = _scratched(x, chance, wear.scratches * amount, unit)
    x = _dusted(x, chance, wear.specks * amount, unit)
    return _scanned(x.clamp(0, 1), wear, amount)[0].to(pixels.dtype)


def worn(pixels: Tensor, seed: int, amount: float, size: int) -> Tensor:
    """What an old print bears and does not lose its tones by: softness, grain, dust, scratches, the scan's JPEG.

    Args:
        pixels: (3, H, W) RGB in [0, 1], such as a part of a print.
        size: the shorter side, in pixels, at which the damage is drawn; the smaller it is, the larger are scratches.

    Returns:
        (3, H, W) in [0, 1].
    """
    whole = pixels[None].float()
    share = min(1.0, size / min(pixels.shape[-2:]))
    small = [max(1, round(side * share)) for side in pixels.shape[-2:]]
    x = F.interpolate(whole, small, mode="bicubic", antialias=True).clamp(0, 1)
    harm = age(x[0], seed, amount, TONES_KEPT)[None] - x
    return (whole + F.interpolate(harm, pixels.shape[-2:], mode="bicubic"))[0].clamp(0, 1).to(pixels.dtype)


def softened(x: Tensor, sigma: float) -> Tensor:
    """(N, C, H, W) blurred with a round Gaussian of `sigma` pixels."""
    if sigma < 0.1:
        return x
    reach = math.ceil(3 * sigma)
    return blur(x, weights(Kernel("iso", 2 * reach + 1, (sigma, sigma))))


def _grain(x: Tensor, generator: torch.Generator, wear: Wear, unit: float) -> Tensor:
    """Clumps of silver: strongest in middle tones, where half of the grains are black; a little of it coloured."""
    clumps = _evened(softened(normal(x[:, :1], generator), wear.grain_size * unit))
    colour = _evened(softened(normal(x, generator), wear.grain_size * unit))
    tone = grey(x).clamp(0, 1)
    return wear.grain * (0.35 + 2.6 * tone * (1 - tone)) * (0.95 * clumps + 0.2 * colour)


def _evened(x: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1."""
    return (x - x.mean()) / x.std(correction=0).clamp(min=1e-6)


def faded(x: Tensor, generator: torch.Generator, wear: Wear = Wear(), amount: float = 1.0) -> Tensor:
    """(N, 3, H, W) towards brown, black and white towards ink and paper, here more and there less; not clamped."""
    toning = wear.toning * amount
    x = x + toning * (grey(x) - x)
    slow = _slow(x, generator, 5)
    strength = (wear.fading * amount * (1 + 0.15 * slow)).clamp(0, 1)
    ink, paper = (torch.tensor(c, dtype=x.dtype, device=x.device)[:, None, None] for c in (INK, PAPER))
    x = x + strength * (ink + x * (paper - ink) - x)
    yellow = torch.tensor((0.4, 0.7, 1.0), dtype=x.dtype, device=x.device)[:, None, None]
    return x - wear.stains * amount * yellow * _slow(x, generator, 4)


def _slow(x: Tensor, generator: torch.Generator, cells: int) -> Tensor:
    """(1, 1, H, W) that wanders smoothly around 0, mostly within -1 and 1."""
    coarse = torch.randn(1, 1, cells, cells, generator=generator, dtype=x.dtype, device=x.device)
    return 0.6 * F.interpolate(coarse, x.shape[-2:], mode="bicubic", align_corners=True)


def _vignette(x: Tensor, wear: Wear) -> Tensor:
    y, across = _places(x)
    height, width = x.shape[-2:]
    from_centre = ((y / height - 0.5) ** 2 + (across / width - 0.5) ** 2) * 2  # 1 in the corners
    return wear.vignette * from_centre**1.5


def _texture(x: Tensor, generator: torch.Generator, unit: float) -> Tensor:
    """Relief of the paper lit by the scanner's lamp from above: differences of a rough surface."""
    rough = softened(normal(x[:, :1], generator), 1.2 * unit)
    return _evened(rough - rough.roll(1, -2))


def _places(x: Tensor) -> tuple[Tensor, ...]:
    """Row and column of each pixel's centre, (H, W) each."""
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) + 0.5 for n in x.shape[-2:])
    return torch.meshgrid(rows, columns, indexing="ij")


def _scratched(x: Tensor, chance: Random, mean: float, unit: float) -> Tensor:
    """Light, thin, slightly winding lines, more upright than not, fading in and out; one in four is dark."""
    height, width = x.shape[-2:]
    y, across = _places(x)
    for _ in range(_count(chance, mean)):
        top, length = chance.uniform(-0.2, 0.9) * height, chance.uniform(0.08, 0.5) * height
        lean, start = chance.gauss(0, 0.25), chance.uniform(0, 1) * width
        swing, turn, phase = chance.uniform(0, 2.5) * unit, chance.uniform(20, 90) * unit, chance.uniform(0, 6.3)
        line = start + lean * (y - top) + swing * torch.sin(y / turn + phase)
        along = ((y - top) / length).clamp(0, 1)
        thick = chance.uniform(0.35, 0.8) * max(unit, 0.5)
        strength = (4 * along * (1 - along)).sqrt() * torch.exp(-(((across - line) / thick) ** 2))
        x = _covered(x, strength * chance.uniform(0.25, 0.7), is_light=chance.random() < 0.75)
    return x


def _dusted(x: Tensor, chance: Random, mean: float, unit: float) -> Tensor:
    """Specks of dust and dirt, in place; each touches only the pixels around it."""
    height, width = x.shape[-2:]
    for _ in range(_count(chance, mean)):
        row, column = chance.uniform(0, height), chance.uniform(0, width)
        speck = _draw_speck(chance, unit)
        reach = math.ceil(3 * speck.size) + 1
        rows = slice(max(0, int(row) - reach), min(height, int(row) + reach + 1))
        columns = slice(max(0, int(column) - reach), min(width, int(column) + reach + 1))
        part = x[..., rows, columns]
        y, across = _places(part)
        shape = _shape_of(speck, y + rows.start - row, across + columns.start - column)
        x[..., rows, columns] = _covered(part, speck.strength * shape, speck.is_light)
    return x


@dataclass(frozen=True)
class Speck:
    """A grain, or a hair (thin, long, bent). Lengths in pixels."""

    size: float  # half its length
    thickness: float  # half of it
    bend: float  # how far the ends lie aside, in sizes
    angle: float  # radians
    strength: float  # 0 to 1
    is_light: bool


def _draw_speck(chance: Random, unit: float) -> Speck:
    """One in five is a hair; most are small; six in ten are light (dust on the negative), the others dirt."""
    is_hair = chance.random() < 0.2
    size = chance.lognormvariate(0.0, 0.45) * unit * (6 if is_hair else 1.1)
    bend, angle = chance.uniform(-0.6, 0.6) if is_hair else 0.0, chance.uniform(0, math.pi)
    strength, is_light = chance.uniform(0.2, 0.75), chance.random() < 0.6
    thickness = 0.55 * max(unit, 0.6) if is_hair else size * (0.5 + 0.5 * abs(math.cos(3 * angle)))
    return Speck(size, thickness, bend, angle, strength, is_light)


def _shape_of(speck: Speck, y: Tensor, x: Tensor) -> Tensor:
    """0 to 1 for each pixel, given its place from the middle of the speck."""
    cos, sin = math.cos(speck.angle), math.sin(speck.angle)
    along = (cos * x + sin * y) / speck.size
    aside = (cos * y - sin * x - speck.bend * speck.size * along**2) / speck.thickness
    return torch.exp(-(along**4) - aside**2)


def _covered(x: Tensor, strength: Tensor, is_light: bool) -> Tensor:
    """Towards bare paper or towards dirt, by a strength of 0 to 1 for each pixel."""
    colour = (0.97, 0.95, 0.9) if is_light else (0.12, 0.1, 0.09)
    return x + strength * (torch.tensor(colour, dtype=x.dtype, device=x.device)[:, None, None] - x)


def _count(chance: Random, mean: float) -> int:
    """A Poisson number, by Knuth's product of uniform numbers."""
    count, product, limit = 0, chance.random(), math.exp(-min(mean, 500.0))
    while product > limit:
        count, product = count + 1, product * chance.random()
    return count


def _scanned(x: Tensor, wear: Wear, amount: float) -> Tensor:
    """Smaller and back to its size, then JPEG."""
    size = x.shape[-2:]
    smaller = 1 + (wear.smaller - 1) * amount
    x = F.interpolate(x, [max(1, round(side / smaller)) for side in size], mode="bicubic", antialias=True)
    x = F.interpolate(x, size, mode="bicubic").clamp(0, 1)
    return jpeg(x, max(5.0, 100 - (100 - wear.quality) * amount))
