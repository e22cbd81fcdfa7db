"""What is measured at a face: open eyes, creases of the eyelids, and how far two crops are one person.

Crops are (side, side, C) float32 in [0, 1], aligned; their meshes are in the crops' pixels.
"""

import cv2
import numpy as np

from calotype.ops.color import LUMA
from calotype.ops.face_parts import LOWER_LID, OUTLINE, PARTS, UPPER_LID, Mesh, soft_mask
from calotype.ops.faces import template

BROWS = ((46, 53, 52, 65, 55), (276, 283, 282, 295, 285))  # lower edge of each, the picture's left one first
LID_ALONG, LID_UP = np.linspace(0.22, 0.78, 24), np.linspace(0.08, 0.8, 36)  # where between lashes and brow is sampled
LID_PARTS = 3  # of a lid's length: a crease runs through most of them
BLURS = (0, 0.7, 1, 1.4, 2, 2.8, 4, 5.6, 8, 11, 16)  # sigmas of 512
FACE_WIDTH = 1.5  # of what `face_blur` compares, of the eyes' distance
SIDE = 256  # of crops whose appearance is compared
FACE = np.array([(70, 90), (186, 90), (200, 130), (180, 215), (128, 245), (76, 215), (56, 130)])  # at that side
FINE, COARSE = 2, 16  # sigmas at that side between which appearance is compared
# Least squares fit of dlib's distance over 733 pairs: a degraded face, and it restored, sharp, or mixed with another
SHAPE_WEIGHT, APPEARANCE_WEIGHT = 1.143, 0.399
INNER = tuple(sorted({*OUTLINE, *(n for polygons in PARTS.values() for polygon in polygons for n in polygon)}))


def luma(crop: np.ndarray) -> np.ndarray:
    """(side, side) float32."""
    return np.ascontiguousarray(crop[..., 0] if crop.shape[2] == 1 else crop @ np.array(LUMA, np.float32))


def eye_openness(mesh: Mesh) -> tuple[float, float]:
    """Height of each open eye over its width: about 0.33, under 0.15 where it is closed."""
    heights = mesh.lids[:, LOWER_LID].mean(1)[:, 1] - mesh.lids[:, UPPER_LID].mean(1)[:, 1]
    widths = np.linalg.norm(mesh.lids[:, 8] - mesh.lids[:, 0], axis=1)
    return tuple(float(v) for v in heights / np.maximum(1, widths))


def gaze_shift(a: Mesh, b: Mesh) -> float:
    """By how much the irises lie elsewhere in one of two crops of a face, of the eyes' width.

    0 where they don't move alike, as eyes do: then one is not found where it is.
    """
    widths = np.linalg.norm(a.lids[:, 8] - a.lids[:, 0], axis=1)
    shifts = (b.irises[:, 0] - a.irises[:, 0]) / np.maximum(1, widths)[:, None]
    length = float(np.linalg.norm(shifts.mean(0)))
    return length if np.linalg.norm(shifts[0] - shifts[1]) < 0.5 * length else 0.0


def crease_depth(light: np.ndarray, mesh: Mesh, eye: int) -> float:
    """How much darker a line along the upper eyelid is than what lies above and below it, of the lid's own light.

    The median over parts of the lid: 0 for a single eyelid, about 0.3 for a double one in a sharp picture.

    Args:
        light: (side, side) luma.
    """
    depths = []
    for profile in _lid(light, mesh, eye).reshape(LID_PARTS, -1, len(LID_UP)).mean(1):
        smooth = cv2.GaussianBlur(profile[None], (0, 0), 1.0)
        depths.append((_filled(smooth) - smooth)[0, 2:-3].max() / max(0.05, float(smooth.mean())))
    return float(np.median(depths))


def crease_ratio(light: np.ndarray, drawn: np.ndarray, mesh: Mesh, eye: int, sigma: float) -> float:
    """How much of the darkness of a drawn crease the photo has in the same place; below 0 where it is lighter there.

    Least squares fit of the photo's lid by the drawn one, blurred alike and without its crease, and by the crease.

    Args:
        light, drawn: (side, side) luma.
        sigma: of the blur by which the drawn one resembles the photo.
    """
    sharp, soft = (cv2.GaussianBlur(_lid(x, mesh, eye), (0, 0), 1.0) for x in (drawn, blurred(drawn, sigma)))
    parts = np.stack([np.ones_like(soft), _filled(soft), sharp - _filled(sharp)], -1).reshape(-1, 3)
    return float(np.linalg.lstsq(parts, _lid(light, mesh, eye).ravel(), rcond=None)[0][2])


def _lid(light: np.ndarray, mesh: Mesh, eye: int) -> np.ndarray:
    """(len(LID_ALONG), len(LID_UP)) light of an upper eyelid, from the lashes upwards."""
    at = _lid_grid(mesh, eye).astype(np.float32)
    return cv2.remap(light, at[..., 0], at[..., 1], cv2.INTER_LINEAR)


def _filled(profiles: np.ndarray) -> np.ndarray:
    """Profiles (n, heights) without their dark lines: each value as light as the lightest both below and above it."""
    below, above = np.maximum.accumulate(profiles, 1), np.maximum.accumulate(profiles[:, ::-1], 1)[:, ::-1]
    return np.minimum(below, above)


def lid_mask(mesh: Mesh, eye: int, side: int) -> np.ndarray:
    """1 on the upper eyelid, from the lashes up to the brow: (side, side) float32."""
    grid = _lid_grid(mesh, eye, np.linspace(-0.05, 1.05, 24))
    width = float(np.linalg.norm(mesh.lids[eye, 8] - mesh.lids[eye, 0]))
    return soft_mask([np.vstack([grid[:, 0], grid[::-1, -1]])], side, 0.12 * width)


def _lid_grid(mesh: Mesh, eye: int, along: np.ndarray = LID_ALONG) -> np.ndarray:
    """(len(along), len(LID_UP), 2) points of an upper eyelid."""
    lid, brow = mesh.lids[eye].astype(np.float64), mesh.points[list(BROWS[eye]), :2].astype(np.float64)
    outer, inner = lid[0], lid[8]
    width = max(1.0, float(np.linalg.norm(inner - outer)))
    across = (inner - outer) / width
    up = np.array([across[1], -across[0]])
    up = up if up[1] < 0 else -up
    low, high = (_heights(points - outer, across, up, width, along) for points in ((outer, *lid[9:], inner), brow))
    heights = low[:, None] + np.maximum(high - low, 0.2 * width)[:, None] * LID_UP
    return outer + along[:, None, None] * width * across + heights[..., None] * up


def _heights(points: np.ndarray, across: np.ndarray, up: np.ndarray, width: float, along: np.ndarray) -> np.ndarray:
    """Heights of a curve through points over the line between the eye's corners."""
    positions = points @ across / width
    order = np.argsort(positions)
    return np.interp(along, positions[order], (points @ up)[order])


def matching_blur(light: np.ndarray, sharp: np.ndarray, centre: np.ndarray, width: float) -> float:
    """The sigma by which a sharp crop is blurred to resemble another one around a point, both (side, side) luma."""
    left, top = np.maximum(0, centre - [0.8 * width, 0.7 * width]).astype(int)
    rows, columns = slice(top, top + round(1.2 * width) + 1), slice(left, left + round(1.6 * width) + 1)
    sigmas = [sigma * light.shape[0] / 512 for sigma in BLURS]
    errors = [np.square(blurred(sharp[rows, columns], sigma) - light[rows, columns]).mean() for sigma in sigmas]
    return sigmas[int(np.argmin(errors))]


def face_blur(light: np.ndarray, sharp: np.ndarray) -> float:
    """`matching_blur` over eyes, nose and mouth of aligned crops."""
    (first, second), nose = template(len(light))[:2], template(len(light))[2]
    return matching_blur(light, sharp, nose, FACE_WIDTH * float(np.linalg.norm(second - first)))


def blurred(light: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(light, (0, 0), sigma) if sigma and light.size else light


def mesh_distance(a: np.ndarray, mesh_a: Mesh, b: np.ndarray, mesh_b: Mesh) -> float:
    """How far two crops show different persons, on the scale of dlib's descriptors: over 0.6 for most others.

    By the shape of the mesh and the appearance between coarse light and fine detail, in which a blurred face and a
    sharp one of the same person are alike.
    """
    appearance = 1 - _correlation(_appearance(a), _appearance(b))
    return SHAPE_WEIGHT * np.sqrt(_shape_distance(mesh_a, mesh_b)) + APPEARANCE_WEIGHT * np.sqrt(max(0.0, appearance))


def _shape_distance(a: Mesh, b: Mesh) -> float:
    """Root mean square distance of the points of two meshes of the same place and size."""
    shapes = [mesh.points[list(INNER), :2].astype(np.float64) for mesh in (a, b)]
    shapes = [points - points.mean(0) for points in shapes]
    first, second = (points / max(1e-6, np.sqrt((points**2).sum(1).mean())) for points in shapes)
    return float(np.sqrt(((first - second) ** 2).sum(1).mean()))


def _appearance(crop: np.ndarray) -> np.ndarray:
    """The light of the face in a band of frequencies: (points,)."""
    small = cv2.resize(luma(crop), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    band = blurred(small, FINE) - blurred(small, COARSE)
    return band[soft_mask([FACE], SIDE, 1) > 0.5]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-12))
