"""Photos that come with scikit-image, textures of prints to put on them, and motifs that repeat by themselves."""

from collections.abc import Callable

import cv2
import numpy as np
from skimage import data

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "immunohistochemistry", "retina", "moon", "grass")
PHOTOS += ("motorcycle",)
OTHERS = (
    "hubble_deep_field",
    "brick",
    "gravel",
    "coins",
    "clock",
    "page",
    "text",
    "colorwheel",
    "logo",
    "horse",
    "cell",
)


def photo(name: str) -> np.ndarray:
    """(H, W, C) uint8, at most 1000 pixels high and wide."""
    pixels = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()[:1000, :1000]
    pixels = np.uint8(255) * pixels if pixels.dtype == bool else pixels
    return np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels[..., :3])


def as_uint8(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def wave(x: np.ndarray, y: np.ndarray, frequency: float, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.cos(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y))


def raster(values: np.ndarray, x: np.ndarray, y: np.ndarray, frequency: float, degrees: float) -> np.ndarray:
    """Dots whose size is the tone."""
    threshold = 0.5 + 0.25 * (wave(x, y, frequency, degrees) + wave(x, y, frequency, degrees + 90))
    return 1 / (1 + np.exp(-12 * (values - threshold)))


def printed(values: np.ndarray, kind: str) -> np.ndarray:
    """A photo, (H, W, 3) from 0 to 1, as a print with a texture."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    if kind == "silk":
        weave = wave(x, y, 0.216, 13) * wave(x, y, 0.194, 102)
        return values + 0.06 * weave[..., None]
    if kind == "honeycomb":
        return values + 0.04 * sum(wave(x, y, 0.16, degrees) for degrees in (11, 71, 131))[..., None]
    if kind == "lines":
        return values + 0.036 * wave(x, y, 0.25, 90)[..., None]
    if kind == "halftone":
        dots = np.stack([raster(values[..., channel], x, y, 0.18, 45) for channel in range(3)], 2)
    else:
        dots = np.stack([raster(values[..., n], x, y, 0.2, degrees) for n, degrees in enumerate((15, 75, 0))], 2)
    return cv2.GaussianBlur(dots, (0, 0), 0.8)


TEXTURES = ("silk", "honeycomb", "lines", "halftone", "three rasters")


def _hazy(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 20)
    return 0.5 + 0.37 * soft / np.abs(soft).max() + rng.normal(0, 0.012, (height, width))


def _seen_aslant(values: np.ndarray) -> np.ndarray:
    height, width = values.shape
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    aslant = np.float32([[0, 0], [width, 0.25 * height], [width, 0.75 * height], [0, height]])
    matrix = cv2.getPerspectiveTransform(corners, aslant)
    return cv2.warpPerspective(np.float32(values), matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def motifs() -> dict[str, Callable[[], np.ndarray]]:
    """Things that repeat and belong to the picture: (H, W, 1) uint8 each."""
    height, width = 600, 800
    y, x = np.mgrid[:height, :width].astype(np.float32)

    def shirt() -> np.ndarray:
        stripes = 0.5 + 0.3 * np.sign(np.sin(2 * np.pi * (x + 0.0004 * (y - 400) ** 2) / 7))
        return np.where((x - 400) ** 2 / 220**2 + (y - 400) ** 2 / 250**2 < 1, stripes, _hazy(height, width))

    def blinds() -> np.ndarray:
        return 0.3 * _hazy(height, width) + 0.3 + 0.3 * np.clip(2 * np.sin(2 * np.pi * y / (11 + 0.004 * x)), -1, 1)

    def fence() -> np.ndarray:
        return np.where((x % 22 < 9) & (y > 200), 0.85, _hazy(height, width))

    def bricks() -> np.ndarray:
        joints = (y % 24 < 3) | ((x + 24 * ((y // 24) % 2)) % 48 < 3)
        return 0.2 * _hazy(height, width) + np.where(joints, 0.75, 0.4)

    flat = {"shirt": shirt, "blinds": blinds, "fence": fence, "bricks": bricks}
    aslant = {f"{name} aslant": lambda draw=draw: _seen_aslant(draw()) for name, draw in flat.items()}
    return {name: lambda draw=draw: as_uint8(draw())[..., None] for name, draw in {**flat, **aslant}.items()}
