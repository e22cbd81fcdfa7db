"""Masks that follow a face, on a drawn mesh and on the portrait's."""

import numpy as np
import pytest

from calotype.ops.face_parts import CHIN, OUTLINE, SIDES, TOP, Mesh, face_masks
from calotype.ops.faces import FaceBlend, Patch, paste, yaw

STILL = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def turned(mesh: Mesh, degrees: float, side: int = 512) -> Mesh:
    """The mesh turned in the plane around the crop's centre."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    centre = (side - 1) / 2

    def moved(points):
        return ((points - centre) @ np.array([[c, s], [-s, c]]) + centre).astype(np.float32)

    points = np.hstack([moved(mesh.points[:, :2]), mesh.points[:, 2:]])
    return Mesh(points, moved(mesh.irises), moved(mesh.lids), mesh.confidence)


@pytest.mark.parametrize("degrees", [0, 25, -25])
def test_masks_follow_the_outline(face, degrees):
    mesh = turned(face[1], degrees)
    detail, tone = face_masks(mesh, 512)
    at = np.round(mesh.points[:, :2]).astype(int)
    assert detail[at[:, 1], at[:, 0]].min() > 0.99  # all of the face, its outline included
    assert (tone >= detail)[64:-64, 64:-64].all()
    centre = mesh.points[list(OUTLINE), :2].mean(0)
    for point in (CHIN, *SIDES):
        x, y = np.round(centre + 1.6 * (mesh.points[point, :2] - centre)).astype(int)
        if 0 <= x < 512 and 0 <= y < 512:
            assert detail[y, x] == 0
    x, y = np.round(mesh.points[TOP, :2] + 0.05 * (mesh.points[TOP, :2] - mesh.points[CHIN, :2])).astype(int)
    assert detail[y, x] > 0.95  # the forehead above the mesh


def test_masks_end_before_the_crops_edge(face):
    low = Mesh(face[1].points + np.array([0, 150, 0]), face[1].irises, face[1].lids, 1.0)
    for mask in face_masks(low, 512):
        assert np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).max() < 0.02


def pasted(background, crop, blend=None):
    return paste(background, background, Patch(crop, STILL, 1.0, blend), (0, 0))


def test_a_lighter_crop_leaves_no_border_by_a_mask_that_follows_the_face(face):
    _, mesh = face
    flat = np.full((512, 512, 3), 0.5, np.float32)
    blend = FaceBlend(*face_masks(mesh, 512), np.ones((512, 512), np.float32))
    new = pasted(flat, flat + 0.1, blend)
    assert max(np.abs(np.diff(new, axis=axis)).max() for axis in (0, 1)) < 0.003
    x, y = np.round(mesh.points[4, :2]).astype(int)
    assert new[y, x] == pytest.approx(0.6, abs=0.002)


def test_detail_of_the_crop_stays_off_the_background(face):
    rng = np.random.default_rng(0)
    flat = np.full((512, 512, 3), 0.5, np.float32)
    crop = flat + rng.normal(0, 0.05, flat.shape).astype(np.float32)
    mesh = turned(face[1], 25)
    blend = FaceBlend(*face_masks(mesh, 512), np.ones((512, 512), np.float32))
    outside = face_masks(mesh, 512)[0] == 0
    old, new = (np.abs(pasted(flat, crop, how) - flat)[outside].mean() for how in (None, blend))
    assert new < 0.3 * old
    inside = face_masks(mesh, 512)[0] == 1
    np.testing.assert_allclose(pasted(flat, crop, blend)[inside], crop[inside], atol=1e-3)


def test_a_strength_of_0_in_a_place_returns_the_plain_picture_there(face):
    crop, mesh = face
    masks = face_masks(mesh, 512)
    plain = np.random.default_rng(1).random((512, 512, 3), dtype=np.float32)
    strength = np.ones((512, 512), np.float32)
    strength[:256] = 0
    result = pasted(plain, crop, FaceBlend(*masks, strength))
    inside = (masks[0] == 1)[:255]
    np.testing.assert_allclose(result[:255][inside], plain[:255][inside], atol=1e-6)


@pytest.mark.parametrize(("nose", "degrees"), [(0.0, 0), (0.5, 45), (-0.5, -45), (0.9, 61)])
def test_the_nose_tells_how_far_a_head_is_turned(nose, degrees):
    landmarks = np.array([(0.0, 0.0), (1.0, 0.0), (0.5 + nose, 0.6), (0.1, 1.0), (0.9, 1.0)])
    tilt = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert yaw(landmarks) == pytest.approx(degrees, abs=0.5)
    assert yaw(landmarks @ tilt.T) == pytest.approx(yaw(landmarks), abs=1e-9)
