"""What is measured of a photo besides the damage that repairs mend: noise, blur, blocks of JPEG.

Figures are of samples as levels of 0 to 255, at full size, in a limited number of tiles, so that time and memory do not
grow with the picture. Pixels are (H, W, C) of 8 or 16 bits everywhere.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from calotype.ops import channels

TILE, TILES = 256, 8  # side in pixels, a multiple of STEP; tiles along a side at most, evenly spaced
CELL, CALM = 32, 0.2  # side of the cells in which noise is measured; the quantile of them that counts
CLIPPED = 2.0  # levels from either end, at which noise is cut off
LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
REBLUR = 1.0  # sigma, pixels
STRONGEST, FAINT_EDGE, FEWEST_EDGES = 0.01, 4.0, 20  # of a tile's gradients, levels a pixel, pixels
STEP, HIGHEST_STEP, FEWEST_STEPS = 8, 8.0, 32  # pixels between JPEG's edges; levels; lines of pixels


def noise(pixels: np.ndarray) -> float:
    """Standard deviation of noise in the calmest parts, levels (Immerkaer 1996); 0 where it can't be measured."""
    figures = np.concatenate([np.empty(0), *(_cells(tile) for tile in _tiles(pixels))])
    return float(sigma_of(np.quantile(figures, CALM))) if len(figures) else 0.0


def sigma_of(response: np.ndarray) -> np.ndarray:
    """Standard deviation of noise by the mean absolute response of `LAPLACIAN` (Immerkaer 1996)."""
    return response * math.sqrt(math.pi / 2) / 6


def _cells(tile: np.ndarray) -> np.ndarray:
    """The mean response of the Laplacian in each cell that is not clipped."""
    response, levels = np.abs(cv2.filter2D(tile, -1, LAPLACIAN))[1:-1, 1:-1], tile[1:-1, 1:-1]
    rows, columns = (max(0, side) // CELL for side in levels.shape)
    if not rows or not columns:
        return np.empty(0)
    response, levels = (
        part[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).mean((1, 3))
        for part in (response, levels)
    )
    return response[(levels > CLIPPED) & (levels < 255 - CLIPPED)]


def blur(pixels: np.ndarray) -> float:
    """Blur of the strongest edges, sigma in pixels; 0 where nothing has an edge.

    From how much gradients fall where the picture is blurred once more (Zhuo and Sim 2011, "Defocus map estimation
    from a single image").
    """
    edges = np.concatenate([np.empty((2, 0)), *(_edges(tile) for tile in _tiles(pixels))], axis=1)
    if edges.shape[1] < FEWEST_EDGES:
        return 0.0
    sharp, blurred = edges[:, edges[0] >= np.median(edges[0])]
    ratio = float(np.median(sharp / np.maximum(blurred, 1e-3)))
    return REBLUR / math.sqrt(max(ratio * ratio - 1, 1e-3))


def _edges(tile: np.ndarray) -> np.ndarray:
    """(2, N): the strongest gradients, and those at the same pixels after `REBLUR`; levels a pixel."""
    sharp, blurred = _gradients(tile), _gradients(cv2.GaussianBlur(tile, (0, 0), REBLUR))
    is_edge = sharp >= max(FAINT_EDGE, np.quantile(sharp, 1 - STRONGEST))
    return np.stack([sharp[is_edge], blurred[is_edge]])


def _gradients(tile: np.ndarray) -> np.ndarray:
    return np.hypot(*(cv2.Sobel(tile, -1, *axes, ksize=3) / 8 for axes in ((1, 0), (0, 1))))


def blocks(pixels: np.ndarray) -> float:
    """How much higher steps are at the edges of JPEG's blocks than elsewhere, levels: in rows or columns, the less."""
    sums, counts = np.zeros((2, STEP)), np.zeros((2, STEP))
    for tile in _tiles(pixels):
        for axis, lines in enumerate((tile, tile.T)):
            steps = np.abs(np.diff(lines, axis=0))
            if len(steps) < 3:
                continue
            excess = (steps[1:-1] - (steps[:-2] + steps[2:]) / 2).clip(-HIGHEST_STEP, HIGHEST_STEP).mean(1)
            phase = np.arange(len(excess)) % STEP
            sums[axis] += np.bincount(phase, excess, STEP)
            counts[axis] += np.bincount(phase, minlength=STEP)
    if counts.sum(1).min() < FEWEST_STEPS:
        return 0.0
    means = sums / np.maximum(counts, 1)
    highest = means.max(1)
    return float((highest - (means.sum(1) - highest) / (STEP - 1)).min().clip(0))


def _tiles(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Grey tiles, float32 levels; each begins at a multiple of `STEP`."""
    rows, columns = (_starts(side) for side in pixels.shape[:2])
    scale = np.float32(255 / np.iinfo(pixels.dtype).max)
    for top in rows:
        for left in columns:
            yield channels.mean(pixels[top : top + TILE, left : left + TILE]) * scale


def _starts(side: int) -> list[int]:
    count = min(TILES, math.ceil(side / TILE))
    last = max(0, side - TILE) // STEP * STEP
    return sorted({int(start) // STEP * STEP for start in np.linspace(0, last, count)})
