"""Command-line flags made from dataclass fields: name, default, help, choices and range stand there alone."""

import dataclasses
import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, Message
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
FROM_FILES = (TrainLora,)  # their options also come from a file, against which the command line stands
NEEDED = inspect.Parameter.empty
ARGUMENTS = ("source", "prompt", "photos", "loras", "tuned", "base")  # the fields that aren't flags
ARGUMENTS_OF = {ResizeLora: ("lora",), ConvertLora: ("lora",)}  # and those that are flags elsewhere


def flags(*classes: type) -> list[inspect.Parameter]:
    """One keyword parameter for every visible field, None where it is not given on the command line."""
    return [
        _parameter(cls, spec, panel)
        for cls in classes
        for panel, specs in groups(cls)
        for spec in specs
        if spec.name not in (*ARGUMENTS, *ARGUMENTS_OF.get(cls, ()))
    ]


def shape(function: Callable, *parameters: inspect.Parameter) -> Callable:
    """Gives `function(**given)` the signature that typer reads."""
    names = [parameter.name for parameter in parameters]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two options are called {twice}")
    function.__signature__ = inspect.Signature(list(parameters))
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def given(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """What the command line said about the fields of `cls`.

    Raises:
        CalotypeError: the words of a nested option are no key=value.
    """
    told = {spec.name: values.get(spec.name) for spec in visible(cls)}
    told = {name: value for name, value in told.items() if value is not None and value != []}
    return {name: _parsed(kinds(cls)[name], value, name) for name, value in told.items()}


def _parsed(kind: Any, value: Any, name: str) -> Any:
    """The words behind a flag as `read` takes them: those of nested options as mappings."""
    kind = required_kind(kind)
    if entry_kind(kind):
        return [_parsed(entry_kind(kind), entry, f"{name}.{n}") for n, entry in enumerate(value)]
    return _pairs(kind, value, name) if dataclasses.is_dataclass(kind) else value


def _pairs(cls: type, text: str, name: str) -> dict[str, Any]:
    """`image=a.png,weight=0.5` as data; quotes hold commas, and a switch may stand without its =true."""
    words = shlex.shlex(text, posix=True)
    words.whitespace, words.whitespace_split, words.commenters, words.escape = ",", True, "", ""
    try:
        pairs = [word.partition("=") for word in words]
        return {key.strip().replace("-", "_"): _value(cls, key, sign, value) for key, sign, value in pairs}
    except ValueError:
        raise CalotypeError(
            "{option} is such as {example}, not {text!r}", option=name, example=_example(cls), text=text
        ) from None


def _value(cls: type, key: str, sign: str, value: str) -> Any:
    """Raises ValueError where there is none, or it is neither true nor false where it has to be."""
    if kinds(cls).get(key.strip().replace("-", "_")) is not bool:
        if not sign:
            raise ValueError
        return value
    if value.lower() not in ("", "true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError
    return value.lower() in ("true", "yes", "on", "1") if sign else True


def _example(cls: type) -> str:
    """`image=PATH,weight=1`: the options that must be given, and the first of the others."""
    must = [f"{spec.name}={_metavar(spec.type)}" for spec in visible(cls) if is_required(spec)]
    may = [f"{spec.name}={_number(default(spec))}" for spec in visible(cls) if not is_required(spec)]
    return ",".join([*must, *may[:1]])


def argument(name: str, kind: Any, help: str, metavar: str, default: Any = NEEDED) -> inspect.Parameter:
    return _keyword(name, Annotated[kind, typer.Argument(help=help, metavar=metavar)], default)


def flag(
    name: str, help: str, *names: str, kind: Any = bool, panel: str | None = None, **more: Any
) -> inspect.Parameter:
    """An option that belongs to a door alone."""
    names = names or ("--" + name.replace("_", "-"),)
    info = typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)
    return _keyword(name, Annotated[kind, info], False if kind is bool else None)


def hidden(name: str, kind: Any) -> inspect.Parameter:
    """An option that is taken, and not listed."""
    info = typer.Option("--" + name.replace("_", "-"), hidden=True, show_default=False)
    return _keyword(name, Annotated[kind | None, info], None)


def _parameter(cls: type, spec: dataclasses.Field, panel: str) -> inspect.Parameter:
    rules, name = about(spec), spec.name.replace("_", "-")
    is_switch, is_repeated = spec.type is bool, bool(entry_kind(required_kind(spec.type)))
    may_be_on = spec.default or cls in FROM_FILES  # so that there is something to turn off
    off = name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
    long = f"--{name}/--{off}" if is_switch and may_be_on else f"--{name}"
    info = typer.Option(
        *([SHORT[spec.name]] if spec.name in SHORT else []),
        long,
        *(f"--{other}" for other in rules.aliases),
        help=WORDING.fill(Message(rules.help)) + _facts(spec),
        metavar=None if is_switch else _metavar(spec.type),
        show_default=False,
        rich_help_panel=panel,
    )
    kind = bool if is_switch else list[str] if is_repeated else str
    return _keyword(spec.name, Annotated[kind | None, info], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(kind: Any) -> str:
    kind = entry_kind(required_kind(kind)) or required_kind(kind)
    return "KEY=VALUE,..." if dataclasses.is_dataclass(kind) else {Path: "PATH", int: "N", float: "X"}.get(kind, "WORD")


def _facts(spec: dataclasses.Field) -> str:
    """What stands behind the help: choices or range, default, environment variable."""
    rules, default_value = about(spec), default(spec)
    facts = [", ".join(rules.choices)] if rules.choices else []
    if rules.min is not None and rules.max is not None and f"{rules.min:g}" not in rules.help:
        facts.append(f"{_number(rules.min)} to {_number(rules.max)}")
    if nested := _nested(spec.type):
        facts.append(_example(nested))
        facts += ["may be repeated"] if entry_kind(required_kind(spec.type)) else []
    elif default_value not in (None, "", ()) and not isinstance(default_value, bool):
        facts.append(f"default {_number(default_value)}")
    if rules.env:
        facts.append(f"or ${rules.env}")
    return f" ({'; '.join(facts)})" if facts else ""


def _nested(kind: Any) -> type | None:
    kind = entry_kind(required_kind(kind)) or required_kind(kind)
    return kind if dataclasses.is_dataclass(kind) else None


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


TELL = (
    flag("json", "one JSON object a line on stdout for everything that happens", panel="What is said"),
    flag("quiet", "say nothing of what goes well", "-q", "--quiet", panel="What is said"),
)
