"""Compositing over white: colours under full transparency are arbitrary and must not show."""

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
