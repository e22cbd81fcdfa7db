"""Command-line flags generated from dataclass fields, which define name, default, help, choices and range."""

import dataclasses
import inspect
import shlex
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from calotype.cli.wording import WORDING, long_flag
from calotype.errors import CalotypeError, Message, listed
from calotype.options import (
    about,
    default,
    entry_kind,
    groups,
    is_required,
    kinds,
    required_kind,
    visible,
)
from calotype.tasks import ConvertLora, ResizeLora, TrainLora

SHORT = {"out": "-o", "scale": "-s", "model": "-n", "upscaler": "-n", "tile": "-t", "recursive": "-r", "fidelity": "-w"}
SHORT |= {"count": "-c", "output_dir": "-o"}
HAVE_CONFIG_FILES = (TrainLora,)  # their options may also come from a file, which the command line overrides
REQUIRED = inspect.Parameter.empty
ARGUMENTS = ("source", "prompt", "photos", "loras", "tuned", "base")  # fields that are positional arguments
ARGUMENTS_OF = {ResizeLora: ("lora",), ConvertLora: ("lora",)}  # further ones of some tasks


def flags(*classes: type) -> list[inspect.Parameter]:
    """One keyword parameter for each visible field; None if it is not given on the command line."""
    return [
        _parameter(cls, spec, panel)
        for cls in classes
        for panel, specs in groups(cls)
        for spec in specs
        if spec.name not in (*ARGUMENTS, *ARGUMENTS_OF.get(cls, ()))
    ]


def set_signature(function: Callable, *parameters: inspect.Parameter) -> Callable:
    """Sets the signature of `function(**values)`, which typer reads."""
    names = [parameter.name for parameter in parameters]
    duplicates = {name for name in names if names.count(name) > 1}
    if duplicates:
        raise ValueError(f"two options are named {duplicates}")
    function.__signature__ = inspect.Signature(list(parameters))
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


@dataclass(frozen=True)
class Text:
    """What the help says about a parameter; translated only when it is shown."""

    help: str | Message | Callable[[], Message]
    panel: str = ""  # the heading above it

    def worded(self) -> str:
        help = self.help() if callable(self.help) else self.help
        return WORDING.fill(help) if isinstance(help, Message) else WORDING.translate(help)


def texts(function: Callable) -> dict[str, Text]:
    """The texts of the parameters of a command, by their names."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: text for p in parameters for text in typing.get_args(p.annotation) if isinstance(text, Text)}


def given_options(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of `cls` that are given on the command line.

    Raises:
        CalotypeError: a nested option is not of the form key=value.
    """
    given = {spec.name: values.get(spec.name) for spec in visible(cls)}
    given = {name: value for name, value in given.items() if value is not None and value != []}
    return {name: _parsed(kinds(cls)[name], value, name) for name, value in given.items()}


def _parsed(kind: Any, value: Any, name: str) -> Any:
    """The value of a flag as `read` takes it: nested options as mappings."""
    kind = required_kind(kind)
    if entry_kind(kind):
        return [_parsed(entry_kind(kind), entry, f"{name}.{n}") for n, entry in enumerate(value)]
    return _parse_pairs(kind, value, name) if dataclasses.is_dataclass(kind) else value


def _parse_pairs(cls: type, text: str, name: str) -> dict[str, Any]:
    """Parses `image=a.png,weight=0.5`; quoted values may contain commas, and a switch may omit =true."""
    words = shlex.shlex(text, posix=True)
    words.whitespace, words.whitespace_split, words.commenters, words.escape = ",", True, "", ""
    try:
        pairs = [word.partition("=") for word in words]
        return {key.strip().replace("-", "_"): _parse_value(cls, key, sign, value) for key, sign, value in pairs}
    except ValueError:
        raise CalotypeError(
            "{option} is such as {example}, not {text!r}", option=name, example=_example(cls), text=text
        ) from None


def _parse_value(cls: type, key: str, sign: str, value: str) -> Any:
    """Raises ValueError if there is no value, or a switch has one that is neither true nor false."""
    if kinds(cls).get(key.strip().replace("-", "_")) is not bool:
        if not sign:
            raise ValueError
        return value
    if value.lower() not in ("", "true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError
    return value.lower() in ("true", "yes", "on", "1") if sign else True


def _example(cls: type) -> str:
    """`image=PATH,weight=1`: the required options, and the first optional one."""
    required = [f"{spec.name}={_metavar(spec.type)}" for spec in visible(cls) if is_required(spec)]
    optional = [f"{spec.name}={_default_text(default(spec))}" for spec in visible(cls) if not is_required(spec)]
    return ",".join([*required, *optional[:1]])


def argument(name: str, kind: Any, help: str | Message, metavar: str, default: Any = REQUIRED) -> inspect.Parameter:
    return _keyword(name, Annotated[kind, typer.Argument(metavar=metavar), Text(help)], default)


def flag(
    name: str, help: str | Message, *names: str, kind: Any = bool, panel: str = "", **kwargs: Any
) -> inspect.Parameter:
    """An option of the command line only."""
    names = names or ("--" + name.replace("_", "-"),)
    info = typer.Option(*names, show_default=False, **kwargs)
    return _keyword(name, Annotated[kind, info, Text(help, panel)], False if kind is bool else None)


def hidden_flag(name: str, kind: Any) -> inspect.Parameter:
    """An option that is accepted, but not listed in the help."""
    info = typer.Option("--" + name.replace("_", "-"), hidden=True, show_default=False)
    return _keyword(name, Annotated[kind | None, info], None)


def _parameter(cls: type, spec: dataclasses.Field, panel: str) -> inspect.Parameter:
    rules, name = about(spec), long_flag(spec.name)
    is_switch, is_repeated = spec.type is bool, bool(entry_kind(required_kind(spec.type)))
    has_off_switch = spec.default or cls in HAVE_CONFIG_FILES  # otherwise there is nothing to turn off
    off = name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
    long = f"--{name}/--{off}" if is_switch and has_off_switch else f"--{name}"
    info = typer.Option(
        *([SHORT[spec.name]] if spec.name in SHORT else []),
        long,
        *(f"--{alias}" for alias in rules.aliases),
        metavar=None if is_switch else _metavar(spec.type),
        show_default=False,
    )
    kind = bool if is_switch else list[str] if is_repeated else str
    return _keyword(spec.name, Annotated[kind | None, info, Text(partial(_help, spec), panel)], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(kind: Any) -> str:
    kind = entry_kind(required_kind(kind)) or required_kind(kind)
    return "KEY=VALUE,..." if dataclasses.is_dataclass(kind) else {Path: "PATH", int: "N", float: "X"}.get(kind, "WORD")


def _help(spec: dataclasses.Field) -> Message:
    """The help of an option, and after it choices or range, default and environment variable."""
    rules, default_value = about(spec), default(spec)
    help, facts = Message(rules.help), []
    if rules.choices:
        facts.append(listed(rules.choices))
    if rules.min is not None and rules.max is not None and f"{rules.min:g}" not in rules.help:
        facts.append(Message("{least} to {most}", least=_default_text(rules.min), most=_default_text(rules.max)))
    if nested := _nested(spec.type):
        facts.append(_example(nested))
        facts += [Message("may be repeated")] if entry_kind(required_kind(spec.type)) else []
    elif default_value not in (None, "", ()) and not isinstance(default_value, bool):
        facts.append(Message("default {value}", value=_default_text(default_value)))
    if rules.env:
        facts.append(Message("or ${variable}", variable=rules.env))
    return Message("{help} ({facts})", help=help, facts=listed(facts, "; ")) if facts else help


def _nested(kind: Any) -> type | None:
    kind = entry_kind(required_kind(kind)) or required_kind(kind)
    return kind if dataclasses.is_dataclass(kind) else None


def _default_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


OUTPUT_FLAGS = (
    flag("json", "print one JSON object per event and line on stdout", panel="Messages"),
    flag("quiet", "print errors only", "-q", "--quiet", panel="Messages"),
)
