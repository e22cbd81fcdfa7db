"""Statistics of training photos, computed before training: size, brightness, sharpness, perceptual hash."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError
from calotype.models.face_detector import CONFIDENT, DetectedFace
from calotype.picture import Picture
from calotype.tasks import Note, Progress, note
from calotype.training.data.buckets import Size
from calotype.training.data.dataset import Example
from calotype.training.data.masks import read_mask

SIDE_RANGE = (256, 512)  # photos are inspected at the training resolution, clamped to this range
BLUR_SIGMA = 1.5  # of the Gaussian blur that sharpness is measured with
MIN_EDGE = 3.0  # second derivative in grey levels; below it a direction has no edges
MIN_FACE = 64  # pixels of the shorter side; the sharpness of smaller faces is unreliable
THUMBNAIL = 32  # side of the copy that photos are compared by, in pixels
HASH_SIDE = 8  # rows and columns of its cosine transform that make the hash
_SECOND_DERIVATIVES = tuple(
    np.array(kernel, np.float32)
    for kernel in (
        ((0, 0, 0), (1, -2, 1), (0, 0, 0)),
        ((0, 1, 0), (0, -2, 0), (0, 1, 0)),
        ((1, 0, 0), (0, -2, 0), (0, 0, 1)),
        ((0, 0, 1), (0, -2, 0), (1, 0, 0)),
    )
)


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Statistics of one photo. Grey levels are 0 to 255."""

    size: Size  # after EXIF rotation
    sha256: str
    sharpness: float  # see `sharpness`; 0 if there are no edges
    face: float | None  # sharpness of the largest face; None if there is none that is large enough
    edge_strength: float  # 99th percentile of the absolute Laplacian, in grey levels
    brightness: float  # 95th percentile of the grey levels
    std: float  # of the grey levels
    hash: int  # 64 bits; similar for similar photos
    thumbnail: np.ndarray  # (32, 32, 3) float32, RGB
    is_transparent: bool  # at least in part
    mask_sha256: str = ""  # of the mask's file, if there is one


def inspect_images(
    photos: Sequence[Example], side: int, max_pixels: int, faces: Callable[[np.ndarray], list[DetectedFace]]
) -> Generator[Progress | Note, None, tuple[list[Example], list[ImageStats]]]:
    """Computes the statistics of every photo; those that cannot be read are left out, and those whose mask cannot be
    used. Faces are not searched in regularization images.

    Args:
        side: training resolution in pixels.
        faces: finds faces in (H, W, 3) uint8 RGB, by descending confidence.

    Raises:
        CalotypeError: none can be read.
    """
    readable, stats = [], []
    for n, photo in enumerate(photos, 1):
        try:
            of_photo = image_stats(photo.path, side, max_pixels, None if photo.is_regularization else faces)
            if photo.mask is not None:
                of_photo = replace(of_photo, mask_sha256=read_mask(photo.mask, of_photo.size, max_pixels)[1])
            stats.append(of_photo)
            readable.append(photo)
        except CalotypeError as error:
            yield note("left out: {fault}", fault=error)
        yield Progress(n, len(photos), "photos inspected")
    if not any(not photo.is_regularization for photo in readable):
        raise CalotypeError(
            "none of the {count} photos can be read; put other photos into the folder", count=len(photos)
        )
    return readable, stats


def image_stats(
    path: Path, side: int, max_pixels: int, faces: Callable[[np.ndarray], list[DetectedFace]] | None = None
) -> ImageStats:
    """Opens a photo and computes its statistics. Raises CalotypeError as Picture.open does."""
    picture = Picture.open(path, max_pixels)
    height, width = picture.pixels.shape[:2]
    rgb = _shrunk(picture.pixels, min(max(side, SIDE_RANGE[0]), SIDE_RANGE[1]))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(rgb, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    transparent = picture.alpha is not None and picture.alpha.min() < 0.98 * np.iinfo(picture.alpha.dtype).max
    return ImageStats(
        (width, height),
        picture.sha256,
        sharpness(grey),
        _face_sharpness(rgb, grey, faces(rgb)) if faces else None,
        float(np.percentile(np.abs(cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F)), 99)),
        float(np.percentile(grey, 95)),
        float(grey.std()),
        hashed(thumbnail),
        thumbnail,
        bool(transparent),
    )


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 1 or 3) uint8 or uint16 -> (h, w, 3) uint8 with a longer side of at most `side`."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels)


def sharpness(grey: np.ndarray) -> float:
    """The smallest ratio, over four directions, of the edges of (H, W) uint8 to those after a slight blur.

    Blurring changes a sharp photo much and a blurred one little, whatever the contrast (the idea of Crete et al. 2007,
    "The blur effect"). Edges are the 99th percentile of the absolute second derivative; the minimum finds motion blur,
    which is in one direction. 0 if no direction has edges.
    """
    original = grey.astype(np.float32)
    blurred = cv2.GaussianBlur(original, (0, 0), BLUR_SIGMA)
    ratios = []
    for kernel in _SECOND_DERIVATIVES:
        edges, remaining = (float(np.percentile(np.abs(cv2.filter2D(x, -1, kernel)), 99)) for x in (original, blurred))
        if edges > MIN_EDGE:
            ratios.append(edges / max(remaining, 1e-3))
    return min(ratios, default=0.0)


def _face_sharpness(rgb: np.ndarray, grey: np.ndarray, faces: list[DetectedFace]) -> float | None:
    confident = [face for face in faces if face.confidence >= CONFIDENT and min(face.box[2:]) >= MIN_FACE]
    if not confident:
        return None
    x, y, w, h = max(confident, key=lambda face: face.box[2] * face.box[3]).box
    crop = grey[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)]
    return sharpness(crop) if min(crop.shape) >= MIN_FACE // 2 else None


def hashed(thumbnail: np.ndarray) -> int:
    """Perceptual hash (pHash) of (32, 32, 3): 64 bits, low frequencies of the cosine transform above their median."""
    low = cv2.dct(thumbnail @ np.array([0.299, 0.587, 0.114], np.float32))[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def image_distance(first: ImageStats, second: ImageStats) -> tuple[int, float]:
    """Hamming distance of the hashes of two photos, and the mean absolute difference of their thumbnails."""
    return (first.hash ^ second.hash).bit_count(), float(np.abs(first.thumbnail - second.thumbnail).mean())
