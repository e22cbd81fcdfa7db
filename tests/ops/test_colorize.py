"""Colour on grey: lightness stays bit for bit, colour stays within its outline and follows the reference."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from calotype.ops.colorize import (
    Given,
    Look,
    chroma_of,
    colour_at_full_size,
    coloured,
    from_reference,
    grey_values,
    guide,
    has_colours,
    is_in_colour,
    propagate,
    reduced,
    strokes,
)

SEPIA = (1.05, 0.95, 0.76)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]), st.floats(0.01, 2))
def test_every_colour_has_the_grey_value_it_is_made_for(seed, dtype, most):
    chance = np.random.default_rng(seed)
    grey = chance.integers(0, np.iinfo(dtype).max, (40, 50), dtype, endpoint=True)
    pixels = coloured(grey, chance.uniform(-most, most, (40, 50, 2)).astype(np.float32))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(grey_values(pixels), grey)


def test_grey_is_kept_without_chroma():
    grey = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(coloured(grey, np.zeros((1, 256, 2), np.float32)), np.repeat(grey[..., None], 3, 2))


def test_a_colour_comes_back_from_its_grey_value_and_its_chroma():
    pixels = data.astronaut()
    again = coloured(grey_values(pixels), chroma_of(pixels))
    assert np.abs(again.astype(int) - pixels).max() <= 3


def test_too_much_chroma_keeps_its_hue():
    (red, green, blue) = coloured(np.full((1, 1), 230, np.uint8), np.full((1, 1, 2), [-0.8, 0.1], np.float32))[0, 0]
    assert blue < green
    assert blue < red


def step(side=120):
    """Two flat halves, dark and light, with grain."""
    grey = np.full((side, side), 0.3, np.float32)
    grey[:, side // 2 :] = 0.7
    return grey + np.random.default_rng(0).normal(0, 0.004, grey.shape).astype(np.float32)


def test_colour_fills_its_area_and_stops_at_the_edge():
    grey = step()
    chroma, weight = np.zeros((120, 120, 2), np.float32), np.zeros((120, 120), np.float32)
    chroma[50:60, 20:25], weight[50:60, 20:25] = (0.2, -0.1), 10
    out = propagate(grey, Given(chroma, weight), np.zeros_like(chroma))
    assert np.linalg.norm(out[:, :58] - (0.2, -0.1), axis=2).mean() < 0.03
    assert np.abs(out[:, 62:]).mean() < 0.01


def test_what_nobody_coloured_keeps_its_own_tone():
    own = np.full((120, 120, 2), (-0.05, 0.04), np.float32)
    given_ = Given(np.zeros_like(own), np.zeros((120, 120), np.float32))
    np.testing.assert_allclose(propagate(step(), given_, own), own, atol=1e-3)


def test_full_size_follows_edges_that_the_reduced_copy_has_not():
    """An edge between two pixels of a copy eight times smaller is as sharp as in the photo."""
    grey = np.full((800, 800), 80, np.uint8)
    grey[:, 403:] = 180
    small = reduced(grey, 10_000).astype(np.float32) / 255
    chroma = np.zeros((*small.shape, 2), np.float32)
    chroma[:, : small.shape[1] // 2] = (0.2, -0.1)
    found = chroma_of(colour_at_full_size(grey, guide(small, chroma)))[400]
    assert np.linalg.norm(found[398] - (0.2, -0.1)) < 0.06
    assert np.linalg.norm(found[408]) < 0.06


def test_strokes_are_read_from_a_layer_and_from_the_photo_itself():
    photo = np.repeat(data.camera()[..., None], 3, 2)
    painted, alpha = photo.copy(), np.zeros(photo.shape[:2], np.uint8)
    for picture in (painted, alpha):
        cv2.line(picture, (100, 100), (200, 100), (200, 60, 30) if picture is painted else 255, 6)
    layer = np.where(alpha[..., None] > 0, painted, 0).astype(np.uint8)
    for found in (strokes(layer, alpha, photo), strokes(painted, None, photo)):
        assert found.weight[100, 150] > 0
        assert found.weight[300, 150] == 0
        np.testing.assert_allclose(found.chroma[100, 150], chroma_of(np.uint8([200, 60, 30])), atol=0.02)


@pytest.mark.parametrize("value", [0, 128])
def test_strokes_without_colour_are_none(value):
    photo = np.repeat(data.camera()[..., None], 3, 2)
    layer, alpha = np.full_like(photo, value), np.zeros(photo.shape[:2], np.uint8)
    alpha[100:120] = 255
    assert strokes(layer, alpha, photo) is None
    assert strokes(photo, None, photo) is None


def test_a_toned_photo_is_not_in_colour():
    grey = data.camera()
    toned = np.clip(grey[..., None] * np.array(SEPIA), 0, 255).astype(np.uint8)
    noisy = np.clip(toned + np.random.default_rng(0).normal(0, 4, toned.shape), 0, 255).astype(np.uint8)
    for pixels in (grey[..., None], np.repeat(grey[..., None], 3, 2), toned, noisy):
        assert not is_in_colour(pixels)
    assert not has_colours(np.repeat(grey[..., None], 3, 2))
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        assert is_in_colour(getattr(data, name)())
        assert has_colours(getattr(data, name)())


def test_a_reference_gives_the_colours_of_places_that_look_alike():
    """Mirrored, the colours of the astronaut come back on her grey photo: her suit is orange again."""
    picture = data.astronaut()
    other = np.ascontiguousarray(picture[:, ::-1])
    faces = ([(190, 70, 75, 100)], [(247, 70, 75, 100)])
    looks = [Look(grey_values(p).astype(np.float32) / 255, f) for p, f in zip((picture, other), faces, strict=True)]
    given_ = from_reference(*looks, chroma_of(other))
    out = propagate(looks[0].grey, given_, np.zeros((512, 512, 2), np.float32), 1e-7)
    wanted = chroma_of(picture)
    assert np.abs(out - wanted).mean() < 0.4 * np.abs(wanted).mean()
    suit = np.s_[260:320, 80:180]
    np.testing.assert_allclose(np.median(out[suit], (0, 1)), np.median(wanted[suit], (0, 1)), atol=0.08)


@pytest.mark.slow
def test_12_megapixels_are_coloured_within_a_minute():
    grey = cv2.resize(data.camera(), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    begun = time.monotonic()
    small = reduced(grey).astype(np.float32) / 255
    chroma, weight = np.zeros((*small.shape, 2), np.float32), np.zeros(small.shape, np.float32)
    chroma[100:110, 100:110], weight[100:110, 100:110] = 0.2, 10
    pixels = colour_at_full_size(grey, guide(small, propagate(small, Given(chroma, weight), np.zeros_like(chroma))))
    assert time.monotonic() - begun < 60
    np.testing.assert_array_equal(grey_values(pixels), grey)
