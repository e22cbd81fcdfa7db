"""What every reader hands over: a file's description first, its pixels only when asked for."""

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from calotype.errors import PictureError

# What the decoders raise on damaged files. It is a long list because they are many and none of them promises less.
_FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded pixels, not yet turned upright."""

    colour: np.ndarray  # (H, W, 1 or 3) uint8 or uint16
    alpha: np.ndarray | None = None  # (H, W), straight
    icc: bytes | None = None  # the profile these pixels are in
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture file whose header was read."""

    size: tuple[int, int]  # height, width as stored
    decode: Callable[[], Pixels]
    exif: bytes | None = None  # as found, orientation as found
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    is_upright: bool = False  # the decoder turns it itself
    notes: tuple[str, ...] = ()
    drawn: Mapping[str, str] = field(default_factory=dict)  # texts of programs that draw: parameters, Comment ...


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Around calls into decoders only: what they raise on a damaged file becomes one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn about metadata that we look at ourselves
            yield
    except MemoryError as fault:
        raise PictureError(
            "{name} does not fit into memory; close other programs or make it smaller", name=name
        ) from fault
    except _FAULTS as fault:
        cause = str(fault).strip().splitlines()[0][:120].rstrip(".") if str(fault).strip() else type(fault).__name__
        raise PictureError(
            "{name} is damaged or cut off ({cause}); try another copy of it", name=name, cause=cause
        ) from fault


def split(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W[, C]) with 1 to 4 channels -> colour (H, W, 1 or 3) and alpha (H, W) or None, both contiguous."""
    if samples.ndim == 2:
        return np.ascontiguousarray(samples[:, :, None]), None
    channels = samples.shape[2]
    if channels in (1, 3):
        return np.ascontiguousarray(samples), None
    return np.ascontiguousarray(samples[:, :, : channels - 1]), np.ascontiguousarray(samples[:, :, channels - 1])


def stretched(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of fewer bits than their type, spread over its whole range: 10-bit white becomes 16-bit white."""
    most = np.iinfo(samples.dtype).max
    if (1 << bits) - 1 == most:
        return samples
    table = (np.arange(1 << bits, dtype=np.uint64) * most * 2 // ((1 << bits) - 1) + 1) // 2
    return table.astype(samples.dtype)[np.minimum(samples, (1 << bits) - 1)]


def unmultiplied(colour: np.ndarray, alpha: np.ndarray) -> None:
    """Turns associated alpha into straight alpha, in place, some rows at a time."""
    most = np.iinfo(colour.dtype).max
    rows = max(1, (1 << 20) // colour.shape[1])
    for y in range(0, len(colour), rows):
        a = alpha[y : y + rows, :, None].astype(np.float32)
        straight = colour[y : y + rows] * (most / np.maximum(a, 1))
        colour[y : y + rows] = np.minimum(np.rint(straight), most)
