"""The network that ships finds marks on prints; what only looks like them stays where nobody asks."""

from functools import cache
from random import Random

import cv2
import numpy as np
import pytest
import torch

from calotype.checkpoints.models import Models
from calotype.inference.damage import LARGE, find_marks
from calotype.ops.color import to_uint8_rgb
from calotype.ops.degrade.details import DETAILS
from calotype.ops.degrade.marks import damaged
from calotype.ops.repair.damage import UNASKED
from calotype.settings import Settings
from tests.ops.repair.scenes import clean, clouds

CROPS = {  # rows and columns, and how many times they are enlarged
    "face": ("astronaut", slice(40, 240), slice(130, 330), 2),
    "hair": ("astronaut", slice(0, 120), slice(150, 300), 2),
    "whiskers": ("chelsea", slice(120, 300), slice(60, 420), 1),
    "tripod": ("camera", slice(160, 480), slice(180, 480), 1),
    "wires": ("rocket", slice(100, 400), slice(200, 560), 1),
    "glints": ("coffee", slice(100, 380), slice(100, 400), 1),
    "letters": ("page", slice(0, 190), slice(0, 380), 2),
    "stars": ("hubble_deep_field", slice(0, 400), slice(0, 500), 1),
}


@cache
def models():
    return Models(Settings.gather({"device": "cpu"}, environ={}))


def found(pixels, **options):
    def find_faces():
        return models().detector().find(to_uint8_rgb(pixels))

    return find_marks(pixels, models().repairer("marks"), find_faces, **options)


@pytest.mark.parametrize("name", CROPS)
def test_what_looks_like_damage_stays_where_nobody_asks(name):
    photo, rows, columns, factor = CROPS[name]
    crop = np.ascontiguousarray(clean()[photo]()[rows, columns])
    pixels = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    assert found(pixels.reshape(*pixels.shape[:2], -1), rule=UNASKED).count == 0


@pytest.mark.parametrize("draw", sorted(set(DETAILS), key=lambda draw: draw.__name__))
def test_drawn_details_stay_where_nobody_asks(draw):
    scene = cv2.resize(clouds(5, 4), (320, 240))[..., None].repeat(3, 2) * 0.6 + 0.2
    canvas = np.zeros((960, 1280), np.uint8)
    draw(canvas, Random(3), 4.0)
    strength = cv2.GaussianBlur(cv2.resize(canvas, (320, 240), interpolation=cv2.INTER_AREA), (0, 0), 1.0) / 255.0
    pixels = (255 * (scene + 0.8 * strength[..., None] * (0.95 - scene))).astype(np.uint8)
    assert found(pixels, rule=UNASKED).count == 0


def test_faces_are_looked_for_only_where_something_may_be_a_mark():
    asked = []
    plain = np.ascontiguousarray(clean()["chelsea"]()[:300, :300])
    struck = plain.copy()
    cv2.line(struck, (40, 250), (260, 60), (255, 255, 255), 2)
    for pixels in (plain, struck):
        find_marks(pixels, models().repairer("marks"), lambda: asked.append(True) or [], UNASKED)
        assert len(asked) == (pixels is struck)


def test_eyes_stay_where_it_is_asked_for():
    photo = clean()["astronaut"]()
    [face] = models().detector().find(photo)
    mask = found(photo).mask
    for x, y in face.landmarks[:2].round().astype(int):
        assert not mask[y - 3 : y + 4, x - 3 : x + 4].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_16_bits_are_searched_as_others_are(dtype):
    grey = clean()["camera"]()[:256, :320, :1]
    worn = damaged(grey.repeat(3, 2).astype(np.float32) / 255, Random(2), 0.8, 1.5)[..., :1]
    pixels = (255 * worn).round().astype(np.uint8)
    usual = found(pixels)
    assert usual.count > 0
    wide = found((pixels.astype(np.uint16) * 257) if dtype == np.uint16 else pixels.repeat(3, 2))
    assert (wide.mask != usual.mask).mean() < 0.001


def creased(width, level):
    """A large scan with an even crease from side to side: pixels, and where it is."""
    y, x = np.mgrid[:1300, :1300].astype(np.float32)
    scene = 110 + 30 * np.sin(x / 300) + np.random.default_rng(0).normal(0, 2, x.shape)
    crease = np.abs(x - 500 - 0.2 * y) < width / 2
    scene[crease] = level
    return scene.clip(0, 255).astype(np.uint8)[..., None].repeat(3, 2), crease


def test_a_mark_that_is_wide_is_found_in_a_smaller_copy():
    pixels, crease = creased(14, 170)
    assert found(pixels[:LARGE]).mask[crease[:LARGE]].mean() < 0.1  # where it is searched at full size alone
    marks = found(pixels)
    assert marks.mask[crease].mean() > 0.5 and marks.mask[~crease].mean() < 0.02


def test_an_even_crease_that_is_white_is_found():
    pixels, crease = creased(10, 240)
    marks = found(pixels)
    assert marks.mask[crease].mean() > 0.5 and marks.mask[~crease].mean() < 0.02


def test_the_same_photo_gives_the_same_mask():
    pixels = (255 * damaged(clean()["coffee"]()[:200, :260] / np.float32(255), Random(1), 0.8)).astype(np.uint8)
    with torch.inference_mode():
        first, second = found(pixels), found(pixels)
    assert np.array_equal(first.mask, second.mask)


@pytest.mark.slow
def test_damage_of_photos_that_it_never_saw_is_found_and_little_else():
    """Two prints of each of scikit-image's photos: a part of what the figures of its card are of."""
    from recipes.repairer.measure import DAMAGED_SCENES, in_colour, precision_and_recall, prints

    scenes = {name: in_colour(clean()[name]()) for name in DAMAGED_SCENES}
    held = [one for name, pixels in scenes.items() for one in prints(name, pixels)]
    precision, recall = precision_and_recall(held, [found(one.marked).mask for one in held])
    print(f"precision {precision:.3f}, recall {recall:.3f}")
    assert precision > 0.63 and recall > 0.59  # on fewer and richer photos than those of the card
    assert np.mean([found(pixels).mask.mean() for pixels in scenes.values()]) < 0.004
