"""What time does to the colours of a print, and prints that are tinted on purpose."""

import numpy as np

from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade import age
from calotype.picture.metadata.icc import light_of, srgb_encoded
from tests.ops.repair.prints import as_uint8

LIGHT = light_of(None, 3, np.dtype(np.uint8))


def light(pixels: np.ndarray) -> np.ndarray:
    return LIGHT[0][pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)]


def dyes(kept: tuple[float, ...], stain: tuple[float, ...]):
    """Densities of cyan, magenta and yellow that are left, and those of the stain; the black of a print has 2.3."""

    def fade(pixels: np.ndarray) -> np.ndarray:
        density = -np.log10(np.maximum(light(pixels), 10**-2.3))
        return as_uint8(srgb_encoded(10 ** -(density * kept + np.array(stain))))

    return fade


def cast(white: tuple[float, ...], black: tuple[float, ...]):
    """A light of another colour, and stray light."""

    def fade(pixels: np.ndarray) -> np.ndarray:
        return as_uint8(srgb_encoded(np.array(black) + light(pixels) * (np.array(white) - black)))

    return fade


def aged(amount: float):
    """All that this program's own examples suffer; colour is lost too."""

    def fade(pixels: np.ndarray) -> np.ndarray:
        return to_pixels(age(to_tensor(np.ascontiguousarray(pixels)), 5, amount), pixels)

    return fade


FADES = {
    "cyan lost": dyes((0.55, 0.8, 0.75), (0.02, 0.04, 0.12)),
    "magenta lost": dyes((0.8, 0.55, 0.75), (0.03, 0.03, 0.1)),
    "yellow lost": dyes((0.7, 0.7, 0.5), (0.05, 0.05, 0.07)),
    "all lost, yellowed": dyes((0.6, 0.6, 0.6), (0.04, 0.07, 0.2)),
    "warm cast": cast((0.85, 0.7, 0.5), (0.03, 0.022, 0.016)),
}


def sepia(pixels: np.ndarray, black=(30, 20, 12), white=(250, 236, 208)) -> np.ndarray:
    """With one tint over all tones, strongest in the middle, and a little noise in colour."""
    tone = (pixels.mean(2) / 255)[..., None]
    levels = np.array(black) + tone * np.subtract(white, black) - 4 * tone * (1 - tone) * (0, 4, 14)
    return as_uint8((levels + np.random.default_rng(0).normal(0, 2, levels.shape)) / 255)


def tinted(pixels: np.ndarray) -> np.ndarray:
    """A sepia print with cheeks, a dress and a flower coloured by hand."""
    levels = sepia(pixels).astype(float)
    height, width = levels.shape[:2]
    y, x = np.mgrid[:height, :width]
    for row, column, radius, colour in (
        (0.35, 0.45, 0.12, (20, -8, -10)),
        (0.8, 0.4, 0.22, (-25, -5, 30)),
        (0.7, 0.8, 0.1, (-20, 15, -15)),
    ):
        distance = ((y / height - row) / radius) ** 2 + ((x / width - column) / radius) ** 2
        levels += np.exp(-(distance**2))[..., None] * colour
    return as_uint8(levels / 255)
