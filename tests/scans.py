"""Scans of several photos, drawn with known places."""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from skimage import data

from calotype.ops.scan import ScannedPhoto

LIDS = {"white": (252, 252, 250), "black": (7, 7, 9), "blue": (40, 70, 120), "grey": (200, 195, 185)}


@dataclass(frozen=True)
class Drawn:
    """A photo that is drawn onto a scan: its place, what it shows, and its own border in pixels."""

    photo: ScannedPhoto
    picture: int = 0  # of `pictures`
    border: int = 0
    border_colour: int = 235


@functools.cache
def pictures() -> list[np.ndarray]:
    """(H, W, 3) uint8 each."""
    grey = cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB)
    return [data.astronaut(), data.chelsea(), data.coffee(), grey, data.rocket()]


def drawn_scan(size, lid, photos, noise=1.0, seed=0) -> np.ndarray:
    """(H, W, 3) uint8. `lid` is a colour; it is a little darker towards one side."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    scan = np.empty((height, width, 3), np.float32)
    scan[:] = lid
    scan -= (4 * (x / width + y / height))[..., None] * (1 if lid[0] > 100 else -1)
    for drawn in photos:
        _lay(scan, drawn)
    scan += np.random.default_rng(seed).normal(0, noise, scan.shape)
    return np.clip(np.rint(scan), 0, 255).astype(np.uint8)


def _lay(scan, drawn) -> None:
    """Twice as fine, then averaged, so that edges are soft as those of a scanner."""
    height, width = (round(side) for side in drawn.photo.size)
    content = pictures()[drawn.picture]
    print_ = np.full((2 * height, 2 * width, 3), drawn.border_colour, np.uint8)
    rim = 2 * drawn.border
    inner = (2 * width - 2 * rim, 2 * height - 2 * rim)
    print_[rim : 2 * height - rim, rim : 2 * width - rim] = cv2.resize(content, inner, interpolation=cv2.INTER_AREA)
    corners = drawn.photo.corners
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, scan.shape[1::-1])
    flat = np.array([[0, 0], [2 * width, 0], [2 * width, 2 * height]], np.float32) - 0.5
    matrix = cv2.getAffineTransform(flat, ((corners[:3] - low) * 2 - 0.5).astype(np.float32))
    size = tuple(int(side) for side in high - low)
    fine = tuple(2 * side for side in size)
    content = cv2.warpAffine(print_, matrix, fine, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    share = cv2.warpAffine(np.ones(print_.shape[:2], np.float32), matrix, fine)
    content, share = (cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in (content, share))
    region = scan[low[1] : high[1], low[0] : high[0]]
    region += share[..., None] * (content - region)


def in_grid(count, random, size) -> list[Drawn]:
    """So many photos in rows and columns, each turned and placed by chance in its cell; in reading order."""
    height, width = size
    columns = 1 if count < 3 else 2 if count < 7 else 3
    rows = math.ceil(count / columns)
    return [_in_cell(divmod(n, columns), (height / rows, width / columns), random) for n in range(count)]


def _in_cell(place, cell, random) -> Drawn:
    angle = random.uniform(-15, 15)
    cos, sin = math.cos(math.radians(abs(angle))), math.sin(math.radians(abs(angle)))
    gap = random.uniform(6, 30)
    high, wide = cell[0] - gap, cell[1] - gap
    ratio = random.uniform(0.66, 1.5)
    longest = min(wide / (cos + ratio * sin), high / (sin + ratio * cos))
    width = round(longest * random.uniform(0.85, 1))
    height = round(width * ratio)
    box = width * cos + height * sin, width * sin + height * cos
    x = place[1] * cell[1] + gap / 2 + box[0] / 2 + random.uniform(0, max(0, wide - box[0]))
    free = max(0, high - box[1])
    y = place[0] * cell[0] + gap / 2 + box[1] / 2 + random.uniform(0.4, 0.6) * free  # beside others of its row
    border = random.choice([0, 0, 8, 14])
    return Drawn(ScannedPhoto((x, y), (height, width), angle), random.randrange(5), border, random.choice([225, 238]))


def iou(a: ScannedPhoto, b: ScannedPhoto) -> float:
    """Intersection over union of two turned rectangles, by counting quarters of a pixel."""
    low = np.minimum(a.corners.min(0), b.corners.min(0))
    high = np.maximum(a.corners.max(0), b.corners.max(0))
    masks = []
    for photo in (a, b):
        mask = np.zeros(np.ceil((high - low) * 4).astype(int)[::-1] + 4, np.uint8)
        masks.append(cv2.fillConvexPoly(mask, np.rint((photo.corners - low) * 4).astype(np.int32), 1))
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
