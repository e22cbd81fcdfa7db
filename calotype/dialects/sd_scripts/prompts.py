"""Prompts of sample pictures, in the forms that kohya's sd-scripts reads: a line each, TOML or JSON."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.files import read_text, readable
from calotype.tasks.training import sampler_known

SUFFIXES = (".txt", ".toml", ".json")
MOST = 10_000  # prompts in a file
CAPTIONS = 4  # drawn where there are no prompts


@dataclass(frozen=True)
class Prompt:
    """One sample picture; None where the model's own choice holds."""

    prompt: str
    negative: str = ""
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    scale: float | None = None
    steps: int | None = None
    sampler: str | None = None
    is_plain: bool = False  # no grammar in it: a caption, as it is learnt


# Letter in a line, name in TOML and JSON: field, kind, least, most
_OPTIONS: dict[tuple[str, str], tuple[str, Callable[[Any], Any], float, float]] = {
    ("n", "negative_prompt"): ("negative", str, 0, 0),
    ("w", "width"): ("width", int, 16, 8192),
    ("h", "height"): ("height", int, 16, 8192),
    ("d", "seed"): ("seed", int, 0, 2**63 - 1),
    ("l", "scale"): ("scale", float, 0, 100),
    ("s", "sample_steps"): ("steps", int, 1, 1000),
    ("ss", "sample_sampler"): ("sampler", sampler_known, 0, 0),
}
_BY_LETTER = {letter: how for (letter, _), how in _OPTIONS.items()}
_BY_NAME = {name: how for (_, name), how in _OPTIONS.items()}
_OTHERS = ("am", "g", "cn", "ctr", "ci", "f", "fs", "of", "iw", "nw")  # of other models, or of ControlNet


def read_prompts(text: str) -> tuple[list[Prompt], list[Message]]:
    """The prompts of a file, or those that stand in `text` itself, one a line or with ; between; and what to say.

    Raises:
        CalotypeError: no such file, nothing in it, or an option that cannot be.
    """
    path = Path(text)
    if "\n" not in text and path.suffix.lower() in SUFFIXES:
        where, rows = Message.of(readable(path)), _rows(path)
    else:
        where = Message("{option:sample_prompts}")
        rows = [line for part in text.splitlines() for line in part.split(";")]
    found, ignored = [], set()
    for row in rows:
        if isinstance(row, Mapping):
            found.append(_of_table(row, where))
        elif row.strip() and not row.lstrip().startswith("#"):
            prompt, left_out = _of_line(row.strip(), where)
            found.append(prompt)
            ignored |= left_out
    if not found:
        raise CalotypeError(
            "{where} has no prompt in it; write one a line, such as: a cat, side view --d 1", where=where
        )
    if len(found) > MOST:
        raise CalotypeError(
            "{where} has {count:,} prompts; more than {most:,} are not drawn", where=where, count=len(found), most=MOST
        )
    if not ignored:
        return found, []
    names = ", ".join(f"--{name}" for name in sorted(ignored))
    return found, [Message("{where}: {names} has no meaning here and is left out", where=where, names=names)]


def of_captions(captions: list[str]) -> list[Prompt]:
    """A few of the photos' captions, evenly spread."""
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
            told = tomllib.loads(text)["prompt"]
            common = {name: value for name, value in told.items() if name != "subset"}
            rows = [common | one for one in told["subset"]]
        if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CalotypeError(
            "{path} has not the form of sd-scripts' sample prompts; write a .txt with one prompt a line", path=path
        ) from None
    return rows


def _of_line(line: str, where: Message) -> tuple[Prompt, set[str]]:
    """`a cat --n ugly --w 512`, and the names of options that belong to other models."""
    first, *parts = re.split(r"(?:^|\s)--(?=[a-z]+(?:\s|$))", line)
    values, left_out = {}, set()
    for part in parts:
        name, _, value = part.partition(" ")
        if name in _OTHERS:
            left_out.add(name)
        elif name in _BY_LETTER:
            field, value = _value(f"--{name}", value.strip(), _BY_LETTER[name], where)
            values[field] = value
        else:
            known = ", ".join(f"--{letter}" for letter in _BY_LETTER)
            raise CalotypeError(
                "{where}: a prompt has no option --{name}; there are {known}", where=where, name=name, known=known
            )
    return Prompt(first.strip(), **values), left_out


def _of_table(row: Mapping[str, Any], where: Message) -> Prompt:
    known = {name: how for name, how in _BY_NAME.items() if name in row}
    values = dict(_value(name, row[name], how, where) for name, how in known.items())
    return Prompt(str(row.get("prompt", "")), **values)


def _value(
    name: str, value: Any, how: tuple[str, Callable[[Any], Any], float, float], where: Message
) -> tuple[str, Any]:
    field, kind, least, most = how
    try:
        read = kind(value)
        if most and not least <= read <= most:
            raise ValueError
    except CalotypeError as fault:
        raise CalotypeError("{where}: {fault}", where=where, fault=fault) from None
    except (ValueError, TypeError, OverflowError):
        raise CalotypeError(
            "{where}: {name} takes a number from {least:g} to {most:g}, not {value!r}",
            where=where,
            name=name,
            least=least,
            most=most,
            value=value,
        ) from None
    return field, read
