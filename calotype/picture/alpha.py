"""Transparency as it is seen on white paper: what lies hidden under it may be anything, and never shows."""

from collections.abc import Callable

import numpy as np

_BAND = 1 << 22  # samples worked on at a time


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, C) under straight (H, W) alpha, same type; what is opaque stays bit for bit."""
    most = int(np.iinfo(colour.dtype).max)

    def laid(part: np.ndarray, cover: np.ndarray) -> np.ndarray:
        cover = cover[:, :, None].astype(np.uint64)
        return ((part * cover + most * (most - cover) + most // 2) // most).astype(part.dtype)

    return by_rows(laid, colour, alpha)


def by_rows(work: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """`work` on some rows at a time, so that its intermediate types never hold a whole picture."""
    first = arrays[0]
    rows = max(1, _BAND // max(1, first[0].size))
    out: np.ndarray | None = None
    for top in range(0, len(first), rows):
        part = work(*(array[top : top + rows] for array in arrays))
        if out is None:
            out = np.empty((len(first), *part.shape[1:]), part.dtype)
        out[top : top + rows] = part
    return out
