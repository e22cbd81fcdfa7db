"""Marks are followed along their lines: where they go on faintly, and no further."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.ops.repair.trace import traced

SIDE, SIGMA = 240, 6.0
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)


def grainy(seed=0):
    """(SIDE, SIDE) levels of a print with grain."""
    return 120 + 20 * np.sin(X / 60) + np.random.default_rng(seed).normal(0, SIGMA, X.shape)


def scratched(contrast, middle, width=1.5):
    """A print with a line across it, as (H, W, 1) uint8, and where it is."""
    line = np.abs(X - middle) < width
    return (grainy() + contrast * line).round().clip(0, 255).astype(np.uint8)[..., None], line


def unsure(value=8):
    """A network's probability, of 255, that speaks neither for a mark nor against it."""
    return np.full((SIDE, SIDE), value, np.uint8)


@pytest.mark.parametrize("contrast", [2 * SIGMA, -2 * SIGMA])
@pytest.mark.parametrize("middle", [120 + 0 * Y, 60 + 0.4 * Y, 110 + 8 * np.sin(Y / 40)])
def test_a_scratch_is_followed_where_it_is_hardly_above_the_grain(contrast, middle):
    pixels, line = scratched(contrast, middle)
    mask = line & (Y < 90)
    found = traced(pixels, unsure(), mask)
    ahead = line & (Y > 90) & (Y < 200)
    near = np.abs(X - middle) < 4
    assert found[ahead].mean() > 0.2 and (found & near).any(1)[95:200].mean() > 0.9
    assert (found & ~near).sum() <= 0.02 * found.sum() and (found & mask).sum() == mask.sum()


def test_grain_alone_is_not_followed():
    pixels, line = scratched(2 * SIGMA, 120 + 0 * Y)
    pixels[90:] = grainy(1)[90:, :, None].round()
    mask = line & (Y < 90)
    found = traced(pixels, unsure(), mask)
    assert not found[100:].any()


def test_an_edge_is_no_line():
    """A mark that ends at the border of something lighter doesn't go on along it."""
    levels = grainy() + 80 * (X > 121)
    levels[:90] = grainy()[:90] + 40 * (np.abs(X - 120) < 1.5)[:90]
    found = traced(
        levels.round().clip(0, 255).astype(np.uint8)[..., None], unsure(), (np.abs(X - 120) < 1.5) & (Y < 90)
    )
    assert not found[100:].any()


def test_what_the_network_takes_for_likely_is_followed_sooner():
    pixels, line = scratched(0.9 * SIGMA, 120 + 0 * Y)
    mask = line & (Y < 90)
    likely = np.where(line, 60, 8).astype(np.uint8)
    against, alone, together = (traced(pixels, of, mask)[100:180].any(1).mean() for of in (unsure(0), unsure(), likely))
    assert against == 0 and alone < 0.5 and together > 0.9


def test_specks_and_blobs_stay_as_they_are():
    pixels, _ = scratched(0, 120 + 0 * Y)
    mask = np.hypot(X - 60, Y - 60) < 4
    mask |= (np.abs(X - 160) < 12) & (np.abs(Y - 150) < 15)
    assert np.array_equal(traced(pixels, unsure(), mask), mask)


def test_16_bits_are_followed_as_8_are():
    pixels, line = scratched(2 * SIGMA, 60 + 0.4 * Y)
    mask = line & (Y < 90)
    wide = pixels.astype(np.uint16) * 257
    assert np.array_equal(traced(wide, unsure(), mask), traced(pixels, unsure(), mask))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_any_mask_only_grows(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels, probability = rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 256, (height, width))
    mask = rng.random((height, width)) < 0.3
    found = traced(pixels, probability.astype(np.uint8), mask)
    assert found.shape == mask.shape and found[mask].all()
