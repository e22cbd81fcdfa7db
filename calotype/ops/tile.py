"""Splits a picture into tiles of one shape, and blends the results, one row of tiles at a time.

Neighbouring tiles overlap. In the middle of the overlap they are cross-faded over at most `FEATHER` input pixels; the
rest of it is context for the network and is discarded. So a tiled run equals the untiled one where that context,
(overlap - feather) / 2 on each side, covers the network's receptive field.

Only one row of tiles is in memory as floating point, whatever the size of the picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEATHER = 8  # input pixels
SMALLEST = 4 * FEATHER  # side of a tile from which neighbouring seams never meet


@dataclass(frozen=True)
class Axis:
    """The positions of the tiles along one axis.

    Attributes:
        size: pixels of the picture along this axis.
        tile: pixels of a tile; more than `size` only where `size` is not a multiple that the network accepts.
        starts: first pixel of each tile, rising.
    """

    size: int
    tile: int
    starts: tuple[int, ...]

    def weights(self, n: int, scale: int) -> Tensor:
        """The blending weights of tile n at its output pixels: (tile * scale,), in [0, 1]; all tiles sum to 1."""
        position = self.starts[n] + (torch.arange(self.tile * scale, dtype=torch.float32) + 0.5) / scale
        weight = torch.ones_like(position)
        if n > 0:
            weight *= _ramp(position, *self.seam(n - 1))
        if n + 1 < len(self.starts):
            weight *= 1 - _ramp(position, *self.seam(n))
        return weight

    def seam(self, n: int) -> tuple[float, float]:
        """Begin and end of the cross-fade from tile n to tile n + 1, in input pixels."""
        begin, end = self.starts[n + 1], self.starts[n] + self.tile
        half = min(FEATHER, end - begin) / 2
        middle = (begin + end) / 2
        return middle - half, middle + half


def _ramp(position: Tensor, begin: float, end: float) -> Tensor:
    if begin == end:
        return (position >= begin).float()
    return ((position - begin) / (end - begin)).clamp(0, 1)


def axis(size: int, tile: int, overlap: int, multiple: int = 1) -> Axis:
    """Distributes tiles evenly over `size` pixels, with at least `overlap` in common, every start a multiple.

    Args:
        size: pixels, at least 1.
        tile: requested side, rounded up to a multiple and to `SMALLEST`; 0: one tile for the axis.
        overlap: at most half a tile is used.
        multiple: sides and starts are multiples of it (networks that begin with a pixel-unshuffle).
    """
    full = _up(size, multiple)
    tile = min(full, _up(max(tile, SMALLEST), multiple)) if tile else full
    if tile >= full:
        return Axis(size, full, (0,))
    overlap = min(overlap, tile // 2 - multiple + 1)
    step = max(multiple, (tile - overlap) // multiple * multiple)
    count = math.ceil((full - tile) / step) + 1
    last = full - tile
    return Axis(size, tile, tuple(n * last // (count - 1) // multiple * multiple for n in range(count)))


def _up(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


@dataclass(frozen=True)
class Grid:
    """The tiles of a picture: all of one shape (rows.tile, columns.tile)."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def cut(self, pixels: np.ndarray, row: int, column: int) -> np.ndarray:
        """One tile of (H, W, C) pixels: (rows.tile, columns.tile, C); reflection-padded outside."""
        y, x = self.rows.starts[row], self.columns.starts[column]
        height, width = pixels.shape[:2]
        tile = pixels[y : min(y + self.rows.tile, height), x : min(x + self.columns.tile, width)]
        if tile.shape[:2] == (self.rows.tile, self.columns.tile):
            return tile
        tile = tile[mirrored(self.rows.tile, tile.shape[0])]
        return tile[:, mirrored(self.columns.tile, tile.shape[1])]


def mirrored(count: int, size: int) -> np.ndarray:
    """Indices 0, 1, ... count-1 folded back into [0, size) by reflection, the edge pixel not repeated."""
    if size == 1:
        return np.zeros(count, dtype=np.intp)
    index = np.arange(count) % (2 * size - 2)
    return np.where(index < size, index, 2 * size - 2 - index)


def grid(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> Grid:
    return Grid(axis(height, tile, overlap, multiple), axis(width, tile, overlap, multiple))


class Blend:
    """Takes tiles left to right, top to bottom, and yields the rows of the result that are finished.

    It holds one row of tiles in float32: (C, tile * scale, W * scale).
    """

    def __init__(self, tiles: Grid, scale: int, channels: int = 3):
        self.tiles, self.scale = tiles, scale
        self.height, self.width = tiles.rows.size * scale, tiles.columns.size * scale
        self._column_weights = [tiles.columns.weights(n, scale) for n in range(len(tiles.columns.starts))]
        shape = (channels, tiles.rows.tile * scale, tiles.columns.tile * scale)
        self._band = torch.zeros(channels, shape[1], max(_end(tiles.columns) * scale, self.width))
        self._carried = torch.zeros(channels, 0, self.width)

    def lay(self, row: int, column: int, tile: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Adds one tile (C, tile*scale, tile*scale); after the last of a row yields (first row, (C, h, W*scale))."""
        x = self.tiles.columns.starts[column] * self.scale
        self._band[:, :, x : x + tile.shape[2]] += tile * self._column_weights[column]
        if column + 1 == len(self.tiles.columns.starts):
            yield self._finish(row)

    def _finish(self, row: int) -> tuple[int, Tensor]:
        rows = self.tiles.rows
        top = rows.starts[row] * self.scale
        band = self._band[:, :, : self.width] * rows.weights(row, self.scale)[:, None]
        self._band.zero_()
        first = top if row == 0 else math.floor(rows.seam(row - 1)[0] * self.scale)
        band = band[:, first - top :]
        band[:, : self._carried.shape[1]] += self._carried
        is_last = row + 1 == len(rows.starts)
        end = self.height if is_last else math.floor(rows.seam(row)[0] * self.scale)
        self._carried = band[:, end - first :]
        return first, band[:, : end - first]


def _end(along: Axis) -> int:
    return along.starts[-1] + along.tile
