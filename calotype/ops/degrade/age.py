"""Makes a photo look like a scanned old print: for examples, and for training on realistic damage.

The values were chosen by eye, not taken from a publication. The order is that in which damage occurs: lens and film,
print and paper, storage, scanner and file. Lengths are in pixels of a picture whose shorter side is 512; they scale
with it.
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

REFERENCE = 512  # the shorter side, in pixels, that the lengths below refer to
WHITE_POINT = (0.93, 0.88, 0.77)  # RGB of white on faded paper
BLACK_POINT = (0.14, 0.105, 0.085)  # RGB of black in a faded print


@dataclass(frozen=True)
class AgeRecipe:
    """The strength of each kind of damage at amount 1."""

    blur: float = 1.4  # sigma of lens and enlarger, pixels
    grain: float = 0.03  # standard deviation in middle tones, of white
    grain_size: float = 0.8  # sigma, pixels
    fading: float = 0.75  # how far black and white move towards BLACK_POINT and WHITE_POINT
    toning: float = 0.6  # how far colours move towards brown
    stains: float = 0.05  # slow unevenness of fading, of white
    vignette: float = 0.16  # darkening of the corners, of white
    texture: float = 0.012  # relief of the paper, of white
    scratches: float = 5.0  # mean number
    specks: float = 36.0  # dust and dirt, mean number
    smaller: float = 1.3  # how many times the scan is smaller
    quality: float = 72.0  # of the scan's JPEG


NO_TONING = AgeRecipe(fading=0.0, toning=0.0, stains=0.0, vignette=0.0)


def age(pixels: Tensor, seed: int, amount: float = 1.0, recipe: AgeRecipe = AgeRecipe()) -> Tensor:
    """Makes a photo look like a scanned old print.

    Args:
        pixels: (3, H, W) RGB in [0, 1].
        seed: of all random numbers; the same seed, size and device give the same damage.
        amount: 0 returns the picture unchanged, 1 a badly preserved print; more is possible.

    Returns:
        (3, H, W) in [0, 1], quantized to 1/255 where amount is not 0.
    """
    if amount <= 0:
        return pixels.clone()
    rng, generator = Random(seed), torch.Generator(pixels.device).manual_seed(seed)
    unit = min(pixels.shape[-2:]) / REFERENCE
    x = pixels[None].float()
    x = softened(x, recipe.blur * amount * unit)
    x = x + _grain(x, generator, recipe, unit) * amount
    x = faded(x, generator, recipe, min(1.0, amount))
    x = x - _vignette(x, recipe) * amount + _texture(x, generator, unit) * recipe.texture * amount
    x = _with_scratches(x, rng, recipe.scratches * amount, unit)
    x = _with_specks(x, rng, recipe.specks * amount, unit)
    return _scanned(x.clamp(0, 1), recipe, amount)[0].to(pixels.dtype)


def age_texture(pixels: Tensor, seed: int, amount: float, size: int) -> Tensor:
    """The damage of an old print that leaves its tones alone: blur, grain, dust, scratches, the scan's JPEG.

    Args:
        pixels: (3, H, W) RGB in [0, 1], such as a crop of a print.
        size: the shorter side, in pixels, at which the damage is computed; the smaller it is, the larger are scratches.

    Returns:
        (3, H, W) in [0, 1].
    """
    image = pixels[None].float()
    scale = min(1.0, size / min(pixels.shape[-2:]))
    small = [max(1, round(side * scale)) for side in pixels.shape[-2:]]
    x = F.interpolate(image, small, mode="bicubic", antialias=True).clamp(0, 1)
    damage = age(x[0], seed, amount, NO_TONING)[None] - x
    return (image + F.interpolate(damage, pixels.shape[-2:], mode="bicubic"))[0].clamp(0, 1).to(pixels.dtype)


def age_marks(x: Tensor, rng: Random, unit: float, amount: float = 1.0) -> Tensor:
    """(N, 3, H, W) in [0, 1] with the scratches and specks that `age` adds to a picture of 512 x 512 times `unit`."""
    recipe, area = AgeRecipe(), x.shape[-2] * x.shape[-1] / (REFERENCE * unit) ** 2
    x = _with_scratches(x, rng, recipe.scratches * amount * max(area, 0.3), unit)
    return _with_specks(x.clone(), rng, recipe.specks * amount * area, unit).clamp(0, 1)


def film_grain(x: Tensor, generator: torch.Generator, unit: float) -> Tensor:
    """What the grain that `age` adds changes: (N, 3, H, W)."""
    return _grain(x, generator, AgeRecipe(), unit)


def softened(x: Tensor, sigma: float) -> Tensor:
    """(N, C, H, W) blurred with a round Gaussian of `sigma` pixels."""
    if sigma < 0.1:
        return x
    reach = math.ceil(3 * sigma)
    return blur(x, weights(Kernel("iso", 2 * reach + 1, (sigma, sigma))))


def _grain(x: Tensor, generator: torch.Generator, recipe: AgeRecipe, unit: float) -> Tensor:
    """Film grain: strongest in middle tones, where half of the grains are black; a little of it coloured."""
    clumps = _standardized(softened(normal(x[:, :1], generator), recipe.grain_size * unit))
    colour = _standardized(softened(normal(x, generator), recipe.grain_size * unit))
    tone = grey(x).clamp(0, 1)
    return recipe.grain * (0.35 + 2.6 * tone * (1 - tone)) * (0.95 * clumps + 0.2 * colour)


def _standardized(x: Tensor) -> Tensor:
    """Scaled to mean 0 and standard deviation 1."""
    return (x - x.mean()) / x.std(correction=0).clamp(min=1e-6)


def faded(x: Tensor, generator: torch.Generator, recipe: AgeRecipe = AgeRecipe(), amount: float = 1.0) -> Tensor:
    """(N, 3, H, W) towards brown, black and white towards BLACK_POINT and WHITE_POINT, unevenly; not clamped."""
    toning = recipe.toning * amount
    x = x + toning * (grey(x) - x)
    unevenness = _smooth_field(x, generator, 5)
    strength = (recipe.fading * amount * (1 + 0.15 * unevenness)).clamp(0, 1)
    black_point, white_point = (
        torch.tensor(c, dtype=x.dtype, device=x.device)[:, None, None] for c in (BLACK_POINT, WHITE_POINT)
    )
    x = x + strength * (black_point + x * (white_point - black_point) - x)
    yellow = torch.tensor((0.4, 0.7, 1.0), dtype=x.dtype, device=x.device)[:, None, None]
    return x - recipe.stains * amount * yellow * _smooth_field(x, generator, 4)


def _smooth_field(x: Tensor, generator: torch.Generator, cells: int) -> Tensor:
    """(1, 1, H, W) smooth random field around 0, mostly within -1 and 1."""
    coarse = torch.randn(1, 1, cells, cells, generator=generator, dtype=x.dtype, device=x.device)
    return 0.6 * F.interpolate(coarse, x.shape[-2:], mode="bicubic", align_corners=True)


def _vignette(x: Tensor, recipe: AgeRecipe) -> Tensor:
    y, x_centre = _pixel_grid(x)
    height, width = x.shape[-2:]
    from_centre = ((y / height - 0.5) ** 2 + (x_centre / width - 0.5) ** 2) * 2  # 1 in the corners
    return recipe.vignette * from_centre**1.5


def _texture(x: Tensor, generator: torch.Generator, unit: float) -> Tensor:
    """Paper texture lit by the scanner's lamp from above: row differences of a rough surface."""
    rough = softened(normal(x[:, :1], generator), 1.2 * unit)
    return _standardized(rough - rough.roll(1, -2))


def _pixel_grid(x: Tensor) -> tuple[Tensor, ...]:
    """Row and column of each pixel's centre, (H, W) each."""
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) + 0.5 for n in x.shape[-2:])
    return torch.meshgrid(rows, columns, indexing="ij")


def _with_scratches(x: Tensor, rng: Random, mean: float, unit: float) -> Tensor:
    """Adds light, thin, slightly curved lines, mostly vertical, fading at both ends; one in four is dark."""
    height, width = x.shape[-2:]
    y, x_centre = _pixel_grid(x)
    for _ in range(poisson(rng, mean)):
        top, length = rng.uniform(-0.2, 0.9) * height, rng.uniform(0.08, 0.5) * height
        slope, start = rng.gauss(0, 0.25), rng.uniform(0, 1) * width
        swing, turn, phase = rng.uniform(0, 2.5) * unit, rng.uniform(20, 90) * unit, rng.uniform(0, 6.3)
        line = start + slope * (y - top) + swing * torch.sin(y / turn + phase)
        along = ((y - top) / length).clamp(0, 1)
        thick = rng.uniform(0.35, 0.8) * max(unit, 0.5)
        strength = (4 * along * (1 - along)).sqrt() * torch.exp(-(((x_centre - line) / thick) ** 2))
        x = _blended(x, strength * rng.uniform(0.25, 0.7), is_light=rng.random() < 0.75)
    return x


def _with_specks(x: Tensor, rng: Random, mean: float, unit: float) -> Tensor:
    """Adds specks of dust and dirt, in place; each changes only the pixels around it."""
    height, width = x.shape[-2:]
    for _ in range(poisson(rng, mean)):
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        speck = _draw_speck(rng, unit)
        reach = math.ceil(3 * speck.size) + 1
        rows = slice(max(0, int(row) - reach), min(height, int(row) + reach + 1))
        columns = slice(max(0, int(column) - reach), min(width, int(column) + reach + 1))
        region = x[..., rows, columns]
        y, x_centre = _pixel_grid(region)
        shape = _shape_of(speck, y + rows.start - row, x_centre + columns.start - column)
        x[..., rows, columns] = _blended(region, speck.strength * shape, speck.is_light)
    return x


@dataclass(frozen=True)
class Speck:
    """A grain, or a hair (thin, long, bent). Lengths in pixels."""

    size: float  # half the length, or radius
    thickness: float  # half the width
    bend: float  # offset of the ends, in units of `size`
    angle: float  # radians
    strength: float  # 0 to 1
    is_light: bool


def _draw_speck(rng: Random, unit: float) -> Speck:
    """One in five is a hair; most are small; six in ten are light (dust on the negative), the others dirt."""
    is_hair = rng.random() < 0.2
    size = rng.lognormvariate(0.0, 0.45) * unit * (6 if is_hair else 1.1)
    bend, angle = rng.uniform(-0.6, 0.6) if is_hair else 0.0, rng.uniform(0, math.pi)
    strength, is_light = rng.uniform(0.2, 0.75), rng.random() < 0.6
    thickness = 0.55 * max(unit, 0.6) if is_hair else size * (0.5 + 0.5 * abs(math.cos(3 * angle)))
    return Speck(size, thickness, bend, angle, strength, is_light)


def _shape_of(speck: Speck, y: Tensor, x: Tensor) -> Tensor:
    """0 to 1 for each pixel, given its offset from the centre of the speck."""
    cos, sin = math.cos(speck.angle), math.sin(speck.angle)
    along = (cos * x + sin * y) / speck.size
    aside = (cos * y - sin * x - speck.bend * speck.size * along**2) / speck.thickness
    return torch.exp(-(along**4) - aside**2)


def _blended(x: Tensor, strength: Tensor, is_light: bool) -> Tensor:
    """Blended towards bare paper or dirt, by a strength of 0 to 1 for each pixel."""
    colour = (0.97, 0.95, 0.9) if is_light else (0.12, 0.1, 0.09)
    return x + strength * (torch.tensor(colour, dtype=x.dtype, device=x.device)[:, None, None] - x)


def poisson(rng: Random, mean: float) -> int:
    """A Poisson-distributed number, by Knuth's product of uniform numbers."""
    count, product, limit = 0, rng.random(), math.exp(-min(mean, 500.0))
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count


def _scanned(x: Tensor, recipe: AgeRecipe, amount: float) -> Tensor:
    """Downscaled and back to its size, then JPEG."""
    size = x.shape[-2:]
    factor = 1 + (recipe.smaller - 1) * amount
    x = F.interpolate(x, [max(1, round(side / factor)) for side in size], mode="bicubic", antialias=True)
    x = F.interpolate(x, size, mode="bicubic").clamp(0, 1)
    return jpeg(x, max(5.0, 100 - (100 - recipe.quality) * amount))
