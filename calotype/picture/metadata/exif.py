"""EXIF as typed entries, read and written without loss: unknown entries are copied unchanged.

The bytes of a value stay in the byte order of their block; types are never inferred from tag numbers.
"""

import codecs
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import isfinite
from mmap import mmap

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
_CODES = {1: "B", SHORT: "H", LONG: "I", RATIONAL: "I", 6: "b", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", LONG8: "Q"}

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SOFTWARE = 274, 282, 283, 296, 305
USER_COMMENT, XP_COMMENT = 37510, 40092
_TEXTS = {270: "ImageDescription", 271: "Make", 272: "Model", SOFTWARE: "Software"}
_USUAL = re.compile("[\t\n\r\x20-\x7e\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef\u00a0-\u00ff\u0400-\u04ff]")
_HEADER = re.compile(rb"(?:Exif\0\0)*")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UNUSUAL = re.compile("[\x00-\x08\u0100-\u02ff\ue000-\uf8ff\ufffd\ud800-\udfff]")
EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 34665, 34853, 40965, 37500
_MAX_BYTES = 64 << 20  # of all values together; a larger block is refused as malicious
_MAX_NOTE_OFFSET = 60_000  # a maker's note farther away would leave no place in a JPEG's segment
# First bytes of maker's notes without offsets from outside: those of Nikon, Fujifilm, Olympus, Apple and Google.
_SELF_CONTAINED = (b"Nikon\0\2", b"FUJIFILM", b"OLYMPUS\0II", b"OLYMPUS\0MM", b"OM SYSTEM\0", b"Apple iOS\0", b"HDRP")


@dataclass(frozen=True)
class ExifEntry:
    """One value: `kind` is the TIFF type number, `data` holds `count` of them in the block's byte order."""

    kind: int
    count: int
    data: bytes


Directory = dict[int, ExifEntry]


@dataclass(frozen=True)
class Exif:
    """The directories of one block, without thumbnails."""

    order: str = "<"  # byte order, as struct writes it
    root: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)
    is_damaged: bool = False  # some entries were unreadable and are left out
    note_offset: int = 0  # of the maker's note, from the start of the block; 0 where it has none

    @property
    def has_entries(self) -> bool:
        return bool(self.root or self.photo or self.gps)

    def number(self, tag: int, default: int = 0) -> int:
        """The first integer of a value in the first directory."""
        entry = self.root.get(tag)
        code = {1: "B", SHORT: "H", LONG: "I", LONG8: "Q"}.get(entry.kind) if entry and entry.count else None
        return struct.unpack_from(self.order + code, entry.data)[0] if entry and code else default

    def numbers(self, directory: str, tag: int) -> list[float]:
        """All numbers of a value, empty where it is missing or holds others; a division by zero gives 0."""
        entry = getattr(self, directory).get(tag)
        code = _CODES.get(entry.kind) if entry is not None else None
        if entry is None or code is None or entry.count > 1 << 18:
            return []
        is_pair = entry.kind in (RATIONAL, 10)
        values = struct.unpack(f"{self.order}{entry.count * (1 + is_pair)}{code}", entry.data)
        if is_pair:
            values = [a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True)]
        return list(values) if all(map(isfinite, values)) else []

    def ratio(self, tag: int) -> float | None:
        """A rational of the first directory, None where it is missing or divides by zero."""
        entry = self.root.get(tag)
        if entry is None or entry.kind != RATIONAL or entry.count < 1:
            return None
        over, under = struct.unpack_from(self.order + "II", entry.data)
        return over / under if under else None


def without_header(block: bytes) -> bytes:
    """The TIFF block without "Exif" before it, which some programs write several times."""
    return block[_HEADER.match(block).end() :]


def parse(block: bytes | mmap, start: int | None = None) -> Exif:
    """Parses a TIFF structure: an Exif block, or a complete TIFF file (memory-mapped), classic or BigTIFF.

    `start` is the offset of the directory to read, by default the first. Entries that do not lie within the block are
    left out; `is_damaged` tells so.

    Raises:
        ValueError: no byte order mark, or nothing readable in it.
    """
    with memoryview(block) as view:
        order = {b"II": "<", b"MM": ">"}.get(bytes(view[:2]))
        if order is None or len(view) < 8:
            raise ValueError("no byte order mark")
        is_big = struct.unpack_from(order + "H", view, 2)[0] == 43
        if is_big and len(view) < 16:
            raise ValueError("no first directory")
        first = struct.unpack_from(order + "Q", view, 8)[0] if is_big else struct.unpack_from(order + "I", view, 4)[0]
        return _ExifReader(view, order, is_big).block(first if start is None else start)


class _ExifReader:
    """Reads the directories of one block and records whether entries were left out."""

    def __init__(self, view: memoryview, order: str, is_big: bool):
        self.view, self.order, self.is_big = view, order, is_big
        self.bytes_left = _MAX_BYTES
        self.is_damaged = False
        self.offsets: dict[int, int] = {}  # of the values of the directory read last

    def block(self, start: int) -> Exif:
        root = self.directory(start)
        photo = self.below(root, EXIF_IFD)
        note_offset = self.offsets.get(MAKER_NOTE, 0) if photo else 0
        gps, interop = self.below(root, GPS_IFD), self.below(photo, INTEROP_IFD)
        gps, interop = gps or self.below(photo, GPS_IFD), interop or self.below(root, INTEROP_IFD)
        if not (root or photo or gps):
            raise ValueError("no entries")
        for directory in (root, photo, gps, interop):  # pointers that would point anywhere in another file
            for tag in [t for t, e in directory.items() if t in (EXIF_IFD, GPS_IFD, INTEROP_IFD) or e.kind in (13, 18)]:
                del directory[tag]
        return Exif(self.order, root, photo, gps, interop, self.is_damaged, note_offset)

    def below(self, parent: Directory, tag: int) -> Directory:
        entry = parent.pop(tag, None)
        if entry is None or entry.kind not in (LONG, 13, LONG8, 18) or entry.count < 1:
            self.is_damaged |= entry is not None
            return {}
        code = "Q" if SIZES[entry.kind] == 8 else "I"
        return self.directory(struct.unpack_from(self.order + code, entry.data)[0])

    def directory(self, start: int) -> Directory:
        head, size = ("Q", 20) if self.is_big else ("H", 12)
        first = start + struct.calcsize(head)
        if start < 8 or first > len(self.view):
            self.is_damaged = True
            return {}
        self.offsets = {}
        count = struct.unpack_from(self.order + head, self.view, start)[0]
        capacity = (len(self.view) - first) // size
        self.is_damaged |= count > capacity
        entries: Directory = {}
        for at in range(first, first + min(count, capacity, 4096) * size, size):
            self.entry(entries, at)
        return entries

    def entry(self, entries: Directory, at: int) -> None:
        tag, kind, count = struct.unpack_from(self.order + ("HHQ" if self.is_big else "HHI"), self.view, at)
        offset, code = (at + 12, "Q") if self.is_big else (at + 8, "I")
        length = SIZES.get(kind, 0) * count
        if length > struct.calcsize(code):
            offset = struct.unpack_from(self.order + code, self.view, offset)[0]
        if not SIZES.get(kind) or length > self.bytes_left or offset + length > len(self.view):
            self.is_damaged = True
            return
        self.bytes_left -= length
        if tag not in entries:
            entries[tag] = ExifEntry(kind, count, bytes(self.view[offset : offset + length]))
            self.offsets[tag] = offset


def without(exif: Exif, directory: str, tags: Collection[int]) -> Exif:
    """Without these entries of one directory: root, photo, gps or interop."""
    entries: Directory = getattr(exif, directory)
    if entries.keys().isdisjoint(tags):
        return exif
    return replace(exif, **{directory: {tag: entry for tag, entry in entries.items() if tag not in tags}})


def with_entries(exif: Exif, directory: str, entries: Directory) -> Exif:
    """With these entries in one directory."""
    return replace(exif, **{directory: getattr(exif, directory) | entries}) if entries else exif


def without_note(exif: Exif) -> Exif:
    return replace(without(exif, "photo", {MAKER_NOTE}), note_offset=0)


def is_note_movable(exif: Exif) -> bool:
    """Whether the maker's note, if any, stays readable in another file.

    Most cameras write offsets into it that count from the start of the Exif block: it is written at the same place,
    unless that is too far away, as in a TIFF file. Some cameras' offsets count from the note's own start.
    """
    note = exif.photo.get(MAKER_NOTE)
    return note is None or exif.note_offset <= _MAX_NOTE_OFFSET or note.data.startswith(_SELF_CONTAINED)


def with_orientation(exif: Exif, orientation: int) -> Exif:
    return with_entries(exif, "root", {ORIENTATION: short(exif.order, orientation)})


def with_software(exif: Exif, software: str) -> Exif:
    return replace(exif, root=exif.root | {SOFTWARE: text(software)})


def with_resolution(exif: Exif, dpi: tuple[float, float]) -> Exif:
    """With the resolution entries, in dots per inch."""
    values = {X_RESOLUTION: ratio(exif.order, dpi[0]), Y_RESOLUTION: ratio(exif.order, dpi[1])}
    return replace(exif, root=exif.root | values | {RESOLUTION_UNIT: short(exif.order, 2)})


def resolution(exif: Exif) -> tuple[float, float] | None:
    """Dots per inch, where the block has them."""
    x, y = exif.ratio(X_RESOLUTION), exif.ratio(Y_RESOLUTION)
    unit = {2: 1.0, 3: 2.54}.get(exif.number(RESOLUTION_UNIT, 2))
    return (x * unit, y * unit) if x and y and unit else None


def texts(exif: Exif) -> dict[str, str]:
    """The texts in which image generators store their parameters, by the names of the entries."""
    entries = {name: exif.root.get(tag) for tag, name in _TEXTS.items()}
    found = {
        name: _text(entry.data) for name, entry in entries.items() if entry and entry.kind in (ASCII, UNDEFINED, 1)
    }
    found["UserComment"] = comment(exif)
    if entry := exif.root.get(XP_COMMENT):
        found["XPComment"] = entry.data.decode("utf-16-le", "replace").strip("\0 ")
    return {name: text for name, text in found.items() if text}


def comment(exif: Exif) -> str:
    """The user comment, in which image generators store their parameters too; empty where there is none.

    Its first eight bytes are the character code by the standard; programs that leave them out write UTF-8.
    """
    entry = exif.photo.get(USER_COMMENT) or exif.root.get(USER_COMMENT)  # the second by some programs' mistake
    if entry is None:
        return ""
    body = entry.data[8:]
    code = entry.data[:8].rstrip(b"\0 ").upper()
    if code == b"UNICODE":
        return _unicode(body, exif.order)
    if code == b"JIS":
        return _decoded(body, "iso2022_jp", "shift_jis")
    return _text(body if code in (b"ASCII", b"") else entry.data)


def _text(data: bytes) -> str:
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace").strip("\0 ")
    return _decoded(data, "utf-8-sig", "latin-1")


def _decoded(data: bytes, *encodings: str) -> str:
    for encoding in encodings:
        try:
            return data.decode(encoding).strip("\0 ")
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace").strip("\0 ")


def _unicode(body: bytes, order: str) -> str:
    """UTF-16 whose byte order the standard leaves open: by its mark, UTF-8 after all, or by what makes sense.

    A1111 writes big-endian in any block, others the order of the block.
    """
    if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return body.decode("utf-16", "replace").strip("\0")
    if not _CONTROLS.search(body.rstrip(b"\0")):
        try:
            return body.rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            pass
    body = body[: len(body) // 2 * 2]
    encodings = ("utf-16-le", "utf-16-be") if order == "<" else ("utf-16-be", "utf-16-le")
    readings = [body.decode(encoding, "replace").strip("\0") for encoding in encodings]
    return max(readings, key=lambda text: ("Steps:" in text, _plausibility(text)))  # the first of two alike


def _plausibility(text: str) -> int:
    """The number of characters of usual alphabets and punctuation, less those that hardly anybody writes."""
    return len(_USUAL.findall(text)) - len(_UNUSUAL.findall(text))


def with_comment(exif: Exif, text: str) -> Exif:
    data = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    return replace(exif, photo=exif.photo | {USER_COMMENT: ExifEntry(UNDEFINED, len(data), data)})


def short(order: str, *values: int) -> ExifEntry:
    return ExifEntry(SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values))


def long(order: str, *values: int) -> ExifEntry:
    return ExifEntry(LONG, len(values), struct.pack(f"{order}{len(values)}I", *values))


def ratio(order: str, value: float) -> ExifEntry:
    under = 10_000 if value < 400_000 else 1
    return ExifEntry(RATIONAL, 1, struct.pack(order + "II", max(0, min(round(value * under), 0xFFFFFFFF)), under))


def text(value: str) -> ExifEntry:
    data = value.encode() + b"\0"
    return ExifEntry(ASCII, len(data), data)


def pack(exif: Exif) -> bytes:
    """The block for a file's Exif segment, without the `Exif\\0\\0` prefix; the maker's note keeps its offset."""
    packer = _Packer(exif, 8, False)
    first = packer.pack()
    mark = b"II*\0" if exif.order == "<" else b"MM\0*"
    return mark + struct.pack(exif.order + "I", first) + bytes(packer.data)


def pack_directories(exif: Exif, start: int, is_big: bool = False) -> bytes:
    """All directories in sequence, the first at byte `start` of the file; the link at the end of each is 0.

    A maker's note whose offset lies before `start` is expected there.
    """
    packer = _Packer(exif, start, is_big)
    packer.pack()
    return bytes(packer.data)


def fixed_note(exif: Exif) -> tuple[int, bytes] | None:
    """Offset and bytes of the maker's note where it has to keep its offset."""
    note = exif.photo.get(MAKER_NOTE)
    is_fixed = note is not None and len(note.data) > 8 and 16 <= exif.note_offset <= _MAX_NOTE_OFFSET
    return (exif.note_offset, note.data) if is_fixed else None


class _Packer:
    """Lays out directories and values one after the other, before and after a maker's note that keeps its offset."""

    def __init__(self, exif: Exif, start: int, is_big: bool):
        self.exif, self.start, self.is_big = exif, start, is_big
        self.pointer_size, self.code = (8, "Q") if is_big else (4, "I")
        self.fixed = fixed_note(exif)
        self.data = bytearray()
        self.low, self.note, self.next = start, start, start  # free before the note, its offset, free after it
        if self.fixed and self.fixed[0] >= start:
            self.note, self.next = self.fixed[0], self.fixed[0] + _even(len(self.fixed[1]))
            self.write(*self.fixed)

    def pack(self) -> int:
        """Writes all directories; returns the offset of the first."""
        exif = self.exif
        photo = (exif.photo, {INTEROP_IFD: (exif.interop, {})})
        return self.directory(exif.root, {EXIF_IFD: photo, GPS_IFD: (exif.gps, {})})

    def directory(self, entries: Directory, below: dict[int, tuple[Directory, dict]]) -> int:
        below = {
            tag: (inner, lower) for tag, (inner, lower) in below.items() if inner or any(e for e, _ in lower.values())
        }
        pointer = ExifEntry(LONG8 if self.is_big else LONG, 1, bytes(self.pointer_size))
        entries = dict(sorted((entries | dict.fromkeys(below, pointer)).items()))
        at = self.allocate((16 + 20 * len(entries)) if self.is_big else (6 + 12 * len(entries)))
        values = {tag: self.value(tag, entry) for tag, entry in entries.items()}
        for tag, (inner, lower) in below.items():
            values[tag] = self.offset(self.directory(inner, lower))
        rows = [
            struct.pack(self.exif.order + "HH" + self.code, tag, entry.kind, entry.count) + values[tag]
            for tag, entry in entries.items()
        ]
        count = struct.pack(self.exif.order + ("Q" if self.is_big else "H"), len(rows))
        self.write(at, count + b"".join(rows) + bytes(self.pointer_size))
        return at

    def value(self, tag: int, entry: ExifEntry) -> bytes:
        """The last field of an entry's row: the value, or its offset."""
        if len(entry.data) <= self.pointer_size:
            return entry.data.ljust(self.pointer_size, b"\0")
        if self.fixed and tag == MAKER_NOTE and entry is self.exif.photo.get(MAKER_NOTE):
            return self.offset(self.fixed[0])
        at = self.allocate(len(entry.data))
        self.write(at, entry.data)
        return self.offset(at)

    def offset(self, at: int) -> bytes:
        return struct.pack(self.exif.order + self.code, at)

    def allocate(self, size: int) -> int:
        size = _even(size)
        if self.low + size <= self.note:
            self.low += size
            return self.low - size
        self.next += size
        return self.next - size

    def write(self, at: int, data: bytes) -> None:
        end = at + _even(len(data)) - self.start
        self.data.extend(bytes(max(0, end - len(self.data))))
        self.data[at - self.start : at - self.start + len(data)] = data


def _even(length: int) -> int:
    return length + length % 2
