"""Words of a script with references to variables; shared by the shell and PowerShell parsers."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from calotype.errors import CalotypeError, Message

Value = str | list[str]
LISTS = ("network_args", "optimizer_args", "lr_scheduler_args", "base_weights", "base_weights_multiplier")
MAX_SHOWN = 80  # characters of a script in a message
TRAINERS = (
    "train_network.py",
    "sdxl_train_network.py",
)  # scripts of sd-scripts that train a LoRA of a supported model family


@dataclass(frozen=True)
class Ref:
    """A reference to a variable."""

    name: str
    is_list: bool = False  # all items of an array; none if it is not defined
    default: str | None = None


@dataclass(frozen=True)
class Word:
    """One word as written, and its parts: texts and variables."""

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


def check_kind(where: object, kind: object, supported: Sequence[str]) -> None:
    """Raises CalotypeError if a file is for something that Calotype does not train."""
    if kind not in supported:
        raise CalotypeError(
            "{where} is for {kind}; Calotype trains {names}", where=where, kind=kind, names=", ".join(supported)
        )


class Unreadable(Exception):
    """An unsupported statement in a script."""

    def __init__(self, line: int, statement: Message):
        """`statement` describes it; its values are words of the script, which are truncated."""
        self.line = line
        self.statement = Message(statement, **{name: _shortened(str(v)) for name, v in statement.values.items()})
        super().__init__(line, str(self.statement))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."


def expand(word: Word, values: Mapping[str, Value], default: str | None = None) -> list[str]:
    """Expands variables as a shell would, without splitting at spaces.

    Args:
        default: value of undefined variables.

    Raises:
        Unreadable: a variable is undefined and there is no default.
    """
    if len(word.parts) == 1 and isinstance(word.parts[0], Ref):
        value = values.get(word.parts[0].name)
        if isinstance(value, list):
            return list(value)
        if value is None and word.parts[0].is_list:
            return []
    return ["".join(_text(part, values, default, word.line) for part in word.parts)]


def _text(part: str | Ref, values: Mapping[str, Value], default: str | None, line: int) -> str:
    if isinstance(part, str):
        return part
    value = values.get(part.name)
    if isinstance(value, list):
        return " ".join(value)
    if value or (value is not None and part.default is None):
        return value
    for fallback in (part.default, "" if part.is_list else default):
        if fallback is not None:
            return fallback
    raise Unreadable(line, Message("{variable}, which is not defined in it", variable=part.name))


def find_trainer(words: Sequence[str]) -> int | None:
    """The index of the training script in a command."""
    names = [PurePosixPath(word.replace("\\", "/")).name for word in words]
    return next((n for n, name in enumerate(names) if name.endswith(".py") and "train" in name), None)


def raw(token: Token) -> str:
    return token if isinstance(token, str) else token.raw


def line_of(tokens: Sequence[Token]) -> int:
    return next((token.line for token in tokens if isinstance(token, Word)), 0)


def merged(parts: Sequence[str | Ref]) -> tuple[str | Ref, ...]:
    """The parts of a word with adjacent texts joined."""
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
    """The words and operators of a script, and its line ends, without comments.

    Args:
        continuation: matches what joins two lines.
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
    """One `if`: whether its current branch is active, and whether one was."""

    is_active: bool
    was_taken: bool


class ScriptReader:
    """Variables, open branches and the training command of a script; a subclass reads one language's statements."""

    def __init__(self, values: Mapping[str, Value]):
        self.values = dict(values)
        self.command: list[str] = []
        self.used: set[str] = set()  # variables that the command uses
        self.stack: list[Branch] = []

    def unused_options(self) -> list[str]:
        """Options in lists that the command does not use."""
        lists = [value for name, value in self.values.items() if isinstance(value, list) and name not in self.used]
        return [word for value in lists for word in value if word.startswith("--")] if self.command else []

    @property
    def _is_active(self) -> bool:
        return all(branch.is_active for branch in self.stack)

    def _keep_command(self, words: Sequence[Word]) -> None:
        """Keeps the words from the training script on if this is the training command."""
        start = find_trainer([" ".join(expand(word, self.values, "")) for word in words])
        if start is None:
            return
        self.used |= {part.name for word in words for part in word.parts if isinstance(part, Ref)}
        self.command = [text for word in words[start:] for text in expand(word, self.values) if text]


def parse_arguments(words: Sequence[str], where: str) -> dict[str, object]:
    """`--a=b`, `--a b c` and `--a` as data: text, a list, or True.

    Raises:
        CalotypeError: a word before the first option.
    """
    arguments: dict[str, list[str]] = {}
    last = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            # an array of lora-scripts has "--name value" as one item
            if len(words_in_name := name.split(None, 1)) == 2:
                name, equals = words_in_name[0], " "
                value = word[2:].split(None, 1)[1]
            last = name.strip().replace("-", "_")
            arguments[last] = [value] if equals else []
        elif not last:
            raise CalotypeError(
                "{where}: {word!r} is before the first option of the training command", where=where, word=word
            )
        else:
            arguments[last].append(word)
    return {name: _value(name, values) for name, values in arguments.items()}


def _value(name: str, values: list[str]) -> object:
    if name in LISTS:
        return values  # each word is one item, also one with spaces
    if len(values) > 1:
        return values
    return values[0] if values else True
