"""Many pictures of one task: over the values of an option, over parts of a prompt, and on one sheet with labels."""

import csv
import dataclasses
import math
import re
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from calotype.errors import CalotypeError
from calotype.ops.prompt import matrix
from calotype.options import nearest, read, visible
from calotype.picture import Picture
from calotype.record import Result
from calotype.tasks import Imagine, options_of

ALIASES = {"cfg": "guidance", "denoise": "strength", "sr": "prompt", "checkpoint": "model", "scheduler": "schedule"}
CLOSED = ("x", "y", "grid", "matrix", "count", "batch", "init", "mask")
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)(?:\s*\(\s*([+-][\d.]+)\s*\)|\s*\[\s*(\d+)\s*\])?\s*")
_WHOLE = {spec.name for spec in dataclasses.fields(Imagine) if spec.type in (int, int | None)}
MOST = 10_000  # pictures of a sheet


@dataclass(frozen=True)
class Cell:
    """One place of the sheet: what to draw there, and what stands beside its row and over its column."""

    task: Imagine
    across: str = ""
    down: str = ""
    row: int = 0
    column: int = 0


def cells(task: Imagine) -> list[Cell]:
    """The task itself, or one cell for every combination, row by row.

    Raises:
        CalotypeError: an axis that names no option, or values that it does not take.
    """
    if not (task.x or task.y or task.matrix):
        return [Cell(task)]
    if task.count > 1:
        raise CalotypeError(
            "a sheet has one picture in each place; leave out {option:count}, or {option:x}, {option:y} and "
            "{option:matrix}"
        )
    plain = replace(task, x="", y="", matrix=False, grid=False)
    rows = _along(task.y, "y", plain)
    found = [
        Cell(across, x_label, y_label, row, column)
        for row, (y_label, down) in enumerate(rows)
        for column, (x_label, across) in enumerate(
            _prompts(down) if task.matrix and not task.x else _along(task.x, "x", down)
        )
    ]
    if len(found) > MOST:
        raise CalotypeError("that is a sheet of {count:,} pictures; take fewer values", count=len(found))
    return found


def _prompts(task: Imagine) -> list[tuple[str, Imagine]]:
    first, *_ = texts = matrix(task.prompt)
    return [(text.removeprefix(first).strip(", ") or first, replace(task, prompt=text)) for text in texts]


def _along(axis: str, option: str, task: Imagine) -> list[tuple[str, Imagine]]:
    """The label and the task of each value of an axis, which the option named has given."""
    if not axis:
        return [("", task)]
    name, equals, text = axis.partition("=")
    name = name.strip().lower().replace("-", "_").replace(" ", "_")
    name = ALIASES.get(name, name)
    known = [spec.name for spec in visible(Imagine) if spec.name not in CLOSED]
    if name not in known or not equals:
        raise CalotypeError(
            "{option} is such as steps=10,20,30; {name!r} is no option of a picture{hint}",
            option=option,
            name=name,
            hint=nearest(name, known),
        )
    values = _values(text, is_whole=name in _WHOLE)
    if name == "prompt":
        return [(value, replace(task, prompt=_swapped(task.prompt, values[0], value, option))) for value in values]
    data = {spec.name: getattr(task, spec.name) for spec in dataclasses.fields(task)}
    return [
        (f"{name.replace('_', ' ')} {value}", read(Imagine, {**data, name: _typed(name, value)})) for value in values
    ]


def _typed(name: str, value: str) -> object:
    kind = next(spec.type for spec in dataclasses.fields(Imagine) if spec.name == name)
    return value.lower() in ("true", "yes", "on", "1") if kind is bool else value


def _swapped(prompt: str, old: str, new: str, option: str) -> str:
    """A1111's search and replace: the first value is looked for in the prompt."""
    if old not in prompt:
        raise CalotypeError(
            "{option} prompt=...: the first value {old!r} does not stand in the prompt", option=option, old=old
        )
    return prompt.replace(old, new)


def _values(text: str, is_whole: bool = False) -> list[str]:
    """`1,2,3`, `1-9`, `1-9 (+2)`, `0-1 [5]`, and quoted values with commas in them."""
    found = []
    for part in next(csv.reader([text], skipinitialspace=True), []):
        found += _counted(part, is_whole) or [part.strip()]
    return found


def _counted(part: str, is_whole: bool) -> list[str]:
    given = _RANGE.fullmatch(part)
    if not given:
        return []
    try:
        first, last = Decimal(given[1]), Decimal(given[2])
        if given[4]:
            count = max(1, min(int(given[4]), MOST))
            values = [first + (last - first) * n / max(count - 1, 1) for n in range(count)]
        else:
            step = Decimal(given[3] or (1 if last >= first else -1))
            count = int((last - first) // step) + 1 if step and (last - first) / step >= 0 else 0
            values = [first + n * step for n in range(min(count, MOST))]
    except ArithmeticError:
        return []
    return [f"{value:.0f}" if is_whole or value == value.to_integral() else f"{value:.6g}" for value in values]


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
