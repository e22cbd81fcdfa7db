"""Marks on a print, out of where a network takes them to be likely. Arrays in, arrays out.

What is likely is no mark where much around it is doubtful, as in grass, writing and brick walls, nor where it is
large and round, as a button. A scratch may cross a face; what lies within its eyes or mouth is none.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

FEWEST = 6  # pixels of a mark
LONG = 4.0  # square of the length over the area, from which a mark is a scratch or hair, and no speck
THIN = 12.0  # and from which it is no bird in a sky either
LIKELY = 0.12, 0.5  # probabilities from which pixels may belong to a mark: two, as marks grow together in a crowd
CLEAR = 0.05  # probability below which a pixel is not doubtful
AROUND, AGAINST = 128, 125.0  # pixels around a mark; log odds that it loses where all of them are doubtful
WIDE = 8.0  # pixels of a photo whose shorter side is REFERENCE, to which a mark is narrow: its area over its length
NARROW, SURE_OF_WIDE = 4.0, -0.7  # pixels, likewise; and evidence without which a wider one is no mark, but a pole
MARGIN = 1  # pixels around a mark that are filled with it
REFERENCE = 512  # shorter side of a photo to which the lengths refer, or less
_LEVELS = np.arange(256).clip(1, 254) / 255
LOG_ODDS = np.log(_LEVELS / (1 - _LEVELS)).astype(np.float32)  # of probabilities of 255
DOUBT = np.rint(4 * 255 * _LEVELS * (1 - _LEVELS)).astype(np.uint8)  # of them: most where a mark is as likely as none
DOUBT[: round(255 * CLEAR)] = 0
EYE, MOUTH = 0.4, 0.3  # radius around a landmark in distances of the eyes


@dataclass(frozen=True)
class Rule:
    """How sure marks have to be, by their evidence: the mean log odds of their pixels, less what else is doubtful
    around them. Where some of them show that a photo is damaged, others need not be as sure.

    Attributes:
        threshold: evidence from which a mark is filled in any photo.
        damaged: evidence from which a mark is filled in a photo that is damaged.
        sure: evidence from which a mark shows that its photo is damaged.
        fewest: so many marks have to show it.
        scratches: so many of them long and thin: stars, craters, glints and birds are short ones alone.
        speck: length of a speck at most, in pixels of a photo whose shorter side is REFERENCE: pearls and watches stay.
    """

    threshold: float
    damaged: float
    sure: float
    fewest: int
    scratches: int
    speck: float


ASKED = Rule(threshold=-0.7, damaged=-3.0, sure=1.5, fewest=2, scratches=1, speck=20.0)
UNASKED = Rule(threshold=math.inf, damaged=1.0, sure=3.0, fewest=3, scratches=2, speck=5.0)


@dataclass(frozen=True, eq=False)
class Marks:
    """What was found."""

    mask: np.ndarray  # (H, W) bool, without what is filled around them
    scratches: int  # long thin ones: scratches, hairs, creases
    specks: int
    left_scratches: int = 0  # sure ones that are not in the mask, as too few show that the photo is damaged
    left_specks: int = 0  # likewise; stars and glints, too. Shapes between, as birds in a sky, are counted as neither

    @property
    def count(self) -> int:
        return self.scratches + self.specks

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found that could be a mark."""
        return not (self.count or self.left_scratches or self.left_specks)


def marks_of(probability: np.ndarray, kept: np.ndarray, rule: Rule) -> Marks:
    """Args:
    probability: (H, W) uint8, of 255: a byte a pixel, so that large pictures fit.
    kept: (H, W) bool, true where nothing is a mark, unless it goes on outside.
    """
    unit = max(1.0, min(probability.shape) / REFERENCE)
    doubts = _doubts(probability, unit)
    lowest, judged = min(rule.threshold, rule.damaged), []
    for likely in LIKELY:
        places = np.nonzero(probability > 255 * likely)
        evidence = _evidence(probability, doubts, kept, places, unit, rule.speck)
        is_enough = evidence > lowest
        judged.append((tuple(place[is_enough] for place in places), evidence[is_enough]))

    def with_evidence(threshold: float) -> np.ndarray:
        mask = np.zeros(probability.shape, bool)
        for places, evidence in judged:
            mask[places] |= evidence > threshold
        return mask

    sure = _parts(with_evidence(rule.sure))
    thin = int(_shapes(sure, THIN)[2].sum())
    is_damaged = len(sure) >= rule.fewest and thin >= rule.scratches
    mask = with_evidence(rule.damaged if is_damaged else rule.threshold)
    parts = _parts(mask)
    scratches = int(_shapes(parts, LONG)[2].sum())
    left = (0, 0) if len(parts) else (thin, len(sure) - int(_shapes(sure, LONG)[2].sum()))
    return Marks(mask, scratches, len(parts) - scratches, *left)


def _evidence(
    probability: np.ndarray,
    doubts: np.ndarray,
    kept: np.ndarray,
    places: tuple[np.ndarray, ...],
    unit: float,
    speck: float,
) -> np.ndarray:
    """(N,) of what each likely pixel belongs to; -inf where that cannot be a mark.

    Args:
        places: rows and columns of the likely pixels, (N,) each.
    """
    is_likely = np.zeros(probability.shape, np.uint8)
    is_likely[places] = 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(is_likely)
    of_pixel = labels[places]
    area, length, is_long = _shapes(stats, LONG)

    def mean(of: np.ndarray) -> np.ndarray:
        return np.bincount(of_pixel, of, count) / np.maximum(area, 1)

    rows, columns = (
        place * size // whole for place, size, whole in zip(places, doubts.shape, labels.shape, strict=True)
    )
    evidence = mean(LOG_ODDS[probability[places]] - AGAINST * doubts[rows, columns])
    side = AROUND * unit
    own = mean(DOUBT[probability[places]]) / 255 * area / side**2  # a mark's own doubt is none against it
    evidence += AGAINST * own * np.minimum(1, side / np.maximum(length, 1))
    can_be = (area >= FEWEST) & (mean(kept[places]) < 0.5) & (area < WIDE * unit * length)
    can_be &= (area < NARROW * unit * length) | (evidence > SURE_OF_WIDE)
    can_be &= is_long | (length <= speck * unit)
    return np.where(can_be, evidence, -np.inf)[of_pixel]


def _shapes(stats: np.ndarray, long: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area and length of connected parts, and whether the square of each one's length is so many times its area."""
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    return area, length, length**2 > long * area


def _parts(mask: np.ndarray) -> np.ndarray:
    """OpenCV's statistics of the connected parts of a mask."""
    return cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]


def _doubts(probability: np.ndarray, unit: float) -> np.ndarray:
    """How doubtful a square of AROUND * `unit` pixels is, around each pixel: (h, w) float32 in [0, 1].

    Counted in a copy that is smaller by whole numbers, so that a large photo needs little memory.
    """
    height, width = probability.shape
    small, step = cv2.LUT(probability, DOUBT), int(unit)
    if step > 1:
        small = cv2.resize(small, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    side = 2 * round(unit * AROUND / 2 / step) + 1
    return cv2.blur(small.astype(np.float32) / 255, (side, side), borderType=cv2.BORDER_REFLECT)


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
