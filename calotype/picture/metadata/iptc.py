"""IPTC captions in their older form, IIM: datasets of a JPEG's Photoshop resources and of a TIFF tag.

Formats that have no place for them get the same fields as XMP.
"""

import hashlib
import re
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from calotype.picture.metadata import xmp
from calotype.picture.metadata.exif import Exif
from calotype.picture.metadata.xmp import DC, IPTC_CORE, PHOTOSHOP, XMP

_RESOURCE, _DIGEST = 0x0404, 0x0425  # Photoshop image resources: the captions, and the MD5 that Photoshop compares
TAG, RESOURCES_TAG = 33723, 34377  # of a TIFF: the captions, and Photoshop's resources
_CHARSET = (1, 90)
# Character sets by the escape sequence in dataset 1:90 (ISO 2022).
_CHARSETS = {
    b"\x1b%G": "utf-8",
    b"\x1b%/I": "utf-8",
    b"\x1b$)A": "gb2312",
    b"\x1b$A": "gb2312",
    b"\x1b$)B": "euc-jp",
    b"\x1b$)C": "euc-kr",
}
_ISO_8859 = {"A": 1, "B": 2, "C": 3, "D": 4, "L": 5, "G": 6, "F": 7, "H": 8, "M": 9}

Dataset = tuple[int, int, bytes]  # record, number, value


@dataclass(frozen=True)
class Iptc:
    """Captions as they are in a file."""

    block: bytes  # datasets
    digest: bytes | None = None  # as stored; readers that find another MD5 take the captions as newer than the XMP

    @property
    def datasets(self) -> list[Dataset]:
        return parse(self.block)[0]


def parse(block: bytes) -> tuple[list[Dataset], bool]:
    """The datasets, and whether the block is damaged; what lies before the damage is read."""
    found: list[Dataset] = []
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, number, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:  # the length of the length
            size = length & 0x7FFF
            length, at = int.from_bytes(block[at : at + min(size, 8)], "big"), at + size
        if at + length > len(block):
            return found, True
        found.append((record, number, block[at : at + length]))
        at += length
    return found, bool(block[at:].strip(b"\0"))


def pack(datasets: Collection[Dataset]) -> bytes:
    return b"".join(
        struct.pack(">BBB", 0x1C, record, number)
        + (struct.pack(">H", len(value)) if len(value) < 0x8000 else struct.pack(">HI", 0x8004, len(value)))
        + value
        for record, number, value in datasets
    )


def read(block: bytes, digest: bytes | None = None) -> tuple[Iptc | None, tuple[str, ...]]:
    """Captions from datasets, and notes about what is damaged."""
    datasets, is_damaged = parse(block)
    notes = ("some of its IPTC captions are damaged and left out",) if is_damaged else ()
    if not any(record == 2 for record, _, _ in datasets):
        return None, notes
    packed = pack(datasets)
    return Iptc(packed if is_damaged or block.startswith(packed) else block, digest), notes


def in_resources(resources: bytes) -> tuple[bytes, bytes | None] | None:
    """Datasets and their digest from Photoshop image resources, None where they have no captions."""
    found = dict(reversed(list(resources_in(resources))))  # the first of each
    block = found.get(_RESOURCE)
    return None if block is None else (block, found.get(_DIGEST))


def resources_in(resources: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each of Photoshop's image resources."""
    at = 0
    while resources[at : at + 4] in (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR") and at + 12 <= len(resources):
        number = int.from_bytes(resources[at + 4 : at + 6], "big")
        start = at + 6 + (resources[at + 6] + 2 & ~1)  # a name of even length with its own length before it
        length = int.from_bytes(resources[start : start + 4], "big")
        value = resources[start + 4 : start + 4 + length]
        yield number, value
        at = start + 4 + length + length % 2


def in_exif(exif: Exif) -> tuple[Iptc | None, tuple[str, ...]]:
    """Captions from a TIFF's own tag, else from Photoshop's resources in it, and notes."""
    own, resources = (exif.root[tag].data if tag in exif.root else b"" for tag in (TAG, RESOURCES_TAG))
    stored = in_resources(resources)
    if own[:1] != b"\x1c" and own[3:4] == b"\x1c" and len(own) % 4 == 0:  # words in the other byte order
        own = b"".join(own[at : at + 4][::-1] for at in range(0, len(own), 4))
    if own:
        return read(own, stored[1] if stored else None)
    return read(*stored) if stored else (None, ())


def resources(iptc: Iptc) -> bytes:
    """Photoshop image resources with the captions."""
    out = _resource(_RESOURCE, iptc.block)
    return out if iptc.digest is None else out + _resource(_DIGEST, iptc.digest)


def _resource(number: int, value: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(value)) + value + bytes(len(value) % 2)


def without(iptc: Iptc, numbers: Collection[int]) -> Iptc | None:
    """Without these datasets of record 2; a digest that was right stays right."""
    kept = [(record, number, value) for record, number, value in iptc.datasets if record != 2 or number not in numbers]
    if not any(record == 2 for record, _, _ in kept):
        return None
    block = pack(kept)
    is_right = iptc.digest == hashlib.md5(iptc.block, usedforsecurity=False).digest()
    return replace(
        iptc, block=block, digest=hashlib.md5(block, usedforsecurity=False).digest() if is_right else iptc.digest
    )


def texts(iptc: Iptc) -> list[tuple[int, str]]:
    """The datasets of record 2 as text, by the character set that the captions declare."""
    declared = next((value for record, number, value in iptc.datasets if (record, number) == _CHARSET), b"")
    return [
        (number, text)
        for record, number, value in iptc.datasets
        if record == 2 and number and (text := _decoded(value, declared).strip("\0 \r\n"))
    ]


def _decoded(value: bytes, declared: bytes) -> str:
    declared = declared.strip(b"\0 ")
    charset = _CHARSETS.get(declared)
    if charset is None and (match := re.fullmatch(rb"\x1b[-.,/]([A-M])", declared)):
        charset = f"iso-8859-{_ISO_8859.get(match[1].decode(), 1)}"
    try:
        return value.decode(charset or "utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _plain(value: str) -> str:
    return value


def _subject(value: str) -> str:
    """The code in `IPTC:04005000:...`."""
    parts = value.split(":")
    return parts[1] if len(parts) > 1 else value


def _genre(value: str) -> str:
    """The name in `009:Feature`."""
    return re.sub(r"^\d{3}:", "", value)


@dataclass(frozen=True)
class _Field:
    space: str
    name: str
    kind: str = "text"  # or Bag, Seq, Alt
    convert: Callable[[str], str] = _plain


# Datasets of record 2 as XMP properties, as the IPTC Core specification pairs them.
_FIELDS = {
    4: _Field(IPTC_CORE, "IntellectualGenre", convert=_genre),
    5: _Field(DC, "title", "Alt"),
    10: _Field(PHOTOSHOP, "Urgency"),
    12: _Field(IPTC_CORE, "SubjectCode", "Bag", _subject),
    15: _Field(PHOTOSHOP, "Category"),
    20: _Field(PHOTOSHOP, "SupplementalCategories", "Bag"),
    25: _Field(DC, "subject", "Bag"),
    40: _Field(PHOTOSHOP, "Instructions"),
    80: _Field(DC, "creator", "Seq"),
    85: _Field(PHOTOSHOP, "AuthorsPosition"),
    90: _Field(PHOTOSHOP, "City"),
    92: _Field(IPTC_CORE, "Location"),
    95: _Field(PHOTOSHOP, "State"),
    100: _Field(IPTC_CORE, "CountryCode"),
    101: _Field(PHOTOSHOP, "Country"),
    103: _Field(PHOTOSHOP, "TransmissionReference"),
    105: _Field(PHOTOSHOP, "Headline"),
    110: _Field(PHOTOSHOP, "Credit"),
    115: _Field(PHOTOSHOP, "Source"),
    116: _Field(DC, "rights", "Alt"),
    120: _Field(DC, "description", "Alt"),
    122: _Field(PHOTOSHOP, "CaptionWriter"),
}
_DATES = {55: (60, PHOTOSHOP, "DateCreated"), 62: (63, XMP, "CreateDate")}  # date: its time, and the property
# PNG's keywords for the words of a person, as the datasets that mean the same.
KEYWORDS = {"Title": 5, "Author": 80, "Copyright": 116, "Description": 120}
# Datasets without a property whose loss changes nothing: version, programs, editorial status of a news wire.
_INTERNAL = frozenset({3, 7, 8, 22, 30, 35, 37, 38, 42, 45, 47, 50, 60, 63, 65, 70, 75, 130, 131, 135})


def add_to(packet: xmp.Packet, captions: Collection[tuple[int, str]]) -> tuple[int, ...]:
    """Adds datasets as XMP properties where the packet has none; returns the numbers of those without a property."""
    values: dict[int, list[str]] = {}
    for number, text in captions:
        values.setdefault(number, []).append(text)
    existing = {(field.space, field.name) for field in packet.fields() if field.value or field.items()}
    for number, field in _FIELDS.items():
        if number in values and (field.space, field.name) not in existing:
            packet.add(field.space, field.name, [field.convert(value) for value in values[number]], field.kind)
    for number, (time, space, name) in _DATES.items():
        date = _date(values.get(number, [""])[0], values.get(time, [""])[0])
        if date and (space, name) not in existing:
            packet.add(space, name, [date])
    return tuple(sorted(values.keys() - _FIELDS.keys() - _DATES.keys() - _INTERNAL))


def _date(date: str, time: str) -> str:
    """`19610505` and `093400+0100` -> `1961-05-05T09:34:00+01:00`."""
    day = re.fullmatch(r"(\d{4})-?(\d\d)-?(\d\d)", date)
    if not day:
        return ""
    parts = [part for part in day.groups() if int(part)]  # 19610000: only the year is known
    clock = re.fullmatch(r"(\d\d):?(\d\d):?(\d\d)(?:([+-]\d\d):?(\d\d))?", time)
    if len(parts) < 3 or not clock:
        return "-".join(parts)
    zone = f"{clock[4]}:{clock[5]}" if clock[4] else ""
    return f"{'-'.join(parts)}T{clock[1]}:{clock[2]}:{clock[3]}{zone}"
