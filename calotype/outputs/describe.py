"""What a picture, or the record of one, carries: for `info`, and for a gallery."""

from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError
from calotype.files import readable
from calotype.outputs.names import format_of


def describe(file: Path, max_pixels: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Facts of the picture (none of a sidecar), and the record of what Calotype did to it, or None.

    Raises:
        CalotypeError: the file cannot be read, or is neither a picture nor a record.
    """
    facts = describe_picture(file, max_pixels) if format_of(file) or not file.name.endswith(".json") else {}
    record = read_record(file)
    if record is None and not facts:
        raise CalotypeError("{file} is no picture and no record", file=readable(file))
    return facts, record


def describe_picture(file: Path, max_pixels: int) -> dict[str, Any]:
    """Format, size, depth, profile, date, camera, place, parameters; None or empty where there is none.

    Raises:
        CalotypeError: it cannot be read.
    """
    from calotype.outputs.reproduce import infotext_fields
    from calotype.picture import Picture

    picture = Picture.open(file, max_pixels)
    height, width, channels = picture.pixels.shape
    kind = ("grey" if channels == 1 else "colour") + (" with transparency" if picture.alpha is not None else "")
    metadata = picture.metadata
    return {
        "format": picture.format,
        "width": width,
        "height": height,
        "bits": picture.pixels.dtype.itemsize * 8,
        "pixels": kind,
        "dpi": list(metadata.dpi) if metadata.dpi else None,
        "profile": _profile(metadata.icc),
        **_exif(metadata.exif),
        "xmp_bytes": len(metadata.xmp) if metadata.xmp else None,
        "sha256": picture.sha256,
        "notes": " ".join(picture.notes),
        "parameters": infotext_fields(picture),
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
    """The few tags that a person asks for; a broken block tells nothing."""
    from PIL import ExifTags, Image

    if not block:
        return {}
    exif = Image.Exif()
    try:
        exif.load(b"Exif\0\0" + block)
        more = exif.get_ifd(ExifTags.IFD.Exif)
        has_place = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, OverflowError):
        return {"exif": "unreadable"}
    base = ExifTags.Base
    wanted = {"date": more.get(base.DateTimeOriginal, exif.get(base.DateTime)), "camera": exif.get(base.Model)}
    wanted |= {
        "artist": exif.get(base.Artist),
        "software": exif.get(base.Software),
        "copyright": exif.get(base.Copyright),
    }
    facts = {name: str(value).strip("\0 ") for name, value in wanted.items() if value}
    return facts | {"location": has_place}


def read_record(file: Path) -> dict[str, Any] | None:
    """The record in a picture or a sidecar. Raises CalotypeError for a sidecar that is none."""
    from calotype.outputs.sidecar import read_stored

    try:
        return read_stored(file).record.as_data()
    except CalotypeError:
        if file.name.endswith(".json"):
            raise
        return None
