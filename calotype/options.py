"""Options as dataclass fields: the only place where a default, its help and its limits are written down.

Command-line flags, API fields, web forms and bot options are all made from these fields.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message


@dataclass(frozen=True)
class About:
    """What a door needs to know of an option besides its name, type and default."""

    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    env: str = ""  # the environment variable that sets it, for settings
    is_path: bool = False  # never taken from the network
    also: tuple[str, ...] = ()  # other names of its flag, that people know from elsewhere


def option(default: Any = dataclasses.MISSING, help: str = "", **about: Any) -> Any:
    """A dataclass field that doors can show: `option(2.0, "how much larger", least=0.01)`."""
    return field(default=default, metadata={"about": About(help, **about)})


def about(spec: dataclasses.Field) -> About:
    return spec.metadata["about"]


def visible(cls: type) -> list[dataclasses.Field]:
    """The fields of a task or of the settings that doors show, in order of writing."""
    return [spec for spec in dataclasses.fields(cls) if "about" in spec.metadata]


def nearest(name: str, names: Iterable[str]) -> Message:
    """ ", did you mean x?" or nothing."""
    close = difflib.get_close_matches(name, list(names), 1, 0.6)
    return Message(", did you mean {name}?", name=close[0]) if close else Message("")


def read(cls: type, data: Mapping[str, Any]) -> Any:
    """Makes a task or settings object from outside data; names, types and ranges are checked here, once.

    Raises:
        CalotypeError: an unknown name (the nearest known one is suggested), a wrong type, a value out of range.
    """
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    for name in data:
        if name not in specs:
            raise CalotypeError("there is no option {name}{hint}", name=name, hint=nearest(name, specs))
    hints = typing.get_type_hints(cls)
    values = {name: _checked(cls, specs[name], hints[name], value) for name, value in data.items()}
    missing = [s.name for s in specs.values() if s.default is dataclasses.MISSING and s.name not in values]
    if missing:
        raise CalotypeError("{names} must be given", names=" and ".join(missing))
    return cls(**values)


def checked(cls: type, name: str, value: Any) -> Any:
    """One option's value as `read` would take it. Raises CalotypeError for a wrong type, or a value out of range."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    return _checked(cls, spec, typing.get_type_hints(cls)[name], value)


def _checked(cls: type, spec: dataclasses.Field, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    try:
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError
        value = kind(value) if kind in (int, float, str, Path, bool) else value
    except (TypeError, ValueError, OverflowError):
        raise CalotypeError(
            "{option} takes a value of type {kind}, not {value!r}", option=spec.name, kind=kind.__name__, value=value
        ) from None
    if "about" in spec.metadata:
        _check_range(spec.name, about(spec), value)
    return value


def _check_range(name: str, rules: About, value: Any) -> None:
    if rules.choices and value not in rules.choices:
        raise CalotypeError(
            "{option} is one of {choices}, not {value!r}{hint}",
            option=name,
            choices=", ".join(rules.choices),
            value=value,
            hint=nearest(str(value), rules.choices),
        )
    too_low = rules.least is not None and not value >= rules.least  # "not >=" also catches NaN
    too_high = rules.most is not None and not value <= rules.most
    if too_low or too_high:
        span = {"least": rules.least, "most": rules.most}
        raise CalotypeError("{option} takes values{span}, not {value:g}", option=name, span=_span(**span), value=value)


def _span(least: float | None, most: float | None) -> Message:
    if most is None:
        return Message(" from {least:g}", least=least)
    if least is None:
        return Message(" up to {most:g}", most=most)
    return Message(" from {least:g} up to {most:g}", least=least, most=most)
