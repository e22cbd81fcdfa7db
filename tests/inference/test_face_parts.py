"""The guards of a restored face: what is drawn against what the photo shows."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from calotype.errors import CalotypeError
from calotype.inference import identity
from calotype.inference.face_parts import guarded, has_crease
from calotype.models import face_identity
from calotype.ops import face_measures as measures
from calotype.ops.faces import template
from calotype.record import FaceRecord
from calotype.tasks import Restore
from tests.ops.test_face_measures import squeezed, with_closed_eyes, with_crease, with_moved_irises

POINTS = tuple(map(tuple, template(512).tolist()))
FACE = FaceRecord(number=2, box=(0, 0, 512, 512), landmarks=POINTS, confidence=1.0, treated=True)
TASK = Restore(source="a.png", auto_identity="mesh")


def as_photo(crop, sigma=2.0):
    """A little blurred and noisy."""
    noise = np.random.default_rng(0).normal(0, 0.01, crop.shape)
    return (cv2.GaussianBlur(crop, (0, 0), sigma) + noise).clip(0, 1).astype(np.float32)


def run(engine, photo, drawn, face=FACE, **options):
    """Notes, record and strength of a face."""
    tensors = (torch.from_numpy(np.ascontiguousarray(c)).permute(2, 0, 1) for c in (photo, drawn))
    steps, notes = guarded(*tensors, face, replace(TASK, **options), engine.models), []
    while True:
        try:
            notes.append(next(steps).text)
        except StopIteration as end:
            return notes, *end.value


def test_a_faithful_face_is_left_as_it_is_drawn(face, engine):
    crop, _ = face
    notes, record, blend = run(engine, as_photo(crop), crop)
    assert notes == [] and (blend.strength == 1).all() and record.kept == 1
    assert record.identity > 0.7 and abs(record.yaw) < 5 and min(record.eyes) > 0.25


def test_a_single_eyelid_stays_single(face, engine):
    crop, mesh = face
    double = with_crease(crop, mesh)
    notes, record, blend = run(engine, as_photo(crop), double)
    assert notes == ["the eyelids of face 2 have no crease in the photo, so the one that was drawn is taken back"]
    result = as_photo(crop) + blend.strength[..., None] * (double - as_photo(crop))
    for eye, (photo, left) in enumerate(record.creases):
        drawn, now = (measures.crease_depth(measures.luma(c), mesh, eye) for c in (double, result))
        assert photo < 0.02 and left < 0.06 < drawn and now == pytest.approx(left, abs=0.02)
    assert blend.strength[np.round(mesh.points[13, 1]).astype(int), np.round(mesh.points[13, 0]).astype(int)] == 1


def test_a_double_eyelid_stays_double(face, engine):
    crop, mesh = face
    double = with_crease(crop, mesh)
    notes, record, blend = run(engine, as_photo(double, 1.4), double)
    assert notes == [] and (blend.strength == 1).all()
    assert all(photo > 0.03 and result > 0.06 for photo, result in record.creases)


@pytest.mark.parametrize("height, sigma", [(12, 1.0), (30, 1.4)])
def test_a_line_elsewhere_on_the_eyelid_is_no_crease(face, height, sigma):
    """A fold below the brow or a shadow above the lashes: version 1 took it for the crease."""
    crop, mesh = face
    light = measures.luma(as_photo(with_crease(crop, mesh, height=height), sigma))
    drawn = measures.luma(with_crease(crop, mesh))
    assert all(has_crease(light, drawn, mesh, eye, version=1) for eye in (0, 1))
    assert not any(has_crease(light, drawn, mesh, eye) for eye in (0, 1))


@pytest.mark.parametrize("depth, sigma", [(0.35, 2.0), (0.45, 2.4)])
def test_a_faint_crease_of_the_photo_is_known(face, depth, sigma):
    """Version 1 took the drawn one back."""
    crop, mesh = face
    double = with_crease(crop, mesh, depth)
    photo, single = (measures.luma(as_photo(picture, sigma)) for picture in (double, crop))
    drawn = measures.luma(double)
    assert all(has_crease(photo, drawn, mesh, eye) for eye in (0, 1))
    assert not any(has_crease(photo, drawn, mesh, eye, version=1) for eye in (0, 1))
    assert not any(has_crease(single, drawn, mesh, eye) for eye in (0, 1))


def test_deep_creases_on_both_eyes_stand_where_the_photo_is_too_blurred_to_tell(face):
    """Version 2 took them back."""
    crop, mesh = face
    deep, photo = with_crease(crop, mesh), measures.luma(as_photo(with_crease(crop, mesh), 5))
    assert all(has_crease(photo, measures.luma(deep), mesh, eye) for eye in (0, 1))
    assert not any(has_crease(photo, measures.luma(deep), mesh, eye, version=2) for eye in (0, 1))
    one = np.where(np.arange(512)[:, None] < 256, deep, crop)
    for drawn in (with_crease(crop, mesh, 0.3), one):
        assert not has_crease(photo, measures.luma(drawn), mesh, 0)


@pytest.mark.parametrize("depth", [0.45, 0.9])
def test_deep_creases_are_invented_where_the_photo_is_sharp_enough_to_tell(face, depth):
    """The deepest ones make the eyes alone look more blurred than the photo is."""
    crop, mesh = face
    photo, drawn = measures.luma(as_photo(crop)), measures.luma(with_crease(crop, mesh, depth))
    assert not any(has_crease(photo, drawn, mesh, eye) for eye in (0, 1))


def test_an_eye_that_is_closed_is_not_opened(face, engine, monkeypatch):
    crop, mesh = face
    closed = as_photo(with_closed_eyes(crop, mesh), 1.0)
    openness = measures.eye_openness(engine.models.face_mesh().find(closed))
    monkeypatch.setattr("calotype.inference.face_parts.CLOSED", max(openness) + 0.01)  # a drawn one is not quite closed
    notes, record, blend = run(engine, closed, crop)
    assert notes[0] == "an eye of face 2 is closed in the photo, so it is not drawn open"
    at = np.round(mesh.irises[:, 0]).astype(int)
    assert blend.strength[at[:, 1], at[:, 0]].max() < 0.01 and blend.strength[400, 256] > 0
    assert record.eyes == pytest.approx(openness, abs=0.001)


def test_eyes_look_where_they_look_in_a_photo_that_is_sharp_enough_to_tell(face, engine):
    crop, mesh = face
    moved = with_moved_irises(crop, mesh, 14)
    notes, _, blend = run(engine, as_photo(crop, 0.7), moved)
    at = np.round(mesh.irises[:, 0]).astype(int)
    assert notes == ["face 2 looks elsewhere than in the photo, so its eyes are as there"]
    assert blend.strength[at[:, 1], at[:, 0]].min() < 0.01 and blend.strength[400, 256] == 1
    assert run(engine, as_photo(crop, 6), moved)[0] == []


def test_another_person_is_blended_back_until_the_photo_is_recognised(face, engine):
    crop, _ = face
    photo, other = as_photo(crop), squeezed(crop)
    notes, record, blend = run(engine, photo, other, min_likeness=0.6)
    assert "face 2 came out too unlike the photo (likeness 0." in notes[-1] and "from 0.6" in notes[-1]
    assert 0 < record.kept < 1 and blend.strength.max() == pytest.approx(record.kept)
    result = photo + blend.strength[..., None] * (other - photo)
    meshes = [engine.models.face_mesh().find(c) for c in (photo, result)]
    assert 1 - measures.mesh_distance(photo, meshes[0], result, meshes[1]) >= 0.6
    assert record.identity >= 0.6
    notes, record, blend = run(engine, photo, other, min_likeness=0)
    assert not any("unlike" in text for text in notes) and record.kept == 1 and record.identity < 0.6


def as_ruin(crop):
    """A face ten pixels wide, noisy: no mesh is found in it."""
    small = cv2.resize(crop, (22, 22), interpolation=cv2.INTER_AREA)
    small = small + np.random.default_rng(0).normal(0, 0.08, small.shape)
    return cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC).clip(0, 1).astype(np.float32)


def test_a_face_beyond_help_is_left_softer_and_it_is_said(face, engine):
    crop, _ = face
    notes, record, blend = run(engine, as_ruin(crop), crop, min_likeness=0)
    assert notes[0].startswith("the photo shows too little of face 2 to tell what it looked like, so it is left softer")
    assert "at 40% of the restoration" in notes[0]
    assert record.clarity < 0.95 and record.softened == 0.4 and blend.strength.max() == pytest.approx(0.4)
    notes, record, blend = run(engine, as_ruin(crop), crop, min_likeness=0, unclear_strength=1.0)
    assert not any("too little" in text for text in notes)
    assert record.clarity < 0.95 and record.softened == 1 and blend.strength.max() == 1


def test_a_face_beyond_help_with_a_strength_of_its_own_is_as_the_person_decides(face, engine):
    crop, _ = face
    own = replace(FACE, strength=0.9)
    notes, record, blend = run(engine, as_ruin(crop), crop, own, min_likeness=0, strength="1,2=0.9")
    assert not any("too little" in text for text in notes)
    assert record.softened == 1 and blend.strength.max() == pytest.approx(0.9)
    notes, record, _ = run(engine, as_ruin(crop), crop, min_likeness=0, strength="1,3=0.9")
    assert record.softened == 0.4 and "give it a strength of its own" in notes[0]


def test_a_face_beyond_help_of_which_none_is_drawn_is_softer_as_a_whole(face, engine):
    crop, _ = face
    ruin = as_ruin(crop)
    nobody = ruin + 0.3 * (crop[::-1] - ruin)
    notes, record, blend = run(engine, cv2.GaussianBlur(ruin, (0, 0), 8), nobody, replace(FACE, strength=0.8))
    assert blend is None and record.softened == 0.4 and record.strength == pytest.approx(0.32)
    assert len(notes) == 1 and "too little of face 2" in notes[0]


@pytest.mark.parametrize("sigma", [2, 5])
def test_a_blurred_face_that_the_mesh_finds_is_restored_in_full(face, engine, sigma):
    crop, _ = face
    _, record, blend = run(engine, as_photo(crop, sigma), crop)
    assert record.clarity > 0.95 and record.softened == 1 and blend.strength.max() == 1


def test_a_sharp_face_that_the_mesh_does_not_know_is_restored_in_full(face, engine):
    crop, _ = face
    covered = crop.copy()
    covered[120:330] = 0.1
    notes, record, _ = run(engine, as_photo(covered, 0.7), covered)
    assert record.clarity < 0.95 and record.softened == 1 and not any("too little" in text for text in notes)


def test_records_of_earlier_versions_soften_nothing(face, engine):
    crop, _ = face
    notes, record, _ = run(engine, as_ruin(crop), crop, min_likeness=0, auto_face_mesh="1")
    assert record.softened == 1 and not any("too little" in text for text in notes)


def test_a_profile_gets_less(face, engine):
    crop, _ = face
    turned = replace(FACE, landmarks=(POINTS[0], POINTS[1], (256 + 290, 310), *POINTS[3:]), strength=0.8)
    notes, record, blend = run(engine, as_photo(crop), crop, turned)
    assert record.yaw > 70 and 0.3 * 0.8 < record.strength < 0.6 and blend is None
    assert notes[0].startswith(f"face 2 is turned {record.yaw:.0f} degrees to the side")
    assert notes[0].endswith(f"restored with strength {record.strength:g}")


def test_parts_have_strengths_of_their_own(face, engine):
    crop, mesh = face
    _, _, blend = run(engine, as_photo(crop), crop, replace(FACE, strength=0.8), strength="0.8,eyes=0.3,mouth=0.6")
    for points, strength in (
        (mesh.irises[:, 0], 0.3),
        (mesh.points[[0, 17], :2], 0.6),
        (mesh.points[[50, 280], :2], 0.8),
    ):
        at = np.round(points).astype(int)
        assert blend.strength[at[:, 1], at[:, 0]] == pytest.approx(strength, abs=0.01)
    _, _, blend = run(engine, as_photo(crop), crop, strength="skin=0.2,nose=1,brows=0.5")
    for point, strength in ((4, 1.0), (50, 0.2), (52, 0.5)):
        x, y = np.round(mesh.points[point, :2]).astype(int)
        assert blend.strength[y, x] == pytest.approx(strength, abs=0.02)


def test_where_no_mesh_fits_the_face_has_one_strength_and_it_is_said(engine):
    noise = np.random.default_rng(0).random((512, 512, 3), np.float32)
    notes, record, blend = run(engine, noise, noise, strength="eyes=0.3")
    assert blend is None and record.identity is None
    assert notes == ["the parts of face 2 are not found, so it has one strength"]


def test_records_of_earlier_versions_have_no_guards(face, engine):
    crop, _ = face
    assert run(engine, as_photo(crop), squeezed(crop), auto_face_mesh="none") == ([], FACE, None)


def test_the_recorded_measure_has_to_be_installed(monkeypatch):
    monkeypatch.setattr(face_identity, "is_installed", lambda: False)
    assert identity.identity_measure(replace(TASK, auto_identity="")) == "mesh"
    with pytest.raises(CalotypeError, match="dlib's descriptors of faces are not installed"):
        identity.identity_measure(replace(TASK, auto_identity="dlib"))
    monkeypatch.setattr(face_identity, "is_installed", lambda: True)
    assert [identity.identity_measure(replace(TASK, auto_identity=name)) for name in ("", "mesh")] == ["dlib", "mesh"]


@pytest.mark.likeness
def test_dlib_measures_where_it_is_installed(face, engine):
    crop, _ = face
    _, record, _ = run(engine, as_photo(crop), crop, auto_identity="dlib")
    _, same, _ = run(engine, crop, crop, auto_identity="dlib")
    assert 0.6 < record.identity < 1 and same.identity == 1
