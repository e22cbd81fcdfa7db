"""The mesh of a face, and what follows from it: masks of the face and of its parts.

Points are (x, y) in pixels of an aligned crop, pixel centres at integers. Numbers of points are MediaPipe's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

MIN_CONFIDENCE = 0.5  # below this, the crop shows no face that the mesh fits
CORNERS = ((33, 133), (263, 362))  # outer and inner corner of each eye; the picture's left eye first
LID_POINTS = 16  # of an eye's contour: 9 of the lower lid from the outer corner to the inner one, 7 of the upper lid
LOWER_LID, UPPER_LID = slice(3, 6), slice(11, 14)  # the middle of each, of these points
OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# Polygons of each part, the picture's left one first
PARTS = {
    "brows": ((46, 53, 52, 65, 55, 107, 66, 105, 63, 70), (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)),
    "nose": ((168, 193, 245, 188, 174, 217, 209, 129, 98, 97, 2, 326, 327, 358, 429, 437, 399, 412, 465, 417),),
    "mouth": ((61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),),
    "eyes": (
        (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
        (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    ),
}
PART_GROWTH = {"brows": 0.1, "nose": 0.05, "mouth": 0.12, "eyes": 0.2}  # of the eyes' distance, around the polygon
TOP, CHIN, SIDES = 10, 152, (234, 454)  # of the outline; sides: the picture's left first
FOREHEAD = 0.08  # by which the outline's top is moved up, of its height: the mesh ends below the hairline
EARS = 0.05  # by which its sides are moved out at the height of the ears, of its width
DETAIL_FADE, TONE_FADE = 0.12, 0.24  # widths of the masks' soft borders outside the outline, of the crop's side


@dataclass(frozen=True, eq=False)
class Mesh:
    """A face's points in pixels of the crop. Eyes: the picture's left one first."""

    points: np.ndarray  # (468, 3) float32; z grows away from the viewer, in pixels
    irises: np.ndarray  # (2, 5, 2) centre, then the four points of its edge
    lids: np.ndarray  # (2, 16, 2) contours of the eyes, see LID_POINTS
    confidence: float  # 0 to 1

    @property
    def is_sure(self) -> bool:
        return self.confidence >= MIN_CONFIDENCE


def face_masks(mesh: Mesh, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The masks for detail and for tone that follow a face: (side, side) float32 in [0, 1] each.

    1 from chin to hairline and from ear to ear; detail fades to 0 soon in hair, neck and background, tone slowly.
    """
    polygon = _outline(mesh)
    return tuple(
        soft_mask([polygon], side, fade * side) * _edge_fade(side, fade / 2) for fade in (DETAIL_FADE, TONE_FADE)
    )


def _outline(mesh: Mesh) -> np.ndarray:
    """(36, 2) the mesh's outline, with the forehead up to the hairline, and ears."""
    outline = mesh.points[OUTLINE, :2].astype(np.float64)
    chin, left, right = (mesh.points[n, :2].astype(np.float64) for n in (CHIN, *SIDES))
    up, across = mesh.points[TOP, :2] - chin, right - left
    heights = (outline - chin) @ up / (up @ up)  # 0 at the chin, 1 at the top
    sides = 2 * (outline - left) @ across / (across @ across) - 1  # -1 and 1 at the cheeks
    outline += FOREHEAD * np.clip((heights - 0.6) / 0.3, 0, 1)[:, None] * up
    outline += EARS * (np.clip(1 - np.abs(heights - 0.55) / 0.35, 0, 1) * sides)[:, None] * across
    return outline


def part_mask(mesh: Mesh, part: str, side: int) -> np.ndarray:
    """A part of the face, one of PARTS, with a soft border: (side, side) float32 in [0, 1]."""
    polygons = [mesh.points[list(polygon), :2] for polygon in PARTS[part]]
    return soft_mask(polygons, side, PART_GROWTH[part] * float(np.linalg.norm(mesh.irises[1, 0] - mesh.irises[0, 0])))


def eye_mask(mesh: Mesh, eye: int, side: int) -> np.ndarray:
    """One eye with its lids, as `part_mask` of both."""
    width = PART_GROWTH["eyes"] * float(np.linalg.norm(mesh.irises[1, 0] - mesh.irises[0, 0]))
    return soft_mask([mesh.points[list(PARTS["eyes"][eye]), :2]], side, width)


def soft_mask(polygons: Iterable[np.ndarray], side: int, width: float) -> np.ndarray:
    """1 within the polygons, falling to 0 over `width` pixels around them: (side, side) float32."""
    outside = np.ones((side, side), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(outside, [np.round(polygon).astype(np.int32)], 0)
    if outside.all():
        return np.zeros((side, side), np.float32)
    fade = np.clip(1 - cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / max(width, 1e-3), 0, 1)
    return (fade * fade * (3 - 2 * fade)).astype(np.float32)


def _edge_fade(side: int, width: float) -> np.ndarray:
    """1, falling to 0 at the crop's edge over a width that is a fraction of its side: (side, side)."""
    at = np.arange(side, dtype=np.float32) + 0.5
    fade = np.clip(np.minimum(at, side - at) / (width * side), 0, 1)
    fade = fade * fade * (3 - 2 * fade)
    return np.minimum(fade[None, :], fade[:, None])
