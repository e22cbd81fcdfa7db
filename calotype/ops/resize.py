"""Resizing: Lanczos by bands and regions, so that no full picture is in memory as floating point; means of areas."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from calotype.ops.color import to_tensor


def taps(size: int, target: int, lobes: int = 3) -> tuple[Tensor, Tensor]:
    """The Lanczos filter (Duchon 1979) that turns `size` samples into `target`, widened when shrinking.

    Returns:
        first input sample of each output (target,) int64, and weights (target, count) float32 that sum to 1.
    """
    ratio = size / target
    reach = lobes * max(1.0, ratio)
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) * ratio
    count = min(size, math.ceil(reach) * 2 + 1)
    first = (centre - reach - 0.5).ceil().long().clamp(0, size - count)
    distance = (first[:, None] + torch.arange(count) + 0.5 - centre[:, None]) / max(1.0, ratio)
    weights = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes)
    return first, (weights / weights.sum(1, keepdim=True)).float()


class Resizer:
    """Takes bands of rows (C, h, W) from top to bottom, yields (first row, (C, h', W')) of the resized picture."""

    def __init__(self, height: int, width: int, target_height: int, target_width: int):
        self.same = (height, width) == (target_height, target_width)
        self._vertical = taps(height, target_height)
        self._horizontal = taps(width, target_width)
        self._buffer, self._buffer_start, self._next_row = None, 0, 0

    def push(self, band: Tensor) -> Iterator[tuple[int, Tensor]]:
        if self.same:
            yield self._next_row, band
            self._next_row += band.shape[1]
            return
        rows_in = band if self._buffer is None else torch.cat([self._buffer, band], 1)
        first, weights = self._vertical
        end = int(torch.searchsorted(first, self._buffer_start + rows_in.shape[1] - weights.shape[1], right=True))
        if end > self._next_row:
            rows = _gather(rows_in, first[self._next_row : end] - self._buffer_start, weights[self._next_row : end], 1)
            yield self._next_row, _gather(rows, *self._horizontal, 2)
            self._next_row = end
        keep_from = int(first[min(self._next_row, len(first) - 1)])
        self._buffer = rows_in[:, keep_from - self._buffer_start :].clone()
        self._buffer_start = keep_from


def resized_region(pixels: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """One region of (H, W, C) pixels resized to `size` (height, width): (3, h, w) float32, nominally in [0, 1]."""
    first_y, weights_y = taps(pixels.shape[0], size[0])
    first_x, weights_x = taps(pixels.shape[1], size[1])
    first_y, weights_y, first_x, weights_x = first_y[rows], weights_y[rows], first_x[columns], weights_x[columns]
    top, left = int(first_y[0]), int(first_x[0])
    bottom, right = int(first_y[-1]) + weights_y.shape[1], int(first_x[-1]) + weights_x.shape[1]
    x = to_tensor(pixels[top:bottom, left:right])
    return _gather(_gather(x, first_y - top, weights_y, 1), first_x - left, weights_x, 2)


def averaged(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, ...) pixels as a smaller picture of this size, each of its pixels the mean of the area that it covers."""
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return small.reshape(height, width, *pixels.shape[2:])  # OpenCV drops the axis of a single channel


def _gather(x: Tensor, first: Tensor, weights: Tensor, dim: int) -> Tensor:
    shape = [1, 1, 1]
    shape[dim] = -1
    out = x.index_select(dim, first) * weights[:, 0].view(shape)
    for n in range(1, weights.shape[1]):
        out.addcmul_(x.index_select(dim, first + n), weights[:, n].view(shape))
    return out
