"""The metadata segments of a JPEG, read and written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from calotype.picture.codecs.decoded import PictureFile, Pixels, plain_text
from calotype.picture.metadata import families
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata import xmp as packets
from calotype.picture.metadata.exif import without_header
from calotype.picture.metadata.iptc import Iptc

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP, _ICC = b"Photoshop 3.0\0", b"ICC_PROFILE\0"  # the second followed by number and count of a part
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_SAMSUNG_VIDEO = b"\x10\0\0\0MotionPhoto_Data"  # a block behind the picture: the length of its name, the name
_MAX_SEGMENT = 65_533  # bytes after the length
MAX_EXIF, MAX_XMP = _MAX_SEGMENT - len(_EXIF), _MAX_SEGMENT - len(_XMP)
_MAX_EXTENDED = 64 << 20
# What encoders write about themselves; the result comes from another encoder.
_ENCODERS = (b"CREATOR: gd-jpeg", b"LEAD Technologies", b"File written by Adobe Photoshop", b"Lavc", b"Intel(R) IPP")


@dataclass(frozen=True)
class Segments:
    """What stands before the pixels."""

    exif: bytes | None = None
    xmp: bytes | None = None
    extended: bytes | None = None  # the extended packet
    iptc: Iptc | None = None
    icc: bytes | None = None  # parts that are missing leave a damaged profile
    comment: str = ""
    notes: tuple[str, ...] = ()

    def file(
        self, size: tuple[int, int], decode: Callable[[], Pixels], dpi: tuple[float, float] | None = None
    ) -> PictureFile:
        """A picture with this metadata. `size`: height, width."""
        return PictureFile(
            size,
            decode,
            self.exif,
            self.xmp,
            dpi,
            notes=self.notes,
            extended_xmp=self.extended,
            iptc=self.iptc,
            comment=self.comment,
            texts={"comment": self.comment} if self.comment else {},
        )


def read_segments(data: bytes) -> Segments:
    """The metadata; parts that are damaged are left out, with a note."""
    found: dict[bytes, list[bytes]] = {}
    profile: dict[int, bytes] = {}  # by the numbers of its parts
    comments, notes = [], ()
    for marker, body in _segments(data):
        for start in (_EXIF, _XMP, _EXTENDED, _PHOTOSHOP):
            if body.startswith(start) and marker == (0xED if start == _PHOTOSHOP else 0xE1):
                found.setdefault(start, []).append(body[len(start) :])
        if marker == 0xFE and not body.startswith(_ENCODERS):
            comments.append(body.rstrip(b"\0"))
        if marker == 0xEB and b"jumb" in body[:64] and b"c2pa" in body[:128]:
            notes += (families.CREDENTIALS_NOTE,)
        if marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2:
            profile.setdefault(body[len(_ICC)], body[len(_ICC) + 2 :])
        if marker == 0xE2 and body.startswith(_GAIN_MAP):
            notes += (families.GAIN_MAP_NOTE,)
    if _SAMSUNG_VIDEO in data:
        notes += (families.VIDEO_NOTE,)
    xmp = found.get(_XMP, [None])[0]
    extended, extended_notes = _extended(xmp, found.get(_EXTENDED, []))
    # resources may continue in the next segment
    stored = captions.in_resources(b"".join(found.get(_PHOTOSHOP, [])))
    iptc, iptc_notes = captions.read(*stored) if stored else (None, ())
    comment = "\n".join(plain_text(comment) for comment in comments).strip()
    icc = b"".join(part for _, part in sorted(profile.items())) or None
    notes += extended_notes + iptc_notes
    return Segments(_exif(found.get(_EXIF, [])), xmp, extended, iptc, icc, comment, notes)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _exif(bodies: list[bytes]) -> bytes | None:
    """The first block that has a header and a directory; a block may continue in segments without a header."""
    blocks: list[bytes] = []
    for body in map(without_header, bodies):
        if body[:4] in (b"II*\0", b"MM\0*") or not blocks:
            blocks.append(body)
        else:
            blocks[-1] += body
    whole = [block for block in blocks if block[:4] in (b"II*\0", b"MM\0*") and _has_directory(block)]
    return (whole or blocks or [None])[0]


def _has_directory(block: bytes) -> bool:
    order = "little" if block[:2] == b"II" else "big"
    at = int.from_bytes(block[4:8], order)
    return 8 <= at <= len(block) - 2 and 0 < int.from_bytes(block[at : at + 2], order) <= (len(block) - at) // 12


def _extended(xmp: bytes | None, bodies: list[bytes]) -> tuple[bytes | None, tuple[str, ...]]:
    """The extended packet that the packet refers to: chunks with its name, the whole length and their place in it."""
    name = packets.extended_reference(xmp) if xmp else ""
    chunks = {
        int.from_bytes(body[36:40], "big"): body[40:]
        for body in bodies
        if len(body) >= 40 and body[:32].decode("latin-1").upper() == name
    }
    if not name:
        return None, ()
    whole = b"".join(chunks[at] for at in sorted(chunks))
    if not whole or len(whole) > _MAX_EXTENDED or packets.extended_id(whole) != name:
        return None, ("its extended XMP is damaged and left out",)
    return whole, ()


def write_segments(xmp: bytes | None, extended: bytes | None, iptc: Iptc | None) -> bytes:
    """Segments for XMP and captions; a packet has at most MAX_XMP bytes."""
    out = b""
    if xmp:
        out += _segment(0xE1, _XMP + xmp)
    if extended:
        name = packets.extended_id(extended).encode()
        step = _MAX_SEGMENT - len(_EXTENDED) - 40
        for at in range(0, len(extended), step):
            head = name + len(extended).to_bytes(4, "big") + at.to_bytes(4, "big")
            out += _segment(0xE1, _EXTENDED + head + extended[at : at + step])
    if iptc:
        resources = captions.resources(iptc)
        step = _MAX_SEGMENT - len(_PHOTOSHOP)
        for at in range(0, len(resources), step):
            out += _segment(0xED, _PHOTOSHOP + resources[at : at + step])
    return out


def written_comment(comment: str) -> bytes:
    return comment.encode("utf-8", "replace")[:_MAX_SEGMENT]


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body
