"""Options of where results are written, and which files are written beside them."""

import re
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option


@dataclass(frozen=True, kw_only=True)
class Album:
    """Which results of restoring and upscaling are written, and where."""

    TITLE = "Output"

    out: Path = option(Path("out"), "output folder, created if missing; for one picture also a file name", is_path=True)
    pages: str = option(
        "",
        "pictures of files with several (PDF, TIFF, GIF, HEIC ...), each a result: all, or numbers such as 1-3,5",
    )
    recursive: bool = option(False, "also read subfolders; the results keep the folder structure")
    suffix: str = option("", "appended to the name of each result: photo-restored.jpg with -restored")
    overwrite: bool = option(False, "overwrite results made with other options, and files that Calotype did not write")
    sidecar: bool = option(True, "write NAME.json beside each result: everything needed to reproduce it")
    compare: bool = option(False, "also write NAME-compare.jpg: before and after side by side")
    report: Path | None = option(
        None, "also write this HTML page, such as album.html: every picture and face, before and after", is_path=True
    )

    def __post_init__(self) -> None:
        chosen_pages(self.pages, 1)


def chosen_pages(text: str, count: int) -> list[int]:
    """The numbers, from 1, of the chosen pictures of a file that holds `count`: "all", or such as "1-3,5,8-".

    Raises:
        CalotypeError: the text is neither.
    """
    if text.strip().lower() in ("", "all"):
        return list(range(1, count + 1))
    chosen: set[int] = set()
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:(-)\s*(\d{1,7})?)?\s*", entry, re.ASCII)
        first = int(match[1]) if match else 0
        last = int(match[3]) if match and match[3] else count if match and match[2] else first
        if first < 1 or (match and match[3] and last < first):
            raise CalotypeError("{option:pages} is all, or numbers such as 1-3,5, not {text!r}", text=text)
        chosen.update(range(first, min(last, count) + 1))
    return sorted(chosen)


JOB_OUTPUT_OPTIONS = ("format", "quality")  # of DrawingOutput: what a job of the service may set


@dataclass(frozen=True, kw_only=True)
class DrawingOutput:
    """Where generated pictures are written."""

    TITLE = "Output"

    out: Path = option(Path("out"), "output folder, or file name of a single picture", is_path=True)
    format: str = option(
        "png", "file format, where {option:out} is a folder", choices=("png", "jpeg", "webp", "avif", "tiff", "jxl")
    )
    quality: int = option(95, "quality of JPEG, WebP, AVIF and JPEG XL", min=1, max=100)
    overwrite: bool = option(False, "overwrite an existing file named by {option:out}")
    sidecar: bool = option(False, "also write the record as a JSON file beside each picture")
