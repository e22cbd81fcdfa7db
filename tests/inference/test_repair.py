"""Repairs run in the order of their table; each changes only the pixels of its mask."""

import json
from dataclasses import asdict
from functools import cache

import cv2
import numpy as np
import pytest

from calotype import measures
from calotype.checkpoints.models import Models
from calotype.errors import Message
from calotype.inference import repair as seam
from calotype.inference.repair import Damage, at_once, repair
from calotype.measures import LEFT_SPECKS, TEMPLATES, TEXTURE, Measure
from calotype.ops.repair.fading import measure_skin
from calotype.picture import Picture
from calotype.record import REPAIRED
from calotype.settings import Settings
from calotype.tasks import Note, Restore, chosen_repairs
from calotype.tasks.pictures import REPAIRS
from tests.ops.repair.fades import FADES, LIGHT, aged, cast
from tests.ops.repair.prints import as_uint8, photo, printed
from tests.ops.repair.scenes import clean, opened
from tests.pages import ROOT


@cache
def shipped_models():
    return Models(Settings.gather({"device": "cpu"}, environ={}))


@pytest.fixture(scope="module")
def models():
    return shipped_models()


def repaired(pixels, models=None, **options):
    task = Restore(source="a.png", **options)
    steps, notes = repair(Picture(pixels), task, models or shipped_models()), []
    while True:
        try:
            step = next(steps)
            notes += [str(step.message)] if isinstance(step, Note) else []
        except StopIteration as end:
            return end.value, notes


@pytest.fixture
def silk():
    return as_uint8(printed(photo("camera").repeat(3, 2) / np.float32(255), "silk"))


def test_each_repair_that_can_be_asked_for_is_there_in_the_same_order():
    assert tuple(seam.REPAIRS) == REPAIRS == chosen_repairs("auto")


def test_a_repair_is_noted_recorded_and_measured(silk):
    result, notes = repaired(silk)
    measure = result.measures[0]
    assert [found.name for found in result.measures if found.is_beyond] == ["texture"]
    assert notes == [measure.decision] and measure.is_beyond and measure.value > measure.threshold == 2.8
    assert result.computed == {REPAIRED: {"texture": measure.value}}
    assert not np.array_equal(result.picture.pixels, silk)


@pytest.mark.parametrize("name", clean())
def test_a_photo_that_needs_nothing_gets_nothing(name, models):
    """Photos, drawings and motifs that look like damage: grain, grids, brown and foggy scenes."""
    pixels = clean()[name]()
    result, notes = repaired(pixels, models)
    assert result.picture.pixels is pixels and not notes and not result.computed


def test_a_sure_scratch_that_is_left_as_it_is_the_only_one_is_told_of(models):
    pixels = clean()["astronaut"]().copy()
    cv2.line(pixels, (60, 20), (90, 400), (235, 235, 230), 2, cv2.LINE_AA)
    result, notes = repaired(pixels, models)
    [measure] = [measure for measure in result.measures if measure.name == "scratches"]
    assert notes == [measure.decision] and "sure scratches or hairs: 1, too few" in measure.decision
    assert result.picture.pixels is pixels and not result.computed and not measure.is_beyond and measure.value == 1
    asked, notes = repaired(pixels, models, repair="scratches")
    assert notes[0].startswith("scratches and hairs found and filled")
    assert asked.masks["scratches"][60:360, 55:100].any(1).mean() > 0.8


def test_sure_specks_that_are_left_are_measured_and_told_of_beside_a_sure_scratch(models):
    """Alone they may be stars, which are not told of."""
    stars = clean()["hubble_deep_field"]()
    result, notes = repaired(stars, models)
    [specks] = [measure for measure in result.measures if measure.name == "specks"]
    assert specks.decision.startswith(f"sure specks: {specks.value:.0f}, of dust, or else stars") and specks.value >= 5
    assert not notes and not specks.is_beyond and specks.message.template == LEFT_SPECKS
    pixels = stars.copy()
    cv2.line(pixels, (60, 20), (90, 700), (235, 235, 230), 2, cv2.LINE_AA)
    result, notes = repaired(pixels, models)
    assert result.picture.pixels is pixels and len(notes) == 2 and notes[1].startswith("sure specks: ")
    _, notes = repaired(pixels, models, repair="scratches")
    found = notes[1].removeprefix("specks of dust found and filled: ")
    assert int(found) > specks.value


def test_what_is_not_repaired_is_measured():
    result, _ = repaired(photo("camera"))
    assert [(measure.name, measure.is_beyond) for measure in result.measures] == [
        ("texture", False),
        ("scratches", False),
        ("specks", False),
        ("fading", False),
        ("cast", False),
    ]


def test_pixels_outside_the_mask_of_a_repair_never_change(silk, monkeypatch):
    mask = np.zeros(silk.shape[:2], bool)
    mask[10:20, 30:50] = True

    def damage(picture, task, models, is_asked):
        measure = Measure.of("texture", 3, 2, True, Message(TEXTURE, value=3, threshold=2))
        return Damage((measure,), at_once(lambda pixels: pixels // 2), mask)

    monkeypatch.setitem(seam.REPAIRS, "texture", damage)
    result, _ = repaired(silk)
    changed = (result.picture.pixels != silk).any(2)
    assert changed[mask].mean() > 0.9 and not changed[~mask].any()
    assert result.masks["texture"] is mask


def test_a_decision_is_recognized_from_its_text():
    measure = Measure.of("texture", 3.14159, 2.8, True, Message(TEXTURE, value="3.14", threshold="2.8"))
    assert measure.value == 3.14 and measure.message.template == TEXTURE
    assert Measure.from_data(json.loads(json.dumps(asdict(measure)))) == measure
    assert len(set(TEMPLATES)) == len(TEMPLATES)


def test_a_faded_photo_is_set_right_and_said():
    faded = FADES["cyan lost"](clean()["astronaut"]())
    result, notes = repaired(faded, fading=1.0)
    assert result.computed == {REPAIRED: {"fading": 40.4}} and len(notes) == 2
    assert notes[0] == "black is 64/30/32 of 255, alike all over the photo: it has faded, and its tones are set right"
    assert notes[1].endswith("in red, green and blue, alike all over the photo: their tint is reduced")
    half, _ = repaired(faded, fading=0.5)
    difference, whole = (np.abs(each.picture.pixels.astype(float) - faded).mean() for each in (half, result))
    assert 0.45 < difference / whole < 0.55


def test_an_aged_print_without_people_gets_colour_back_and_says_so():
    faded = aged(1.0)(clean()["coffee"]())
    result, notes = repaired(faded)
    assert notes[-1].endswith("their tint is reduced, and the pale colours become stronger")
    chroma, before = (np.ptp(pixels, 2).mean() for pixels in (result.picture.pixels, faded))
    assert chroma > 1.2 * before


def test_skin_stays_skin_where_a_cast_is_taken_out(models):
    """Black and white made neutral, the face of the photo that ships would be grey and cold."""
    faded = opened(ROOT / "examples" / "collins.jpg")
    result, notes = repaired(faded, models)
    assert notes[-1].endswith("their tint is reduced, as far as the colours of skin allow")
    [face] = models.found_faces(result.picture)
    skin, before = (measure_skin(pixels, LIGHT, face.landmarks) for pixels in (result.picture.pixels, faded))
    assert skin[0] - skin[2] > 14 and skin[0] > skin[1] > skin[2]
    white, yellow = (np.percentile(pixels, 98, axis=(0, 1)) for pixels in (result.picture.pixels, faded))
    assert np.ptp(white) < 0.6 * np.ptp(yellow) and np.ptp(skin) < np.ptp(before)


def test_green_shadows_are_a_cast_in_a_photo_of_people_alone(models):
    green = cast((1.0, 1.0, 1.0), (0.003, 0.056, 0.032))
    people, cup = (green(clean()[name]()) for name in ("astronaut", "coffee"))
    result, notes = repaired(people, models, fading=1.0)
    assert len(notes) == 2 and list(result.computed[REPAIRED]) == ["fading"]
    dark = clean()["astronaut"]().max(2) < 3
    assert np.ptp(people[dark].mean(0)) > 40 and np.ptp(result.picture.pixels[dark].mean(0)) < 5
    result, notes = repaired(cup, models)
    assert result.picture.pixels is cup and not notes
    assert "but no face is found for sure" in result.measures[-1].decision


def templates_of(pixels):
    """Of fading and cast: the templates of their decisions, as they are recognized."""
    result, notes = repaired(pixels)
    fading, cast = (measure for measure in result.measures if measure.name in ("fading", "cast"))
    assert not notes and not fading.is_beyond and not cast.is_beyond
    return fading.message.template, cast.message.template


def test_what_lies_over_its_threshold_and_is_left_says_what_else_is_missing():
    """Of a print whose black is lifted and tinted, and which so is faded, one sign at a time is taken away."""
    scene = np.random.default_rng(0).random((25, 40, 3)).repeat(8, 0).repeat(8, 1)
    for n in range(64):
        window = scene[25 * (n // 8) :, 40 * (n % 8) :]
        window[2:8, 2:8], window[2:8, 20:26] = 0, 1

    def between(black, white):
        return np.rint(black + scene * (np.array(white) - black)).astype(np.uint8)

    assert repaired(between((64, 40, 40), (235, 230, 225)))[1]
    assert templates_of(between((64, 40, 40), (254, 252, 250))) == (measures.FULL_WHITE,) * 2
    assert templates_of(between((45, 45, 45), (240, 240, 238)))[0] == measures.UNTINTED_BLACK
    assert templates_of(between((90, 40, 10), (235, 230, 225))) == (measures.NOT_LIFTED,) * 2
    assert templates_of(between((4, 2, 9), (250, 250, 230))) == (measures.NOT_FADED, measures.NOT_LIFTED)
    assert templates_of(between((4, 4, 9), (254, 252, 252))) == (measures.NOT_FADED, measures.NO_CAST)
    assert templates_of(between((64, 40, 40), (235, 230, 225))[:40]) == (measures.TOO_SMALL,) * 2
    uneven = between((64, 40, 40), (235, 230, 225))
    for n in range(6):
        uneven[2:8, 40 * n + 2 : 40 * n + 8] = ((60, 30, 30), (30, 36, 60))[n % 2]
    assert templates_of(uneven) == (measures.TINTS_DIFFER,) * 2
    assert templates_of(between((3, 5, 3), (235, 220, 190))) == (measures.NOT_FADED, measures.NOT_AGED)


def test_nothing_is_said_to_change_where_black_and_white_are_at_the_ends():
    photo = clean()["chelsea"]().copy()
    for n in range(12):  # squares of both in every window
        photo[n::24, :, :] = np.where((np.arange(photo.shape[1]) % 24 < 12)[:, None], 0, 255)
    result, notes = repaired(photo, repair="fading")
    assert np.array_equal(result.picture.pixels, photo)
    ends = "black is 0/0/0 and white 255/255/255"
    assert notes == [
        f"{ends} of 255: the tones are left",
        f"{ends} in red, green and blue: no cast that is alike all over the photo",
    ]


def test_fading_is_set_right_by_name_whatever_the_photo_looks_like():
    photo = clean()["chelsea"]()
    assert repaired(photo)[0].picture.pixels is photo
    result, notes = repaired(photo, repair="fading")
    assert "are moved to the ends of the tones" in notes[0] and result.picture.pixels.std() > 1.05 * photo.std()
    assert notes[1].startswith("black is ") and notes[1].endswith("in red, green and blue: their tint is reduced")
    grey = clean()["brick"]()
    result, notes = repaired(grey, repair="fading")
    assert notes[1] == "a grey photo stays grey" and result.picture.pixels.shape == grey.shape
