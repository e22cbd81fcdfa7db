"""Lanczos resizing row by row and part by part, so that no picture lies in memory whole as floating point."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from calotype.ops.color import to_tensor


def taps(size: int, wanted: int, lobes: int = 3) -> tuple[Tensor, Tensor]:
    """The Lanczos filter (Duchon 1979) that turns `size` samples into `wanted`, widened when shrinking.

    Returns:
        first sample of each output (wanted,) int64, and weights (wanted, count) float32 that sum to 1.
    """
    ratio = size / wanted
    reach = lobes * max(1.0, ratio)
    centre = (torch.arange(wanted, dtype=torch.float64) + 0.5) * ratio
    count = min(size, math.ceil(reach) * 2 + 1)
    first = (centre - reach - 0.5).ceil().long().clamp(0, size - count)
    distance = (first[:, None] + torch.arange(count) + 0.5 - centre[:, None]) / max(1.0, ratio)
    weights = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes)
    return first, (weights / weights.sum(1, keepdim=True)).float()


class Resizer:
    """Takes bands of rows (C, h, W) from the top downwards, yields (first row, (C, h', W')) of the resized picture."""

    def __init__(self, height: int, width: int, wanted_height: int, wanted_width: int):
        self.same = (height, width) == (wanted_height, wanted_width)
        self._down = taps(height, wanted_height)
        self._across = taps(width, wanted_width)
        self._held, self._held_from, self._next = None, 0, 0

    def push(self, band: Tensor) -> Iterator[tuple[int, Tensor]]:
        if self.same:
            yield self._next, band
            self._next += band.shape[1]
            return
        held = band if self._held is None else torch.cat([self._held, band], 1)
        first, weights = self._down
        end = int(torch.searchsorted(first, self._held_from + held.shape[1] - weights.shape[1], right=True))
        if end > self._next:
            rows = _gather(held, first[self._next : end] - self._held_from, weights[self._next : end], 1)
            yield self._next, _gather(rows, *self._across, 2)
            self._next = end
        keep_from = int(first[min(self._next, len(first) - 1)])
        self._held = held[:, keep_from - self._held_from :].clone()
        self._held_from = keep_from


def part(pixels: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """One part of (H, W, C) pixels resized to `size` (height, width): (3, h, w) float32, nominally in [0, 1]."""
    first_y, weights_y = taps(pixels.shape[0], size[0])
    first_x, weights_x = taps(pixels.shape[1], size[1])
    first_y, weights_y, first_x, weights_x = first_y[rows], weights_y[rows], first_x[columns], weights_x[columns]
    top, left = int(first_y[0]), int(first_x[0])
    bottom, right = int(first_y[-1]) + weights_y.shape[1], int(first_x[-1]) + weights_x.shape[1]
    x = to_tensor(pixels[top:bottom, left:right])
    return _gather(_gather(x, first_y - top, weights_y, 1), first_x - left, weights_x, 2)


def _gather(x: Tensor, first: Tensor, weights: Tensor, dim: int) -> Tensor:
    shape = [1, 1, 1]
    shape[dim] = -1
    out = x.index_select(dim, first) * weights[:, 0].view(shape)
    for n in range(1, weights.shape[1]):
        out.addcmul_(x.index_select(dim, first + n), weights[:, n].view(shape))
    return out
