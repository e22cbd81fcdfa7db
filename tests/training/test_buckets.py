"""Buckets as kohya's trainer makes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.training.buckets import fit, fit_unscaled, sizes

KOHYA = {
    *((256, side) for side in (832, 896, 960, 1024)),
    *((320, side) for side in (704, 768)),
    *((384, 640), (448, 576), (512, 512)),
}
SIDES = st.integers(16, 8000)


def test_the_17_buckets_of_512():
    assert set(sizes((512, 512), 256, 1024, 64)) == KOHYA | {(height, width) for width, height in KOHYA}
    assert len(sizes((512, 512))) == 17


@given(st.integers(4, 24), st.sampled_from([8, 32, 64]))
def test_no_bucket_is_larger_than_the_area(side, step):
    resolution = (side * 64, side * 64)
    found = sizes(resolution, 128, 2048, step)
    assert found and all(w * h <= resolution[0] * resolution[1] and w % step == h % step == 0 for w, h in found)
    assert {(h, w) for w, h in found} == set(found)


@given(SIDES, SIDES)
def test_a_picture_covers_its_bucket_and_touches_it(width, height):
    found = fit((width, height), sizes((512, 512)))
    over = [scaled - wanted for scaled, wanted in zip(found.scaled, found.bucket, strict=True)]
    assert min(over) == 0 and max(over) >= 0
    near = min(abs(w / h - width / height) for w, h in sizes((512, 512)))
    assert abs(found.bucket[0] / found.bucket[1] - width / height) == pytest.approx(near)


@given(SIDES, SIDES)
def test_without_upscaling_nothing_grows(width, height):
    found = fit_unscaled((width, height), (512, 512))
    assert all(side % 64 == 0 for side in found.bucket)
    if width * height <= 512 * 512 and min(width, height) >= 64:
        assert found.scaled == (width, height) and found.bucket == (width // 64 * 64, height // 64 * 64)
    if min(found.bucket) > 64:
        assert all(scaled >= wanted for scaled, wanted in zip(found.scaled, found.bucket, strict=True))


def test_known_fits():
    assert fit((512, 512), sizes((512, 512))).bucket == (512, 512)
    assert fit((1920, 1080), sizes((512, 512))).bucket == (704, 320) or fit((1920, 1080), sizes((512, 512))).bucket == (
        640,
        384,
    )
    assert fit((3000, 4000), sizes((512, 512))).bucket == (448, 576)
