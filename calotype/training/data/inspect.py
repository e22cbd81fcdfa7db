"""What one look at a photo tells before anything is learnt from it: its size, its light, how sharp it is."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError
from calotype.models.face_detector import CONFIDENT, DetectedFace
from calotype.picture import Picture
from calotype.tasks import Note, Progress, note
from calotype.training.data.buckets import Size
from calotype.training.data.dataset import Example

SIDES = (256, 512)  # photos are judged with a longer side from here to there, as they will be trained at
BLUR = 1.5  # deviation of the blur that tells how much sharpness there was to lose
FAINT = 3.0  # bend of the edges, in grey levels, below which a direction has none
LEAST_FACE = 64  # pixels of its shorter side; the sharpness of smaller ones says little
SMALL = 32  # side of the copy that photos are compared by
SHORT = 8  # of its cosine transform these rows and columns make the hash
_ACROSS = tuple(
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
    """One photo, looked at once. Grey levels run from 0 to 255."""

    size: Size  # upright
    sha256: str
    sharpness: float  # see `sharpness`; 0 where there are no edges
    face: float | None  # that of its largest face, where there is one that is large enough
    bend: float  # how strong its edges are, in grey levels
    light: float  # grey level that a twentieth of the photo is brighter than
    spread: float  # deviation of the grey levels
    hash: int  # 64 bits; alike for photos that look alike
    small: np.ndarray  # (32, 32, 3) float32, RGB
    has_holes: bool  # parts of it are transparent


def looked_at(
    photos: Sequence[Example], side: int, max_pixels: int, faces: Callable[[np.ndarray], list[DetectedFace]]
) -> Generator[Progress | Note, None, tuple[list[Example], list[ImageStats]]]:
    """Looks at every photo once, in the regularisation pictures for no faces; those that cannot be read are left out.

    Args:
        side: of the squares that will be trained at, in pixels.
        faces: finds faces in (H, W, 3) uint8 RGB, the surest first.

    Raises:
        CalotypeError: none can be read.
    """
    good, glances = [], []
    for n, photo in enumerate(photos, 1):
        try:
            glances.append(glance(photo.path, side, max_pixels, None if photo.is_regular else faces))
            good.append(photo)
        except CalotypeError as fault:
            yield note("left out: {fault}", fault=fault)
        yield Progress(n, len(photos), "photos looked at")
    if not any(not photo.is_regular for photo in good):
        raise CalotypeError("none of the {count} photos can be read; put others into their folder", count=len(photos))
    return good, glances


def glance(
    path: Path, side: int, max_pixels: int, faces: Callable[[np.ndarray], list[DetectedFace]] | None = None
) -> ImageStats:
    """Opens a photo and looks at it. Raises CalotypeError as Picture.open."""
    picture = Picture.open(path, max_pixels)
    height, width = picture.pixels.shape[:2]
    rgb = _shrunk(picture.pixels, min(max(side, SIDES[0]), SIDES[1]))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(rgb, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    holes = picture.alpha is not None and picture.alpha.min() < 0.98 * np.iinfo(picture.alpha.dtype).max
    return ImageStats(
        (width, height),
        picture.sha256,
        sharpness(grey),
        _face_sharpness(rgb, grey, faces(rgb)) if faces else None,
        float(np.percentile(np.abs(cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F)), 99)),
        float(np.percentile(grey, 95)),
        float(grey.std()),
        hashed(small),
        small,
        bool(holes),
    )


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 1 or 3) of 8 or 16 bits to (h, w, 3) uint8 with a longer side of `side` at most."""
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
    """How many times weaker a slight blur makes the edges of (H, W) uint8, in the direction where it is least so.

    A sharp photo loses much by being blurred, a blurred one little (the idea of Crete et al. 2007, "The blur effect"),
    whatever its contrast. An edge is a strong second derivative, the upper hundredth of it; a hand that shook blurs
    one direction alone. 0 where no direction has edges.
    """
    here = grey.astype(np.float32)
    there = cv2.GaussianBlur(here, (0, 0), BLUR)
    found = []
    for kernel in _ACROSS:
        edges, left = (float(np.percentile(np.abs(cv2.filter2D(x, -1, kernel)), 99)) for x in (here, there))
        if edges > FAINT:
            found.append(edges / max(left, 1e-3))
    return min(found, default=0.0)


def _face_sharpness(rgb: np.ndarray, grey: np.ndarray, found: list[DetectedFace]) -> float | None:
    sure = [face for face in found if face.confidence >= CONFIDENT and min(face.box[2:]) >= LEAST_FACE]
    if not sure:
        return None
    x, y, w, h = max(sure, key=lambda face: face.box[2] * face.box[3]).box
    part = grey[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)]
    return sharpness(part) if min(part.shape) >= LEAST_FACE // 2 else None


def hashed(small: np.ndarray) -> int:
    """64 bits from the low frequencies of (32, 32, 3): the cosine transform's signs about its median (pHash)."""
    low = cv2.dct(small @ np.array([0.299, 0.587, 0.114], np.float32))[:SHORT, :SHORT].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def apart(one: ImageStats, other: ImageStats) -> tuple[int, float]:
    """Bits by which the hashes of two photos differ, and their mean difference in grey levels, small."""
    return (one.hash ^ other.hash).bit_count(), float(np.abs(one.small - other.small).mean())
