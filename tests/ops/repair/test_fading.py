"""Faded prints are set right; photos in good colours, brown motifs, sepia and tinted prints are left."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calotype.ops.repair.fading import Fading, measure_fading, measure_skin, remove_fading, suited_to_skin
from calotype.picture.metadata.icc import SRGB_CURVE, SRGB_PRIMARIES, Curve, grey_profile, light_of, rgb_profile, srgb
from tests.ops.repair.fades import FADES, LIGHT, aged, cast, sepia, tinted
from tests.ops.repair.scenes import clean, opened
from tests.pages import ROOT

COLOURED = ("astronaut", "chelsea", "coffee", "ihc", "motorcycle_left", "hubble_deep_field", "retina", "rocket")
COLOURED += ("cheetah", "cheetah1", "groot", "lion", "tower")
FOUND = ("faded", "yellowed")


def reduced(pixels, side=300):
    factor = side / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).reshape(
        round(pixels.shape[0] * factor), round(pixels.shape[1] * factor), -1
    )


def measured(pixels):
    return measure_fading(pixels, LIGHT[: pixels.shape[2]])


def repaired(pixels, strength=1.0):
    return remove_fading(pixels, measured(pixels), LIGHT[: pixels.shape[2]], strength)


def error(pixels, clean):
    return np.sqrt(np.mean((pixels.astype(float) - clean) ** 2))


def tint(pixels, mask):
    """How far what is grey in the clean photo is from grey: chroma in Lab."""
    lab = cv2.cvtColor(np.float32(pixels / 255), cv2.COLOR_RGB2LAB)
    return np.hypot(*lab[mask][:, 1:].mean(0))


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (0, 200, 0)])
def test_what_alpha_hides_says_nothing_about_fading(hidden):
    """A cutout: only the middle is visible, and what lies under the rest is not seen by anybody."""
    truth = reduced(clean()["coffee"]())
    height, width = truth.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    is_visible = np.hypot((rows - height / 2) / height, (columns - width / 2) / width) < 0.4
    alpha = np.where(is_visible, 255, 0).astype(np.uint8)
    for pixels in (truth, *(fade(truth) for fade in FADES.values())):
        cutout = np.where(is_visible[..., None], pixels, np.array(hidden, np.uint8))
        found = measure_fading(cutout, LIGHT, alpha)
        other = measure_fading(np.where(is_visible[..., None], pixels, 128), LIGHT, alpha)
        assert found.kind == other.kind and np.array_equal(found.black, other.black)
        assert np.array_equal(found.white, other.white)
    assert measure_fading(truth, LIGHT, np.zeros_like(alpha)).kind == measured(truth).kind


@pytest.mark.parametrize("name", FADES)
def test_faded_prints_are_found_and_set_right(name):
    """Three quarters at least by each kind of fading, and four fifths of all: 85 % when measured."""
    found, errors, before, after = 0, [], [], []
    for photo in COLOURED:
        truth = reduced(clean()[photo]())
        faded = FADES[name](truth)
        if measured(faded).kind not in FOUND:
            continue
        found += 1
        result = repaired(faded)
        errors.append(error(result, truth) / error(faded, truth))
        is_grey = np.ptp(truth, 2) < 12
        if is_grey.sum() > 50:
            before.append(tint(faded, is_grey))
            after.append(tint(result, is_grey))
    assert found >= 0.75 * len(COLOURED), found
    assert np.median(errors) < (0.85 if name == "warm cast" else 0.5)
    assert np.median(after) < 0.35 * np.median(before)


def test_most_faded_prints_are_found():
    kinds = [measured(fade(reduced(clean()[photo]()))).kind for photo in COLOURED for fade in FADES.values()]
    assert np.mean([kind in FOUND for kind in kinds]) >= 0.8


def test_aged_prints_are_found_by_black_white_and_pale_colours_together():
    """Their colours come out stronger: neutral alone, they would be nearly as far from the truth as the print."""
    errors, neutral = [], []
    for name in COLOURED:
        truth = reduced(clean()[name]())
        faded = aged(1.0)(truth)
        fading = measured(faded)
        if fading.kind in FOUND:
            for each, ratios in ((fading, errors), (replace(fading, kept=0.0, saturation=1.0), neutral)):
                ratios.append(error(remove_fading(faded, each, LIGHT), truth) / error(faded, truth))
    assert len(errors) >= 6 and np.median(errors) < min(0.9, 0.95 * np.median(neutral))


@pytest.mark.parametrize("name", ["astronaut", "camera", "tower"])
def test_a_sepia_print_with_stains_and_grain_keeps_its_tint(name):
    assert measured(aged(1.0)(sepia(clean()[name]()))).kind == "toned"


@pytest.mark.parametrize("name", ["astronaut", "coffee", "tower"])
def test_a_lifted_black_beside_full_white_is_haze(name):
    haze = cast((1, 1, 1), (0.02, 0.028, 0.017))
    assert measured(haze(clean()[name]())).kind == "unclear"


def test_dyes_are_undone_as_dyes_in_a_rather_dark_photo_too():
    truth = reduced(clean()["groot"]())
    faded = FADES["all lost, yellowed"](truth)
    assert measured(faded).exponent == 1 / 3 and error(repaired(faded), truth) < 0.6 * error(faded, truth)


LANDMARKS = np.array([(202.0, 103), (245, 104), (223, 126), (204, 144), (242, 144)])  # of the astronaut


def test_skin_keeps_a_little_yellow_and_gets_colour_where_it_would_be_grey():
    """In the photo that ships, the upper left of the astronaut's."""
    faded, truth = opened(ROOT / "examples" / "collins.jpg"), clean()["astronaut"]()[:480, 36:420]
    landmarks = LANDMARKS - (36, 0)
    skin, grey = measure_skin(faded, LIGHT, landmarks), replace(measured(faded), kept=0.0, saturation=1.0)
    fading = suited_to_skin(grey, skin[None])
    assert 0 < fading.kept <= 0.3 and 1 < fading.saturation <= 1.5
    neutral, warm = (remove_fading(faded, each, LIGHT) for each in (grey, fading))
    cold, restored = (measure_skin(pixels, LIGHT, landmarks) for pixels in (neutral, warm))
    assert np.ptp(cold) < 8 and np.ptp(restored) > 12 and restored.argsort().tolist() == [2, 1, 0]
    assert error(warm, truth) < 0.95 * error(neutral, truth)


def test_skin_that_comes_out_as_skin_changes_nothing():
    faded = FADES["all lost, yellowed"](clean()["astronaut"]())
    skin = measure_skin(faded, LIGHT, LANDMARKS)
    for skins in (skin[None], np.empty((0, 3))):
        fading = suited_to_skin(measured(faded), skins)
        assert fading.kept == 0 and fading.saturation == 1


def test_an_aged_print_whose_skin_comes_out_as_skin_keeps_its_yellow_and_gets_all_colour():
    faded = opened(ROOT / "examples" / "collins.jpg")
    aged_print = measured(faded)
    assert aged_print.kept == pytest.approx(0.3) and aged_print.saturation == 1.5
    skin = measure_skin(faded, LIGHT, LANDMARKS - (36, 0)) + np.array([20, 0, -10])  # redder: inside SKIN
    fading = suited_to_skin(aged_print, skin[None])
    assert fading.kept == pytest.approx(0.3) and fading.saturation == 1.5


@pytest.mark.filterwarnings("error")
def test_a_black_picture_stays_black():
    black = np.zeros((64, 80, 3), np.uint8)
    assert not remove_fading(black, measured(black), LIGHT).any()


def test_skin_is_measured_where_a_face_reaches_beyond_the_picture():
    pixels = np.full((40, 30, 3), (200, 150, 120), np.uint8)
    landmarks = np.array([(-40.0, -30), (60, -30), (10, 0), (-30, 90), (50, 90)])
    assert np.abs(measure_skin(pixels, LIGHT, landmarks) - (200, 150, 120)).max() < 1e-6


def test_the_tint_of_a_black_that_is_dark_tints_no_shadows():
    """Made neutral, 6 of 255 in red would take a fifth of the red out of shadows: hair would become green."""
    fading = Fading("yellowed", np.array([6.0, 0, 0]), np.array([234.0, 220, 210]))
    shadow = remove_fading(np.full((1, 1, 3), (60, 55, 40), np.uint8), fading, LIGHT)[0, 0]
    assert shadow[0] >= shadow[1] > shadow[2]


def test_a_brown_motif_is_no_yellowed_paper():
    """Its white is darker than that of paper; made neutral, it had twice the error."""
    for name in ("chelsea", "cheetah"):
        faded = aged(1.0)(reduced(clean()[name]()))
        assert measured(faded).kind == "unclear" and measured(faded).white.max() < 195


@pytest.mark.parametrize("name", ["astronaut", "camera", "motorcycle_left", "lion"])
def test_sepia_and_tinted_prints_are_told_from_faded_ones(name):
    photo = clean()[name]()
    for version in (
        sepia(photo),
        sepia(photo, (60, 42, 30), (235, 215, 180)),
        sepia(photo, (20, 22, 35), (235, 240, 248)),
    ):
        assert measured(version).kind == "toned"
    assert measured(tinted(photo)).kind == ("tinted" if name != "lion" else "unclear")


def test_a_sepia_print_keeps_its_tint_where_its_tones_are_widened():
    faded = sepia(clean()["camera"](), (90, 72, 60), (205, 185, 150))
    result = repaired(faded)
    assert np.ptp(result.mean(2)) > 1.5 * np.ptp(faded.mean(2))
    first, last = (pixels.reshape(-1, 3).mean(0) for pixels in (faded, result))
    assert np.all(np.diff(first) < 0) and np.all(np.diff(last) < 0)


def test_grey_stays_grey_and_its_tones_are_widened():
    photo = clean()["brick"]()
    result = repaired(photo)
    assert measured(photo).kind == "grey" and result.shape == photo.shape
    assert np.ptp(result) > 1.5 * np.ptp(photo) - 60 and result.min() < 15


def test_half_the_strength_is_half_of_the_way():
    faded = FADES["cyan lost"](clean()["astronaut"]())
    half, whole = repaired(faded, 0.5).astype(int), repaired(faded).astype(int)
    assert np.abs(2 * (half - faded) - (whole - faded)).max() <= 2
    assert np.array_equal(repaired(faded, 0.0), faded)


def test_16_bits_are_set_right_as_8_are():
    faded = FADES["all lost, yellowed"](clean()["astronaut"]())
    wide = faded.astype(np.uint16) * 257
    light = light_of(None, 3, wide.dtype)
    result = remove_fading(wide, measure_fading(wide, light), light)
    assert result.dtype == np.uint16 and np.abs(result / 257 - repaired(faded)).max() < 2


def test_the_curve_of_the_profile_is_honoured():
    """The same light in samples of another curve gets the same light."""
    faded = FADES["cyan lost"](clean()["astronaut"]())
    icc = rgb_profile("steep", SRGB_PRIMARIES, (Curve(1.8),))
    light = light_of(icc, 3, np.dtype(np.uint16))
    samples = np.rint(LIGHT[0][faded] ** (1 / 1.8) * 65_535).astype(np.uint16)
    fading = measure_fading(samples, light)
    assert fading.kind == "faded" and np.abs(fading.black - measured(faded).black).max() < 1
    result = remove_fading(samples, fading, light)
    assert np.abs(light[0][result] - LIGHT[0][repaired(faded)]).max() < 0.02


@pytest.mark.parametrize("curve", [Curve(2.2), SRGB_CURVE, Curve(table=tuple(range(0, 65_536, 257)))])
def test_curves_of_profiles_are_read(curve):
    icc = rgb_profile("any", SRGB_PRIMARIES, (curve,))
    samples = np.linspace(0, 1, 256)
    for channels in (1, 3):  # grey photos may be stored as RGB
        assert np.abs(light_of(icc, channels, np.dtype(np.uint8)) - curve.linear(samples)).max() < 1e-4
    grey = grey_profile("grey", curve)
    assert np.abs(light_of(grey, 1, np.dtype(np.uint8)) - curve.linear(samples)).max() < 1e-4


def test_profiles_without_curves_are_read_as_srgb():
    for icc in (None, b"", b"damaged", srgb()):
        assert np.abs(light_of(icc, 3, np.dtype(np.uint8)) - LIGHT).max() < 1e-3
    for data in (b"", b"para", b"curv\0\0\0\0\0\1\0\0", b"para\0\0\0\0\0\11\0\0"):
        assert Curve.of(data) is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 200, 3), (30, 30, 1), (3, 3, 3)])
def test_pictures_of_any_size_are_measured(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert measured(pixels).kind not in FOUND and repaired(pixels).shape == shape
