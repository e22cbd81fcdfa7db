"""Where results go, and what is written beside them."""

from dataclasses import dataclass
from pathlib import Path

from calotype.options import option


@dataclass(frozen=True, kw_only=True)
class Album:
    """Which results of restoring and enlarging are written, and where."""

    TITLE = "What is written, and where"

    out: Path = option(
        Path("out"), "folder for the results, made if missing; for one picture also a file name", is_path=True
    )
    recursive: bool = option(False, "also the folders within folders; the results keep the tree")
    suffix: str = option("", "added to the name of each result: photo-restored.jpg with -restored")
    overwrite: bool = option(False, "replace results that were made in another way, or that are not ours")
    sidecar: bool = option(True, "write NAME.json beside each result: all that is needed to make it again")
    compare: bool = option(False, "also write NAME-compare.jpg: before and after side by side")
    report: Path | None = option(
        None, "also write this page, such as album.html: every picture and face, before and after", is_path=True
    )


@dataclass(frozen=True, kw_only=True)
class DrawingOutput:
    """Where drawn pictures go."""

    TITLE = "What is written, and where"

    out: Path = option(Path("out"), "folder for the pictures, or the name of the one picture", is_path=True)
    format: str = option(
        "png", "file format, where {option:out} is a folder", choices=("png", "jpeg", "webp", "avif", "tiff")
    )
    quality: int = option(95, "quality of JPEG, WebP and AVIF", min=1, max=100)
    overwrite: bool = option(False, "replace a file that lies at the name given with {option:out}")
    sidecar: bool = option(False, "also write the record as a JSON file beside each picture")
