"""Puts an ICC profile into a JPEG XL codestream, as ISO/IEC 18181-1 stores it, without compressing it."""

import numpy as np

_HEADER = 128  # bytes of a profile's header, stored as differences to a prediction
_USUAL = {8: b"\4", 12: b"mntrRGB XYZ ", 36: b"acsp", 70: b"\xf6\xd6\0\1", 78: b"\xd3\x2d"}
_PLATFORMS = {b"A": b"APPL", b"M": b"MSFT", b"SG": b"SGI ", b"SU": b"SUNW"}
_INSERT = 1
_SPACES = {b"RGB ": "00", b"GRAY": "10"}  # bits in their order


def with_profile(codestream: bytes, start: int, end: int, icc: bytes) -> bytes:
    """The codestream of pixels that are not XYB, with a profile in place of its colour space.

    Args:
        start, end: the bits of the colour space, in a header that says nothing behind it.

    Raises:
        ValueError: the header says something behind it.
    """
    bits = "".join(f"{byte:08b}"[::-1] for byte in codestream[: -(-(end + 3) // 8)])
    if set(bits[end : end + 2]) != {"0"} or set(bits[end + 3 :]) - {"0"} or bits[end + 2] != "1":
        raise ValueError("a header with extensions")
    head = bits[:start] + "01" + _SPACES[icc[16:20]] + bits[end : end + 3]
    stored = _differences(icc)
    head += _long(len(stored)) + _ENTROPY
    # each byte as a code of 8 bits, the highest first
    values = np.concatenate([_as_array(head), np.unpackbits(np.frombuffer(stored, np.uint8))])
    return np.packbits(values, bitorder="little").tobytes() + codestream[len(bits) // 8 :]


def _as_array(bits: str) -> np.ndarray:
    return np.frombuffer(bits.encode(), np.uint8) - ord("0")


def _number(value: int, count: int) -> str:
    """The lowest bit first."""
    return f"{value:0{count}b}"[::-1]


# No matches of earlier bytes; one cluster for all contexts; a prefix code; bytes stand for themselves; 256 of them,
# whose codes all have the length 8, which therefore takes no bits itself.
_CODE_LENGTHS = "00" * 10 + _number(1, 2) + "00" * 7
_ENTROPY = "0" + "1" + "00" + "1" + _number(8, 4) + _number(0, 4) * 2
_ENTROPY += "1" + _number(7, 4) + _number(127, 7) + "00" + _CODE_LENGTHS


def _long(value: int) -> str:
    """A number of up to 64 bits in parts of 12 and then 8 bits."""
    bits, value = "11" + _number(value & 0xFFF, 12), value >> 12
    while value:
        bits, value = bits + "1" + _number(value & 0xFF, 8), value >> 8
    return bits + "0"


def _differences(icc: bytes) -> bytes:
    """Lengths, commands (no list of tags, then all bytes as they are), header and bytes."""
    predicted = bytearray(_HEADER)
    predicted[:4] = len(icc).to_bytes(4, "big")
    for at, usual in _USUAL.items():
        predicted[at : at + len(usual)] = usual
    predicted[80:84] = icc[4:8]
    platform = next((name for start, name in _PLATFORMS.items() if icc[40:44].startswith(start)), b"")
    for at in range(len(platform) and (1 if platform[:1] in b"AM" else 2), len(platform)):
        predicted[40 + at] = platform[at]
    header = bytes((a - b) & 255 for a, b in zip(icc[:_HEADER], predicted, strict=True))
    commands = b"\0" + bytes([_INSERT]) + _varint(len(icc) - _HEADER)
    return _varint(len(icc)) + _varint(len(commands)) + commands + header + icc[_HEADER:]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
