"""Enlarging by rows, with networks that allow it (`models.row_stream`): columns of the picture in parallel threads.

The picture is cut into columns, each with as many pixels of its neighbours as the network reaches. In each, rows go
through the network from top to bottom, a few at a time. The result is that of the whole picture at once, without seams.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calotype.models.network import Network
from calotype.models.process_state import workers
from calotype.models.row_stream import Chain
from calotype.ops.color import to_tensor

WIDEST, NARROWEST = 1024, 192  # pixels; wider columns waste less at their edges, narrower ones occupy more threads
BAND = 16_384  # pixels of a column at a time: about 4 MB of features
AHEAD = 2  # bands that are begun before an earlier one is complete


class NotFinite(Exception):
    """The network's output is NaN or infinite."""


@dataclass(frozen=True)
class RowPlan:
    """Columns, rows of a band, parallel threads, and torch's threads in each of them."""

    starts: tuple[int, ...]  # first pixel of each column
    height: int
    width: int
    rows: int
    threads: int
    inner_threads: int

    @property
    def bands(self) -> int:
        return math.ceil(self.height / self.rows)

    def column(self, n: int) -> slice:
        return slice(self.starts[n], self.starts[n + 1] if n + 1 < len(self.starts) else self.width)


def plan_rows(shape: tuple[int, int], threads: int) -> RowPlan:
    """Columns of about the same width, where possible a multiple of the threads that compute them."""
    height, width = shape
    count = math.ceil(math.ceil(width / WIDEST) / threads) * threads
    count = max(1, min(count, width // NARROWEST))
    starts = tuple(n * width // count for n in range(count))
    parallel = min(threads, count)
    rows = max(8, min(128, BAND * count // width))
    return RowPlan(starts, height, width, rows, parallel, max(1, threads // parallel))


def memory_of(plan: RowPlan, chain: Chain, network: Network) -> int:
    """Bytes that the rows take, without the result."""
    width = plan.width + 2 * chain.reach * len(plan.starts)
    band = plan.rows * width // len(plan.starts)
    return width * chain.bytes_per_row_pixel + plan.threads * band * network.bytes_per_pixel


class Column:
    """One column of the picture, on its way through the network."""

    def __init__(self, pixels: np.ndarray, columns: slice, network: Network, chain: Chain, gain: float):
        left, right = max(0, columns.start - chain.reach), min(pixels.shape[1], columns.stop + chain.reach)
        self._pixels = pixels[:, left:right]
        self._used = slice((columns.start - left) * chain.scale, (columns.stop - left) * chain.scale)
        self._stream, self._chain, self._gain = network.stream(chain), chain, gain
        self._equal_rows = 1  # that end at the last row which was pushed
        self._last: Tensor | None = None  # the result of the last row

    def push(self, top: int, bottom: int) -> Tensor:
        """The next rows of the picture -> rows of the result: (C, h, w) float32. Raises NotFinite."""
        is_last = bottom == len(self._pixels)
        is_steady = self._equal_rows >= 2 * self._chain.reach + 2  # all layers have the same rows as in the last push
        if not self._count_equal(top, bottom) or is_last or not is_steady or self._last is None:
            x = to_tensor(self._pixels[top:bottom])[None] * self._gain
            y = self._stream.push(x, is_last)[0].float()[:, :, self._used]
            if not torch.isfinite(y).all():
                raise NotFinite
            self._last = y[:, -self._chain.scale :].clone() if y.shape[1] else self._last
            return y
        return self._last.repeat(1, bottom - top, 1)

    def _count_equal(self, top: int, bottom: int) -> bool:
        """Whether all these rows equal the one above them."""
        rows = self._pixels[max(0, top - 1) : bottom]
        equal = (rows[1:] == rows[:-1]).all((1, 2))
        differing = np.flatnonzero(~equal)
        if len(differing):
            self._equal_rows = len(equal) - int(differing[-1])
            return False
        self._equal_rows += len(equal)
        return top > 0


def enlarged_rows(
    pixels: np.ndarray, network: Network, chain: Chain, plan: RowPlan, gain: float = 1.0
) -> Generator[Tensor, None, None]:
    """Yields a tensor (3, h, W * scale) for each band of the plan, h may be 0: together, the enlarged picture.

    Raises:
        NotFinite: the network's output is NaN or infinite.
    """
    columns = [Column(pixels, plan.column(n), network, chain, gain) for n in range(len(plan.starts))]
    pool = workers(plan.threads, plan.inner_threads)
    try:
        for parts in _in_order(columns, plan, pool):
            yield torch.cat([part.result() for part in parts], 2)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(columns: list[Column], plan: RowPlan, pool: ThreadPoolExecutor) -> Iterator[list[Future]]:
    """The parts of each band; later bands are begun meanwhile."""
    begun: deque[list[Future]] = deque()
    before: list[Future | None] = [None] * len(columns)

    def push(column: Column, earlier: Future | None, top: int, bottom: int) -> Tensor:
        if earlier is not None:
            earlier.result()  # of the same column; begun before, so that it never waits for this one
        return column.push(top, bottom)

    for top in range(0, plan.height, plan.rows):
        bottom = min(top + plan.rows, plan.height)
        before = [pool.submit(push, *each, top, bottom) for each in zip(columns, before, strict=True)]
        begun.append(before)
        if len(begun) > AHEAD:
            yield begun.popleft()
    yield from begun
