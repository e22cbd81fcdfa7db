"""The frame and the scans of a JPEG: its kind, whether all of its data are there, and where they end."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from calotype.errors import Message

_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, and SOF55
JPEG_LS = 55
NOT_READ = {  # kinds of frames that no decoder reads
    **dict.fromkeys((5, 6, 7, 13, 14, 15), Message("hierarchical")),
    11: Message("lossless with arithmetic coding"),
}
_BETWEEN_SCANS = {0xC4, 0xDB, 0xDC, 0xDD, 0xDA, 0xFE, *range(0xE0, 0xF0)}
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the data of a scan hold no marker but restarts
_MARKER = re.compile(rb"\xff[^\x00\xff]")  # the same of a JPEG without restarts
_HUFFMAN = (0, 1, 2)  # frames of which libjpeg says that data are missing: baseline, extended, progressive
_MISSING = "premature end"  # in a warning of libjpeg's
_SURPLUS = re.compile("([0-9]+) extraneous bytes before marker 0x(d[0-79]|c4|da)")  # others stand between metadata
_RESTARTS = range(0xD0, 0xD8)
_PADDING = 16  # bytes that are surplus, from which they are damage: some cameras leave a few before a marker
_FILLER = 64  # equal bytes; at the end of the data they are no data, but what a recovered file was filled with
_TABLES = 32  # before the header of a scan, at most; more are damage
_RUN = re.compile(rb"(.)\1{%d}" % (_FILLER - 1), re.DOTALL)


@dataclass(frozen=True)
class Frame:
    """The header of the picture: kind 0 is baseline, 1 extended, 2 progressive, 3 lossless, 9 and 10 arithmetic."""

    kind: int
    bits: int  # per sample
    components: int
    position: int  # of its marker


@dataclass(frozen=True)
class _Scan:
    header: bytes
    start: int  # of its data
    end: int


def frame_of(data: bytes) -> Frame:
    """The frame header. Raises ValueError if there is none before the first scan."""
    for marker, at, _ in _segments(data):
        if marker in _FRAMES and at + 10 <= len(data):
            return Frame(marker - 0xC0, data[at + 4], data[at + 9], at)
        if marker == 0xDA:
            break
    raise ValueError("its header is missing")


def as_8_bits(data: bytes, frame: Frame) -> bytes:
    """The same file, its header saying 8 bits, so that Pillow reads the metadata."""
    return data if frame.bits == 8 else data[: frame.position + 4] + b"\x08" + data[frame.position + 5 :]


def has_end_mark(data: bytes) -> bool:
    """Whether the end mark is there. Without it, libjpeg fills truncated data with grey."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at : at + 2] == b"\xff\xff":
            at += 1
        if at < 0 or at + 2 > len(data):
            return False
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        at += 2
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == 0xDA:
            following = _NEXT_MARKER.search(data, at)
            at = following.start() if following else len(data)


def has_damage(data: bytes, frame: Frame) -> bool:
    """Whether libjpeg warns of damaged data in a JPEG with an end mark. Much damage looks like other data to it.

    Raises:
        ValueError: data are missing in spite of the end mark (recovered files), which libjpeg fills with grey.
    """
    warning = _warning(data) if _is_checkable(frame) else ""
    if _MISSING in warning:
        raise ValueError("the end is missing")
    found = _SURPLUS.search(warning)
    if not found:
        return "bad huffman code" in warning or "instead of rst" in warning
    count, marker = int(found[1]), int(found[2], 16)
    if count < _PADDING or (marker in _RESTARTS and not _has_restarts(data, _segments(data))):
        return False
    scans = list(_scans(data))
    if not scans:  # the surplus stands in the header, where it is skipped
        return False
    end = scans[-1].end
    return marker != 0xD9 or len(set(data[end - count : end])) > 1  # else what some cameras fill a file with


def with_end_mark(data: bytes, frame: Frame) -> bytes:
    """A JPEG without end mark whose data are all there: up to the end of its data, and with an end mark.

    Some cameras and programs write something else behind the data, or cut off the last two bytes.

    Raises:
        ValueError: data are missing, or it cannot be found out.
    """
    scans = list(_scans(data))
    if not (scans and _is_checkable(frame) and _has_all_scans(scans, frame)):
        raise ValueError("the end mark is missing")
    low, high = scans[-1].start, scans[-1].end
    if _is_short(_ended(data, high)) or not _is_short(_ended(data, low)):
        raise ValueError("the end is missing")
    if not _RUN.search(data, low, high):
        return _ended(data, high)
    while high - low > 1:  # the least data with which nothing is missing
        middle = (low + high) // 2
        low, high = (middle, high) if _is_short(_ended(data, middle)) else (low, middle)
    if len(set(data[max(scans[-1].start, high - _FILLER) : high])) == 1:
        raise ValueError("the end is missing")
    return _ended(data, high)


def with_readable_scans(data: bytes, frame: Frame) -> bytes:
    """A damaged JPEG of which decoders read what is left: what is no marker there is data, and it has an end mark.

    A decoder stops at a marker that it does not expect, of which a few hundred damaged bytes mostly hold one.

    Raises:
        ValueError: there are no data of a scan, or libjpeg may not be given such data.
    """
    segments = list(_segments(data))
    first = next((after for marker, _, after in segments if marker == 0xDA), None)
    if first is None or not _is_checkable(frame):
        raise ValueError("the end is missing")
    marker_of_scan = _NEXT_MARKER if _has_restarts(data, segments) else _MARKER
    parts, at, end = [], first, len(data)
    while following := marker_of_scan.search(data, at):
        start = following.start()
        if data[start + 1] in (0xD8, 0xD9):
            end = start
            break
        after = _end_of_tables(data, start)
        parts += [data[at:start], data[start:after] if after else b"\xff\0"]  # two bytes that stand for 255 in data
        at = after or start + 1
    scans = _without_filler(b"".join([*parts, data[at:end]]))
    if not scans:
        raise ValueError("the end is missing")
    return _ended(data[:first] + scans, None)


def _has_restarts(data: bytes, segments: Iterable[tuple[int, int, int]]) -> bool:
    return any(marker == 0xDD and any(data[start + 4 : start + 6]) for marker, start, _ in segments)


def _without_filler(scans: bytes) -> bytes:
    stripped = scans.rstrip(scans[-1:])
    return stripped if len(scans) - len(stripped) >= _FILLER else scans


def _end_of_tables(data: bytes, at: int) -> int | None:
    """Where the data of a further scan begin, if its tables and header stand here."""
    for _ in range(_TABLES):
        if at + 4 >= len(data) or data[at] != 0xFF or data[at + 1] not in (0xC4, 0xDB, 0xDD, 0xDA):
            return None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            return at + 2 + length if length == 6 + 2 * data[at + 4] and at + 2 + length <= len(data) else None
        at += 2 + length
    return None


def _is_checkable(frame: Frame) -> bool:
    return frame.kind in _HUFFMAN and frame.bits == 8


def _ended(data: bytes, end: int | None) -> bytes:
    return data[:end] + b"\xff\xd9"


def _is_short(data: bytes) -> bool:
    """Whether libjpeg warns about missing data. Only for frames that are checkable."""
    return _MISSING in _warning(data)


def _warning(data: bytes) -> str:
    """What libjpeg warns of first, or its fault, in small letters.

    Decoding at an eighth of the size is enough for the warning, which Pillow does not pass on. Only for frames
    that are checkable: of others simplejpeg would write beyond its memory.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as fault:
        return str(fault).lower()
    return ""


def _has_all_scans(scans: list[_Scan], frame: Frame) -> bool:
    """Whether every coefficient of every component was sent to its last bit; a progressive JPEG sends them in parts."""
    missing_bits: dict[int, list[int]] = {}
    for scan in scans:
        count = scan.header[0]
        first, last, bits = scan.header[1 + 2 * count : 4 + 2 * count]
        for component in scan.header[1 : 1 + 2 * count : 2]:
            known = missing_bits.setdefault(component, [99] * 64)
            known[first : last + 1] = [bits & 15] * (last + 1 - first)
    return len(missing_bits) == frame.components and not any(any(known) for known in missing_bits.values())


def _scans(data: bytes) -> Iterator[_Scan]:
    for marker, at, after in _segments(data):
        if marker != 0xDA:
            continue
        header = data[at + 4 : after]
        if len(header) < 6 or len(header) < 4 + 2 * header[0]:
            return
        following = _NEXT_MARKER.search(data, after)
        yield _Scan(header, after, following.start() if following else len(data))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, its position and the end of its segment, up to the last scan."""
    at, is_after_scan = 2, False
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if after > len(data) or (is_after_scan and marker not in _BETWEEN_SCANS):
            return
        yield marker, at, after
        at = after
        if marker == 0xDA:
            following = _NEXT_MARKER.search(data, after)
            at, is_after_scan = following.start() if following else len(data), True
