"""Words of a script, with the places where its variables stand; what shell and PowerShell have in common."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
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


Token = Word | str

COMPARISONS = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-gt": operator.gt,
    "-ge": operator.ge,
    "-lt": operator.lt,
    "-le": operator.le,
}


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


def raw(token: Token) -> str:
    return token if isinstance(token, str) else token.raw


def line_of(tokens: Sequence[Token]) -> int:
    return next((token.line for token in tokens if isinstance(token, Word)), 0)


def merged(parts: Sequence[str | Ref]) -> tuple[str | Ref, ...]:
    """The parts of a word, neighbouring texts as one text."""
    joined: list[str | Ref] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined) or ("",)


def tokens_of(
    text: str,
    continuation: re.Pattern[str],
    operators: re.Pattern[str],
    word_at: Callable[[str, int, int], tuple[Word, int]],
) -> list[Token]:
    """The words and operators of a script, and its line ends; comments are gone.

    Args:
        continuation: what makes two lines one.
        word_at: from text, position and line number to the word there and where it ends.
    """
    tokens: list[Token] = []
    position, line = 0, 1
    while position < len(text):
        char = text[position]
        if match := continuation.match(text, position):
            position, line = match.end(), line + 1
        elif char in " \t":
            position += 1
        elif char == "\n":
            tokens.append("\n")
            position, line = position + 1, line + 1
        elif char == "#":
            position = (text + "\n").index("\n", position)
        elif match := operators.match(text, position):
            tokens.append(match[0])
            position = match.end()
        else:
            word, position = word_at(text, position, line)
            line += word.raw.count("\n")
            tokens.append(word)
    return tokens


@dataclass
class Branch:
    """One `if`: whether its present branch is active, and whether one of its branches was taken."""

    is_active: bool
    is_taken: bool


class ScriptReader:
    """Variables, open branches and the training command of a script; a subclass reads one language's statements."""

    def __init__(self, values: Mapping[str, Value]):
        self.values = dict(values)
        self.command: list[str] = []
        self.taken: set[str] = set()  # variables that the command names
        self.stack: list[Branch] = []

    def lost(self) -> list[str]:
        """Options in lists that the command does not name."""
        lists = [value for name, value in self.values.items() if isinstance(value, list) and name not in self.taken]
        return [word for value in lists for word in value if word.startswith("--")] if self.command else []

    @property
    def _is_active(self) -> bool:
        return all(branch.is_active for branch in self.stack)

    def _take_command(self, words: Sequence[Word]) -> None:
        """Keeps the words from the training script on, where this is the command that trains."""
        start = trainer_in([" ".join(expanded(word, self.values, "")) for word in words])
        if start is None:
            return
        self.taken |= {part.name for word in words for part in word.parts if isinstance(part, Ref)}
        self.command = [text for word in words[start:] for text in expanded(word, self.values) if text]


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
