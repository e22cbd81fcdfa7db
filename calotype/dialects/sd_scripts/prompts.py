"""Prompts of sample pictures in the formats of sd-scripts: one per line, TOML or JSON."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.files import read_text, readable
from calotype.tasks.training import to_a1111_sampler

SUFFIXES = (".txt", ".toml", ".json")
MAX_PROMPTS = 10_000  # in a file
CAPTIONS = 4  # used if there are no prompts


@dataclass(frozen=True)
class Prompt:
    """Prompt and options of one sample picture; None uses the model's default."""

    prompt: str
    negative: str = ""
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    scale: float | None = None
    steps: int | None = None
    sampler: str | None = None
    is_plain: bool = False  # without prompt syntax: a caption, as in training


# (letter in a line, name in TOML and JSON): (field, type, minimum, maximum)
_OPTIONS: dict[tuple[str, str], tuple[str, Callable[[Any], Any], float, float]] = {
    ("n", "negative_prompt"): ("negative", str, 0, 0),
    ("w", "width"): ("width", int, 16, 8192),
    ("h", "height"): ("height", int, 16, 8192),
    ("d", "seed"): ("seed", int, 0, 2**64 - 1),
    ("l", "scale"): ("scale", float, 0, 100),
    ("s", "sample_steps"): ("steps", int, 1, 1000),
    ("ss", "sample_sampler"): ("sampler", to_a1111_sampler, 0, 0),
}
_BY_LETTER = {letter: how for (letter, _), how in _OPTIONS.items()}
_BY_NAME = {name: how for (_, name), how in _OPTIONS.items()}
_UNSUPPORTED = ("am", "g", "cn", "ctr", "ci", "f", "fs", "of", "iw", "nw")  # options of other models or of ControlNet


def read_prompts(text: str) -> tuple[list[Prompt], list[Message]]:
    """The prompts of a file, or in `text` itself, one per line or separated by ;, and notes.

    Raises:
        CalotypeError: no such file, no prompt in it, or an invalid option.
    """
    path = Path(text)
    if "\n" not in text and path.suffix.lower() in SUFFIXES:
        where, rows = Message.of(readable(path)), _rows(path)
    else:
        where = Message("{option:sample_prompts}")
        rows = [line for row in text.splitlines() for line in row.split(";")]
    prompts, ignored = [], set()
    for row in rows:
        if isinstance(row, Mapping):
            prompts.append(_parse_table(row, where))
        elif row.strip() and not row.lstrip().startswith("#"):
            prompt, skipped = _parse_line(row.strip(), where)
            prompts.append(prompt)
            ignored |= skipped
    if not prompts:
        raise CalotypeError("{where} has no prompt; write one per line, such as: a cat, side view --d 1", where=where)
    if len(prompts) > MAX_PROMPTS:
        raise CalotypeError(
            "{where} has {count:,} prompts; the maximum is {limit:,}",
            where=where,
            count=len(prompts),
            limit=MAX_PROMPTS,
        )
    if not ignored:
        return prompts, []
    names = ", ".join(f"--{name}" for name in sorted(ignored))
    return prompts, [Message("{where}: {names} is not supported and ignored", where=where, names=names)]


def prompts_from_captions(captions: list[str]) -> list[Prompt]:
    """A few of the captions, evenly spaced."""
    own = list(dict.fromkeys(caption for caption in captions if caption)) or [""]
    count = min(CAPTIONS, len(own))
    return [Prompt(own[n * len(own) // count], is_plain=True) for n in range(count)]


def _rows(path: Path) -> list[Any]:
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        return text.splitlines()
    try:
        if path.suffix.lower() == ".json":
            rows = json.loads(text)
        else:
            table = tomllib.loads(text)["prompt"]
            common = {name: value for name, value in table.items() if name != "subset"}
            rows = [common | subset for subset in table["subset"]]
        if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CalotypeError(
            "{path} is not in sd-scripts' format of sample prompts; write a .txt with one prompt per line", path=path
        ) from None
    return rows


def _parse_line(line: str, where: Message) -> tuple[Prompt, set[str]]:
    """Parses `a cat --n ugly --w 512`; also returns the names of unsupported options."""
    first, *option_texts = re.split(r"(?:^|\s)--(?=[a-z]+(?:\s|$))", line)
    values, skipped = {}, set()
    for option_text in option_texts:
        name, _, value = option_text.partition(" ")
        if name in _UNSUPPORTED:
            skipped.add(name)
        elif name in _BY_LETTER:
            field, value = _parse_value(f"--{name}", value.strip(), _BY_LETTER[name], where)
            values[field] = value
        else:
            known = ", ".join(f"--{letter}" for letter in _BY_LETTER)
            raise CalotypeError(
                "{where}: a prompt has no option --{name}; there are {known}", where=where, name=name, known=known
            )
    return Prompt(first.strip(), **values), skipped


def _parse_table(row: Mapping[str, Any], where: Message) -> Prompt:
    known = {name: how for name, how in _BY_NAME.items() if name in row}
    values = dict(_parse_value(name, row[name], how, where) for name, how in known.items())
    return Prompt(str(row.get("prompt", "")), **values)


def _parse_value(
    name: str, value: Any, how: tuple[str, Callable[[Any], Any], float, float], where: Message
) -> tuple[str, Any]:
    field, kind, low, high = how
    try:
        read = kind(value)
        if high and not low <= read <= high:
            raise ValueError
    except CalotypeError as fault:
        raise CalotypeError("{where}: {fault}", where=where, fault=fault) from None
    except (ValueError, TypeError, OverflowError):
        raise CalotypeError(
            "{where}: {name} takes a number from {low:g} to {high:g}, not {value!r}",
            where=where,
            name=name,
            low=low,
            high=high,
            value=value,
        ) from None
    return field, read
