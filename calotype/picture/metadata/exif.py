"""EXIF as typed entries, read and written without loss: unknown entries are copied unchanged.

The bytes of a value stay in the byte order of their block; types are never inferred from tag numbers.
"""

import codecs
import re
import struct
from dataclasses import dataclass, field, replace
from mmap import mmap

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SOFTWARE = 274, 282, 283, 296, 305
USER_COMMENT, XP_COMMENT = 37510, 40092
_TEXTS = {270: "ImageDescription", 271: "Make", 272: "Model", SOFTWARE: "Software"}
_USUAL = re.compile("[\t\n\r\x20-\x7e\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef\u00a0-\u00ff\u0400-\u04ff]")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UNUSUAL = re.compile("[\x00-\x08\u0100-\u02ff\ue000-\uf8ff\ufffd\ud800-\udfff]")
EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 34665, 34853, 40965, 37500
PIXEL_SIZES = {256: 0, 257: 1, 40962: 0, 40963: 1}  # tags that repeat width (0) and height (1)

_MAX_BYTES = 64 << 20  # of all values together; a larger block is refused as malicious
# Tags of the first directory that describe the file's structure, not the photo.
_STRUCTURE = frozenset(
    {254, 255, *range(258, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 343), 347}
    | {*range(512, 522), *range(529, 533), 559, 700, 33723, 34377, 34675, 37724}
) - {318, 319}


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

    def number(self, tag: int, default: int = 0) -> int:
        """The first integer of a value in the first directory."""
        entry = self.root.get(tag)
        code = {1: "B", SHORT: "H", LONG: "I", LONG8: "Q"}.get(entry.kind) if entry and entry.count else None
        return struct.unpack_from(self.order + code, entry.data)[0] if entry and code else default

    def ratio(self, tag: int) -> float | None:
        """A rational of the first directory, None where it is missing or divides by zero."""
        entry = self.root.get(tag)
        if entry is None or entry.kind != RATIONAL or entry.count < 1:
            return None
        over, under = struct.unpack_from(self.order + "II", entry.data)
        return over / under if under else None


def parse(block: bytes | mmap) -> Exif:
    """Parses a TIFF structure: an Exif block, or a complete TIFF file (memory-mapped), classic or BigTIFF.

    Entries that do not lie within the block are left out; `is_damaged` tells so.

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
        start = struct.unpack_from(order + "Q", view, 8)[0] if is_big else struct.unpack_from(order + "I", view, 4)[0]
        return _ExifReader(view, order, is_big).block(start)


class _ExifReader:
    """Reads the directories of one block and records whether entries were left out."""

    def __init__(self, view: memoryview, order: str, is_big: bool):
        self.view, self.order, self.is_big = view, order, is_big
        self.bytes_left = _MAX_BYTES
        self.is_damaged = False

    def block(self, start: int) -> Exif:
        root = self.directory(start)
        photo, gps = self.below(root, EXIF_IFD), self.below(root, GPS_IFD)
        if not (root or photo or gps):
            raise ValueError("no entries")
        interop = self.below(photo, INTEROP_IFD)
        return Exif(self.order, root, photo, gps, interop, self.is_damaged)

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
        entries.setdefault(tag, ExifEntry(kind, count, bytes(self.view[offset : offset + length])))


def without_layout(exif: Exif) -> Exif:
    """Without entries about the source file's layout, and with the orientation, if any, reset to 1."""
    root = {tag: entry for tag, entry in exif.root.items() if tag not in _STRUCTURE and tag < 50700}
    if ORIENTATION in root:
        root[ORIENTATION] = short(exif.order, 1)
    return replace(exif, root=root)


def for_size(exif: Exif, width: int, height: int) -> Exif:
    """With every entry that repeats the picture's size set to `width` and `height`."""

    def fitted(directory: Directory) -> Directory:
        sizes = {tag: long(exif.order, (width, height)[at]) for tag, at in PIXEL_SIZES.items() if tag in directory}
        return directory | sizes

    return replace(exif, root=fitted(exif.root), photo=fitted(exif.photo))


def without_location(exif: Exif) -> Exif:
    """Without GPS, and without the maker's note, in which some cameras store the location."""
    photo = {tag: entry for tag, entry in exif.photo.items() if tag != MAKER_NOTE}
    return replace(exif, gps={}, photo=photo)


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
    entry = exif.photo.get(USER_COMMENT)
    if entry is None:
        return ""
    code, body = entry.data[:8], entry.data[8:]
    if code == b"UNICODE\0":
        return _unicode(body, exif.order)
    if code.rstrip(b"\0 ") == b"JIS":
        return _decoded(body, "iso2022_jp", "shift_jis")
    return _text(body if code in (b"ASCII\0\0\0", bytes(8)) else entry.data)


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
    return ExifEntry(RATIONAL, 1, struct.pack(order + "II", min(round(value * under), 0xFFFFFFFF), under))


def text(value: str) -> ExifEntry:
    data = value.encode() + b"\0"
    return ExifEntry(ASCII, len(data), data)


def pack(exif: Exif) -> bytes:
    """The block for a file's Exif segment, without the `Exif\\0\\0` prefix."""
    mark = b"II*\0" if exif.order == "<" else b"MM\0*"
    return mark + struct.pack(exif.order + "I", 8) + pack_directories(exif, 8)


def pack_directories(exif: Exif, start: int, is_big: bool = False) -> bytes:
    """All directories in sequence, the first at byte `start` of the file; the link at the end of each is 0."""
    interop = _DirectoryWriter(exif.order, is_big, exif.interop)
    photo = _DirectoryWriter(exif.order, is_big, exif.photo, {INTEROP_IFD: interop})
    gps = _DirectoryWriter(exif.order, is_big, exif.gps)
    return _DirectoryWriter(exif.order, is_big, exif.root, {EXIF_IFD: photo, GPS_IFD: gps}).packed(start)


class _DirectoryWriter:
    """One directory and its subdirectories: sizes first, then bytes, since offsets depend on all sizes before."""

    def __init__(
        self, order: str, is_big: bool, entries: Directory, below: dict[int, "_DirectoryWriter"] | None = None
    ):
        self.order, self.is_big = order, is_big
        self.below = {tag: directory for tag, directory in (below or {}).items() if directory.entries}
        self.pointer_size = 8 if is_big else 4
        blank = ExifEntry(LONG8 if is_big else LONG, 1, bytes(self.pointer_size))
        self.entries = entries | dict.fromkeys(self.below, blank)
        self.header_size = (16 + 20 * len(self.entries)) if is_big else (6 + 12 * len(self.entries))
        self.size = self.header_size + sum(
            _even(len(e.data)) for e in self.entries.values() if len(e.data) > self.pointer_size
        )

    def packed(self, start: int) -> bytes:
        code = "Q" if self.is_big else "I"
        lower, at = b"", start + self.size
        entries = dict(self.entries)
        for tag, directory in self.below.items():
            entries[tag] = replace(entries[tag], data=struct.pack(self.order + code, at + len(lower)))
            lower += directory.packed(at + len(lower))
        rows, values = [], b""
        for tag, entry in sorted(entries.items()):
            value = entry.data.ljust(self.pointer_size, b"\0")
            if len(entry.data) > self.pointer_size:
                value = struct.pack(self.order + code, start + self.header_size + len(values))
                values += entry.data.ljust(_even(len(entry.data)), b"\0")
            rows.append(struct.pack(self.order + "HH" + code, tag, entry.kind, entry.count) + value)
        count = struct.pack(self.order + ("Q" if self.is_big else "H"), len(rows))
        return count + b"".join(rows) + bytes(self.pointer_size) + values + lower


def _even(length: int) -> int:
    return length + length % 2
