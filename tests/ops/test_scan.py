"""Photos on a scan: each is found where it was drawn, and nothing is found where there is none."""

import random

import cv2
import numpy as np
import pytest
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st
from skimage import data

from calotype.ops import scan
from calotype.ops.scan import Scan, ScannedPhoto, cut, find_photos, measure_border, reading_order, without_border
from tests.scans import LIDS, Drawn, drawn_scan, in_grid, iou, pictures

SIZE = (1170, 830)


def check_scan(count, lid, seed):
    chance = random.Random(seed)
    drawn = in_grid(count, chance, SIZE)
    if count == 1 and abs(drawn[0].photo.angle) <= 0.5:  # as straight as that it may be a border
        reject()
    found = find_photos(drawn_scan(SIZE, LIDS[lid], drawn, noise=chance.uniform(0.3, 2), seed=seed)).photos
    assert len(found) == count
    for photo, truth in zip(found, (entry.photo for entry in drawn), strict=True):
        assert iou(photo, truth) > 0.95
        assert abs(photo.angle - truth.angle) < 0.3


A_SCAN = given(st.integers(1, 9), st.sampled_from(sorted(LIDS)), st.integers(0, 2**32 - 1))
UNSHRUNK = {"deadline": None, "phases": (Phase.explicit, Phase.reuse, Phase.generate)}


@settings(max_examples=4, **UNSHRUNK)
@A_SCAN
def test_each_photo_is_found_in_reading_order(count, lid, seed):
    check_scan(count, lid, seed)


@pytest.mark.parametrize(("count", "lid", "seed"), [(1, "grey", 57886), (2, "black", 5243), (1, "black", 129046)])
def test_a_sky_or_a_coat_of_nearly_the_colour_of_the_lid_does_not_bend_it(count, lid, seed):
    check_scan(count, lid, seed)


@pytest.mark.slow
@settings(max_examples=150, **UNSHRUNK)
@A_SCAN
def test_each_photo_is_found_on_many_scans(count, lid, seed):
    check_scan(count, lid, seed)


@pytest.mark.many(plain=6)
@pytest.mark.parametrize("lid", LIDS)
@pytest.mark.parametrize(
    "places",
    {
        "at the edge": [((150, 200), (400, 300), 0), ((640, 300), (260, 380), 0)],
        "turned beyond the edge": [((160, 210), (400, 300), 6), ((620, 950), (260, 380), -4)],
        "touching": [((200, 260), (400, 300), 3), ((541, 280), (260, 380), 3)],
        "side by side": [((210, 300), (400, 300), 0), ((520, 300), (400, 300), 0)],
    }.values(),
)
def test_photos_may_lie_anywhere(lid, places):
    drawn = [Drawn(ScannedPhoto(*place), n) for n, place in enumerate(places)]
    found = find_photos(drawn_scan(SIZE, LIDS[lid], drawn)).photos
    assert len(found) == len(drawn)
    for photo, entry in zip(found, drawn, strict=True):
        assert iou(photo, entry.photo) > 0.95
        assert abs(photo.angle - entry.photo.angle) < 0.3


def test_a_photo_whose_corner_has_the_colour_of_the_lid_is_found_whole():
    picture = data.astronaut().copy()
    picture[:100, :300] = 252
    scanned = np.full((*SIZE, 3), 252, np.uint8)
    scanned[100:612, 100:612] = picture
    (photo,) = find_photos(scanned).photos
    assert iou(photo, ScannedPhoto((356, 356), (512, 512), 0)) > 0.95


@pytest.mark.parametrize("quarters", range(4))
def test_a_photo_whose_sky_has_the_colour_of_the_lid_reaches_to_its_longer_side(quarters):
    """The skyline falls from 80 to 240 pixels below the upper side, of which nothing is left."""
    y, x = np.mgrid[:512, :512]
    picture = np.where((y < 80 + 160 * x / 512)[..., None], np.uint8(252), data.astronaut())
    scanned = np.full((1100, 800, 3), 252, np.uint8)
    scanned[40:552, 100:612] = picture
    scanned[650:950, 120:571] = data.chelsea()
    found = find_photos(np.ascontiguousarray(np.rot90(scanned, quarters))).photos
    assert len(found) == 2
    places = [ScannedPhoto((356, 336), (432, 512), 0), ScannedPhoto((345.5, 800), (300, 451), 0)]
    for place in places:
        place = _rotated(place, scanned.shape, quarters)
        assert max(iou(photo, place) for photo in found) > 0.95


@pytest.mark.parametrize(("lid", "sky"), [("white", (245, 245, 243)), ("black", (14, 14, 16))])
@pytest.mark.parametrize("angle", [0, 6])
def test_a_sky_that_hardly_differs_from_the_lid_belongs_to_the_photo(lid, sky, angle, monkeypatch):
    """By three levels in its middle, with noise of one."""
    y, x = np.mgrid[:512, :512]
    above = (y < 160 + 20 * np.sin(x / 30))[..., None]
    picture = np.where(above, np.array(sky, np.uint8), np.maximum(data.astronaut(), 40) // 3 * 2 + 20)
    monkeypatch.setattr("tests.scans.pictures", lambda: [picture.astype(np.uint8)])
    drawn = Drawn(ScannedPhoto((400, 420), (420, 500), angle))
    (photo,) = find_photos(drawn_scan((1000, 800), LIDS[lid], [drawn])).photos
    assert iou(photo, drawn.photo) > 0.97


def test_a_sky_of_the_colour_of_the_lid_is_not_invented():
    picture = data.chelsea().copy()
    picture[:100] = 252
    scanned = np.full((800, 600, 3), 252.0) + np.random.default_rng(0).normal(0, 1, (800, 600, 3))
    scanned[300:600, 80:531] = picture
    (photo,) = find_photos(np.clip(scanned, 0, 255).astype(np.uint8)).photos
    assert iou(photo, ScannedPhoto((305.5, 500), (200, 451), 0)) > 0.98


def _rotated(photo, shape, quarters):
    """A straight photo, as it lies after the scan of this shape was turned by counterclockwise quarters."""
    (x, y), (height, width), shape = photo.center, photo.size, shape[:2]
    for _ in range(quarters):
        (x, y), (height, width), shape = (y, shape[1] - x), (width, height), shape[::-1]
    return ScannedPhoto((x, y), (height, width), 0)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coins", "logo", "page"])
def test_a_picture_that_is_no_scan_has_no_photos_on_it(name):
    picture = getattr(data, name)()
    picture = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
    picture = np.ascontiguousarray(np.atleast_3d(picture)[..., :3])
    assert find_photos(picture) == scan.Scan()
    assert not measure_border(picture)


@pytest.mark.parametrize("lid", LIDS)
def test_a_scan_with_dust_and_hairs_alone_is_blank(lid):
    scanned = drawn_scan(SIZE, LIDS[lid], [], noise=2)
    chance = np.random.default_rng(0)
    for _ in range(12):
        start, end = chance.integers(0, 800, (2, 2)).tolist()
        cv2.line(scanned, start, end, (120, 120, 120), 1)
    found = find_photos(scanned)
    assert found.is_blank
    assert not found.photos


def test_the_white_border_of_a_photo_that_fills_the_scan_is_no_lid():
    framed = cv2.copyMakeBorder(data.astronaut(), 30, 60, 30, 30, cv2.BORDER_CONSTANT, value=(245, 245, 240))
    assert find_photos(framed) == scan.Scan()
    border = measure_border(framed)
    assert (border.top, border.right, border.bottom, border.left) == pytest.approx((30, 30, 60, 30), abs=3)
    assert without_border(framed, border).shape[:2] == pytest.approx((512, 512), abs=6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_straight_photo_is_cut_bit_for_bit(dtype):
    picture = (data.coffee().astype(dtype) * (np.iinfo(dtype).max // 255)) + dtype(3)
    scanned = np.full((700, 900, 3), np.iinfo(dtype).max, dtype)
    scanned[120:520, 200:800] = picture
    found = find_photos(scanned)
    pixels = cut(scanned, found.photos[0], found.lid)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, picture)


def test_a_turned_photo_comes_back_as_it_was():
    drawn = [Drawn(ScannedPhoto((420, 500), (512, 512), 9.5))]
    scanned = drawn_scan((1000, 830), LIDS["black"], drawn, noise=0)
    found = find_photos(scanned)
    pixels = cut(scanned, found.photos[0], found.lid)
    assert pixels.shape[:2] == pytest.approx((512, 512), abs=2)
    inner = pixels[20:490, 20:490].astype(float)
    assert 10 * np.log10(255**2 / np.mean((inner - pictures()[0][21:491, 21:491]) ** 2)) > 27


def test_no_lid_is_left_at_the_sides_of_a_turned_photo():
    """The outermost lines are as those beside them."""
    scanned = drawn_scan((700, 600), LIDS["white"], [Drawn(ScannedPhoto((300, 350), (400, 300), 6), 1)], noise=0)
    found = find_photos(scanned)
    pixels = cut(scanned, found.photos[0], found.lid).astype(float)
    for turns in range(4):
        lines = np.rot90(pixels, turns)
        assert np.abs(lines[0] - lines[2]).mean() < np.abs(lines[2] - lines[4]).mean() + 3


def test_16_bits_stay_16_bits_when_a_photo_is_turned():
    """A gradient of more steps than 8 bits have is still one after turning."""
    y, x = np.mgrid[:600, :600]
    scanned = (20_000 + 10 * x + 3 * y).astype(np.uint16)[..., None]
    pixels = cut(scanned, ScannedPhoto((300, 300), (300, 300), 10), (0.0,))
    assert pixels.dtype == np.uint16
    assert len(np.unique(pixels)) > 2500
    center = pixels[148:150, 148:150].mean()
    assert center == pytest.approx(scanned[299:301, 299:301].mean(), abs=2)


def test_what_lies_beyond_the_scan_has_the_colour_of_the_lid():
    scanned = np.zeros((400, 400, 3), np.uint8)
    pixels = cut(scanned, ScannedPhoto((10, 200), (100, 100), 5), (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(pixels[50, 5], [255, 128, 0])
    assert not pixels[50, -5].any()


def test_photos_are_in_rows_from_top_to_bottom():
    at = [(100, 120), (400, 90), (700, 110), (120, 400), (420, 430), (130, 720)]
    photos = [ScannedPhoto(center, (200, 180), 0) for center in at]
    assert reading_order(photos[::-1]) == photos


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("roughness", [0.02, 0.08])
def test_a_landscape_under_a_plain_sky_is_one_picture(turns, roughness):
    """The sky is smooth, as a lid is, but its edge is no straight line."""
    height, width = 600, 900
    rng = np.random.default_rng(5)
    ridge = cv2.GaussianBlur(rng.normal(0, 1, (1, width)), (0, 0), 30, borderType=cv2.BORDER_REFLECT)[0]
    ridge = height * (0.4 + 0.02 * np.linspace(-1, 1, width) + roughness * ridge / np.abs(ridge).max())
    y = np.mgrid[:height, :width][0]
    sky = np.array([150, 190, 235]) + (20 * y / height)[..., None]
    ground = cv2.resize(pictures()[2], (width, height))
    picture = np.where((y > ridge)[..., None], ground, sky) + rng.normal(0, 1, (height, width, 3))
    assert find_photos(np.rot90(picture.clip(0, 255).astype(np.uint8), turns)) == Scan()


@pytest.mark.parametrize("side", range(4))
def test_a_photo_with_lid_beside_one_side_alone_is_found(side):
    center = [(600, 630), (420, 450), (600, 270), (780, 450)][side]
    photo = ScannedPhoto(center, (960, 1260), 1.5)
    (found,) = find_photos(drawn_scan((900, 1200), LIDS["white"], [Drawn(photo, 1)])).photos
    assert found.angle == pytest.approx(1.5, abs=0.1)
