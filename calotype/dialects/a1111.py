"""A1111's option names, and its "prompts from file"."""

import dataclasses
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.files import read_text, readable
from calotype.tasks import Imagine, read_task

MAX_LIST_BYTES = 16 << 20  # bytes of a file of prompts
NAMES = {  # options of its "prompts from file" that are named differently
    "negative_prompt": "negative",
    "cfg_scale": "guidance",
    "sampler_name": "sampler",
    "scheduler": "schedule",
    "subseed": "variation_seed",
    "subseed_strength": "variation",
    "sd_model": "model",
    "denoising_strength": "strength",
    "styles": "style",
}


def tasks_from_file(path: Path, options: Mapping[str, Any]) -> Iterator[Imagine]:
    """One task for each line with a prompt.

    Args:
        options: of all tasks; those of a line take precedence.
    Raises:
        CalotypeError: a line is invalid; it names the line.
    """
    lines, has_prompt = read_text(path, MAX_LIST_BYTES, Message("a list of prompts")).splitlines(), False
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            has_prompt = True
            try:
                yield read_task("imagine", {**options, **_parse_line(line.strip())})
            except CalotypeError as fault:
                raise CalotypeError(
                    "{path}, line {number}: {fault}", path=readable(path), number=number, fault=fault
                ) from None
    if not has_prompt:
        raise CalotypeError("{path} has no prompts; write one per line", path=readable(path))


def _parse_line(line: str) -> dict[str, Any]:
    """Options of a line: a prompt, or A1111's syntax --prompt "..." --negative_prompt "..." --steps 20 --width 512."""
    if not line.startswith("--"):
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as fault:
        raise CalotypeError("its quotes are unbalanced ({fault})", fault=fault) from None
    options: dict[str, str] = {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        is_switch = not words or words[0].startswith("--")
        options[NAMES.get(name, name)] = "" if is_switch else words.pop(0)
    counts = [_count(name, options.pop(name)) for name in ("n_iter", "batch_size") if name in options]
    if counts:
        options["count"] = str(math.prod(counts))
    if "width" in options or "height" in options:
        sides = [options.pop(side, None) for side in ("width", "height")]
        options["size"] = "x".join(side or sides[0] or sides[1] for side in sides)
    switches = {spec.name for spec in dataclasses.fields(Imagine) if spec.type is bool}
    return {name: value.lower() != "false" if name in switches else value for name, value in options.items()}


def _count(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CalotypeError("--{name} is an integer, not {text!r}", name=name, text=text) from None
