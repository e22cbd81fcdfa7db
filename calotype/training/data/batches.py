"""Which pictures come in which step. It depends on nothing but the seed and the epoch.

As in sd-scripts buckets are shuffled, cut into batches and these shuffled; the dice are others, and so the order is.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchItem:
    """One picture of the set as the plan knows it."""

    index: int
    bucket: tuple[int, int]
    repeats: int


def batches(pictures: Sequence[BatchItem], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of each batch of an epoch, counted from 0: buckets are shuffled, cut into batches, and these shuffled."""
    dice = random.Random(seed + epoch)
    buckets: dict[tuple[int, int], list[int]] = {}
    for picture in pictures:
        buckets.setdefault(picture.bucket, []).extend([picture.index] * picture.repeats)
    found = []
    for indices in buckets.values():
        dice.shuffle(indices)
        found += [indices[n : n + size] for n in range(0, len(indices), size)]
    dice.shuffle(found)
    return found


def count(pictures: Sequence[BatchItem], size: int) -> int:
    """Batches of an epoch."""
    totals: dict[tuple[int, int], int] = {}
    for picture in pictures:
        totals[picture.bucket] = totals.get(picture.bucket, 0) + picture.repeats
    return sum(math.ceil(total / size) for total in totals.values())


def steps(batches: int, accumulated: int) -> int:
    """Changes of the weights in an epoch of so many batches."""
    return math.ceil(batches / accumulated)


def of_step(step: int, batches: int, accumulated: int) -> range:
    """The batches of a step, both counted over all epochs from 0; no step reaches into the next epoch.

    >>> [list(of_step(step, 5, 2)) for step in range(4)]
    [[0, 1], [2, 3], [4], [5, 6]]
    """
    epoch, place = divmod(step, steps(batches, accumulated))
    first = place * accumulated
    return range(epoch * batches + first, epoch * batches + min(first + accumulated, batches))
