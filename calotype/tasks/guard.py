"""Untrusted requests: their tasks may name no file, no module, and only models in the store."""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Remedy
from calotype.options import (
    OptionInfo,
    about,
    as_data,
    as_name,
    default,
    entry_kind,
    kinds,
    nearest,
    read,
    required_kind,
    shown,
)
from calotype.tasks.drawing import Imagine
from calotype.tasks.limits import LIMITS, Limits, check_work
from calotype.tasks.sheets import cells

Names = Mapping[str, Collection[str]] | Callable[[str], Collection[str]]
Files = Mapping[str, Path | Sequence[Path]]

UNKNOWN = {
    "diffusion": "no model is named {name}{hint}",
    "upscale": "no super-resolution network is named {name}{hint}",
    "faces": "no face restoration network is named {name}{hint}",
    "repair": "no network for scratches is named {name}{hint}",
    "inpaint": "no network for filling is named {name}{hint}",
    "vae": "no VAE is named {name}{hint}",
    "lora": "no LoRA is named {name}{hint}",
    "style": "no style is named {name}{hint}",
    "optimizer": "no optimizer is named {name}{hint}",
}  # by the kind of name; kinds of models are those of the store
STORED = ("diffusion", "upscale", "faces", "repair", "inpaint", "vae", "lora")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # control characters and surrogates


def read_request(
    cls: type, data: Mapping[str, Any], names: Names | None = None, files: Files | None = None, limits: Limits = LIMITS
) -> Any:
    """A task as from `options.read`, of untrusted data. Opens no file, imports nothing.

    Args:
        names: the names in the store, by the kinds of `option(names=...)`; None: no names. The default of an option and
            its `words` are allowed too.
        files: uploaded files, by the option or its path (`control.0.image`).

    Raises:
        CalotypeError: a file or folder in the data, an unknown name, a text that is too long or invalid, or an error of
            `read` or `check_work`.
    """
    _check_data(cls, data, "")
    task = read(cls, with_files(cls, data, files or {}))
    max_length = next(about(spec).max_length for spec in fields(Imagine) if spec.name == "prompt")
    cell_tasks = [cell.task for cell in cells(task, limits.cells, max_length)] if isinstance(task, Imagine) else [task]
    known = _KnownNames(names or {})
    for cell_task in (task, *cell_tasks):
        _check_names(cell_task, known)
    check_work(task, cell_tasks, limits)
    return task


def with_files(cls: type, data: Mapping[str, Any], files: Files) -> Mapping[str, Any]:
    """The data with the files inserted. Raises CalotypeError for an option that takes no file."""
    for path, file in files.items():
        data = _with_file(cls, data, path.split("."), file, path)
    return data


def _with_file(cls: type, data: Any, keys: Sequence[str], file: Any, path: str) -> Any:
    name, *rest = keys
    spec = next((spec for spec in fields(cls) if spec.name == name), None)
    if spec is None or "about" not in spec.metadata or not isinstance(data, Mapping):
        raise CalotypeError("there is no option {path}", path=as_name(path))
    kind = required_kind(kinds(cls)[name])
    nested = entry_kind(kind) or kind
    if not rest and about(spec).is_path and not about(spec).lists_paths:
        return {**data, name: file}
    if not (rest and dataclasses.is_dataclass(nested)):
        raise CalotypeError("{option} does not take a file", option=path)
    if nested is kind:
        return {**data, name: _with_file(nested, data.get(name, {}), rest, file, path)}
    entries, (number, *rest) = list(data.get(name, ())), rest
    if not (number.isdecimal() and len(number) < 4 and int(number) < len(entries) and rest):
        raise CalotypeError("there is no option {path}", path=path)
    entries[int(number)] = _with_file(nested, entries[int(number)], rest, file, path)
    return {**data, name: entries}


def _check_data(cls: type, data: Any, path: str) -> None:
    """Checks what only untrusted requests may not contain; `read` checks names, types and ranges."""
    specs = {spec.name: spec for spec in fields(cls)}
    for name, value in data.items() if isinstance(data, Mapping) else ():
        where = f"{path}.{name}" if path else name
        if name in specs and "about" not in specs[name].metadata:
            raise CalotypeError("there is no option {name}", name=where)
        if name in specs and value != as_data(default(specs[name])):
            _check_value(about(specs[name]), required_kind(kinds(cls)[name]), value, where)


def _check_value(rules: OptionInfo, kind: Any, value: Any, path: str) -> None:
    if rules.is_path:
        raise CalotypeError("{option} is a file or folder, which a request may not name; upload the file", option=path)
    if entry_kind(kind) and isinstance(value, list | tuple):
        if len(value) > rules.max_items:
            raise CalotypeError("{option} takes up to {limit} entries", option=path, limit=rules.max_items)
        for n, entry in enumerate(value):
            _check_value(rules, entry_kind(kind), entry, f"{path}.{n}")
    elif dataclasses.is_dataclass(kind):
        _check_data(kind, value, path)
    elif isinstance(value, str):
        _check_text(value, rules, path)
    elif kind is str and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise CalotypeError("{option} is a text, not {value}", option=path, value=shown(value))


def _check_text(text: str, rules: OptionInfo, path: str) -> None:
    if len(text) > rules.max_length:
        raise CalotypeError("{option} takes up to {limit:,} characters", option=path, limit=rules.max_length)
    if match := _CONTROL_CHARACTERS.search(text):
        raise CalotypeError(
            "{option} contains {character}, which is not allowed in a text", option=path, character=shown(match[0])
        )


class _KnownNames:
    """The names of each kind, each read once."""

    def __init__(self, names: Names):
        self._names, self._cached = names, {}

    def __getitem__(self, kind: str) -> Collection[str]:
        if kind not in self._cached:
            names = self._names.get(kind, ()) if isinstance(self._names, Mapping) else self._names(kind)
            self._cached[kind] = frozenset(names)
        return self._cached[kind]


def names_in(task: Any) -> Iterator[tuple[str, str, str]]:
    """The names in a task, besides defaults: the option or its path, the kind of name, and the name."""
    for path, spec, text in _texts(task, ""):
        rules = about(spec) if "about" in spec.metadata else None
        if rules is None or not rules.names or text == default(spec) or text in rules.words:
            continue
        for name in rules.parsed(text) if rules.parsed else (text,):
            yield path, rules.names, name


def _check_names(task: Any, known: _KnownNames) -> None:
    for path, kind, name in names_in(task):
        if name not in known[kind]:
            raise CalotypeError(
                UNKNOWN[kind],
                option=path,
                remedy=Remedy("list_models") if kind in STORED else None,
                name=as_name(name),
                hint=nearest(name, known[kind]),
            )


def _texts(
    value: Any, path: str, spec: dataclasses.Field | None = None
) -> Iterator[tuple[str, dataclasses.Field, str]]:
    """All texts in a task, also nested ones: path, field and text."""
    if dataclasses.is_dataclass(value):
        for own in fields(value):
            yield from _texts(getattr(value, own.name), f"{path}.{own.name}" if path else own.name, own)
    elif isinstance(value, tuple):
        for n, entry in enumerate(value):
            yield from _texts(entry, f"{path}.{n}", spec)
    elif isinstance(value, str):
        yield path, spec, value
