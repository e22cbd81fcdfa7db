"""Marks on a print, out of where a network takes them to be likely. Arrays in, arrays out.

What is likely is no mark where much around it is likely too, as in grass, writing and brick walls, nor where it is
large and round, as a button. A scratch may cross a face; what lies within its eyes or mouth is none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

FEWEST = 6  # pixels of a mark
LONG = 4.0  # square of the length over the area, from which a mark is a scratch or hair, and no speck
AROUND, OWN = 128, 5  # pixels around a mark that may not be crowded; of its own count so many along its length
WIDE = 8.0  # pixels of a photo whose shorter side is REFERENCE, to which a mark is narrow: its area over its length
MARGIN = 1  # pixels around a mark that are filled with it
REFERENCE = 512  # shorter side of a photo to which the lengths refer, or less
EYE, MOUTH = 0.4, 0.3  # radius around a landmark in distances of the eyes


@dataclass(frozen=True)
class Rule:
    """How sure a mark has to be.

    Attributes:
        likely: probability from which pixels belong to it.
        surest: probability of its surest pixel.
        mean: of all its pixels.
        crowded: part of what is around it that may be likely too.
        speck: length of a speck, in pixels of a photo whose shorter side is REFERENCE.
        fewest: marks of a photo.
        scratches: so many of them; stars, craters and glints are specks alone.
    """

    likely: float
    surest: float
    mean: float
    crowded: float
    speck: float
    fewest: int
    scratches: int


ASKED = Rule(likely=0.12, surest=0.85, mean=0.55, crowded=0.05, speck=20.0, fewest=1, scratches=0)
UNASKED = Rule(likely=0.3, surest=0.99, mean=0.75, crowded=0.015, speck=5.0, fewest=6, scratches=2)


@dataclass(frozen=True, eq=False)
class Marks:
    """What was found."""

    mask: np.ndarray  # (H, W) bool, without what is filled around them
    scratches: int  # long thin ones: scratches, hairs, creases
    specks: int

    @property
    def count(self) -> int:
        return self.scratches + self.specks


def marks_of(probability: np.ndarray, kept: np.ndarray, rule: Rule) -> Marks:
    """Args:
    probability: (H, W) uint8, of 255: a byte a pixel, so that large pictures fit.
    kept: (H, W) bool, true where nothing is a mark, unless it goes on outside.
    """
    is_likely = probability > 255 * rule.likely
    count, labels, stats, _ = cv2.connectedComponentsWithStats(is_likely.astype(np.uint8))
    of_pixel, values = labels[is_likely], probability[is_likely]
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    surest = np.zeros(count, np.uint8)
    np.maximum.at(surest, of_pixel, values)
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    is_long = length**2 > LONG * area

    def mean(of: np.ndarray) -> np.ndarray:
        return np.bincount(of_pixel, of, count) / np.maximum(area, 1)

    unit = max(1.0, min(probability.shape) / REFERENCE)
    around = 2 * round(unit * AROUND / 2) + 1
    near = _near(is_likely, around, int(unit))
    own = np.minimum(np.minimum(area, OWN * unit * length), OWN * unit * around) / around**2
    is_mark = (surest > 255 * rule.surest) & (mean(values) > 255 * rule.mean) & (area >= FEWEST)
    is_mark &= (mean(near) - own < rule.crowded) & (mean(kept[is_likely]) < 0.5)
    is_mark &= (is_long | (length <= rule.speck * unit)) & (area < WIDE * unit * length)
    is_mark[0] = False
    if is_mark.sum() < rule.fewest or (is_mark & is_long).sum() < rule.scratches:
        is_mark[:] = False
    return Marks(is_mark[labels], int((is_mark & is_long).sum()), int((is_mark & ~is_long).sum()))


def _near(is_likely: np.ndarray, around: int, step: int) -> np.ndarray:
    """What part of a square of `around` pixels is likely, for each likely pixel: (N,).

    Counted in a copy that is smaller by `step`, so that a large photo needs little memory.
    """
    height, width = is_likely.shape
    small = is_likely.astype(np.uint8) * np.uint8(255)
    if step > 1:
        small = cv2.resize(small, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    side = 2 * (around // step // 2) + 1
    means = cv2.blur(small.astype(np.float32) / 255, (side, side), borderType=cv2.BORDER_REFLECT)
    rows, columns = np.nonzero(is_likely)
    return means[rows * means.shape[0] // height, columns * means.shape[1] // width]


def with_margin(mask: np.ndarray) -> np.ndarray:
    """A mask, (H, W) bool, with the pixels around it, which marks have changed a little too."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)).astype(bool)


def parts_of_faces(shape: tuple[int, int], landmarks: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W) bool, true in eyes and mouths.

    Args:
        landmarks: of each face (5, 2) x, y: eye, eye, nose, mouth corner, mouth corner.
    """
    kept = np.zeros(shape, np.uint8)
    for eye, second, _, corner, far in landmarks:
        distance = float(np.hypot(*(second - eye)))
        for point in (eye, second):
            cv2.circle(kept, tuple(np.rint(point).astype(int).tolist()), round(EYE * distance), 1, -1)
        ends = (tuple(np.rint(point).astype(int).tolist()) for point in (corner, far))
        cv2.line(kept, *ends, 1, max(1, round(2 * MOUTH * distance)))
    return kept.astype(bool)
