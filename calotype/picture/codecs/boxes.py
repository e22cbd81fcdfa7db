"""Boxes of the ISO base media format (HEIC, AVIF): the primary item's colour information."""

import struct
from collections.abc import Iterator

from calotype.picture.metadata.color_space import Cicp, ColorTags


def color_tags(data: bytes) -> ColorTags:
    """What the `colr` box of type nclx says about the primary item; of its tiles where only they have one."""
    try:
        found = _color_boxes(data)
    except (struct.error, LookupError):
        return ColorTags()
    codes = {struct.unpack_from(">HH", body, 4) for body in found if body[:4] == b"nclx" and len(body) >= 10}
    return ColorTags(cicp=Cicp(*codes.pop()) if len(codes) == 1 else None)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and start and end of the content, of the boxes between two places."""
    while start + 8 <= end:
        length, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        length = length or end - start
        if length < head or start + length > end:
            return
        yield kind, start + head, start + length
        start += length


def _find(data: bytes, span: tuple[int, int], *path: bytes) -> tuple[int, int]:
    """The content of a box by its path. Raises LookupError."""
    for kind, start, end in _boxes(data, *span):
        if kind == path[0]:
            # meta is a full box: 4 bytes of version and flags stand before its content
            return (start, end) if len(path) == 1 else _find(data, (start + 4 * (kind == b"meta"), end), *path[1:])
    raise LookupError(path[0])


def _color_boxes(data: bytes) -> list[bytes]:
    """The colr boxes of the primary item; all of the file where it has none."""
    everything = (0, len(data))
    start, end = _find(data, everything, b"meta", b"iprp", b"ipco")
    properties = list(_boxes(data, start, end))
    colours = {n: data[at:to] for n, (kind, at, to) in enumerate(properties, 1) if kind == b"colr"}
    own = [colours[n] for n in _primary_properties(data) if n in colours]
    return own or list(colours.values())


def _primary_properties(data: bytes) -> list[int]:
    """The numbers of the primary item's properties."""
    everything = (0, len(data))
    at, _ = _find(data, everything, b"meta", b"pitm")
    primary = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)[0]
    at, end = _find(data, everything, b"meta", b"iprp", b"ipma")
    version, is_wide = data[at], data[at + 3] & 1
    count, at = struct.unpack_from(">I", data, at + 4)[0], at + 8
    item_code, code, mask = (">I" if version else ">H"), (">H" if is_wide else ">B"), (0x7FFF if is_wide else 0x7F)
    for _ in range(count):
        item, at = struct.unpack_from(item_code, data, at)[0], at + struct.calcsize(item_code)
        numbers, at = data[at], at + 1
        step = struct.calcsize(code)
        if at > end:
            break
        if item == primary:
            return [struct.unpack_from(code, data, at + n * step)[0] & mask for n in range(numbers)]
        at += numbers * step
    return []
