"""Many pictures of one task: over the values of an option, and over the parts of a prompt."""

import csv
import dataclasses
import re
from dataclasses import dataclass, replace
from decimal import Decimal

from calotype.errors import CalotypeError
from calotype.options import nearest, read, shown, visible
from calotype.tasks.drawing import Imagine
from calotype.tasks.prompts import alternatives, matrix

ALIASES = {"cfg": "guidance", "denoise": "strength", "sr": "prompt", "checkpoint": "model", "scheduler": "schedule"}
CLOSED = ("x", "y", "grid", "matrix", "count", "batch", "init", "mask")
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)(?:\s*\(\s*([+-][\d.]+)\s*\)|\s*\[\s*(\d+)\s*\])?\s*")
_WHOLE = {spec.name for spec in dataclasses.fields(Imagine) if spec.type in (int, int | None)}
_SCALARS = (bool, int, int | None, float, float | None, str)
LONGEST = 1_000_000  # letters of a prompt
MOST = 10_000  # pictures of a sheet


@dataclass(frozen=True)
class Cell:
    """One place of the sheet: what to draw there, and what stands beside its row and over its column."""

    task: Imagine
    across: str = ""
    down: str = ""
    row: int = 0
    column: int = 0


def cells(task: Imagine, most: int = MOST, longest: int = LONGEST) -> list[Cell]:
    """The task itself, or one cell for every combination, row by row.

    Args:
        most: cells.
        longest: letters of a prompt in which words were replaced.

    Raises:
        CalotypeError: an axis that names no option, or values that it does not take; too many cells or letters, which
            is noticed before they are made.
    """
    if not (task.x or task.y or task.matrix):
        return [Cell(task)]
    if task.count > 1:
        raise CalotypeError(
            "a sheet has one picture in each place; leave out {option:count}, or {option:x}, {option:y} and "
            "{option:matrix}"
        )
    plain = replace(task, x="", y="", matrix=False, grid=False)
    found: list[Cell] = []
    for row, (y_label, down) in enumerate(_along("y", task.y, plain, most, longest)):
        room = most - len(found)
        across = _prompts(down, room) if task.matrix and not task.x else _along("x", task.x, down, room, longest)
        found += [Cell(one, label, y_label, row, column) for column, (label, one) in enumerate(across)]
    return found


def _prompts(task: Imagine, most: int) -> list[tuple[str, Imagine]]:
    _check_count(2 ** (len(alternatives(task.prompt)) - 1), most)
    first, *_ = texts = matrix(task.prompt)
    return [(text.removeprefix(first).strip(", ") or first, replace(task, prompt=text)) for text in texts]


def _along(option: str, axis: str, task: Imagine, most: int, longest: int) -> list[tuple[str, Imagine]]:
    """The label and the task of each value of an axis, which `option` holds."""
    if not axis:
        _check_count(1, most)
        return [("", task)]
    name, equals, text = axis.partition("=")
    name = name.strip().lower().replace("-", "_").replace(" ", "_")
    name = ALIASES.get(name, name)
    known = [spec.name for spec in visible(Imagine) if spec.name not in CLOSED and spec.type in _SCALARS]
    if name not in known or not equals:
        raise CalotypeError(
            "{option} is such as steps=10,20,30; {name} is no option of a picture{hint}",
            option=option,
            name=shown(name),
            hint=nearest(name, known),
        )
    values = _values(text, is_whole=name in _WHOLE, most=most)
    if not values:
        raise CalotypeError("{option} gives {name} no value; it is such as steps=10,20,30", option=option, name=name)
    _check_count(len(values), most)
    if name == "prompt":
        texts = _swapped(task.prompt, values, option, longest)
        return [(value, replace(task, prompt=text)) for value, text in zip(values, texts, strict=True)]
    data = {spec.name: getattr(task, spec.name) for spec in dataclasses.fields(task)}
    return [
        (f"{name.replace('_', ' ')} {value}", read(Imagine, {**data, name: _typed(name, value)})) for value in values
    ]


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise CalotypeError("that is a sheet of too many pictures; take fewer values")


def _typed(name: str, value: str) -> object:
    kind = next(spec.type for spec in dataclasses.fields(Imagine) if spec.name == name)
    return value.lower() in ("true", "yes", "on", "1") if kind is bool else value


def _swapped(prompt: str, values: list[str], option: str, longest: int) -> list[str]:
    """A1111's search and replace: the first value is looked for in the prompt, and each takes its place."""
    count, old = prompt.count(values[0]), values[0]
    if not count:
        raise CalotypeError(
            "{option} prompt=...: the first value {old} does not stand in the prompt", option=option, old=shown(old)
        )
    if len(prompt) + count * max(len(new) - len(old) for new in values) > longest:
        raise CalotypeError("{option} makes a prompt of more than {longest:,} letters", option=option, longest=longest)
    return [prompt.replace(old, new) for new in values]


def _values(text: str, is_whole: bool = False, most: int = MOST) -> list[str]:
    """`1,2,3`, `1-9`, `1-9 (+2)`, `0-1 [5]`, and quoted values with commas in them."""
    found: list[str] = []
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as fault:
        raise CalotypeError(
            "{text} are no values with commas between ({fault})", text=shown(text), fault=fault
        ) from None
    for part in parts:
        found += _counted(part, is_whole) or [part.strip()]
        _check_count(len(found), most)
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
    except (ArithmeticError, ValueError):  # ValueError: Python reads no number of 4300 digits
        return []
    return [f"{value:.0f}" if is_whole or value == value.to_integral() else f"{value:.6g}" for value in values]
