"""Scratches and hairs are followed beyond where a network is sure of them, by integrating along their line.

A line of 1.3 sigma cannot be seen in one pixel and is 13 sigma over a hundred. From each end of a mark a strip of the
photo is taken straight on, and a path is sought in it whose sum is highest (Page 1954, the cumulative sum test): each
pixel adds the log likelihood ratio of "the mark goes on as strong as it was" over "there is none", by the noise around
it, and of what the network takes to be likely there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from calotype.ops import channels
from calotype.ops.examine import LAPLACIAN, sigma_of

SHORTEST, SLIM = 14.0, 4.0  # length of a mark that is followed in pixels, and its square over the area
END = 40  # pixels of a mark that give the direction of its end
REACH = 10  # pixels beside this direction to which a path may bend
LONGEST, FARTHEST = 160.0, 1.5  # pixels that a path may be long, and in lengths of the mark
PASSES = 2  # a path may be followed by another one
FLANK = 3  # pixels from the edges of a mark to what it is lighter or darker than
NOISE, MIN_NOISE = 31, 2.0  # pixels around one over which its noise is averaged; levels of 255
KEPT = 0.9  # part of its contrast with which a mark is expected to go on
MIN_CONTRAST = 1.5  # and the least, in sigma
LIKELY, UNLIKELY = 0.4, -3.5  # weight of the network's log odds, and from which they speak for a mark
MAX_GAIN = 1.0  # that a pixel adds or takes
ASIDE = 0.7  # taken for each pixel aside
ENOUGH = 8.0  # sum of a path
BESIDE = 2  # pixels around a mark that are not added to it
THINNER = 2.0  # pixels by which a path is drawn thinner than the mark, whose mask has soft edges


@dataclass(frozen=True, eq=False)
class End:
    """Of a mark: its point (x, y), the unit vector along which it goes on, and the mark's size in pixels."""

    point: np.ndarray
    direction: np.ndarray
    width: float
    length: float


@dataclass(frozen=True, eq=False)
class Strip:
    """What lies ahead of an end and a little behind it: (n, m) each, along and across."""

    levels: np.ndarray  # of 255
    noise: np.ndarray  # standard deviation around each pixel
    log_odds: np.ndarray
    behind: int  # rows of the mark itself


def traced(pixels: np.ndarray, probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask with what its long thin marks go on to be: (H, W) bool.

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
        probability: (H, W) uint8, of 255, that a pixel is marked.
        mask: (H, W) bool, where marks are sure.
    """
    beside = np.ones((2 * BESIDE + 1,) * 2, np.uint8)
    last = mask
    for _ in range(PASSES):
        ahead = np.zeros(mask.shape, np.uint8)
        for end in _ends(mask, last):
            if (path := _path(pixels, probability, end)) is not None:
                thick = max(1, round(end.width - THINNER))
                cv2.polylines(ahead, [np.rint(16 * path).astype(np.int32)], False, 1, thick, cv2.LINE_8, 4)
        last = (ahead > 0) & (cv2.dilate(mask.astype(np.uint8), beside) == 0)
        if not last.any():
            break
        mask = mask | last
    return mask


def _ends(mask: np.ndarray, last: np.ndarray) -> Iterator[End]:
    """Both ends of each long thin part of a mask that `last` is a part of."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for n in set(np.unique(labels[last])) - {0}:
        left, top, width, height, area = stats[n]
        length = math.hypot(width, height)
        if length < SHORTEST or length**2 < SLIM * area:
            continue
        ys, xs = np.nonzero(labels[top : top + height, left : left + width] == n)
        points = np.stack([xs + left, ys + top], 1).astype(np.float32)
        place = (points - points.mean(0)) @ _axis(points)
        for along in (place, -place):
            tip = points[along >= along.max() - min(END, length / 2)]
            direction = _axis(tip)
            if direction @ (tip.mean(0) - points.mean(0)) < 0:
                direction = -direction
            reach = ((tip - tip.mean(0)) @ direction).max()
            yield End(tip.mean(0) + direction * reach, direction, area / length, length)


def _axis(points: np.ndarray) -> np.ndarray:
    """The unit vector along which points spread most."""
    return np.linalg.eigh(np.cov(points.T) + 1e-6 * np.eye(2))[1][:, -1]


def _path(pixels: np.ndarray, probability: np.ndarray, end: End) -> np.ndarray | None:
    """Points, (N, 2) x, y, by which a mark goes on; None where it does not seem to."""
    strip = _strip(pixels, probability, end)
    if strip is None:
        return None
    ridges = [_ridge(sign * strip.levels, end.width) for sign in (1, -1)]
    contrasts = [float(np.median(ridge[: strip.behind, REACH - 2 : REACH + 3].max(1))) for ridge in ridges]
    ridge, contrast = max(zip(ridges, contrasts, strict=True), key=lambda both: both[1])
    if contrast < MIN_NOISE:
        return None
    ahead = slice(strip.behind, None), slice(FLANK + _half(end), -FLANK - _half(end))
    noise = strip.noise[ahead]
    expected = np.maximum(KEPT * contrast / noise, MIN_CONTRAST)
    gains = (expected * (ridge[strip.behind :] / noise - expected / 2)).clip(-MAX_GAIN, MAX_GAIN)
    gains += LIKELY * (strip.log_odds[ahead] - UNLIKELY)
    offsets = _best(gains.clip(-MAX_GAIN, MAX_GAIN))
    if offsets is None:
        return None
    aside = np.array([-end.direction[1], end.direction[0]])
    return end.point + np.arange(len(offsets))[:, None] * end.direction + (offsets - REACH)[:, None] * aside


def _half(end: End) -> int:
    return round(end.width / 2)


def _strip(pixels: np.ndarray, probability: np.ndarray, end: End) -> Strip | None:
    """As far as the photo reaches; None where that is not far."""
    behind = round(min(END, end.length) / 2)
    reach = REACH + FLANK + _half(end)
    along = np.arange(-behind, round(min(LONGEST, FARTHEST * end.length)), dtype=np.float32)[:, None]
    across = np.arange(-reach, reach + 1, dtype=np.float32)
    x = end.point[0] + along * end.direction[0] - across * end.direction[1]
    y = end.point[1] + along * end.direction[1] + across * end.direction[0]
    height, width = probability.shape
    outside = (x[:, reach] < 0) | (x[:, reach] >= width) | (y[:, reach] < 0) | (y[:, reach] >= height)
    rows = int(outside[behind:].argmax()) if outside[behind:].any() else len(along) - behind
    if rows < SHORTEST / 2:
        return None
    x, y = (axis[: behind + rows].astype(np.float32) for axis in (x, y))
    left, top = (max(0, int(axis.min()) - NOISE // 2 - 1) for axis in (x, y))
    part = slice(top, int(y.max()) + NOISE // 2 + 2), slice(left, int(x.max()) + NOISE // 2 + 2)
    levels = channels.mean(pixels[part]) * np.float32(255 / np.iinfo(pixels.dtype).max)
    likely = cv2.dilate(probability[part], np.ones((3, 3), np.uint8)).clip(1, 254).astype(np.float32)
    planes = levels, _local_noise(levels), np.log(likely / (255 - likely))
    places = x - np.float32(left), y - np.float32(top)
    return Strip(
        *(cv2.remap(plane, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in planes), behind
    )


def _local_noise(levels: np.ndarray) -> np.ndarray:
    """Standard deviation around each pixel."""
    response = np.abs(cv2.filter2D(levels, -1, LAPLACIAN, borderType=cv2.BORDER_REPLICATE))
    return np.maximum(sigma_of(cv2.blur(response, (NOISE, NOISE))), MIN_NOISE)


def _ridge(levels: np.ndarray, width: float) -> np.ndarray:
    """How much the middle of a line along the strip at each pixel is lighter than what is on both of its sides."""
    smooth = cv2.blur(levels, (max(1, round(width)), 1))
    far = FLANK + round(width / 2)
    return smooth[:, far:-far] - np.maximum(smooth[:, 2 * far :], smooth[:, : -2 * far])


def _best(gains: np.ndarray) -> np.ndarray | None:
    """The column in each row of the path with the highest sum that begins in the middle; None where it is too low."""
    count, width = gains.shape
    total, moves = np.full(width, -np.inf), np.empty(gains.shape, int)
    total[REACH - 2 : REACH + 3] = 0
    sums = np.empty(gains.shape)
    for n in range(count):
        padded = np.pad(total, 1, constant_values=-np.inf)
        choices = np.stack([padded[:-2] - ASIDE, padded[1:-1], padded[2:] - ASIDE])
        moves[n] = choices.argmax(0) - 1
        sums[n] = total = choices.max(0) + gains[n]
    last, column = np.unravel_index(sums.argmax(), sums.shape)
    if sums[last, column] < ENOUGH:
        return None
    columns = np.empty(last + 1, int)
    for n in range(last, -1, -1):
        columns[n] = column
        column += moves[n, column]
    return columns
