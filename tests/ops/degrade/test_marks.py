"""Marks on prints, and details of pictures that look like them: seeded, in range, where they are drawn and nowhere
else; marks are sharper than details, by which they can be told."""

from random import Random

import numpy as np
import pytest
import torch

from calotype.ops.degrade.age import age_marks
from calotype.ops.degrade.details import DETAILS, with_details
from calotype.ops.degrade.marks import MARKS, damaged

GREY = np.full((160, 192, 3), 0.5, np.float32)
SLOPE = np.linspace(0.2, 0.8, 192, dtype=np.float32)[None, :, None].repeat(160, 0).repeat(3, 2)


def sharpness(pixels):
    """The largest step between neighbours, of the largest change."""
    return max(np.abs(np.diff(pixels.mean(2), axis=axis)).max() for axis in (0, 1)) / np.abs(pixels - 0.5).max()


@pytest.mark.parametrize("draw", [damaged, with_details])
def test_the_same_seed_draws_the_same(draw):
    kept = SLOPE.copy()
    first, again, other = (draw(SLOPE, Random(seed), 1.0) for seed in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 1
    assert np.array_equal(SLOPE, kept)


def test_marks_hide_a_small_part_and_more_of_them_more():
    shares = [
        np.mean([(damaged(GREY, Random(seed), 1.0, density) != GREY).mean() for seed in range(8)])
        for density in (0.0, 0.3, 2.0)
    ]
    assert shares[0] == 0 < shares[1] < shares[2] < 0.2


@pytest.mark.parametrize("draw", MARKS)
def test_each_kind_of_mark_is_drawn_within_the_picture(draw):
    canvas = np.zeros((400, 500), np.uint8)
    for seed in range(20):
        draw(canvas, Random(seed), 4.0)
    assert 0 < (canvas > 30).mean() < 0.4


@pytest.mark.parametrize("draw", DETAILS)
def test_each_kind_of_detail_is_drawn_within_the_picture(draw):
    canvas = np.zeros((400, 500), np.uint8)
    for seed in range(8):
        draw(canvas, Random(seed), 4.0)
    assert 0 < (canvas > 30).mean() < 0.9


def test_marks_are_sharper_than_details():
    def sharpest(draw, *more):
        drawn = [draw(GREY, Random(seed), 1.0, *more) for seed in range(24)]
        return np.mean([sharpness(pixels) for pixels in drawn if (pixels != GREY).any()])

    assert sharpest(damaged, 2.0) > 1.3 * sharpest(with_details)


def test_marks_of_age_can_be_added_alone():
    photo = torch.full((1, 3, 96, 128), 0.5)
    marked = age_marks(photo, Random(3), 0.5)
    assert marked.shape == photo.shape and 0 < ((marked - photo).abs() > 0.03).float().mean() < 0.3
    assert torch.equal(marked, age_marks(photo, Random(3), 0.5)) and (photo == 0.5).all()
    assert torch.equal(age_marks(photo, Random(3), 0.5, 0.0), photo)
