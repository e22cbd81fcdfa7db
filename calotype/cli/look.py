"""`calotype info` and `calotype doctor`."""

import dataclasses
from pathlib import Path
from typing import Any

from calotype.album.names import format_of, readable
from calotype.cli.flags import argument, flag, flags, given, shape
from calotype.cli.show import clean, print_json, table
from calotype.errors import CalotypeError
from calotype.options import visible
from calotype.settings import Settings
from calotype.tasks import TASKS

MARKS = {"good": "ok", "note": "--", "bad": "!!"}


def doctor(**values: Any) -> int:
    """Tell what this computer can do, what is missing, and the command that mends it."""
    from calotype.doctor import examine, is_well

    findings = examine(Settings.gather(given(Settings, values)))
    if values["json"]:
        print_json({"well": is_well(findings), "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        rows = [[MARKS[f.state], f.what, f.text, f.mend and f"mend: {f.mend}"] for f in findings]
        table("", ["", "what", "found", ""], rows)
        print("\nPhotos can be restored." if is_well(findings) else "\nPhotos can't be restored until !! is mended.")
    return 0 if is_well(findings) else 1


def info(**values: Any) -> int:
    """Tell what a picture carries: size, depth, profile, date, and the record of what Calotype did."""
    file, settings = values["file"], Settings.gather()
    facts = _facts(file, settings) if format_of(file) or not file.name.endswith(".json") else {}
    record = _record(file)
    if record is None and not facts:
        raise CalotypeError("{file} is no picture and no record", file=readable(file))
    if values["json"]:
        print_json({"file": str(file), **facts, "record": record})
        return 0
    table("", ["", ""], [[name, value] for name, value in facts.items() if value and name != "parameters"])
    if infotext := facts.get("parameters"):
        print()
        table("parameters", ["", ""], [[name, value] for name, value in infotext.items() if value])
    if record is None:
        print("\nno record of Calotype's")
    else:
        print()
        table("what was done", ["", ""], list(_flat(record)))
    return 0


def _facts(file: Path, settings: Settings) -> dict[str, Any]:
    from calotype.album.redrawn import infotext_fields
    from calotype.picture import Picture

    picture = Picture.open(file, settings.max_pixels)
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
    told = {name: str(value).strip("\0 ") for name, value in wanted.items() if value}
    return told | {"location": "yes, use --strip-location to leave it out of results" if has_place else "no"}


def _record(file: Path) -> dict[str, Any] | None:
    from calotype.album.sidecar import read_story

    try:
        return dataclasses.asdict(read_story(file).record)
    except CalotypeError:
        if file.name.endswith(".json"):
            raise
        return None


def _flat(record: dict[str, Any]) -> Any:
    yield ["task", record["task"]]
    if record["source_name"]:
        yield from (["source", record["source_name"]], ["source sha256", record["source_sha256"]])
    for model in record["models"]:
        yield ["model", f"{model['name']}  sha256 {model['sha256']}"]
    usual = {spec.name: spec.default for spec in visible(TASKS[record["task"]])} if record["task"] in TASKS else {}
    said = {name: value for name, value in record["options"].items() if value != usual.get(name)}
    for name, value in (said | record["computed"]).items():
        yield [name.replace("_", " "), value]
    for face in record["faces"]:
        x, y, width, height = face["box"]
        fate = f"strength {face['strength']:g}" if face["treated"] else f"left alone: {face['why']}"
        yield [
            f"face {face['number']}",
            f"{width:.0f}×{height:.0f} at {x:.0f},{y:.0f}, {face['confidence']:.0%}, {fate}",
        ]
    for sentence in record["said"]:
        yield ["said", clean(sentence)]


AS_JSON = flag("json", "as JSON")
shape(doctor, *flags(Settings), AS_JSON)
shape(info, argument("file", Path, "a picture, or the .json beside a result", "FILE"), AS_JSON)
