"""Contact sheets, and tables that stand in the README."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, HEADING = 88, 12, 30  # pixels


class Sheet:
    """Rows of pictures under headings, from top to bottom. None leaves a narrow gap."""

    def __init__(self) -> None:
        self._parts: list[Image.Image] = []

    def heading(self, text: str) -> None:
        font = ImageFont.load_default(16)
        part = Image.new("RGB", (int(font.getlength(text)) + GAP, HEADING), "white")
        ImageDraw.Draw(part).text((4, 6), text, "black", font)
        self._parts.append(part)

    def row(self, paths: Sequence[Path | None]) -> None:
        widths = [GAP if path is None else CELL for path in paths]
        part, left = Image.new("RGB", (sum(widths), CELL), "white"), 0
        for path, width in zip(paths, widths, strict=True):
            if path is not None:
                part.paste(Image.open(path).convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), (left, 0))
            left += width
        self._parts.append(part)

    def save(self, path: Path) -> None:
        """A JPEG."""
        whole = Image.new("RGB", (max(p.width for p in self._parts), sum(p.height for p in self._parts)), "white")
        top = 0
        for part in self._parts:
            whole.paste(part, (0, top))
            top += part.height
        whole.save(path, quality=85, optimize=True)


def compared(n: int, before: Sequence[Path], after: Sequence[Path], true: Sequence[Path]) -> list[Path | None]:
    """Of the n-th thing two pictures before, two after, and the true one."""
    seeds = len(before) // len(true)
    two = slice(n * seeds, n * seeds + 2)
    return [*before[two], None, *after[two], None, true[n]]


def into_readme(readme: Path, name: str, text: str) -> None:
    """Puts text between <!-- name --> and <!-- /name -->."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = readme.read_text("utf-8")
    readme.write_text(re.sub(f"(?s){begin}.*{end}", lambda _: f"{begin}\n{text.strip()}\n{end}", page), "utf-8")
