"""Options as dataclass fields: the only place where a default, its help and its limits are defined.

Command-line flags, API fields, web forms and bot options are generated from these fields. The type of a field is bool,
int, float, str or Path, a frozen dataclass of such fields, a tuple of any of these (`tuple[str, ...]`), or one of these
`| None`. A mix-in defines a heading for the fields that it declares: `TITLE = "Photos and captions"`.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from calotype.errors import PLAIN, CalotypeError, Message, Wording, listed

SHOWN = 60  # characters of an invalid value in an error message
TEMPLATES = {  # of errors, by the type of an option
    int: "{option} takes a whole number, not {value}",
    float: "{option} takes a number, not {value}",
    object: "{option} takes a value of type {kind}, not {value}",
}
SPELLED = {"vae": "VAE", "lora": "LoRA", "gan": "GAN", "lr": "learning rate", "ema": "EMA", "snr": "SNR"}
SPELLED |= {"clip": "CLIP", "unet": "U-Net", "l1": "L1", "vgg": "VGG"}


@dataclass(frozen=True)
class OptionInfo:
    """What interfaces need to know about an option besides its name, type and default."""

    help: str
    title: str = ""  # label in forms; derived from the name if empty
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    max_length: int = 1000  # characters of a text in an untrusted request
    max_items: int = 64  # entries of a tuple in an untrusted request
    env: str = ""  # the environment variable that sets it, for settings
    is_path: bool = False  # never taken from the network
    lists_paths: bool = False  # the file names other files, so that not even an uploaded one is taken
    names: str = ""  # the kind of model in the store that it is the name of
    words: tuple[str, ...] = ()  # values allowed besides names: none, auto
    parsed: Callable[[str], Iterable[str]] | None = None  # extracts the names from a text that is not a single name
    aliases: tuple[str, ...] = ()  # other names of its flag, as in other programs
    is_hidden: bool = False  # interfaces do not show it


def option(default: Any = dataclasses.MISSING, help: str = "", **about: Any) -> Any:
    """A dataclass field that interfaces can show: `option(2.0, "how much larger", min=0.01)`."""
    return field(default=default, metadata={"about": OptionInfo(help, **about)})


def same_as(cls: type, name: str) -> Any:
    """A dataclass field that is the same option as one of another task."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    return field(default=spec.default, metadata=spec.metadata)


def about(spec: dataclasses.Field) -> OptionInfo:
    return spec.metadata["about"]


def option_fields(cls: Any) -> list[dataclasses.Field]:
    """The fields of a task or of the settings, or of their class, that are options, in order of declaration."""
    return [spec for spec in dataclasses.fields(cls) if "about" in spec.metadata]


def visible(cls: type) -> list[dataclasses.Field]:
    """Those of them that interfaces show."""
    return [spec for spec in option_fields(cls) if not about(spec).is_hidden]


def title(spec: dataclasses.Field) -> str:
    """The label in forms: `mask_blur` is "Mask blur"."""
    return about(spec).title or title_of(spec.name)


def title_of(name: str) -> str:
    """The label of an option without one of its own."""
    first, *rest = (SPELLED.get(word, word) for word in name.split("_"))
    first = first if first in SPELLED.values() and first != first.lower() else first[:1].upper() + first[1:]
    return " ".join([first, *rest])


def owner(cls: type, name: str) -> type:
    """The class that declares a field: the task itself, or one of its mix-ins."""
    return next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))


def groups(cls: type) -> list[tuple[str, list[dataclasses.Field]]]:
    """The visible fields under the titles of the classes that declare them, those of `cls` itself first."""
    by_title: dict[str, list[dataclasses.Field]] = {}
    for spec in sorted(visible(cls), key=lambda spec: owner(cls, spec.name) is not cls):
        by_title.setdefault(getattr(owner(cls, spec.name), "TITLE", "Options"), []).append(spec)
    return list(by_title.items())


@cache
def kinds(cls: type) -> Mapping[str, Any]:
    """The type of every field by its name."""
    return typing.get_type_hints(cls)


def is_optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def required_kind(kind: Any) -> Any:
    """`int` of `int | None`; other types as they are."""
    if not is_optional(kind):
        return kind
    return next(arg for arg in typing.get_args(kind) if arg is not types.NoneType)


def entry_kind(kind: Any) -> Any:
    """`str` of `tuple[str, ...]`; None if it is not a tuple."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def nearest(name: Any, names: Iterable[str]) -> Message:
    """ ", did you mean x?" or nothing."""
    is_name = isinstance(name, str) and len(name) <= SHOWN
    close = difflib.get_close_matches(name, list(names), 1, 0.6) if is_name else []
    return Message(", did you mean {name}?", name=close[0]) if close else Message("")


def shown(value: Any) -> str:
    """An invalid value for an error message: its repr, on one line, truncated."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1000:
        return f"{'-' * (value < 0)}1e{int(value.bit_length() * 0.30103)}"  # Python refuses to convert 4300 digits
    try:
        text = repr(value[: SHOWN + 1] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # such a number within a list, or a recursive list
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN + 2 else f"{text[:SHOWN]}..."


def as_name(value: Any) -> str:
    """An unknown name for an error message: without quotes if it could be a name."""
    is_name = isinstance(value, str) and re.fullmatch(rf"[\w.+-]{{1,{SHOWN}}}", value)
    return value if is_name else shown(value)


def read(cls: type, data: Mapping[str, Any]) -> Any:
    """Makes a task or settings object from external data; names, types and ranges are validated here, once.

    Nested options are given as mappings, tuples as lists, or as the objects themselves. A class may have a classmethod
    `settled(values)`, which takes all validated values and returns those to construct the object with.

    Raises:
        CalotypeError: an unknown name (the nearest known one is suggested), a wrong type, a value out of range. The
            option of a nested error is its path: `control.0.weight`.
    """
    return _read(cls, data, "")


def checked(cls: type, name: str, value: Any) -> Any:
    """One option's value, validated as by `read`. Raises CalotypeError for a wrong type or a value out of range."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    return _checked(spec, kinds(cls)[name], value, name)


def as_data(value: Any) -> Any:
    """A task, or a value in it, as JSON data, from which `read` restores it."""
    if dataclasses.is_dataclass(value):
        return {spec.name: as_data(getattr(value, spec.name)) for spec in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [as_data(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _read(cls: type, data: Any, path: str) -> Any:
    """`path` is the path of a nested object: `control.0`."""
    if isinstance(data, cls):
        return data
    if not isinstance(data, Mapping):
        template = (
            "{option} takes options by their names, not {value}"
            if path
            else "options are given by their names, not as {value}"
        )
        raise CalotypeError(template, option=path, value=shown(data))
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    for name in data:
        if name not in specs:
            hint = nearest(name, specs)
            raise CalotypeError("there is no option {name}{hint}", name=_joined(path, as_name(name)), hint=hint)
    values = {name: _checked(specs[name], kinds(cls)[name], value, _joined(path, name)) for name, value in data.items()}
    missing = [_joined(path, s.name) for s in specs.values() if is_required(s) and s.name not in values]
    if missing:
        raise CalotypeError("{names} must be given", names=listed(missing, " and "))
    values = cls.settled(values) if hasattr(cls, "settled") else values
    if not path:
        return cls(**values)
    try:
        return cls(**values)
    except CalotypeError as fault:
        option = _joined(path, fault.option) if fault.option else path
        raise CalotypeError("{path}: {fault}", option=option, path=path, fault=fault) from None


def is_required(spec: dataclasses.Field) -> bool:
    return spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING


def default(spec: dataclasses.Field) -> Any:
    """The default of an option; dataclasses.MISSING if it is required."""
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _checked(spec: dataclasses.Field, kind: Any, value: Any, path: str) -> Any:
    if is_optional(kind):
        if value is None:
            return None
        kind = required_kind(kind)
    if entry_kind(kind):
        if not isinstance(value, list | tuple):
            raise CalotypeError("{option} takes a list, not {value}", option=path, value=shown(value))
        return tuple(_checked(spec, entry_kind(kind), entry, f"{path}.{n}") for n, entry in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _read(kind, value, path)
    value = _converted(kind, value, path)
    if "about" in spec.metadata:
        _check_range(path, about(spec), value)
    return value


def _converted(kind: Any, value: Any, path: str) -> Any:
    try:
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError
        return kind(value) if kind in (int, float, str, Path, bool) else value
    except (TypeError, ValueError, OverflowError):
        template = TEMPLATES.get(kind, TEMPLATES[object])
        raise CalotypeError(template, option=path, kind=kind.__name__, value=shown(value)) from None


def _check_range(path: str, rules: OptionInfo, value: Any) -> None:
    if rules.choices and value not in rules.choices:
        raise CalotypeError(
            "{option} is one of {choices}, not {value}{hint}",
            option=path,
            choices=", ".join(rules.choices),
            value=shown(value),
            hint=nearest(value, rules.choices),
        )
    too_low = rules.min is not None and not value >= rules.min  # "not >=" also catches NaN
    too_high = rules.max is not None and not value <= rules.max
    if too_low or too_high:
        span = _span(rules.min, rules.max)
        raise CalotypeError("{option} takes values{span}, not {value}", option=path, span=span, value=_number(value))


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) or abs(value) < 10**6 else shown(value)


def _span(low: float | None, high: float | None) -> Message:
    if high is None:
        return Message(" from {least}", least=_number(low))
    if low is None:
        return Message(" up to {most}", most=_number(high))
    return Message(" from {least} up to {most}", least=_number(low), most=_number(high))


def schema(cls: type, wording: Wording = PLAIN) -> dict[str, Any]:
    """JSON Schema (2020-12) of what `read` accepts, as a new object.

    Besides the standard's keys a property has `x-group`, the title of its group; `x-file`, for a file or folder that is
    uploaded, never given as text; `x-names`, the kind of model in the store whose names it accepts, and `x-words`,
    what it accepts besides these.

    Args:
        wording: how descriptions word options, and their language.
    """
    defs: dict[str, Any] = {}
    root = _object(cls, wording, defs)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root} | ({"$defs": defs} if defs else {})


def _object(cls: type, wording: Wording, defs: dict[str, Any]) -> dict[str, Any]:
    properties = {
        spec.name: _property(spec, kinds(cls)[spec.name], group, wording, defs)
        for group, specs in groups(cls)
        for spec in specs
    }
    return {
        "title": cls.__name__,
        "description": wording.translate((cls.__doc__ or "").partition("\n")[0]),
        "type": "object",
        "properties": properties,
        "required": [spec.name for spec in visible(cls) if is_required(spec)],
        "additionalProperties": False,
    }


def _property(spec: dataclasses.Field, kind: Any, group: str, wording: Wording, defs: dict[str, Any]) -> dict[str, Any]:
    rules = about(spec)
    more: dict[str, Any] = {} if is_required(spec) else {"default": as_data(default(spec))}
    more |= {"x-file": True} if rules.is_path else {}
    more |= {"x-names": rules.names, "x-words": list(rules.words)} if rules.names else {}
    shape = _typed(required_kind(kind), rules, wording, defs)
    if is_optional(kind):
        shape = _or_null(shape)
    facts = {
        "title": wording.translate(title(spec)),
        "description": wording.fill(Message(rules.help)),
        "x-group": wording.translate(group),
    }
    return {**shape, **facts, **more}


def _typed(kind: Any, rules: OptionInfo, wording: Wording, defs: dict[str, Any]) -> dict[str, Any]:
    """The keys that say which values are valid."""
    if entry_kind(kind):
        return {"type": "array", "items": _typed(entry_kind(kind), rules, wording, defs), "maxItems": rules.max_items}
    if dataclasses.is_dataclass(kind):
        if kind.__name__ not in defs:
            defs[kind.__name__] = {}  # it may contain itself
            defs[kind.__name__] = _object(kind, wording, defs)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
    shape: dict[str, Any] = {"type": names[kind]}
    if rules.choices:
        return shape | {"enum": list(rules.choices)}
    if kind is str:
        shape["maxLength"] = rules.max_length
    return shape | {key: n for key, n in (("minimum", rules.min), ("maximum", rules.max)) if n is not None}


def _or_null(shape: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in shape:
        return {"anyOf": [shape, {"type": "null"}]}
    more = {"enum": [*shape["enum"], None]} if "enum" in shape else {}
    return {**shape, "type": [shape["type"], "null"], **more}
