"""Faces: the alignment against numbers worked out by hand, and pasting that leaves no edge."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.faces import (
    Patch,
    align,
    bounds,
    feather,
    is_sharp,
    matched,
    paste,
    scale_of,
    scaled,
    similarity,
    template,
)


def test_the_template_at_512_is_the_published_one_and_256_is_its_half():
    assert template(512)[0] == pytest.approx((192.98138, 239.94708))
    # half the size keeps pixel centres: (192.98138 + .5) / 2 - .5
    assert template(256)[0] == pytest.approx((96.24069, 119.72354))


@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.05, 20),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
)
@settings(deadline=None)
def test_similarity_finds_the_turn_scale_and_shift_that_were_made(angle, scale, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    made = np.array([[c, -s, x], [s, c, y]])
    points = template(512)
    moved = points @ made[:, :2].T + made[:, 2]
    np.testing.assert_allclose(similarity(points, moved), made, atol=1e-6 * max(1, scale) * 500)


def test_similarity_by_hand_for_a_pure_enlargement():
    points = np.array([(0.0, 0.0), (10.0, 0.0), (5.0, 5.0), (0.0, 10.0), (10.0, 10.0)])
    np.testing.assert_allclose(similarity(points, points * 2 + (3, -1)), [[2, 0, 3], [0, 2, -1]], atol=1e-9)


def smooth_picture(height=300, width=260, channels=3, dtype=np.uint8):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [0.5 + 0.3 * np.sin(x / (17 + 3 * c)) * np.cos(y / (23 - 2 * c)) for c in range(channels)]
    return (np.stack(planes, 2) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("scale", [0.4, 0.9, 1.0, 1.7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_aligned_and_pasted_back_unchanged_is_the_picture(scale, dtype):
    pixels = smooth_picture(dtype=dtype)
    made = cv2.getRotationMatrix2D((130, 150), 12, scale)
    made[:, 2] += (128 - 130, 128 - 150)
    crop = align(pixels, made, 256).astype(np.float32) / np.iinfo(dtype).max
    back = cv2.invertAffineTransform(made)
    whole = pixels.astype(np.float32) / np.iinfo(dtype).max
    (left, top), (right, bottom) = bounds(back, 256, pixels.shape[:2])
    part = whole[top:bottom, left:right]
    pasted = paste(part, part, Patch(crop, back), (left, top))
    inner = slice(25, -25), slice(25, -25)  # away from the picture's edge, beyond which a crop shows grey
    assert np.abs(pasted - part)[inner].max() < 3 / 255


def test_a_paste_leaves_no_box_on_flat_ground():
    """Border of the pasted region against its surroundings: under 2/255, for a patch as different as can be."""
    flat = np.full((400, 400, 3), 0.5, np.float32)
    back = cv2.getRotationMatrix2D((0, 0), 10, 1.0)
    back[:, 2] += (60, 80)
    (left, top), (right, bottom) = bounds(back, 256, (400, 400))
    result = flat.copy()
    part = flat[top:bottom, left:right]
    result[top:bottom, left:right] = paste(part, part, Patch(np.ones((256, 256, 3), np.float32), back), (left, top))
    assert np.abs(np.diff(result, axis=0)).max() < 0.05 and np.abs(np.diff(result, axis=1)).max() < 0.05
    corners = np.array([(0, 0), (255, 0), (0, 255), (255, 255), (128, 0), (0, 128), (255, 128), (128, 255)], np.float64)
    for x, y in (corners @ back[:, :2].T + back[:, 2]).round().astype(int):
        assert abs(result[y, x] - 0.5).max() < 2 / 255
    centre = (np.array([128, 140]) @ back[:, :2].T + back[:, 2]).round().astype(int)
    assert result[centre[1], centre[0]].min() > 0.99


def test_strength_is_nothing_at_0_all_at_1_and_monotone_between():
    rng = np.random.default_rng(0)
    plain, enlarged = rng.random((2, 256, 256, 3), dtype=np.float32)
    patch = rng.random((256, 256, 3), dtype=np.float32)
    still = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    steps = [paste(enlarged, plain, Patch(patch, still, s), (0, 0)) for s in (0, 0.25, 0.5, 0.75, 1)]
    inside = feather(256) == 1
    np.testing.assert_array_equal(steps[0][inside], plain[inside])
    np.testing.assert_allclose(steps[-1][inside], patch[inside], atol=1e-6)
    away = [np.abs(step - plain)[inside] for step in steps]
    assert all((later >= sooner - 1e-6).all() for sooner, later in pairwise(away))


def test_the_mask_covers_the_features_and_ends_before_the_edge():
    mask = feather(512)
    assert all(mask[round(y), round(x)] == 1 for x, y in template(512))
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert edge.max() == 0


def test_matched_takes_light_from_the_crop_and_detail_from_the_network():
    x = np.arange(256, dtype=np.float32)[None].repeat(256, 0)
    detail = (0.1 * np.sin(x * 1.5))[..., None].repeat(3, 2)
    crop = np.full((256, 256, 3), (0.6, 0.5, 0.4), np.float32)
    drawn = detail + np.float32(0.2)
    result = matched(drawn, crop)
    assert np.abs(result.mean((0, 1)) - (0.6, 0.5, 0.4)).max() < 0.01
    assert np.abs((result - result.mean((0, 1))) - detail).max() < 0.02


def test_an_iris_keeps_its_colour_and_its_drawing():
    """Brown in the photo, drawn in blue: no longer blue, and as light and as sharp as it is drawn."""
    skin, brown, blue = (np.array(c, np.float32) for c in ((0.8, 0.6, 0.5), (0.42, 0.28, 0.2), (0.26, 0.33, 0.42)))
    y, x = np.mgrid[:512, :512]
    iris = ((x - 193) ** 2 + (y - 240) ** 2 < 12**2)[..., None]
    photo = cv2.GaussianBlur(np.where(iris, brown, skin), (0, 0), 4)
    drawn = np.where(iris, blue, skin)
    result = matched(drawn, photo)
    too_blue = [float(p[240, 193, 2] - p[240, 193, 0]) for p in (drawn, result, photo)]
    assert too_blue[0] > 0.15 and too_blue[2] < -0.15 and too_blue[1] < 0.02
    luma = [picture @ np.array((0.299, 0.587, 0.114), np.float32) for picture in (drawn, result)]
    assert np.abs(luma[0] - luma[1])[200:280, 150:240].max() < 0.02


def test_grey_crops_stay_grey():
    drawn = np.random.default_rng(0).random((64, 64, 1)).astype(np.float32).repeat(3, 2)
    result = matched(drawn, np.full((64, 64, 1), 0.5, np.float32))
    assert result.shape == (64, 64, 3) and np.ptp(result, axis=2).max() < 1e-6


@given(scale=st.floats(0.1, 8))
@settings(deadline=None)
def test_scaling_a_place_keeps_pixel_centres(scale):
    matrix = np.array([[1.0, 0, 5], [0, 1.0, 7]])
    into = scaled(matrix, scale, scale)
    assert scale_of(into) == pytest.approx(scale)
    # the crop's left edge, half a pixel before its first centre, lands on the enlarged picture's same edge
    edge = into[:, :2] @ (-0.5, -0.5) + into[:, 2]
    np.testing.assert_allclose(edge, (np.array([4.5, 6.5]) + 0.5) * scale - 0.5, atol=1e-9)


def test_sharp_faces_are_told_from_soft_and_noisy_ones(portrait):
    """Her portrait shrunk until it is as sharp as 256 px can be, the same blurred, the same with noise."""
    sharp = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    noisy = (sharp + np.random.default_rng(0).normal(0, 0.06, sharp.shape)).clip(0, 1).astype(np.float32)
    assert is_sharp(sharp, restored=soft) and is_sharp(sharp, restored=sharp)
    assert not is_sharp(soft, restored=sharp)
    assert not is_sharp(noisy, restored=soft)
