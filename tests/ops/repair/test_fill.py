"""Holes are filled window by window: what is around them goes on in them, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.ops.repair import fill
from calotype.ops.repair.fill import CONTEXT, WINDOW, masked_windows, navier_stokes, windows
from tests.ops.repair.prints import photo


def filled(pixels, mask):
    return fill.filled(pixels, mask, navier_stokes)


def scratched(shape):
    mask = np.zeros(shape, bool)
    for n in range(shape[0] // 3, 2 * shape[0] // 3):
        mask[n, n // 2 : n // 2 + 4] = True
    return mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_hidden_comes_back_nearly(dtype):
    clean = photo("astronaut").astype(dtype) * (257 if dtype == np.uint16 else 1)
    mask = scratched(clean.shape[:2])
    damaged = clean.copy()
    damaged[mask] = np.iinfo(dtype).max
    repaired = filled(damaged, mask)
    before, after = (np.abs(x[mask].astype(float) - clean[mask]).mean() for x in (damaged, repaired))
    assert repaired.dtype == dtype and after < 0.1 * before
    assert np.array_equal(repaired[~mask], clean[~mask])


def test_windows_leave_no_seam():
    """A large ramp with a scratch from corner to corner goes on as a ramp."""
    side = 2 * WINDOW + 40
    ramp = np.tile((np.arange(side) * 255 // side).astype(np.uint8)[:, None, None], (1, side, 1))
    mask = np.zeros((side, side), bool)
    for n in range(side):
        mask[n, max(0, n - 2) : n + 2] = True
    damaged = ramp.copy()
    damaged[mask] = 0
    assert np.abs(filled(damaged, mask).astype(int) - ramp).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_hole_that_is_wider_than_a_window_and_what_is_around_it_is_filled(dtype):
    side, edge = WINDOW + 2 * CONTEXT + 120, 40
    height, width = side + 2 * edge + 1, side + 2 * edge
    ramp = np.linspace(60, 200, width)[None, :, None] + np.linspace(-40, 40, height)[:, None, None]
    clean = (ramp * np.iinfo(dtype).max / 255).round().astype(dtype)
    mask = np.zeros((height, width), bool)
    mask[edge : edge + side, edge : edge + side] = True
    damaged = clean.copy()
    damaged[mask] = np.iinfo(dtype).max
    repaired = filled(damaged, mask)
    error = np.abs(repaired.astype(float) - clean)[mask] / np.iinfo(dtype).max
    assert repaired.dtype == dtype and error.max() < 0.15 and error.mean() < 0.06
    assert np.array_equal(repaired[~mask], clean[~mask])


def test_holes_that_are_narrow_are_filled_at_full_size():
    """Nothing of a scratch or tear is taken from a smaller copy."""
    pixels, mask = photo("astronaut"), np.zeros(photo("astronaut").shape[:2], bool)
    mask[50:70, 20:140] = True
    same, left = fill.with_wide_gaps_filled(pixels, mask, navier_stokes)
    assert same is pixels and left is mask


def test_wide_holes_are_filled_each_by_what_is_around_it():
    """And a narrow one between them at full size."""
    pixels, mask = np.full((400, 700, 1), 40, np.uint8), np.zeros((400, 700), bool)
    pixels[:, 350:] = 220
    mask[150:250, 100:200] = mask[150:250, 500:600] = mask[20:24, 300:400] = True
    damaged = np.where(mask[..., None], 0, pixels).astype(np.uint8)
    coarse, left = fill.with_wide_gaps_filled(damaged, mask, navier_stokes)
    assert np.array_equal(coarse[200, [150, 550], 0], [40, 220]) and not left[200, 150] and left[22, 350]
    is_flat = mask.copy()
    is_flat[:100] = False  # the narrow one lies on the edge
    assert np.array_equal(filled(damaged, mask)[is_flat], pixels[is_flat])


@given(st.integers(1, 700), st.integers(1, 700))
def test_windows_cover_a_picture_once(height, width):
    count = np.zeros((height, width), int)
    for window in windows((height, width)):
        count[window.inner] += 1
        inside = np.zeros((height, width), int)[window.outer][window.inner_of_outer]
        assert inside.shape == count[window.inner].shape
    assert (count == 1).all()


def test_a_picture_that_is_nothing_but_a_hole_stays():
    pixels = np.full((20, 30, 3), 7, np.uint8)
    assert np.array_equal(filled(pixels, np.ones((20, 30), bool)), pixels)
    assert not masked_windows(np.zeros((20, 30), bool))
