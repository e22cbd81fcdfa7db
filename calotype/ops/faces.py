"""Faces: cut out of a picture aligned, and pasted back without a visible edge.

Points are (x, y) in pixels, pixel centres at integers.
The template is FFHQ's at 512 px, as face restoration networks were trained on it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from calotype.ops.color import LUMA
from calotype.ops.resize import averaged

TEMPLATE = np.array(  # eye, eye, nose, mouth corner, mouth corner; picture's left first
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
TEMPLATE_SIDE = 512
OUTSIDE = (132, 133, 135)  # RGB beyond the picture's edge, as the networks were trained
NOSE_DEPTH = 0.5  # of the nose's tip before the eyes, as the detector has them, of the eyes' distance
TONE_SIGMA = 1 / 16  # of the blur that tells tone from detail in pasting, as a fraction of a crop's side
TONE_SIDE = 128  # side of the crop at which tone is computed
LIGHT_SIGMA, COLOUR_SIGMA = 1 / 8, 1 / 48  # of the blur in `matched`, as fractions of a crop's side


def template(side: int) -> np.ndarray:
    """The five points in an aligned crop of this side: (5, 2)."""
    return (TEMPLATE + 0.5) * (side / TEMPLATE_SIDE) - 0.5


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and translation that bring `points` nearest to `target` (Umeyama 1991): (2, 3)."""
    centre, target_centre = points.mean(0), target.mean(0)
    a, b = points - centre, target - target_centre
    u, s, vt = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * flip) @ vt
    scaled = turn * ((s * flip).sum() / (a**2).sum())
    return np.hstack([scaled, (target_centre - scaled @ centre)[:, None]])


def scale_of(matrix: np.ndarray) -> float:
    """The scale of a similarity matrix: pixels of the crop per pixel of the picture."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def yaw(landmarks: np.ndarray, nose_depth: float = NOSE_DEPTH) -> float:
    """Degrees by which a head is turned, by its five landmarks: positive to the picture's right, 90 for a profile.

    Args:
        nose_depth: of the nose's tip before the eyes, of the eyes' distance.
    """
    eyes, across = landmarks[:2].mean(0), landmarks[1] - landmarks[0]
    forward = (landmarks[2] - eyes) @ across / max(1e-6, across @ across)
    return float(np.degrees(np.arctan(forward / nose_depth)))


def align(pixels: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Cuts (H, W, C) pixels into an aligned (side, side, C) crop; antialiased when shrinking."""
    pixels, matrix = _shrunk(pixels, matrix, side)
    outside = [v * (np.iinfo(pixels.dtype).max // 255) for v in OUTSIDE]
    crop = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=outside)
    return crop.reshape(side, side, pixels.shape[2])


def _shrunk(pixels: np.ndarray, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The region of the picture that the crop covers, reduced so that the crop's scale is near 1."""
    if scale_of(matrix) > 0.75:
        return pixels, matrix
    (left, top), (right, bottom) = bounds(cv2.invertAffineTransform(matrix), side, pixels.shape[:2])
    region = pixels[top:bottom, left:right]
    if region.size == 0:
        return pixels, matrix
    height = max(1, round(region.shape[0] * scale_of(matrix)))
    width = max(1, round(region.shape[1] * scale_of(matrix)))
    small = averaged(region, height, width)
    ratio = np.array([region.shape[1] / width, region.shape[0] / height])
    into = matrix.copy()
    into[:, 2] += matrix[:, :2] @ ((ratio - 1) / 2 + (left, top))
    into[:, :2] = matrix[:, :2] * ratio
    return small, into


def bounds(matrix: np.ndarray, side: int, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rectangle of a picture (H, W) that a crop covers: (left, top), (right, bottom), ends exclusive."""
    corners = np.array([(-0.5, -0.5), (side, -0.5), (-0.5, side), (side, side)])
    projected = corners @ matrix[:, :2].T + matrix[:, 2]
    low = np.clip(np.floor(projected.min(0)).astype(int) - 2, 0, shape[::-1])
    high = np.clip(np.ceil(projected.max(0)).astype(int) + 3, 0, shape[::-1])
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def scaled(matrix: np.ndarray, scale_y: float, scale_x: float) -> np.ndarray:
    """A crop-to-picture matrix, for the enlarged picture: pixel centres keep their positions."""
    scales = np.diag([scale_x, scale_y])
    into = scales @ matrix
    into[:, 2] += (np.array([scale_x, scale_y]) - 1) / 2
    return into


def for_side(matrix: np.ndarray, side: int, new_side: int) -> np.ndarray:
    """A crop-to-picture matrix for a crop of `side`, converted for the same crop resized to `new_side`."""
    shrink = side / new_side
    offset = matrix[:, :2] @ np.full(2, (shrink - 1) / 2)
    return np.hstack([matrix[:, :2] * shrink, (matrix[:, 2] + offset)[:, None]])


def feather(side: int) -> np.ndarray:
    """The blending mask of a restored crop: (side, side) float32 in [0, 1].

    1 over brows, eyes, nose, mouth, cheeks and chin of the template; fading to 0 before the crop's edge, so that hair
    and background show no seam.
    """
    at = (np.arange(side, dtype=np.float32) + 0.5) * (TEMPLATE_SIDE / side)
    x, y = np.abs(at - 256) / 226, np.abs(at - 276) / 232
    distance = (x[None, :] ** 3 + y[:, None] ** 3) ** (1 / 3)
    fade = np.clip((1 - distance) / 0.32, 0, 1)
    return (fade * fade * (3 - 2 * fade)).astype(np.float32)


def matched(restored: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """The restored crop with the low frequencies of light and colour of its source: both (side, side, C) float32.

    Of light only the lowest frequencies are transferred, which removes a network's drift in tone and keeps its detail;
    of colour also higher ones, down to the width of an iris, so that brown eyes stay brown. On 40 degraded faces
    restored by a forerunner of faces-v2, the colour of the irises differed by 2.4 of 255 from the ground truth without
    the latter, by 1.1 with it.
    """
    restored = restored + _blurred(crop - restored, restored.shape[0] * LIGHT_SIGMA).reshape(restored.shape)
    if crop.shape[2] < 3:
        return restored
    return restored + _blurred(_chroma(crop) - _chroma(restored), restored.shape[0] * COLOUR_SIGMA)


def _chroma(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) minus its luma."""
    return pixels - (pixels @ np.array(LUMA, pixels.dtype))[..., None]


def _blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def is_sharp(crop: np.ndarray, restored: np.ndarray) -> bool:
    """Whether a face is already about as sharp as its restored version, and has little noise.

    Both (side, side, 3) float32 in [0, 1]. Measured by the Laplacian over the face: its 98th percentile is edges, its
    median is noise. On 12 clean faces the ratio of edges was 0.79 to 1.6, on the same ones blurred or shrunk 0.15 to
    0.7; noise is a fifth of the edges at most in clean ones, more than a quarter from a deviation of 6/255.
    """
    (edges, noise), (target_edges, target_noise) = _edges_and_noise(crop), _edges_and_noise(restored)
    sharpness, target_sharpness = (
        max(0.0, e * e - 9 * n * n) for e, n in ((edges, noise), (target_edges, target_noise))
    )
    return bool(edges >= 5 * noise and sharpness >= 0.85**2 * target_sharpness)


def _edges_and_noise(crop: np.ndarray) -> tuple[float, float]:
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    response = np.abs(cv2.Laplacian(grey, cv2.CV_32F))[feather(crop.shape[0]) > 0.5]
    return float(np.percentile(response, 98)), float(np.median(response)) / 0.6745


@dataclass(frozen=True, eq=False)
class FaceBlend:
    """How a crop is laid over a picture: (side, side) float32 in [0, 1] each, at any side."""

    detail: np.ndarray  # mask of what is finer than `TONE_SIGMA`
    tone: np.ndarray  # mask of what is coarser: fading over a longer way, it shows no border where tones differ
    strength: np.ndarray  # weight of the restored pixels


@dataclass(frozen=True, eq=False)
class Patch:
    """A restored crop and its position in the picture."""

    crop: np.ndarray  # (side, side, C) float32 in [0, 1]
    matrix: np.ndarray  # (2, 3) crop -> picture
    strength: float = 1.0
    blend: FaceBlend | None = None  # instead of `feather` and `strength`


def paste(enlarged: np.ndarray, plain: np.ndarray, patch: Patch, corner: tuple[int, int]) -> np.ndarray:
    """Blends a patch into the region of a picture that it covers.

    Args:
        enlarged: (h, w, C) float32 in [0, 1], that region of the enlarged picture.
        plain: (h, w, C) float32, the same region enlarged without a network; strength 0 returns it.
        patch: its matrix refers to the full picture.
        corner: (left, top) of that region.

    Returns:
        (h, w, C) float32. Strength moves the face from `plain` (0) to the patch's crop (1).
    """
    size = (enlarged.shape[1], enlarged.shape[0])
    matrix = patch.matrix.copy()
    matrix[:, 2] -= corner
    warped = cv2.warpAffine(patch.crop, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    warped = warped.reshape(plain.shape)
    if patch.blend is not None:
        return _paste_in_bands(
            enlarged, plain, warped, patch.blend, for_side(matrix, patch.crop.shape[0], patch.blend.tone.shape[0])
        )
    mask = cv2.warpAffine(feather(patch.crop.shape[0]), matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    face = plain + patch.strength * (warped - plain)
    return enlarged * (1 - mask) + face * mask


def _paste_in_bands(
    enlarged: np.ndarray, plain: np.ndarray, warped: np.ndarray, blend: FaceBlend, matrix: np.ndarray
) -> np.ndarray:
    """As `paste`, tone and detail by masks of their own (Burt and Adelson 1983, with two bands).

    Args:
        warped: (h, w, C) float32, the restored crop in the region.
        matrix: (2, 3) from the blend's masks to the region.
    """
    size = (enlarged.shape[1], enlarged.shape[0])
    detail, tone, strength = (
        cv2.warpAffine(m, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
        for m in (blend.detail, blend.tone, blend.strength)
    )
    difference = plain + strength * (warped - plain) - enlarged
    side = blend.tone.shape[0]
    inside = cv2.warpAffine(np.ones((side, side), np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    coarse = _coarse(difference, inside, side * scale_of(matrix))
    return enlarged + tone * coarse + detail * (difference - coarse)


def _coarse(difference: np.ndarray, inside: np.ndarray, side: float) -> np.ndarray:
    """The tone of (h, w, C) differences: what is left of them by a blur of `TONE_SIGMA`, of what lies inside the crop.

    Computed at a lower resolution.

    Args:
        inside: (h, w) float32, 1 in the crop and 0 beyond it.
        side: of the crop in these pixels.
    """
    shrink = min(1.0, TONE_SIDE / side)
    small = tuple(max(1, round(n * shrink)) for n in difference.shape[1::-1])
    weighted = np.dstack([difference * inside[..., None], inside])
    blurred = cv2.GaussianBlur(
        cv2.resize(weighted, small, interpolation=cv2.INTER_AREA), (0, 0), TONE_SIGMA * side * shrink
    )
    coarse = blurred[..., :-1] / np.maximum(blurred[..., -1:], 1e-3)
    return cv2.resize(coarse, difference.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(difference.shape)
