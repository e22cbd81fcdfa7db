"""Options of where results are written, and which files are written beside them."""

from dataclasses import dataclass
from pathlib import Path

from calotype.options import option


@dataclass(frozen=True, kw_only=True)
class Album:
    """Which results of restoring and upscaling are written, and where."""

    TITLE = "Output"

    out: Path = option(Path("out"), "output folder, created if missing; for one picture also a file name", is_path=True)
    recursive: bool = option(False, "also read subfolders; the results keep the folder structure")
    suffix: str = option("", "appended to the name of each result: photo-restored.jpg with -restored")
    overwrite: bool = option(False, "overwrite results made with other options, and files that Calotype did not write")
    sidecar: bool = option(True, "write NAME.json beside each result: everything needed to reproduce it")
    compare: bool = option(False, "also write NAME-compare.jpg: before and after side by side")
    report: Path | None = option(
        None, "also write this HTML page, such as album.html: every picture and face, before and after", is_path=True
    )


@dataclass(frozen=True, kw_only=True)
class DrawingOutput:
    """Where generated pictures are written."""

    TITLE = "Output"

    out: Path = option(Path("out"), "output folder, or file name of a single picture", is_path=True)
    format: str = option(
        "png", "file format, where {option:out} is a folder", choices=("png", "jpeg", "webp", "avif", "tiff")
    )
    quality: int = option(95, "quality of JPEG, WebP and AVIF", min=1, max=100)
    overwrite: bool = option(False, "overwrite an existing file named by {option:out}")
    sidecar: bool = option(False, "also write the record as a JSON file beside each picture")
