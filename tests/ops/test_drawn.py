"""Drawings are told from photos; in doubt it is a photo."""

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from calotype.ops.drawn import is_drawn

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "page")
COLOURS = [(20, 20, 20), (230, 60, 50), (60, 120, 210), (250, 210, 90), (90, 180, 100), (240, 200, 180)]


def drawing(size: int = 400, shapes: int = 25, seed: int = 3) -> np.ndarray:
    """Outlined shapes in flat colours, antialiased."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), 255, np.uint8)
    for _ in range(shapes):
        middle, axes = rng.integers(0, size, 2), rng.integers(size // 20, size // 4, 2)
        place = (tuple(map(int, middle)), tuple(map(int, axes)), float(rng.integers(0, 180)), 0, 360)
        cv2.ellipse(pixels, *place, COLOURS[int(rng.integers(1, len(COLOURS)))], -1, cv2.LINE_AA)
        cv2.ellipse(pixels, *place, COLOURS[0], 3, cv2.LINE_AA)
    return pixels


def jpeg(pixels: np.ndarray, quality: int = 85) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def sepia(pixels: np.ndarray) -> np.ndarray:
    """A faded brown print."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None] / 255
    return ((np.array([0.35, 0.28, 0.2]) + grey * np.array([0.5, 0.45, 0.35])) * 255).astype(np.uint8)


@pytest.fixture(scope="module", params=PHOTOS)
def photo(request) -> np.ndarray:
    pixels = getattr(data, request.param)()
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, 2)


@pytest.mark.parametrize("change", [lambda x: x, jpeg, sepia, lambda x: cv2.GaussianBlur(x, (0, 0), 3)])
def test_a_photo_is_no_drawing(photo, change):
    assert not is_drawn(change(photo))


def test_neither_is_a_grey_one_nor_one_of_16_bits(photo):
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    assert not is_drawn(grey) and not is_drawn(photo.astype(np.uint16) * 257)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [lambda x: x, jpeg, lambda x: x.astype(np.uint16) * 257])
def test_flat_colours_and_outlines_are_a_drawing(seed, change):
    assert is_drawn(change(drawing(seed=seed)))


def test_a_large_drawing_is_one_and_a_grey_one_too():
    large = np.asarray(Image.fromarray(drawing()).resize((1600, 1600), Image.Resampling.LANCZOS))
    assert is_drawn(large)
    assert is_drawn(cv2.cvtColor(drawing(), cv2.COLOR_RGB2GRAY)[..., None])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 1), (5, 2, 3), (64, 64, 3)])
def test_nothing_to_tell_it_by_is_no_drawing(shape):
    for value in (0, 255):
        assert not is_drawn(np.full(shape, value, np.uint8))
