"""Many pictures of one task on one sheet, with labels."""

import dataclasses
import math

import numpy as np

from calotype.picture import Picture
from calotype.record import Result
from calotype.tasks import Imagine, options_of
from calotype.tasks.sheets import Cell, cells

__all__ = ["Cell", "cells", "composed", "sheet"]


def sheet(task: Imagine, planned: list[Cell], made: list[Result]) -> Result:
    """All pictures on one sheet, with their labels."""
    pictures = [_plain(result.picture) for result in made]
    if len(planned) == len(made):
        columns = 1 + max(cell.column for cell in planned)
        labels = [cell.across for cell in planned[:columns]], [cell.down for cell in planned[::columns]]
    else:
        columns, labels = math.ceil(len(made) ** 0.5), ([], [])
    rows = [pictures[n : n + columns] for n in range(0, len(pictures), columns)]
    pixels = composed(rows, *labels)
    record = dataclasses.replace(made[0].record, options=_options(task, planned, made))
    return Result(Picture(pixels, metadata=made[0].picture.metadata), None, record, is_sheet=True)


def _options(task: Imagine, planned: list[Cell], made: list[Result]) -> dict[str, object]:
    """Those with which the whole sheet is drawn again: what was asked for, and what was settled alike in all places."""
    first, *others = (result.record.options for result in made)
    settled = {name: value for name, value in first.items() if all(other[name] == value for other in others)}
    seeds = {
        "seed": planned[0].task.seed,
        "variation_seed": max(cell.task.variation_seed for cell in planned),
    }
    asked = options_of(task)
    whole = {name: asked[name] for name in ("x", "y", "matrix", "prompt", "count", "place")}
    return asked | settled | seeds | whole | {"batch": first["batch"], "grid": True}


def _plain(picture: Picture) -> np.ndarray:
    pixels = picture.pixels if picture.pixels.dtype == np.uint8 else (picture.pixels >> 8).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)


def composed(rows: list[list[np.ndarray]], across: list[str], down: list[str], gap: int = 4) -> np.ndarray:
    """Pictures in rows on white, labels over the columns and beside the rows; (H, W, 3) uint8."""
    from PIL import Image, ImageDraw

    from calotype.picture.fonts import font_for

    height, width = (max(picture.shape[axis] for row in rows for picture in row) for axis in (0, 1))
    font = font_for(" ".join([*across, *down]), max(12, min(width, height) // 18))
    left = max((_lines(text, width, font)[1] for text in down if text), default=0)
    top = max((_lines(text, width, font)[2] for text in across if text), default=0)
    left, top = (side + 4 * gap if side else 0 for side in (left, top))
    canvas = Image.new(
        "RGB", (left + len(rows[0]) * (width + gap) - gap, top + len(rows) * (height + gap) - gap), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for n, text in enumerate(across):
        place = (left + n * (width + gap) + width // 2, top // 2)
        pen.multiline_text(place, _lines(text, width, font)[0], "black", font, "mm", align="center")
    for n, text in enumerate(down):
        place = (left // 2, top + n * (height + gap) + height // 2)
        pen.multiline_text(place, _lines(text, width, font)[0], "black", font, "mm", align="center")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(Image.fromarray(picture), (left + x * (width + gap), top + y * (height + gap)))
    return np.asarray(canvas)


def _fitting(word: str, most: int, font) -> list[str]:
    """A word that is too long in pieces that fit: Chinese has no spaces."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > most:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _lines(text: str, most: int, font) -> tuple[str, int, int]:
    """The text broken into lines that fit, and its width and height."""
    lines = [""]
    for word in (part for whole in text.split() for part in _fitting(whole, most, font)):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= most or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    height = sum(font.getmetrics()) + 4
    return "\n".join(lines), math.ceil(max(font.getlength(line) for line in lines)), height * len(lines)
