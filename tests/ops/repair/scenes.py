"""Clean pictures in which nothing is to be repaired: scikit-image's, Gradio's and drawn ones. Scenes with a tint of
their own, such as fog and sunsets, are drawn, as no free photo of them lies in a package.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import gradio
import numpy as np
from PIL import Image
from skimage import data

from tests.ops.repair.prints import as_uint8, motifs

HEIGHT, WIDTH = 360, 480
FOLDERS = {
    Path(data.__file__).parent: (
        *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
        *("coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png"),
        *("logo.png", "microaneurysms.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png"),
        *("retina.jpg", "rocket.jpg", "text.png"),
    ),
    Path(gradio.__file__).parent / "media_assets" / "images": (
        *("cheetah.jpg", "cheetah1.jpg", "groot.jpeg", "lion.jpg", "tower.jpg"),
    ),
}


def opened(path: Path) -> np.ndarray:
    """(H, W, C) uint8."""
    with Image.open(path) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels)


def clouds(seed: int, octaves: int = 6) -> np.ndarray:
    """(H, W) from 0 to 1, with details of every size."""
    rng, total = np.random.default_rng(seed), np.zeros((HEIGHT, WIDTH), np.float32)
    for n in range(octaves):
        cells = rng.normal(0, 1, (3 * 2**n, 4 * 2**n)).astype(np.float32)
        total += cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / 1.8**n
    return (total - total.min()) / (total.max() - total.min())


def between(first: tuple[float, ...], last: tuple[float, ...], share: np.ndarray) -> np.ndarray:
    """(H, W, 3) levels of 255, from one colour to another."""
    return np.array(first) + (np.array(last) - np.array(first)) * share[..., None]


def over(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return below + (above - below) * mask[..., None]


Y, X = (axis / side for axis, side in zip(np.mgrid[:HEIGHT, :WIDTH].astype(np.float32), (HEIGHT, WIDTH), strict=True))


def ridge(height: float, seed: int) -> np.ndarray:
    """1 below a skyline."""
    return (height + 0.2 * (clouds(seed, 4)[HEIGHT // 2] - 0.5)[None] < Y).astype(np.float32)


def shaded(colour: tuple[float, ...], seed: int, darkest: float = 0.0) -> np.ndarray:
    """A material in light and shade."""
    return between(tuple(darkest * v for v in colour), colour, clouds(seed) ** 1.5)


def sunset() -> np.ndarray:
    sky = between((70, 60, 110), (255, 170, 80), Y + 0.3 * (clouds(1) - 0.5))
    sun = np.exp(-(((X - 0.6) / 0.05) ** 2 + ((Y - 0.55) / 0.06) ** 2))
    return over(over(sky, np.full_like(sky, 255) * (1, 0.95, 0.75), sun), shaded((40, 25, 22), 2), ridge(0.7, 3))


def fog() -> np.ndarray:
    scene = between((190, 196, 202), (226, 229, 232), clouds(4, 3))
    for n, height in enumerate((0.4, 0.6, 0.8)):
        scene = over(scene, between((170 - 45 * n,) * 3, (180 - 40 * n,) * 3, clouds(5 + n)), ridge(height, 8 + n))
    return scene


def fog_at_sunrise() -> np.ndarray:
    return fog() * (1, 0.87, 0.72)


def limestone() -> np.ndarray:
    """A beige house under a blue sky."""
    wall = shaded((228, 214, 186), 11, 0.35) * (1 - 0.75 * ((X * 9 % 1 < 0.3) & (Y * 5 % 1 < 0.5)))[..., None]
    return over(between((90, 140, 215), (190, 215, 240), Y), wall, (Y > 0.25).astype(np.float32))


def wood() -> np.ndarray:
    rings = 0.5 + 0.5 * np.sin(60 * (X + 0.15 * clouds(12, 3)) + 5 * clouds(13))
    return between((48, 26, 12), (205, 150, 95), 0.6 * rings + 0.4 * clouds(14))


def desert() -> np.ndarray:
    return over(between((60, 120, 200), (205, 222, 235), Y * 2), shaded((226, 178, 118), 15, 0.2), ridge(0.45, 16))


def snow_at_dusk() -> np.ndarray:
    trees = (clouds(17) > 0.62) & (Y > 0.3) & (Y < 0.6)
    snow = over(between((70, 90, 150), (170, 160, 190), Y), shaded((196, 208, 236), 18, 0.5), ridge(0.45, 19))
    return over(snow, shaded((30, 36, 50), 20), trees.astype(np.float32))


def forest() -> np.ndarray:
    leaves = between((6, 14, 4), (150, 190, 70), clouds(21) ** 1.3)
    return over(leaves, between((20, 14, 10), (95, 75, 55), clouds(22)), (X * 7 % 1 < 0.12).astype(np.float32))


def street_at_night() -> np.ndarray:
    scene = shaded((40, 42, 60), 23)
    for n in range(12):
        x, y = (0.618 * n) % 1, 0.2 + 0.5 * ((0.37 * n) % 1)
        colour = ((255, 190, 100), (255, 60, 60), (120, 220, 255))[n % 3]
        light = np.exp(-(((X - x) / 0.03) ** 2 + ((Y - y) / 0.04) ** 2))
        scene = over(scene, np.broadcast_to(np.array(colour, float), scene.shape), light)
    return scene


def candlelight() -> np.ndarray:
    near = np.exp(-(((X - 0.5) / 0.35) ** 2 + ((Y - 0.5) / 0.4) ** 2))
    flame = np.exp(-(((X - 0.5) / 0.015) ** 2 + ((Y - 0.4) / 0.06) ** 2))
    room = shaded((235, 150, 70), 24) * near[..., None]
    return over(room, np.broadcast_to(np.array((255.0, 244, 200)), room.shape), flame)


def under_water() -> np.ndarray:
    return between((4, 40, 60), (90, 205, 215), 0.6 * (1 - Y) + 0.4 * clouds(25))


def autumn() -> np.ndarray:
    leaves = between((30, 12, 4), (240, 150, 40), clouds(26))
    return over(leaves, between((120, 160, 210), (235, 238, 240), Y), (clouds(27, 3) > 0.6).astype(np.float32))


def brown_cat() -> np.ndarray:
    """Fur without anything white or black, as skimage's chelsea has it."""
    return between((25, 16, 9), (205, 182, 172), clouds(28)) + (clouds(29) - 0.5)[..., None] * (30, -6, -40)


def skin() -> np.ndarray:
    """A close view of a face: light skin, dark hair."""
    face = between((120, 78, 62), (244, 214, 196), 0.4 + 0.6 * clouds(30, 3))
    return over(face, shaded((70, 52, 44), 31, 0.1), (0.3 + 0.1 * np.cos(6 * X) > Y).astype(np.float32))


SCENES = (sunset, fog, fog_at_sunrise, limestone, wood, desert, snow_at_dusk, forest, street_at_night, candlelight)
SCENES += (under_water, autumn, brown_cat, skin)


def grained(levels: np.ndarray) -> np.ndarray:
    """With the noise of a camera, as (H, W, 3) uint8."""
    noise = np.random.default_rng(0).normal(0, 1.5, levels.shape)
    return as_uint8((levels + noise) / 255)


@cache
def clean() -> dict[str, Callable[[], np.ndarray]]:
    """All of them by name: (H, W, C) uint8 each."""
    files = {path.rpartition(".")[0]: folder / path for folder, paths in FOLDERS.items() for path in paths}
    photos = {name: lambda path=path: opened(path) for name, path in files.items()}
    return photos | {scene.__name__: lambda scene=scene: grained(scene()) for scene in SCENES} | motifs()
