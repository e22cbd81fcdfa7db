"""Faces: aligned out of a picture, and pasted back so that no edge shows.

Points are (x, y) in pixels, pixel centres at integers.
The template is FFHQ's at 512 px, as face restoration networks were trained on it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from calotype.ops.color import LUMA

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
OUTSIDE = (132, 133, 135)  # RGB of what a crop shows beyond the picture's edge, as the networks were trained
LIGHT, COLOUR = 1 / 8, 1 / 48  # shares of a crop's side: how soft light and colours are that it gives to a restored one


def template(side: int) -> np.ndarray:
    """The five points in an aligned crop of this side: (5, 2)."""
    return (TEMPLATE + 0.5) * (side / TEMPLATE_SIDE) - 0.5


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that bring `points` nearest to `onto` (Umeyama 1991): (2, 3)."""
    centre, wanted = points.mean(0), onto.mean(0)
    a, b = points - centre, onto - wanted
    u, s, vt = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * flip) @ vt
    scaled = turn * ((s * flip).sum() / (a**2).sum())
    return np.hstack([scaled, (wanted - scaled @ centre)[:, None]])


def size_of(matrix: np.ndarray) -> float:
    """How many times larger the crop shows things than the picture."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def align(pixels: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Cuts (H, W, C) pixels into an aligned (side, side, C) crop; what is shrunk is smoothed first."""
    pixels, matrix = _shrunk(pixels, matrix, side)
    outside = [v * (np.iinfo(pixels.dtype).max // 255) for v in OUTSIDE]
    crop = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=outside)
    return crop.reshape(side, side, pixels.shape[2])


def _shrunk(pixels: np.ndarray, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that the crop shows, reduced so that the crop's scale is near 1."""
    if size_of(matrix) > 0.75:
        return pixels, matrix
    (left, top), (right, bottom) = bounds(cv2.invertAffineTransform(matrix), side, pixels.shape[:2])
    part = pixels[top:bottom, left:right]
    if part.size == 0:
        return pixels, matrix
    height = max(1, round(part.shape[0] * size_of(matrix)))
    width = max(1, round(part.shape[1] * size_of(matrix)))
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    grow = np.array([part.shape[1] / width, part.shape[0] / height])
    into = matrix.copy()
    into[:, 2] += matrix[:, :2] @ ((grow - 1) / 2 + (left, top))
    into[:, :2] = matrix[:, :2] * grow
    return small, into


def bounds(matrix: np.ndarray, side: int, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rectangle of a picture (H, W) that a crop lands on: (left, top), (right, bottom), ends exclusive."""
    corners = np.array([(-0.5, -0.5), (side, -0.5), (-0.5, side), (side, side)])
    landed = corners @ matrix[:, :2].T + matrix[:, 2]
    low = np.clip(np.floor(landed.min(0)).astype(int) - 2, 0, shape[::-1])
    high = np.clip(np.ceil(landed.max(0)).astype(int) + 3, 0, shape[::-1])
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def scaled(matrix: np.ndarray, scale_y: float, scale_x: float) -> np.ndarray:
    """A crop-to-picture matrix, for the picture enlarged: pixel centres keep their place."""
    grow = np.diag([scale_x, scale_y])
    into = grow @ matrix
    into[:, 2] += (np.array([scale_x, scale_y]) - 1) / 2
    return into


def for_side(matrix: np.ndarray, side: int, other: int) -> np.ndarray:
    """A crop-to-picture matrix for a crop of `side`, made one for the same crop resized to `other`."""
    shrink = side / other
    offset = matrix[:, :2] @ np.full(2, (shrink - 1) / 2)
    return np.hstack([matrix[:, :2] * shrink, (matrix[:, 2] + offset)[:, None]])


def feather(side: int) -> np.ndarray:
    """How much of a restored crop to keep: (side, side) float32 in [0, 1].

    1 over brows, eyes, nose, mouth, cheeks and chin of the template; fading to 0 before the crop's edge, so that hair
    and background join without a seam.
    """
    at = (np.arange(side, dtype=np.float32) + 0.5) * (TEMPLATE_SIDE / side)
    x, y = np.abs(at - 256) / 226, np.abs(at - 276) / 232
    distance = (x[None, :] ** 3 + y[:, None] ** 3) ** (1 / 3)
    fade = np.clip((1 - distance) / 0.32, 0, 1)
    return (fade * fade * (3 - 2 * fade)).astype(np.float32)


def matched(restored: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Gives a restored crop the light and the colours of the crop it came from: both (side, side, C) float32.

    Of light only the lowest frequencies are taken over, so a network's drift in tone goes and its detail stays; of
    colour higher ones too, as far as an iris is wide, so that brown eyes stay brown. On 40 degraded faces restored by a
    forerunner of faces-v2, the colour of the irises was 2.4 of 255 away from the truth without the latter, 1.1 with it.
    """
    restored = restored + _soft(crop - restored, restored.shape[0] * LIGHT).reshape(restored.shape)
    if crop.shape[2] < 3:
        return restored
    return restored + _soft(_colour(crop) - _colour(restored), restored.shape[0] * COLOUR)


def _colour(pixels: np.ndarray) -> np.ndarray:
    """What is left of (H, W, 3) without its grey."""
    return pixels - (pixels @ np.array(LUMA, pixels.dtype))[..., None]


def _soft(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def is_sharp(crop: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether a face is already about as sharp as what a network drew of it, and has little noise.

    Both (side, side, 3) float32 in [0, 1]. Judged by the Laplacian over the face: its upper end are edges, its median
    is noise. On 12 clean faces the ratio of edges was 0.79 to 1.6, on the same ones blurred or shrunk 0.15 to 0.7;
    noise is a fifth of the edges at most in clean ones, more than a quarter from a deviation of 6/255.
    """
    (edges, noise), (drawn_edges, drawn_noise) = _edges_and_noise(crop), _edges_and_noise(drawn)
    clean, drawn_clean = (max(0.0, e * e - 9 * n * n) for e, n in ((edges, noise), (drawn_edges, drawn_noise)))
    return bool(edges >= 5 * noise and clean >= 0.85**2 * drawn_clean)


def _edges_and_noise(crop: np.ndarray) -> tuple[float, float]:
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    bend = np.abs(cv2.Laplacian(grey, cv2.CV_32F))[feather(crop.shape[0]) > 0.5]
    return float(np.percentile(bend, 98)), float(np.median(bend)) / 0.6745


@dataclass(frozen=True, eq=False)
class Patch:
    """A restored crop and where it belongs."""

    crop: np.ndarray  # (side, side, C) float32 in [0, 1]
    matrix: np.ndarray  # (2, 3) crop -> picture
    strength: float = 1.0


def paste(enlarged: np.ndarray, plain: np.ndarray, patch: Patch, corner: tuple[int, int]) -> np.ndarray:
    """Blends a patch into the part of a picture that it covers.

    Args:
        enlarged: (h, w, C) float32 in [0, 1], that part of the enlarged picture.
        plain: (h, w, C) float32, the same part enlarged without any network; what strength 0 returns.
        patch: its matrix leads to the whole picture.
        corner: (left, top) of that part.

    Returns:
        (h, w, C) float32. Strength moves the face from `plain` (0) to the patch's crop (1).
    """
    size = (enlarged.shape[1], enlarged.shape[0])
    matrix = patch.matrix.copy()
    matrix[:, 2] -= corner
    drawn = cv2.warpAffine(patch.crop, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(feather(patch.crop.shape[0]), matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    face = plain + patch.strength * (drawn.reshape(plain.shape) - plain)
    return enlarged * (1 - mask) + face * mask
