"""Texture of prints: it is taken out, clean photos and motifs that repeat are left alone."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.repair.texture import ASKED_THRESHOLD, measure_texture, remove_texture
from tests.ops.repair.prints import OTHERS, PHOTOS, TEXTURES, as_uint8, motifs, photo, printed


def error(pixels, clean):
    """Root mean square, levels of 255."""
    return np.sqrt(np.mean((pixels.astype(float) - clean) ** 2))


def as_jpeg(pixels, quality):
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return np.ascontiguousarray(found[..., None] if found.ndim == 2 else found[..., ::-1])


def resized(pixels, factor, how):
    found = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how)
    return found if found.ndim == 3 else found[..., None]


def test_texture_is_taken_out_of_prints():
    """The error to the clean photo is halved at least. Grass itself hides the faint honeycomb."""
    worse = []
    for name in PHOTOS:
        clean = photo(name)
        clean = clean if clean.shape[2] == 3 else clean.repeat(3, 2)
        for kind in TEXTURES:
            scan = as_uint8(printed(clean / np.float32(255), kind))
            repaired = remove_texture(scan, measure_texture(scan))
            if error(repaired, clean) > 0.5 * error(scan, clean):
                worse.append((name, kind))
    assert set(worse) <= {("grass", "honeycomb")}


@pytest.mark.parametrize("name", [*PHOTOS, *OTHERS])
def test_a_photo_without_texture_stays_as_it_is(name):
    pixels = photo(name)
    versions = [pixels, as_jpeg(pixels, 10), as_jpeg(pixels, 40), resized(pixels, 3, cv2.INTER_CUBIC)]
    versions += [resized(pixels, 0.6, cv2.INTER_AREA)]
    for version in versions:
        texture = measure_texture(version)
        assert texture.gain is None, texture.excess
        assert remove_texture(version, texture) is version


@pytest.mark.parametrize("name", motifs())
def test_a_motif_that_repeats_stays_as_it_is(name):
    pixels = motifs()[name]()
    for factor, how in ((1, cv2.INTER_AREA), (0.7, cv2.INTER_AREA), (2.5, cv2.INTER_CUBIC)):
        assert measure_texture(resized(pixels, factor, how)).gain is None


def test_coarse_texture_of_a_fine_scan_is_found_in_a_smaller_copy():
    clean = cv2.resize(photo("astronaut"), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[: clean.shape[0], : clean.shape[1]]
    weave = np.sin(2 * np.pi * (0.07 * x + 0.015 * y)) * np.sin(2 * np.pi * (0.065 * y - 0.01 * x))
    scan = as_uint8(clean / 255 + 0.05 * weave[..., None])
    texture = measure_texture(scan)
    assert texture.reduction == 2
    assert error(remove_texture(scan, texture), clean) < 0.5 * error(scan, clean)


def test_16_bits_are_repaired_as_8_are():
    scan = as_uint8(printed(photo("astronaut") / np.float32(255), "silk"))
    narrow, wide = (remove_texture(pixels, measure_texture(pixels)) for pixels in (scan, scan.astype(np.uint16) * 257))
    assert wide.dtype == np.uint16 and np.abs(wide / 257 - narrow).max() < 0.51


def test_a_fainter_texture_is_taken_out_where_it_is_asked_for():
    scan = as_uint8(
        photo("grass").repeat(3, 2) / 255 + 0.02 * printed(np.zeros((512, 512, 3), np.float32), "honeycomb") / 0.04
    )
    assert measure_texture(scan).gain is None
    assert measure_texture(scan, ASKED_THRESHOLD).gain is not None


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.integers(0, 9))
@settings(deadline=None)  # the first call is slow on a busy machine
def test_a_picture_of_any_size_keeps_its_size(height, width, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    pixels[:, ::3] //= 2
    texture = measure_texture(pixels, 0.5)
    repaired = remove_texture(pixels, texture)
    assert repaired.shape == pixels.shape and repaired.dtype == pixels.dtype
