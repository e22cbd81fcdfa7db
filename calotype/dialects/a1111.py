"""A1111's names of options, and its "prompts from file"."""

import dataclasses
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.files import read_text, readable
from calotype.tasks import Imagine, read_task

LARGEST_LIST = 16 << 20  # bytes of a file of prompts
NAMES = {  # options of its "prompts from file", where they differ
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


def tasks_from_file(path: Path, asked: Mapping[str, Any]) -> Iterator[Imagine]:
    """One task for each line that holds a prompt.

    Args:
        asked: options for all of them; a line's own win.
    Raises:
        CalotypeError: naming the line.
    """
    lines, found = read_text(path, LARGEST_LIST, Message("a list of prompts")).splitlines(), False
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            found = True
            try:
                yield read_task("imagine", {**asked, **_line(line.strip())})
            except CalotypeError as fault:
                raise CalotypeError(
                    "{path}, line {number}: {fault}", path=readable(path), number=number, fault=fault
                ) from None
    if not found:
        raise CalotypeError("{path} has no prompts in it; write one a line", path=readable(path))


def _line(line: str) -> dict[str, Any]:
    """A prompt, or A1111's form: --prompt "..." --negative_prompt "..." --steps 20 --width 512."""
    if not line.startswith("--"):
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as fault:
        raise CalotypeError("its quotes don't match ({fault})", fault=fault) from None
    given: dict[str, str] = {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        is_switch = not words or words[0].startswith("--")
        given[NAMES.get(name, name)] = "" if is_switch else words.pop(0)
    counts = [_count(name, given.pop(name)) for name in ("n_iter", "batch_size") if name in given]
    if counts:
        given["count"] = str(math.prod(counts))
    if "width" in given or "height" in given:
        sides = [given.pop(side, None) for side in ("width", "height")]
        given["size"] = "x".join(side or sides[0] or sides[1] for side in sides)
    switches = {spec.name for spec in dataclasses.fields(Imagine) if spec.type is bool}
    return {name: value.lower() != "false" if name in switches else value for name, value in given.items()}


def _count(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CalotypeError("--{name} is a whole number, not {text!r}", name=name, text=text) from None
