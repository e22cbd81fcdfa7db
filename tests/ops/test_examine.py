"""Figures of a photo are near those of what was done to it."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from calotype.ops.examine import blocks, blur, noise
from tests.ops.repair.prints import PHOTOS, photo

SHARP = ("astronaut", "coffee", "chelsea", "rocket", "camera", "immunohistochemistry", "moon", "motorcycle")


def noisy(pixels, sigma):
    values = pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return values.clip(0, 255).round().astype(np.uint8)


def blurred(pixels, sigma):
    return cv2.GaussianBlur(pixels, (0, 0), sigma).reshape(pixels.shape)


def as_jpeg(pixels, quality):
    _, code = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)[..., ::-1]


@pytest.mark.parametrize("name", SHARP)
@pytest.mark.parametrize("sigma", [6, 12])
def test_noise_is_measured_as_it_was_added(name, sigma):
    grey = photo(name).mean(2, keepdims=True)
    assert noise(grey.astype(np.uint8)) < 5
    assert noise(noisy(grey, sigma)) == pytest.approx(sigma, rel=0.12)


@pytest.mark.parametrize("name", SHARP)
def test_blur_is_measured_as_it_was_added(name):
    pixels = photo(name)
    assert 0.4 < blur(pixels) < 1.3
    for sigma in (2, 4):
        assert np.hypot(sigma, 0.8) * 0.8 < blur(blurred(pixels, sigma)) < np.hypot(sigma, 0.8) * 1.3
    assert blur(noisy(blurred(pixels, 2), 4)) > 1.3, "noise does not hide it"


@pytest.mark.parametrize("name", [name for name in PHOTOS if name not in ("grass", "moon")])
def test_strong_jpeg_has_blocks(name):
    """The photo of the moon was one, and grass hides them."""
    pixels = photo(name)
    assert blocks(pixels) < 0.7
    found = [blocks(as_jpeg(pixels, quality)) for quality in (90, 30, 10)]
    assert found == sorted(found) and found[1] > 1


def test_blocks_are_found_in_a_photo_that_was_cut():
    assert blocks(as_jpeg(photo("astronaut"), 30)[3:, 5:]) > 1


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3]), st.sampled_from([np.uint8, np.uint16]))
def test_pictures_of_any_size_are_measured(height, width, channels, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)
    assert all(np.isfinite(figure(pixels)) and figure(pixels) >= 0 for figure in (noise, blur, blocks))


def test_16_bits_have_the_figures_of_8():
    pixels = data.astronaut()
    for figure in (noise, blur, blocks):
        assert figure(pixels.astype(np.uint16) * 257) == pytest.approx(figure(pixels), rel=0.01)
