"""Metadata and record of a picture or sidecar, for `info` and picture galleries."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype import out_of_process
from calotype.errors import PLAIN, CalotypeError, Wording
from calotype.files import readable
from calotype.outputs.names import format_of

if TYPE_CHECKING:
    from calotype.picture import Metadata


def describe(file: Path, max_pixels: int, wording: Wording = PLAIN) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Facts about the picture (none for a sidecar), and its record or None.

    Raises:
        CalotypeError: the file cannot be read, or is neither a picture nor a record.
    """
    out_of_process.start()  # it imports the decoders while this process imports its own
    facts = describe_picture(file, max_pixels, wording) if format_of(file) or not file.name.endswith(".json") else {}
    record = read_record(file)
    if record is None and not facts:
        raise CalotypeError("{file} is neither a picture nor a record", file=readable(file))
    return facts, record


def describe_picture(file: Path, max_pixels: int, wording: Wording = PLAIN) -> dict[str, Any]:
    """Format, size, depth, profile, date, camera, location, parameters; None or empty if missing.

    Raises:
        CalotypeError: it cannot be read.
    """
    from calotype.outputs.redraw import picture_parameters
    from calotype.picture import Picture
    from calotype.picture.notes import as_message

    picture = Picture.open(file, max_pixels)
    height, width, channels = picture.pixels.shape
    kind = ("grey" if channels == 1 else "colour") + (" with transparency" if picture.alpha is not None else "")
    metadata, parameters = picture.metadata, picture_parameters(picture)
    return {
        "format": picture.format,
        "width": width,
        "height": height,
        "bits": picture.pixels.dtype.itemsize * 8,
        "pixels": kind,
        "dpi": list(metadata.dpi) if metadata.dpi else None,
        "profile": _profile(metadata.icc),
        **_exif(metadata.exif),
        "location": _has_location(metadata),
        "xmp_bytes": len(metadata.xmp) if metadata.xmp else None,
        "sha256": picture.sha256,
        "pictures": picture.count if picture.count > 1 else None,
        "notes": " ".join(wording.fill(as_message(note)) for note in picture.notes),
        "parameters": parameters.fields() if parameters else {},
    }


def _profile(icc: bytes | None) -> str | None:
    import io

    from PIL import ImageCms

    if not icc:
        return None
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return f"unreadable, {len(icc)} bytes"


def _exif(block: bytes | None) -> dict[str, Any]:
    """The most useful EXIF tags; {"exif": "unreadable"} for an invalid block."""
    from PIL import ExifTags, Image

    if not block:
        return {}
    exif = Image.Exif()
    try:
        exif.load(b"Exif\0\0" + block)
        exif_ifd = exif.get_ifd(ExifTags.IFD.Exif)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, OverflowError):
        return {"exif": "unreadable"}
    base = ExifTags.Base
    tags = {"date": exif_ifd.get(base.DateTimeOriginal, exif.get(base.DateTime)), "camera": exif.get(base.Model)}
    tags |= {
        "artist": exif.get(base.Artist),
        "software": exif.get(base.Software),
        "copyright": exif.get(base.Copyright),
    }
    facts = {name: str(value).strip("\0 ") for name, value in tags.items() if value}
    return facts


def _has_location(metadata: "Metadata") -> bool:
    """Whether the EXIF, XMP or IPTC tell a place."""
    from calotype.picture.metadata import families
    from calotype.picture.metadata.exif import Exif, parse
    from calotype.picture.metadata.xmp import Packet

    blocks = families.Blocks(Exif(), None, metadata.iptc)
    with suppress(ValueError):
        blocks.exif = parse(metadata.exif) if metadata.exif else Exif()
    with suppress(ValueError):
        blocks.packet = Packet(metadata.xmp) if metadata.xmp else None
    return families.has_location(blocks)


def read_record(file: Path) -> dict[str, Any] | None:
    """The record in a picture or a sidecar, or None. Raises CalotypeError for an invalid sidecar."""
    from calotype.outputs.sidecar import read_stored

    try:
        return read_stored(file).record.as_data()
    except CalotypeError:
        if file.name.endswith(".json"):
            raise
        return None
