"""Marks are what is likely enough on the whole; doubtful crowds, buttons and eyes are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.ops.repair.damage import ASKED, FEWEST, LIKELY, MARGIN, UNASKED, marks_of, parts_of_faces, with_margin

UNSURE, DOUBTFUL, SURE, CERTAIN = 40, 130, 225, 255
SHAPE = (300, 400)


def drawn(shape=SHAPE):
    return np.zeros(shape, np.uint8)


def marks(probability, kept=None, rule=ASKED):
    return marks_of(probability, np.zeros(probability.shape, bool) if kept is None else kept, rule)


def test_what_is_likely_belongs_to_a_mark_where_the_rest_of_it_is_sure():
    assert max(LIKELY) * 255 > UNSURE > min(LIKELY) * 255
    probability = drawn()
    probability[10, 5:45] = UNSURE
    probability[10, 20:30] = CERTAIN
    probability[200, 5:45] = UNSURE
    found = marks(probability)
    assert (found.scratches, found.specks) == (1, 0)
    assert found.mask[10, 5:45].all() and not found.mask[10 - MARGIN, 30] and not found.mask[150:].any()
    filled = with_margin(found.mask)
    assert filled[10 - MARGIN, 5 - MARGIN] and filled.sum() == (40 + 2 * MARGIN) * (1 + 2 * MARGIN)


def test_specks_are_told_from_scratches_and_large_round_ones_are_none():
    probability = drawn()
    probability[10:14, 10:14] = CERTAIN
    probability[range(20, 50), range(30, 60)] = CERTAIN
    probability[250, 5 : 5 + FEWEST - 1] = CERTAIN
    probability[150:172, 200:222] = CERTAIN  # a button
    probability[200:280, 300:320] = CERTAIN  # a sleeve
    found = marks(probability)
    assert (found.scratches, found.specks) == (1, 1)
    assert not found.mask[250, 5] and not found.mask[155, 205] and not found.mask[240, 310]


def test_a_doubtful_crowd_is_no_damage_and_hides_what_is_unsure_in_it():
    probability = drawn()
    probability[20:120:6, 20:120] = DOUBTFUL  # stripes
    probability[23, 20:120] = SURE
    probability[250, 250:350] = SURE
    found = marks(probability)
    assert found.scratches == 1 and found.mask[250, 300] and not found.mask[:150].any()
    net = drawn()
    net[::20] = net[:, ::20] = CERTAIN  # joints of bricks hang together
    assert marks(net).count == 0


def test_a_sure_mark_is_found_where_what_is_likely_around_it_is_too_large_for_one():
    probability = drawn()
    probability[100:140, 100:140] = UNSURE
    probability[120, 100:140] = CERTAIN
    found = marks(probability)
    assert found.mask[120, 100:140].all() and found.mask.sum() == 40 and found.count == 1


def test_many_sure_marks_do_not_hide_each_other():
    probability = drawn()
    probability[20:280:6, 20:380] = CERTAIN
    assert marks(probability).scratches == 44


def test_where_sure_scratches_show_that_a_photo_is_damaged_others_need_not_be_as_sure():
    probability = drawn()
    probability[200, 50:350] = UNSURE
    assert marks(probability).count == 0
    for n in range(ASKED.fewest):
        assert marks(probability).mask[200].sum() == 0
        probability[20 + 40 * n, 50:350] = CERTAIN
    found = marks(probability)
    assert found.mask[200, 50:350].all() and found.scratches == ASKED.fewest + 1


def test_a_wide_line_that_is_unsure_is_no_mark_even_where_a_photo_is_damaged():
    """The leg of a tripod."""
    probability = drawn()
    for n in range(ASKED.fewest):
        probability[20 + 40 * n, 50:350] = CERTAIN
    probability[170:177, 50:350] = probability[290, 50:350] = UNSURE
    found = marks(probability)
    assert found.mask[290, 50:350].all() and not found.mask[170:177].any()
    probability[170:177, 50:350] = SURE
    assert marks(probability).mask[170:177, 50:350].all()


def test_birds_in_a_sky_do_not_show_that_a_photo_is_damaged():
    probability = drawn()
    for n in range(6):
        bird = probability[20 + 40 * n :, 30 + 50 * n :][:12, :20]
        bird[4:8], bird[:, 8:11] = CERTAIN, CERTAIN  # wings and body
    probability[200, 50:350] = UNSURE
    assert marks(probability, rule=UNASKED).count == 0
    assert marks(probability).scratches == 6 and not marks(probability).mask[200].any()
    probability[270, 50:350] = probability[290, 50:350] = CERTAIN
    assert marks(probability, rule=UNASKED).count > 0 and marks(probability).mask[200, 100:150].all()


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_large_scan_is_judged_as_a_small_one(times):
    """What is around a mark is counted in a smaller copy of it."""
    probability = np.zeros((512, 600), np.uint8)
    probability[20:220:6, 20:220] = DOUBTFUL
    probability[400:402, 250:350] = CERTAIN
    large = probability.repeat(times, 0).repeat(times, 1)
    assert np.array_equal(marks(large).mask, marks(probability).mask.repeat(times, 0).repeat(times, 1))
    assert marks(large).scratches == 1


def test_eyes_and_mouths_stay_and_a_scratch_across_a_face_is_found():
    landmarks = np.array([[180, 100], [220, 100], [200, 120], [185, 145], [215, 145]], float)
    kept = parts_of_faces(SHAPE, [landmarks])
    assert kept[100, 180] and kept[100, 220] and kept[145, 200] and not kept[60, 200] and not kept[200, 200]
    probability = drawn()
    probability[98:103, 178:183] = CERTAIN  # a pupil
    probability[145, 190:210] = CERTAIN  # between the lips
    probability[20:280, 219] = CERTAIN
    found = marks(probability, kept)
    assert (found.scratches, found.specks) == (1, 0) and found.mask[100, 219] and not found.mask[100, 180]


def test_unasked_a_few_marks_or_unsure_ones_are_left():
    def worn(specks, scratches, value):
        probability = drawn((600, 800))
        for n in range(specks):
            probability[40 + 130 * (n // 5) :, 60 + 150 * (n % 5) :][:3, :3] = value
        for n in range(scratches):
            probability[400 + 100 * n, 100:500] = value
        return probability

    specks, scratches = UNASKED.fewest - UNASKED.scratches, UNASKED.scratches
    assert marks(worn(specks, scratches, CERTAIN), rule=UNASKED).count == UNASKED.fewest
    assert marks(worn(specks - 1, scratches, CERTAIN), rule=UNASKED).count == 0
    assert marks(worn(specks, scratches, 240), rule=UNASKED).count == 0 < marks(worn(specks, scratches, 240)).count
    assert marks(worn(2 * UNASKED.fewest, 0, CERTAIN), rule=UNASKED).count == 0  # stars
    left = marks(worn(4, scratches - 1, CERTAIN), rule=UNASKED)
    assert (left.count, left.left_scratches, left.left_specks) == (0, scratches - 1, 4)
    birds = worn(4, scratches - 1, CERTAIN)
    for n in range(6):
        birds[550:552, 40 + 100 * n :][:, :15] = CERTAIN
    left = marks(birds, rule=UNASKED)
    assert (left.count, left.left_scratches, left.left_specks) == (0, scratches - 1, 4)  # birds are neither
    assert marks(birds).count == scratches - 1 + 4 + 6
    some = worn(specks, scratches, CERTAIN)
    some[300, 600:700] = SURE
    assert marks(some, rule=UNASKED).count == UNASKED.fewest + 1  # the photo is damaged
    some[350:360, 700:710] = CERTAIN  # a watch
    assert marks(some, rule=UNASKED).count == UNASKED.fewest + 1 == marks(some).count - 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_any_picture_has_a_mask_of_its_size(height, width, seed):
    probability = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    found = marks(probability)
    assert found.mask.shape == (height, width) and found.mask.dtype == bool
    assert not marks(drawn((height, width))).mask.any()
