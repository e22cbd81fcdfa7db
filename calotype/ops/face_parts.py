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
OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
TOP, CHIN = 10, 152
FOREHEAD = 0.16  # by which the outline's top is moved up, of its height: the mesh ends below the hairline
FADE = 0.085  # width of a mask's soft border outside the outline, of the crop's side
EDGE = 0.06  # width of its fade before the crop's edge


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

    def resized(self, side: int, new_side: int) -> "Mesh":
        """The mesh in the crop resized from `side` to `new_side`."""
        scale = new_side / side
        points, irises, lids = (np.array(p) for p in (self.points, self.irises, self.lids))
        points[:, 2] *= scale
        for part in (points[:, :2], irises, lids):
            part[...] = (part + 0.5) * scale - 0.5
        return Mesh(points, irises, lids, self.confidence)


def face_mask(mesh: Mesh, side: int) -> np.ndarray:
    """The blending mask that follows a face: (side, side) float32 in [0, 1].

    1 from chin to hairline and from cheek to cheek, fading to 0 in hair, ears and neck.
    """
    outline = mesh.points[OUTLINE, :2].astype(np.float64)
    up = mesh.points[TOP, :2] - mesh.points[CHIN, :2].astype(np.float64)
    heights = (outline - mesh.points[CHIN, :2]) @ up / (up @ up)  # 0 at the chin, 1 at the top
    outline += FOREHEAD * np.clip((heights - 0.6) / 0.3, 0, 1)[:, None] * up
    return soft_mask([outline], side, FADE * side) * _edge_fade(side)


def soft_mask(polygons: Iterable[np.ndarray], side: int, width: float) -> np.ndarray:
    """1 within the polygons, falling to 0 over `width` pixels around them: (side, side) float32."""
    outside = np.ones((side, side), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(outside, [np.round(polygon).astype(np.int32)], 0)
    if outside.all():
        return np.zeros((side, side), np.float32)
    fade = np.clip(1 - cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / max(width, 1e-3), 0, 1)
    return (fade * fade * (3 - 2 * fade)).astype(np.float32)


def _edge_fade(side: int) -> np.ndarray:
    at = np.arange(side, dtype=np.float32) + 0.5
    fade = np.clip(np.minimum(at, side - at) / (EDGE * side), 0, 1)
    return np.minimum(fade[None, :], fade[:, None])
