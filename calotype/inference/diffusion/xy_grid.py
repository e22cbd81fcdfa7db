"""Composes many pictures of one task into a grid with labels."""

import dataclasses
import math

import numpy as np

from calotype.picture import Metadata, Picture
from calotype.record import Result
from calotype.tasks import Imagine, options_of
from calotype.tasks.sheets import Cell, cells

__all__ = ["Cell", "cells", "compose_grid", "make_sheet"]


def make_sheet(task: Imagine, planned_cells: list[Cell], results: list[Result]) -> Result:
    """All pictures on one sheet, with their labels."""
    images = [_as_rgb8(result.picture) for result in results]
    if len(planned_cells) == len(results):
        columns = 1 + max(cell.column for cell in planned_cells)
        labels = [cell.across for cell in planned_cells[:columns]], [cell.down for cell in planned_cells[::columns]]
    else:
        columns, labels = math.ceil(len(results) ** 0.5), ([], [])
    rows = [images[n : n + columns] for n in range(0, len(images), columns)]
    pixels = compose_grid(rows, *labels)
    record = dataclasses.replace(results[0].record, options=_sheet_options(task, planned_cells, results))
    first = results[0].picture.metadata
    metadata = Metadata(icc=first.icc, texts=first.texts)  # the rest describes a photo, not a sheet
    return Result(Picture(pixels, metadata=metadata), None, record, is_sheet=True)


def _sheet_options(task: Imagine, planned_cells: list[Cell], results: list[Result]) -> dict[str, object]:
    """The options that reproduce the whole sheet: the requested ones, and those that are equal in all cells."""
    first, *rest = (result.record.options for result in results)
    common = {name: value for name, value in first.items() if all(options[name] == value for options in rest)}
    seeds = {
        "seed": planned_cells[0].task.seed,
        "variation_seed": max(cell.task.variation_seed for cell in planned_cells),
    }
    requested = options_of(task)
    sheet_options = {name: requested[name] for name in ("x", "y", "matrix", "prompt", "count", "place")}
    return requested | common | seeds | sheet_options | {"batch": first["batch"], "grid": True}


def _as_rgb8(picture: Picture) -> np.ndarray:
    pixels = picture.pixels if picture.pixels.dtype == np.uint8 else (picture.pixels >> 8).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)


def compose_grid(rows: list[list[np.ndarray]], across: list[str], down: list[str], gap: int = 4) -> np.ndarray:
    """Pictures in rows on white, with labels above the columns and beside the rows; (H, W, 3) uint8."""
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
        center = (left + n * (width + gap) + width // 2, top // 2)
        pen.multiline_text(center, _lines(text, width, font)[0], "black", font, "mm", align="center")
    for n, text in enumerate(down):
        center = (left // 2, top + n * (height + gap) + height // 2)
        pen.multiline_text(center, _lines(text, width, font)[0], "black", font, "mm", align="center")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(Image.fromarray(picture), (left + x * (width + gap), top + y * (height + gap)))
    return np.asarray(canvas)


def _split_word(word: str, max_width: int, font) -> list[str]:
    """Splits a word that is too long into chunks that fit: Chinese has no spaces."""
    chunks = [""]
    for letter in word:
        if chunks[-1] and font.getlength(chunks[-1] + letter) > max_width:
            chunks.append("")
        chunks[-1] += letter
    return chunks


def _lines(text: str, max_width: int, font) -> tuple[str, int, int]:
    """The text wrapped into lines that fit, and its width and height."""
    lines = [""]
    for word in (chunk for token in text.split() for chunk in _split_word(token, max_width, font)):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= max_width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    height = sum(font.getmetrics()) + 4
    return "\n".join(lines), math.ceil(max(font.getlength(line) for line in lines)), height * len(lines)
