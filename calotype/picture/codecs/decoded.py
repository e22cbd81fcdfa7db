"""What every reader returns: the description of a file, and a function that decodes its pixels."""

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from calotype.errors import Message, PictureError
from calotype.picture.metadata.color_space import ColorTags
from calotype.picture.metadata.iptc import Iptc

# What the decoders raise on damaged files; none of them documents a shorter list.
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


class DamagedFile(PictureError):
    """A decoder cannot read all of a file."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded pixels, before the orientation is applied."""

    colour: np.ndarray  # (H, W, 1 or 3) uint8 or uint16
    alpha: np.ndarray | None = None  # (H, W), straight
    icc: bytes | None = (
        None  # the profile these pixels are in, where there is one; `metadata.color_space` says what holds without it
    )
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture file whose header was read."""

    size: tuple[int, int]  # height, width as stored
    decode: Callable[[], Pixels]
    exif: bytes | None = None  # as found, orientation as found
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    is_upright: bool = False  # the decoder applies the orientation
    notes: tuple[str | Message, ...] = ()
    color_tags: ColorTags = ColorTags()  # what it says about its colour space besides ICC profile and EXIF
    texts: Mapping[str, str] = field(default_factory=dict)  # text entries of image generators: parameters, Comment ...
    orientation: int | None = None  # of the container, as in HEIC and AVIF; None where EXIF and XMP hold it
    extended_xmp: bytes | None = None  # the rest of a JPEG's packet
    iptc: Iptc | None = None
    comment: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)  # a person's text entries in a PNG, by keyword
    count: int = 1  # pictures in the file, without thumbnails
    is_remains: bool = False  # the file is damaged, and this is what is left of it


FIRST = Message("the first")  # of the pictures of a file


def check_page(page: int, count: int, name: str, taken: Message = FIRST) -> tuple[Message, ...]:
    """A note where a file holds more pictures than the one that is taken; none if `page`, from 1, chooses one.

    Raises:
        PictureError: the file has no such picture.
    """
    if page > count:
        raise PictureError(
            "{name} has no picture {page}: it holds {count}; give other {option:pages}",
            name=name,
            page=page,
            count=count,
        )
    if page or count < 2:
        return ()
    text = "it holds {count} pictures; only {taken} was taken; {option:pages} all takes them all"
    return (Message(text, count=count, taken=taken),)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Around calls into decoders only: converts what they raise on a damaged file to DamagedFile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn about metadata that is checked here
            yield
    except MemoryError as fault:
        raise PictureError(
            "{name} does not fit into memory; close other programs or make it smaller", name=name
        ) from fault
    except _FAULTS as fault:
        raise DamagedFile(
            "{name} is damaged or cut off ({cause}); try another copy of it", name=name, cause=_cause(fault)
        ) from fault


def _cause(fault: Exception) -> Message:
    """A reason of ours is a message, or a text of the catalog; one of a library's stays as it is."""
    if fault.args and isinstance(fault.args[0], Message):
        return fault.args[0]
    lines = str(fault).strip().splitlines()
    return Message.of(lines[0][:120].rstrip(".") if lines else type(fault).__name__)


def split(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W[, C]) with 1 to 4 channels -> colour (H, W, 1 or 3) and alpha (H, W) or None, both contiguous."""
    if samples.ndim == 2:
        return np.ascontiguousarray(samples[:, :, None]), None
    channels = samples.shape[2]
    if channels in (1, 3):
        return np.ascontiguousarray(samples), None
    return np.ascontiguousarray(samples[:, :, : channels - 1]), np.ascontiguousarray(samples[:, :, channels - 1])


def stretched(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of fewer bits than their type, scaled to its full range: 10-bit white becomes 16-bit white."""
    max_value = np.iinfo(samples.dtype).max
    if (1 << bits) - 1 == max_value:
        return samples
    table = (np.arange(1 << bits, dtype=np.uint64) * max_value * 2 // ((1 << bits) - 1) + 1) // 2
    return table.astype(samples.dtype)[np.minimum(samples, (1 << bits) - 1)]


def left_out_channels(count: int) -> tuple[str, ...]:
    """A note about channels besides colour and alpha."""
    if count < 1:
        return ()
    if count == 1:
        return ("a further channel that is not transparency is left out",)
    return (f"{count} further channels that are not transparency are left out",)


def unpremultiply(colour: np.ndarray, alpha: np.ndarray) -> None:
    """Converts associated alpha to straight alpha, in place, some rows at a time."""
    max_value = np.iinfo(colour.dtype).max
    rows = max(1, (1 << 20) // colour.shape[1])
    for y in range(0, len(colour), rows):
        alpha_rows = alpha[y : y + rows, :, None].astype(np.float32)
        straight = colour[y : y + rows] * (max_value / np.maximum(alpha_rows, 1))
        colour[y : y + rows] = np.minimum(np.rint(straight), max_value)


def plain_text(text: bytes) -> str:
    """A text of a PNG or a JPEG's comment: Latin-1 by the standard, though many programs write UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
