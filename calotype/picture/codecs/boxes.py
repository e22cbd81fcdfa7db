"""Boxes of the ISO base media format (HEIC, AVIF): the primary item's colour information and orientation."""

import itertools
import re
import struct
from collections.abc import Iterator

from calotype.picture.codecs.box_lengths import boxes
from calotype.picture.metadata import families
from calotype.picture.metadata.color_space import Cicp, ColorTags
from calotype.picture.metadata.geometry import composed

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def color_tags(data: bytes) -> ColorTags:
    """What the `colr` box of type nclx says about the primary item; of its tiles where only they have one."""
    try:
        found = _color_boxes(data)
    except (struct.error, LookupError):
        return ColorTags()
    codes = {struct.unpack_from(">HH", body, 4) for body in found if body[:4] == b"nclx" and len(body) >= 10}
    return ColorTags(cicp=Cicp(*codes.pop()) if len(codes) == 1 else None)


def orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8, that means the same as the primary item's `irot` and `imir` boxes."""
    found = 1
    try:
        start, end = _find(data, (0, len(data)), b"meta", b"iprp", b"ipco")
        properties = dict(enumerate(_boxes(data, start, end), 1))
        for number in _primary_properties(data):
            kind, at, _ = properties.get(number, (b"", 0, 0))
            if kind == b"irot":  # quarter turns, counterclockwise
                found = composed(found, (1, 8, 3, 6)[data[at] & 3])
            if kind == b"imir":  # 0: top and bottom change places; 1: left and right
                found = composed(found, (4, 2)[data[at] & 1])
    except (struct.error, LookupError):
        return 1
    return found


def left_out(data: bytes) -> tuple[str, ...]:
    """Notes about parts of the file that belong to the picture and are not carried."""
    kinds = {kind for kind, _, _ in _boxes(data, 0, len(data))}
    uuids = {data[at : at + 16] for kind, at, _ in _boxes(data, 0, len(data)) if kind == b"uuid"}
    try:
        start, end = _find(data, (0, len(data)), b"meta")
    except LookupError:
        start = end = 0
    meta = data[start:end]
    found = {
        families.VIDEO_NOTE: b"mpvd" in kinds,
        families.GAIN_MAP_NOTE: b"aux:hdrgainmap" in meta or re.search(rb"infe.{8}(?:..)?tmap", meta, re.DOTALL),
        families.DEPTH_MAP_NOTE: re.search(rb"auxid:2\0|aux:(?:disparity|portraiteffectsmatte|depth)", meta),
        families.CREDENTIALS_NOTE: _C2PA in uuids,
    }
    return tuple(note for note, is_there in found.items() if is_there)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and start and end of the content, of the boxes between two places, up to one that is cut off."""
    return itertools.takewhile(lambda box: box[2] <= end, boxes(data, start, end))


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
