"""Patches to learn from are whole squares of a photo, in any direction."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.training.repair import pairs
from calotype.training.repair.pairs import random_patch

SIDE = 32


def ramps(height, width):
    """Red is the column, green the row, so that a patch tells where it is from; blue is plain."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 9)], -1).astype(np.uint8)


@pytest.fixture(autouse=True)
def as_lit():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "TONED", 0.0)
        yield patch


@given(st.integers(64, 250), st.integers(64, 250), st.integers(0, 10_000))
def test_a_patch_is_a_square_of_the_photo_and_shows_nothing_from_beyond_its_edges(height, width, seed):
    patch = random_patch(ramps(height, width), SIDE, random.Random(seed))
    assert patch.shape == (SIDE, SIDE, 3) and patch.dtype == np.float32 and patch.flags.c_contiguous
    rows, columns = np.mgrid[:SIDE, :SIDE]
    terms = np.stack([rows.ravel(), columns.ravel(), np.ones(SIDE * SIDE)], 1)
    places = 255 * patch[..., :2].reshape(-1, 2)
    slopes, *_ = np.linalg.lstsq(terms, places, rcond=None)
    inside = np.abs(places - terms @ slopes).reshape(SIDE, SIDE, 2)[2:-2, 2:-2]  # resampling bends the outermost
    assert inside.max() < 1.5
    (a, b), (c, d) = slopes[:2]
    assert a * a + b * b == pytest.approx(c * c + d * d, rel=0.05)  # pixels stay square
    assert abs(a * c + b * d) < 0.05 * (a * a + b * b)


def test_other_light_changes_the_tones_of_a_patch_and_stays_in_range(as_lit):
    usual = random_patch(ramps(200, 240), SIDE, random.Random(3))
    as_lit.setattr(pairs, "TONED", 1.0)
    toned = random_patch(ramps(200, 240), SIDE, random.Random(3))
    assert toned.dtype == np.float32 and toned.min() >= 0 and toned.max() <= 1
    assert np.abs(toned - usual).mean() > 0.01
    for channel in range(2):
        order = usual[..., channel].ravel().argsort(kind="stable")
        assert (np.diff(toned[..., channel].ravel()[order]) >= -1e-6).all()  # lighter stays lighter


def test_about_half_of_the_patches_are_tilted():
    def is_tilted(seed):
        patch = random_patch(ramps(200, 240), SIDE, random.Random(seed))
        return min(np.ptp(patch[SIDE // 2, 4:-4, 0]), np.ptp(patch[SIDE // 2, 4:-4, 1])) > 1.5 / 255

    assert 0.35 < np.mean([is_tilted(seed) for seed in range(200)]) < 0.6
