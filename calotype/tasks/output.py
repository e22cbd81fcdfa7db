"""Options of where results are written, and which files are written beside them."""

import math
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
    ranges = _page_ranges(text)
    return sorted({page for first, last in ranges for page in range(first, min(last or count, count) + 1)})


def missing_pages(text: str, count: int) -> str:
    """The chosen pictures that a file which holds `count` doesn't hold, such as "4-9, 12" or "8-"; empty if none."""
    missing: list[tuple[int, float]] = []  # first and last
    for first, last in sorted(_page_ranges(text)):
        first, last = (first, last or math.inf) if first > count else (count + 1, last)
        if missing and first <= missing[-1][1] + 1:
            missing[-1] = (missing[-1][0], max(last, missing[-1][1]))
        elif first <= last:
            missing.append((first, last))
    shown = ((str(first), "" if last == math.inf else str(last)) for first, last in missing)
    return ", ".join(first if first == last else f"{first}-{last}" for first, last in shown)


def _page_ranges(text: str) -> list[tuple[int, int]]:
    """First and last of each range; 0 as the last one means up to the end."""
    if text.strip().lower() in ("", "all"):
        return [(1, 0)]
    ranges = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:(-)\s*(\d{1,7})?)?\s*", entry, re.ASCII)
        first = int(match[1]) if match else 0
        last = int(match[3]) if match and match[3] else 0 if match and match[2] else first
        if first < 1 or (match and match[3] and last < first):
            raise CalotypeError("{option:pages} is all, or numbers such as 1-3,5, not {text!r}", text=text)
        ranges.append((first, last))
    return ranges


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
