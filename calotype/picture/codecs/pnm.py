"""PBM, PGM, PPM and PAM, plain and raw, 1 to 16 bits."""

import re
from dataclasses import dataclass

import numpy as np

from calotype.errors import PictureError
from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, left_out_channels, split

_PLAIN, _BITS, _FLOAT = b"123", b"14", b"Ff"
_CHANNELS = {b"1": 1, b"2": 1, b"3": 3, b"4": 1, b"5": 1, b"6": 3}
_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d+)")  # after spaces and comments
_MAX_PICTURES = 10_000
_PAM_HEAD = 4096  # bytes


@dataclass(frozen=True)
class _PnmHeader:
    kind: bytes  # the digit after P
    width: int
    height: int
    channels: int
    max_value: int
    start: int  # of the samples
    has_alpha: bool = False

    @property
    def row(self) -> int:
        """Bytes of a row that is not plain."""
        if self.kind == b"4":
            return -(-self.width // 8)
        return self.width * self.channels * (1 if self.max_value < 256 else 2)


def open_pnm(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads the header; a raw file may hold several pictures.

    Raises:
        PictureError: damaged or cut off, or floating-point samples.
    """
    if data[1:2] in _FLOAT:
        raise PictureError(
            "{name} holds {kind} samples; save it with 8 or 16 bits per channel first", name=name, kind="floating-point"
        )
    with decoding(name):
        headers = _headers(data)
    notes = check_page(page, len(headers), name)
    header = headers[max(page, 1) - 1]
    further = header.channels - (3 if header.channels > 2 else 1) - header.has_alpha

    def decode() -> Pixels:
        with decoding(name):
            return _pixels(data, header)

    return PictureFile(
        (header.height, header.width), decode, notes=notes + left_out_channels(further), count=len(headers)
    )


def _headers(data: bytes) -> list[_PnmHeader]:
    """Of all pictures in the file."""
    found = [_header(data, 0)]
    while len(found) < _MAX_PICTURES and found[-1].kind not in _PLAIN:
        at = found[-1].start + found[-1].row * found[-1].height
        while data[at : at + 1] in (b"\n", b"\r", b" ", b"\t"):
            at += 1
        if not re.match(rb"P[4567]\s", data[at : at + 3]):
            break
        try:
            found.append(_header(data, at))
        except ValueError:  # something else stands behind the picture
            break
    return found


def _header(data: bytes, at: int) -> _PnmHeader:
    kind = data[at + 1 : at + 2]
    if kind == b"7":
        return _pam_header(data, at)
    numbers, end = [], at + 2
    for _ in range(2 if kind in _BITS else 3):
        match = _NUMBER.match(data, end, end + 4096)
        if match is None or len(match[1]) > 10:
            raise ValueError("its header is damaged")
        numbers.append(int(match[1]))
        end = match.end()
    width, height, max_value = (*numbers, 1)[:3]
    return _checked(_PnmHeader(kind, width, height, _CHANNELS[kind], max_value, end + 1))


def _pam_header(data: bytes, at: int) -> _PnmHeader:
    text, found, _ = data[at : at + _PAM_HEAD].partition(b"ENDHDR\n")
    lines = [line.split(None, 1) for line in text.splitlines()[1:] if line.strip() and not line.startswith(b"#")]
    fields = {parts[0]: parts[1].strip() for parts in lines if len(parts) == 2}
    numbers = [int(fields.get(key, b"0")) for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")]
    if not found or not 0 < numbers[2] < 64:
        raise ValueError("its header is damaged")
    has_alpha = fields.get(b"TUPLTYPE", b"").endswith(b"_ALPHA") or (b"TUPLTYPE" not in fields and numbers[2] in (2, 4))
    start = at + len(text) + len(b"ENDHDR\n")
    return _checked(_PnmHeader(b"7", *numbers[:2], numbers[2], numbers[3], start, has_alpha and numbers[2] in (2, 4)))


def _checked(header: _PnmHeader) -> _PnmHeader:
    if not (header.width and header.height and 0 < header.max_value < 65_536):
        raise ValueError("a picture without pixels")
    return header


def _pixels(data: bytes, header: _PnmHeader) -> Pixels:
    shape = (header.height, header.width, header.channels)
    dtype = np.uint8 if header.max_value < 256 else np.uint16
    if header.kind in _PLAIN:
        samples = _plain(data, header)
    else:
        raw = memoryview(data)[header.start : header.start + header.row * header.height]
        if len(raw) < header.row * header.height:
            raise ValueError("the end is missing")
        samples = np.frombuffer(raw, dtype if dtype == np.uint8 else ">u2")
        if header.kind == b"4":
            samples = np.unpackbits(samples.reshape(header.height, header.row), axis=1)[:, : header.width]
    samples = samples.reshape(shape).astype(dtype)
    samples = _scaled(samples, header)
    colours = 3 if header.channels > 2 else 1
    colour, _ = split(samples[:, :, :colours])
    return Pixels(colour, np.ascontiguousarray(samples[:, :, -1]) if header.has_alpha else None)


def _plain(data: bytes, header: _PnmHeader) -> np.ndarray:
    """Samples as digits; those of a plain PBM need no spaces between them."""
    count = header.height * header.width * header.channels
    text = re.sub(rb"#[^\r\n]*", b"", data[header.start - 1 :])
    if header.kind == b"1":
        digits = np.frombuffer(text, np.uint8)
        values = digits[(digits == ord("0")) | (digits == ord("1"))][:count] - ord("0")
    else:
        values = np.array(text.split(None, count)[:count], dtype=object)
        if not all(value.isdigit() and len(value) < 7 for value in values):
            raise ValueError("samples that are no numbers")
        values = values.astype(int)
    if len(values) < count:
        raise ValueError("the end is missing")
    return values


def _scaled(samples: np.ndarray, header: _PnmHeader) -> np.ndarray:
    """The full range of the type; bits of a PBM are 1 for black."""
    if header.kind in _BITS:
        return (1 - samples) * np.uint8(255)
    full = np.iinfo(samples.dtype).max
    if header.max_value == full:
        return samples
    table = np.rint(np.arange(header.max_value + 1) * (full / header.max_value)).astype(samples.dtype)
    return table[np.minimum(samples, header.max_value)]
