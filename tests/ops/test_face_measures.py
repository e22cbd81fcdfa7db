"""Measures of faces, on the portrait and on what is drawn onto it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calotype.ops import face_measures as measures


def with_crease(crop, mesh, depth=0.45, height=22):
    """A double eyelid drawn on both eyes, or a single one from it: a dark line along the middle of each upper lid."""
    drawn = crop.copy()
    for eye in (0, 1):
        line = measures._lid_grid(mesh, eye, np.linspace(0, 1, 30))[:, height]
        ink = np.zeros(crop.shape[:2], np.uint8)
        cv2.polylines(ink, [np.round(line).astype(np.int32)], False, 255, 3)
        drawn *= 1 - depth * cv2.GaussianBlur(ink.astype(np.float32) / 255, (0, 0), 1.2)[..., None]
    return drawn


def with_closed_eyes(crop, mesh):
    """Lids drawn over both eyes, with a dark line of lashes."""
    drawn = (crop * 255).astype(np.uint8)
    for eye in (0, 1):
        lids = np.round(mesh.lids[eye]).astype(np.int32)
        inside = np.zeros(drawn.shape[:2], np.uint8)
        cv2.fillPoly(inside, [lids], 1)
        drawn = cv2.inpaint(drawn, cv2.dilate(inside, np.ones((9, 9))), 5, cv2.INPAINT_TELEA)
        cv2.polylines(drawn, [lids[:9]], False, (60, 40, 35), 3)
    return drawn.astype(np.float32) / 255


def with_moved_irises(crop, mesh, pixels):
    """The same eyes looking to a side."""
    y, x = np.mgrid[:512, :512].astype(np.float32)
    for centre in mesh.irises[:, 0] + [pixels / 2, 0]:
        near = np.exp(-((((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 15**2)) ** 2)).astype(np.float32)
        crop = cv2.remap(crop, x - pixels * near, y, cv2.INTER_LINEAR)
    return crop


def test_an_iris_that_is_moved_is_found_there(face, engine):
    crop, mesh = face
    moved = engine.models.face_mesh().find(with_moved_irises(crop, mesh, 14))
    widths = np.linalg.norm(mesh.lids[:, 8] - mesh.lids[:, 0], axis=1)
    assert measures.gaze_shift(mesh, moved) * widths.mean() == pytest.approx(14, abs=4)
    assert measures.gaze_shift(mesh, mesh) == 0
    apart = replace(mesh, irises=mesh.irises + np.array([[[10, 0]], [[-10, 0]]], np.float32))
    assert measures.gaze_shift(mesh, apart) == 0


def test_open_eyes_and_closed_ones(face, engine):
    crop, mesh = face
    assert min(measures.eye_openness(mesh)) > 0.25
    closed = engine.models.face_mesh().find(with_closed_eyes(crop, mesh))
    assert max(measures.eye_openness(closed)) < 0.2
    shut = replace(mesh, lids=np.concatenate([mesh.lids[:, :9], mesh.lids[:, 1:8]], 1))
    assert max(np.abs(measures.eye_openness(shut))) < 0.06


def test_a_crease_is_measured_where_it_is_drawn_and_less_where_it_is_blurred(face):
    crop, mesh = face
    single, double = (measures.luma(c) for c in (crop, with_crease(crop, mesh)))
    for eye in (0, 1):
        depths = [measures.crease_depth(measures.blurred(double, sigma), mesh, eye) for sigma in (0, 2, 4)]
        assert measures.crease_depth(single, mesh, eye) < 0.02
        assert depths[0] > 0.1 and depths[0] > depths[1] > depths[2]


def test_a_crease_of_the_photo_is_dark_where_the_drawn_one_is(face):
    crop, mesh = face
    double = measures.luma(with_crease(crop, mesh))
    single, elsewhere = measures.luma(crop), measures.luma(with_crease(crop, mesh, height=10))
    for eye in (0, 1):
        full, none, other = (
            measures.crease_ratio(measures.blurred(photo, 2), double, mesh, eye, 2)
            for photo in (double, single, elsewhere)
        )
        assert full > 0.25 and none < 0.1 and other < 0.5 * full


def test_a_brighter_photo_has_the_same_crease(face):
    crop, mesh = face
    double = measures.luma(with_crease(crop, mesh))
    assert measures.crease_depth(0.5 * double, mesh, 0) == pytest.approx(
        measures.crease_depth(double, mesh, 0), rel=0.01
    )


def test_the_lids_mask_lies_between_lashes_and_brow(face):
    _, mesh = face
    for eye in (0, 1):
        mask = measures.lid_mask(mesh, eye, 512)
        x, y = np.round(measures._lid_grid(mesh, eye)[12, 18]).astype(int)
        assert mask[y, x] == 1
        for x, y in (np.round(p).astype(int) for p in (mesh.irises[eye, 0], mesh.points[(105, 334)[eye], :2])):
            assert mask[y, x] < 0.5


@pytest.mark.parametrize("sigma", [0, 1.4, 4, 8])
def test_the_blur_that_matches_is_found(face, sigma):
    crop, mesh = face
    light = measures.luma(crop)
    noise = np.random.default_rng(0).normal(0, 0.01, light.shape).astype(np.float32)
    assert measures.matching_blur(measures.blurred(light, sigma) + noise, light, mesh.irises[0, 0], 56) == sigma


def test_the_blur_of_a_face_is_found(face):
    light = measures.luma(face[0])
    found = [measures.face_blur(measures.blurred(light, sigma), light) for sigma in (0, 2, 8)]
    assert found == [0, 2, 8]


def squeezed(crop):
    """Another face: mouth and nose moved up, the jaw wider."""
    y, x = np.mgrid[:512, :512].astype(np.float32)
    low = np.clip((y - 230) / 100, 0, 1)
    return cv2.remap(crop, 256 + (x - 256) * (1 - 0.25 * low), y + 45 * low, cv2.INTER_LINEAR)


def test_a_blurred_face_stays_the_person_and_another_shape_does_not(face, engine):
    crop, mesh = face
    find = engine.models.face_mesh().find

    def distance(shown):
        return measures.mesh_distance(crop, mesh, shown, find(shown))

    assert distance(crop) < 0.01
    soft = cv2.GaussianBlur(crop, (0, 0), 5)
    noisy = soft + np.random.default_rng(0).normal(0, 0.04, crop.shape).astype(np.float32)
    other = squeezed(crop)
    assert distance(soft) < 0.3 and distance(noisy) < 0.35
    assert distance(other) > 0.5 and measures.mesh_distance(soft, find(soft), other, find(other)) > 0.5


def test_grey_and_colour_are_compared(face):
    crop, mesh = face
    grey = measures.luma(crop)[..., None]
    assert measures.mesh_distance(crop, mesh, grey, mesh) < 0.01
