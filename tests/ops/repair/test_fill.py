"""Holes are filled window by window: what is around them goes on in them, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.ops.repair.fill import WINDOW, fill_window, masked_windows, navier_stokes, windows
from tests.ops.repair.prints import photo


def filled(pixels, mask):
    out = pixels.copy()
    for window in masked_windows(mask):
        fill_window(out, pixels, mask, window, navier_stokes)
    return out


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
