"""Transparency. Colours under full transparency are arbitrary: they must not show, and no filter may mix them in."""

from collections.abc import Callable

import numpy as np

_BAND = 1 << 22  # samples processed at a time


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, C) with straight (H, W) alpha composited over white, same type; opaque pixels stay bit for bit."""
    max_value = int(np.iinfo(colour.dtype).max)

    def blended(rows: np.ndarray, alpha_rows: np.ndarray) -> np.ndarray:
        alpha_rows = alpha_rows[:, :, None].astype(np.uint64)
        return ((rows * alpha_rows + max_value * (max_value - alpha_rows) + max_value // 2) // max_value).astype(
            rows.dtype
        )

    return by_rows(blended, colour, alpha)


def with_visible_colours(colour: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The colour with its fully transparent pixels filled from the visible ones around them, where there are any.

    A network or a resampling filter mixes neighbours, and would carry hidden colours into the visible edge. The other
    pixels stay bit for bit. Far from visible pixels, averages of ever larger surroundings fill in, weighted by alpha.

    Args:
        colour: (H, W, C) uint8 or uint16.
        alpha: (H, W) of the same type, or None. What 8 bits would store as 0 counts as fully transparent.
    """
    if alpha is None:
        return colour
    hidden = int(np.iinfo(alpha.dtype).max) // 510
    if alpha.min() > hidden or alpha.max() <= hidden:
        return colour
    averages = _averages(colour, alpha, hidden)
    out = colour.copy()
    rows = 2 * max(1, _BAND // (2 * colour[0].size))
    for top in range(0, len(out), rows):
        mask = alpha[top : top + rows] <= hidden
        band = out[top : top + rows]
        smooth = _doubled(averages[max(0, top // 2 - 1) : (top + rows) // 2 + 1])
        smooth = smooth[2 if top else 0 :][: len(band), : band.shape[1]]
        band[mask] = np.rint(smooth[mask])
    return out


def _averages(colour: np.ndarray, alpha: np.ndarray, hidden: int) -> np.ndarray:
    """(H/2, W/2, C) float32: averages of the visible colours, from coarser ones where a place has none."""
    height, _, channels = colour.shape
    rows = 2 * max(1, _BAND // (2 * colour[0].size))
    sums = []
    for top in range(0, height, rows):
        weight = alpha[top : top + rows, :, None].astype(np.float32)
        weight[weight <= hidden] = 0
        sums.append(_halved(np.concatenate([colour[top : top + rows] * weight, weight], axis=2)))
    levels = [np.concatenate(sums)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_halved(levels[-1]))
    filled = levels[-1][:, :, :channels] / levels[-1][:, :, channels:]
    for level in reversed(levels[:-1]):
        weight = level[:, :, channels:]
        coarse = _doubled(filled)[: level.shape[0], : level.shape[1]]
        filled = np.where(weight > 0, level[:, :, :channels] / np.maximum(weight, 1e-6), coarse)
    return filled


def _halved(samples: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 samples; behind an odd edge there are zeros."""
    import cv2

    height, width = samples.shape[:2]
    samples = np.pad(samples, ((0, height % 2), (0, width % 2), (0, 0))) if height % 2 or width % 2 else samples
    halved = cv2.resize(samples, (samples.shape[1] // 2, samples.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return halved.reshape(*halved.shape[:2], -1)


def _doubled(samples: np.ndarray) -> np.ndarray:
    """Twice as large, by linear interpolation."""
    import cv2

    doubled = cv2.resize(samples, (2 * samples.shape[1], 2 * samples.shape[0]), interpolation=cv2.INTER_LINEAR)
    return doubled.reshape(*doubled.shape[:2], -1)


def in_8_bits(samples: np.ndarray) -> np.ndarray:
    """16 bits -> 8 bits, rounded: divided by 257."""
    return by_rows(lambda band: ((band.astype(np.uint32) + 128) // 257).astype(np.uint8), samples)


def by_rows(work: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Applies `work` to some rows at a time, so that its intermediate arrays never hold the full picture."""
    first = arrays[0]
    rows = max(1, _BAND // max(1, first[0].size))
    out: np.ndarray | None = None
    for top in range(0, len(first), rows):
        band = work(*(array[top : top + rows] for array in arrays))
        if out is None:
            out = np.empty((len(first), *band.shape[1:]), band.dtype)
        out[top : top + rows] = band
    return out
