"""The batches of each epoch. They depend only on the seed and the epoch.

As in sd-scripts buckets are shuffled, cut into batches, and the batches shuffled; the rng, and so the order, differs.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchItem:
    """One image of the set with its bucket and repeats, and its dataset: no batch mixes datasets."""

    index: int
    bucket: tuple[int, int]
    repeats: int
    dataset: int = 0


def batches(pictures: Sequence[BatchItem], sizes: Sequence[int], seed: int, epoch: int) -> list[list[int]]:
    """Image indices of each batch of an epoch (starting at 0).

    Args:
        sizes: batch size of each dataset.
    """
    rng = random.Random(seed + epoch)
    shuffled = []
    for (dataset, _), indices in by_bucket(pictures).items():
        rng.shuffle(indices)
        shuffled += [indices[n : n + sizes[dataset]] for n in range(0, len(indices), sizes[dataset])]
    rng.shuffle(shuffled)
    return shuffled


def count(pictures: Sequence[BatchItem], sizes: Sequence[int]) -> int:
    """Number of batches of an epoch."""
    return sum(math.ceil(len(indices) / sizes[dataset]) for (dataset, _), indices in by_bucket(pictures).items())


def by_bucket(pictures: Sequence[BatchItem]) -> dict[tuple[int, tuple[int, int]], list[int]]:
    """Image indices, with repeats, by dataset and bucket."""
    buckets: dict[tuple[int, tuple[int, int]], list[int]] = {}
    for picture in pictures:
        buckets.setdefault((picture.dataset, picture.bucket), []).extend([picture.index] * picture.repeats)
    return buckets


def steps(batches: int, accumulated: int) -> int:
    """Number of optimizer steps in an epoch."""
    return math.ceil(batches / accumulated)


def batches_of_step(step: int, batches: int, accumulated: int) -> range:
    """Indices of the batches of a step, both counted from 0 over all epochs; no step reaches into the next epoch.

    >>> [list(of_step(step, 5, 2)) for step in range(4)]
    [[0, 1], [2, 3], [4], [5, 6]]
    """
    epoch, step_in_epoch = divmod(step, steps(batches, accumulated))
    first = step_in_epoch * accumulated
    return range(epoch * batches + first, epoch * batches + min(first + accumulated, batches))
