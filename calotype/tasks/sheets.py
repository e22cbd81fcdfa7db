"""XY grids: the tasks for the values of two options, and for the combinations of a prompt's parts."""

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
NOT_AXES = ("x", "y", "grid", "matrix", "count", "batch", "init", "mask")
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)(?:\s*\(\s*([+-][\d.]+)\s*\)|\s*\[\s*(\d+)\s*\])?\s*")
_INTEGERS = {spec.name for spec in dataclasses.fields(Imagine) if spec.type in (int, int | None)}
_SCALARS = (bool, int, int | None, float, float | None, str)
MAX_PROMPT_LENGTH = 1_000_000  # characters
MAX_CELLS = 10_000  # pictures of a grid


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: its task, and the labels of its row and column."""

    task: Imagine
    across: str = ""
    down: str = ""
    row: int = 0
    column: int = 0


def cells(task: Imagine, max_cells: int = MAX_CELLS, max_length: int = MAX_PROMPT_LENGTH) -> list[Cell]:
    """The task itself, or one cell for each combination, row by row.

    Args:
        max_cells: of the grid.
        max_length: characters of a prompt in which words were replaced.

    Raises:
        CalotypeError: an axis that names no option, or invalid values; too many cells or characters, which is checked
            before they are made.
    """
    if not (task.x or task.y or task.matrix):
        return [Cell(task)]
    if task.count > 1:
        raise CalotypeError(
            "a grid has one picture in each cell; leave out {option:count}, or {option:x}, {option:y} and "
            "{option:matrix}"
        )
    plain = replace(task, x="", y="", matrix=False, grid=False)
    grid_cells: list[Cell] = []
    for row, (y_label, down) in enumerate(_axis_tasks("y", task.y, plain, max_cells, max_length)):
        cells_left = max_cells - len(grid_cells)
        across = (
            _matrix_tasks(down, cells_left)
            if task.matrix and not task.x
            else _axis_tasks("x", task.x, down, cells_left, max_length)
        )
        grid_cells += [Cell(cell_task, label, y_label, row, column) for column, (label, cell_task) in enumerate(across)]
    return grid_cells


def _matrix_tasks(task: Imagine, max_cells: int) -> list[tuple[str, Imagine]]:
    _check_count(2 ** (len(alternatives(task.prompt)) - 1), max_cells)
    first, *_ = texts = matrix(task.prompt)
    return [(text.removeprefix(first).strip(", ") or first, replace(task, prompt=text)) for text in texts]


def _axis_tasks(option: str, axis: str, task: Imagine, max_cells: int, max_length: int) -> list[tuple[str, Imagine]]:
    """Label and task for each value of the axis that `option` defines."""
    if not axis:
        _check_count(1, max_cells)
        return [("", task)]
    name, equals, text = axis.partition("=")
    name = name.strip().lower().replace("-", "_").replace(" ", "_")
    name = ALIASES.get(name, name)
    known = [spec.name for spec in visible(Imagine) if spec.name not in NOT_AXES and spec.type in _SCALARS]
    if name not in known or not equals:
        raise CalotypeError(
            "{option} is such as steps=10,20,30; a picture has no option {name}{hint}",
            option=option,
            name=shown(name),
            hint=nearest(name, known),
        )
    values = _values(text, is_whole=name in _INTEGERS, max_cells=max_cells)
    if not values:
        raise CalotypeError("{option} gives {name} no value; it is such as steps=10,20,30", option=option, name=name)
    _check_count(len(values), max_cells)
    if name == "prompt":
        texts = _search_and_replace(task.prompt, values, option, max_length)
        return [(value, replace(task, prompt=text)) for value, text in zip(values, texts, strict=True)]
    data = {spec.name: getattr(task, spec.name) for spec in dataclasses.fields(task)}
    return [
        (f"{name.replace('_', ' ')} {value}", read(Imagine, {**data, name: _typed(name, value)})) for value in values
    ]


def _check_count(count: int, max_cells: int) -> None:
    if count > max_cells:
        raise CalotypeError("the grid has too many pictures; use fewer values")


def _typed(name: str, value: str) -> object:
    kind = next(spec.type for spec in dataclasses.fields(Imagine) if spec.name == name)
    return value.lower() in ("true", "yes", "on", "1") if kind is bool else value


def _search_and_replace(prompt: str, values: list[str], option: str, max_length: int) -> list[str]:
    """A1111's prompt S/R: the first value is searched for in the prompt and replaced by each value."""
    count, old = prompt.count(values[0]), values[0]
    if not count:
        raise CalotypeError(
            "{option} prompt=...: the first value {old} is not in the prompt", option=option, old=shown(old)
        )
    if len(prompt) + count * max(len(new) - len(old) for new in values) > max_length:
        raise CalotypeError(
            "{option} makes a prompt of more than {max_length:,} characters", option=option, max_length=max_length
        )
    return [prompt.replace(old, new) for new in values]


def _values(text: str, is_whole: bool = False, max_cells: int = MAX_CELLS) -> list[str]:
    """`1,2,3`, `1-9`, `1-9 (+2)`, `0-1 [5]`, and quoted values with commas in them."""
    values: list[str] = []
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as fault:
        raise CalotypeError(
            "{text} is not a list of values separated by commas ({fault})", text=shown(text), fault=fault
        ) from None
    for part in parts:
        values += _counted(part, is_whole) or [part.strip()]
        _check_count(len(values), max_cells)
    return values


def _counted(part: str, is_whole: bool) -> list[str]:
    match = _RANGE.fullmatch(part)
    if not match:
        return []
    try:
        first, last = Decimal(match[1]), Decimal(match[2])
        if match[4]:
            count = max(1, min(int(match[4]), MAX_CELLS))
            values = [first + (last - first) * n / max(count - 1, 1) for n in range(count)]
        else:
            step = Decimal(match[3] or (1 if last >= first else -1))
            count = int((last - first) // step) + 1 if step and (last - first) / step >= 0 else 0
            values = [first + n * step for n in range(min(count, MAX_CELLS))]
    except (ArithmeticError, ValueError):  # ValueError: more than 4300 digits
        return []
    return [f"{value:.0f}" if is_whole or value == value.to_integral() else f"{value:.6g}" for value in values]
