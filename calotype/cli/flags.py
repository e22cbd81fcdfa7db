"""Command-line flags made from dataclass fields: name, default, help, choices and range stand there alone."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from calotype.cli.wording import WORDING
from calotype.errors import Message
from calotype.options import About, about, visible
from calotype.settings import Settings
from calotype.tasks import (
    Caption,
    ConvertLora,
    ExtractLora,
    Hires,
    Imagine,
    MergeLora,
    Outcome,
    ResizeLora,
    Restore,
    Sampling,
    Saving,
    Start,
    Tiling,
    TrainGan,
    TrainLora,
    TrainRestorer,
    TrainUpscaler,
    Upscale,
    enhancing,
)
from calotype.tasks.captions import Cropping, Tagging
from calotype.tasks.diffusion import Budget, Captioned, Made, Miniature, TrainDiffusion
from calotype.tasks.output import Album, DrawingOutput
from calotype.tasks.training import Accepted, Logged, Network, Photos, Saved, Schedule, Watched
from calotype.tasks.training_gan import Forgery, Kept, War

SHORT = {"out": "-o", "scale": "-s", "model": "-n", "upscaler": "-n", "tile": "-t", "recursive": "-r", "fidelity": "-w"}
SHORT |= {"count": "-c", "output_dir": "-o"}
PANELS = {
    Restore: "What is done",
    Upscale: "What is done",
    Imagine: "What is drawn",
    Sampling: "How it is drawn",
    Start: "From a picture: img2img, inpaint, outpaint",
    Hires: "A second pass, larger (hires fix)",
    Album: "What is written, and where",
    DrawingOutput: "What is written, and where",
    Saving: "The result's file",
    Tiling: "Large pictures and transparency",
    TrainLora: "What is learnt",
    Photos: "Photos and captions",
    Network: "The LoRA",
    Schedule: "How long, and at what rate",
    Watched: "Samples, validation, logs",
    Logged: "Samples, validation, logs",
    TrainUpscaler: "What is learnt",
    TrainRestorer: "What is learnt",
    enhancing.Rounds: "How long, and at what rate",
    enhancing.Losses: "What is called good",
    enhancing.Outcome: "What is written, and when",
    TrainGan: "What is learnt",
    Forgery: "Pictures and networks",
    War: "How long, and how",
    Kept: "What is written, and where",
    TrainDiffusion: "What is learnt",
    Captioned: "Pictures and captions",
    Miniature: "The networks",
    Budget: "How long, and at what rate",
    Made: "What is written, and where",
    Saved: "What is written, and where",
    Caption: "What is written, and where",
    Tagging: "Tags",
    Cropping: "Faces",
    Accepted: "Taken from sd-scripts' commands, and needless",
    **dict.fromkeys((MergeLora, ResizeLora, ExtractLora, ConvertLora), "What is done"),
    Outcome: "What is written, and where",
    Settings: "This computer",
}
FROM_FILES = (TrainLora,)  # their options also come from a file, against which the command line stands
NEEDED = inspect.Parameter.empty
ARGUMENTS = ("source", "prompt", "photos", "loras", "tuned", "base")  # the fields that aren't flags
ARGUMENTS_OF = {ResizeLora: ("lora",), ConvertLora: ("lora",)}  # and those that are flags elsewhere


def flags(*classes: type) -> list[inspect.Parameter]:
    """One keyword parameter for every visible field, None where it is not given on the command line."""
    return [
        _parameter(cls, spec)
        for cls in classes
        for spec in _own_first(cls)
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
    """What the command line said about the fields of `cls`."""
    return {spec.name: values[spec.name] for spec in visible(cls) if values.get(spec.name) is not None}


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


def _own_first(cls: type) -> Iterable[dataclasses.Field]:
    return sorted(visible(cls), key=lambda spec: _owner(cls, spec.name) is not cls)


def _owner(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))


def _parameter(cls: type, spec: dataclasses.Field) -> inspect.Parameter:
    rules, name = about(spec), spec.name.replace("_", "-")
    is_switch = spec.type is bool
    may_be_on = spec.default or cls in FROM_FILES  # so that there is something to turn off
    off = name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
    long = f"--{name}/--{off}" if is_switch and may_be_on else f"--{name}"
    info = typer.Option(
        *([SHORT[spec.name]] if spec.name in SHORT else []),
        long,
        *(f"--{other}" for other in rules.also),
        help=WORDING.fill(Message(rules.help)) + _facts(rules, spec.default),
        metavar=None if is_switch else _metavar(spec),
        show_default=False,
        rich_help_panel=PANELS[_owner(cls, spec.name)],
    )
    return _keyword(spec.name, Annotated[bool | None if is_switch else str | None, info], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(spec: dataclasses.Field) -> str:
    kinds = {Path: "PATH", Path | None: "PATH", int: "N", int | None: "N", float: "X", float | None: "X"}
    return kinds.get(spec.type, "WORD")


def _facts(rules: About, default: Any) -> str:
    """What stands behind the help: choices or range, default, environment variable."""
    facts = [", ".join(rules.choices)] if rules.choices else []
    if rules.least is not None and rules.most is not None and f"{rules.least:g}" not in rules.help:
        facts.append(f"{_number(rules.least)} to {_number(rules.most)}")
    if default is not None and default != "" and not isinstance(default, bool):
        facts.append(f"default {_number(default)}")
    if rules.env:
        facts.append(f"or ${rules.env}")
    return f" ({'; '.join(facts)})" if facts else ""


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


TELL = (
    flag("json", "one JSON object a line on stdout for everything that happens", panel="What is said"),
    flag("quiet", "say nothing of what goes well", "-q", "--quiet", panel="What is said"),
)
