"""Measures of whole photos and of faces, each with a decision in a sentence."""

from random import Random

import numpy as np
import pytest

from calotype.inference.examine import MEASURES, examine, examine_faces
from calotype.measures import TEMPLATES, WORDS
from calotype.picture import Picture
from calotype.record import FaceRecord
from tests.ops.repair.prints import photo
from tests.scans import drawn_scan, in_grid


def measured(pixels):
    return {measure.name: measure for measure in examine(Picture(np.ascontiguousarray(pixels)))}


def test_a_good_photo_has_figures_below_every_threshold():
    found = measured(photo("astronaut"))
    assert list(found) == ["photos", "border", "noise", "blur", "blocks"]
    assert not any(measure.is_beyond for measure in found.values())
    assert found["photos"].decision == "one picture fills the scan"
    assert set(found) <= set(WORDS)
    assert all(measure.message.template in TEMPLATES for measure in found.values())


def test_what_is_wrong_is_beyond_its_threshold():
    noisy = photo("camera") + np.random.default_rng(0).normal(0, 9, (512, 512, 1))
    noise = measured(noisy.clip(0, 255).astype(np.uint8))["noise"]
    assert noise.is_beyond and noise.value == pytest.approx(9, rel=0.15) and noise.threshold == 5
    assert noise.decision.startswith(f"noise of {noise.value:g} levels of 255, from 5: ")


def test_a_figure_that_looks_like_its_threshold_is_beyond_it(monkeypatch):
    """Not "blurred by 1.3 pixels, from 1.3: sharp"."""
    for exact, is_beyond in ((1.2951, True), (1.2949, False)):
        monkeypatch.setitem(MEASURES, "blur", (lambda pixels, value=exact: value, 1.3))
        blur = measured(photo("camera"))["blur"]
        assert blur.is_beyond == is_beyond == (blur.value >= blur.threshold)


def test_photos_on_a_scan_are_counted_and_their_turn_measured():
    random = Random(3)
    laid = in_grid(3, random, (900, 1200))
    found = measured(drawn_scan((900, 1200), (250, 250, 250), laid))
    assert found["photos"].value == 3 and found["photos"].decision.startswith("3 photos lie on this scan")
    largest = max(abs(drawn.photo.angle) for drawn in laid)
    assert found["skew"].value == pytest.approx(largest, abs=0.2) and "border" not in found


def test_a_blank_scan_and_a_border_are_said():
    assert measured(np.full((300, 400, 3), 245, np.uint8))["photos"].decision == "the scan is blank"
    framed = np.pad(photo("astronaut"), ((30, 30), (30, 30), (0, 0)), constant_values=235)
    border = measured(framed)["border"]
    assert border.is_beyond and border.value == pytest.approx(100 * 30 / 572, abs=1)


def test_faces_are_measured_one_by_one():
    landmarks = ((20.0, 20.0), (40.0, 20.0), (30.0, 30.0), (22.0, 40.0), (38.0, 40.0))
    faces = [FaceRecord(1, (10.0, 10.0, 40.0, 50.0), landmarks, 0.9, True)]
    faces += [FaceRecord(2, (-20.0, -5.0, 15.0, 15.0), landmarks, 0.9, False, why="too small")]
    first, second = examine_faces(Picture(photo("astronaut")), faces, 20)
    assert first.decision.startswith("face 1: 40 pixels wide, ") and first.decision.endswith("0 degrees: restored")
    assert (first.value, first.threshold, first.is_beyond) == (40, 20, True)
    assert not second.is_beyond and second.decision.endswith(": left")


@pytest.mark.parametrize(("nose", "angle"), [(41.0, 45), (19.0, 45), (35.0, 24)])
def test_a_face_that_looks_aside_is_turned(nose, angle):
    landmarks = ((20.0, 20.0), (40.0, 20.0), (nose, 30.0), (22.0, 40.0), (38.0, 40.0))
    face = FaceRecord(1, (10.0, 10.0, 40.0, 50.0), landmarks, 0.9, True)
    (measure,) = examine_faces(Picture(photo("astronaut")), [face], 20)
    assert f"turned aside by {angle} degrees" in measure.decision
