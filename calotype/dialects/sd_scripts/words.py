"""Words of a script, with the places where its variables stand; what shell and PowerShell have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from calotype.errors import CalotypeError, Message

Value = str | list[str]
MANY = ("network_args", "optimizer_args", "lr_scheduler_args", "base_weights", "base_weights_multiplier")
LONGEST = 80  # letters of a script in a sentence
TRAINERS = (
    "train_network.py",
    "sdxl_train_network.py",
)  # the scripts of sd-scripts that train a LoRA of a family we know


@dataclass(frozen=True)
class Ref:
    """Where a variable's value goes."""

    name: str
    is_list: bool = False  # all of an array; nothing where there is none
    default: str | None = None


@dataclass(frozen=True)
class Word:
    """One word as written, and its parts: text, and variables."""

    raw: str
    parts: tuple[str | Ref, ...]
    line: int
    is_quoted: bool = False


class Unreadable(Exception):
    """A place of a script that means more than data."""

    def __init__(self, line: int, statement: Message):
        """`statement` says what stands there; its values are words of the script, which are cut where they are long."""
        self.line = line
        self.statement = Message(statement, **{name: _short(str(v)) for name, v in statement.values.items()})
        super().__init__(line, str(self.statement))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def expanded(word: Word, values: Mapping[str, Value], otherwise: str | None = None) -> list[str]:
    """The words that a shell would make of it, without cutting at spaces.

    Args:
        otherwise: stands for variables that have no value.

    Raises:
        Unreadable: a variable has no value, and nothing stands for it.
    """
    if len(word.parts) == 1 and isinstance(word.parts[0], Ref):
        value = values.get(word.parts[0].name)
        if isinstance(value, list):
            return list(value)
        if value is None and word.parts[0].is_list:
            return []
    return ["".join(_text(part, values, otherwise, word.line) for part in word.parts)]


def _text(part: str | Ref, values: Mapping[str, Value], otherwise: str | None, line: int) -> str:
    if isinstance(part, str):
        return part
    value = values.get(part.name)
    if isinstance(value, list):
        return " ".join(value)
    if value or (value is not None and part.default is None):
        return value
    for last in (part.default, "" if part.is_list else otherwise):
        if last is not None:
            return last
    raise Unreadable(line, Message("{variable}, whose value is not in it", variable=part.name))


def trainer_in(words: Sequence[str]) -> int | None:
    """Where the training script stands in a command."""
    names = [PurePosixPath(word.replace("\\", "/")).name for word in words]
    return next((n for n, name in enumerate(names) if name.endswith(".py") and "train" in name), None)


def named(words: Sequence[str], where: str) -> dict[str, object]:
    """`--a=b`, `--a b c` and `--a` as data: text, a list, or True.

    Raises:
        CalotypeError: a word that belongs to no option.
    """
    found: dict[str, list[str]] = {}
    last = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if len(parts := name.split(None, 1)) == 2:  # an array of lora-scripts holds "--name value" as one
                name, equals = parts[0], " "
                value = word[2:].split(None, 1)[1]
            last = name.strip().replace("-", "_")
            found[last] = [value] if equals else []
        elif not last:
            raise CalotypeError(
                "{where}: {word!r} stands before the first option of the training command", where=where, word=word
            )
        else:
            found[last].append(word)
    return {name: _value(name, values) for name, values in found.items()}


def _value(name: str, values: list[str]) -> object:
    if name in MANY:
        return [part for value in values for part in value.split()]
    if len(values) > 1:
        return values
    return values[0] if values else True
