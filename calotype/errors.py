"""Errors and messages for users, as data: template, values, the option concerned, and a remedy.

A message is a template with named values, as for gettext: a catalog can translate the template, and each interface
(command line, API, web, bot) words the options and remedies in it: `--mask`, `mask`, the label of a form's field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from string import Formatter
from typing import Any

from calotype.languages import ENGLISH, translate


@dataclass(frozen=True)
class Remedy:
    """What would fix an error, for an interface to word, or to show as a button."""

    action: str  # a key of ACTIONS
    target: str = ""  # name of a model, of an extra, or of packages separated by spaces


ACTIONS = {
    "pull_model": "fetch it",
    "list_models": "the list of models shows all",
    "remove_model": "remove it from the list of models",
    "replace_model": "remove it from the list of models, then fetch or add it again",
    "add_model": "add the file as {target}",
    "install": "install the extra {target}",
    "install_packages": "install {target}",
    "upgrade_packages": "install a newer {target}",
    "reinstall_packages": "install {target} again",
    "free_memory": "close other programs; tiles will be small",
    "move_home": "set the home folder to one of yours",
    "free_disk": "make room, or set the home folder to one on another disk",
}  # action: its default wording


class Message:
    """A message for users: template and values.

    Besides the values, a template may contain `{option:mask}`, an option that the interface words, `{option}`, the one
    that an error is about, `{task:caption}`, a kind of task, and `{remedy}`. Values may be messages and errors.
    Equal messages have the same template and the same values.
    """

    __slots__ = ("template", "values")

    def __init__(self, template: "str | Message", /, **values: Any):
        if isinstance(template, Message):
            template, values = template.template, {**template.values, **values}
        self.template, self.values = template, values

    def __str__(self) -> str:
        return PLAIN.fill(self)

    def __repr__(self) -> str:
        return f"Message({str(self)!r})"

    def __eq__(self, message: object) -> bool:
        return isinstance(message, Message) and (self.template, str(self)) == (message.template, str(message))

    def __hash__(self) -> int:
        return hash(str(self))

    @classmethod
    def of(cls, sentence: "str | Message | Exception") -> "Message":
        """A text or an exception as a message: braces in a text are literal."""
        return sentence if isinstance(sentence, Message) else cls("{sentence}", sentence=sentence)

    def as_data(self) -> dict[str, Any]:
        """As JSON: {"template": str, "values": {name: value}}; values that JSON does not support become text."""
        return {"template": self.template, "values": {name: _data(value) for name, value in self.values.items()}}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Message":
        """The inverse of `as_data`. Raises KeyError, TypeError or ValueError for invalid data."""
        template, values = data["template"], data["values"]
        if not (isinstance(template, str) and isinstance(values, Mapping)):
            raise TypeError("a message is a template with values")
        if not all(name.isidentifier() for name in _names(template)):
            raise ValueError("a template asks for more than a value")
        message = cls(template, **{str(name): _value(value) for name, value in values.items()})
        str(message)  # raises if the template does not fit its values
        return message

    @property
    def options(self) -> list[str]:
        """The options that the template names, in order."""
        fields = Formatter().parse(self.template)
        return [spec.format(**self.values) for _, name, spec, _ in fields if name == "option" and spec]


def named(options: Iterable[str]) -> Message:
    """Several options, for a message: `{option:format} and {option:quality}`."""
    return listed((Message(f"{{option:{name}}}") for name in options), " and ")


def plural(count: int, singular: str, plural_form: str, /, **values: Any) -> Message:
    """The template that fits a count: `plural(n, "1 photo", "{count} photos")`."""
    return Message(singular if count == 1 else plural_form, count=count, **values)


def duration(seconds: float) -> Message:
    """A duration in words: `40 seconds`, `3 minutes`, `1.5 hours`."""
    if seconds < 90:
        return plural(max(1, round(seconds)), "1 second", "{count} seconds")
    if seconds < 5400:
        return Message("{count} minutes", count=round(seconds / 60))
    return Message("{count:.1f} hours", count=seconds / 3600)


REASONS = (
    "No such file or directory",
    "Permission denied",
    "Operation not permitted",
    "Is a directory",
    "Not a directory",
    "Directory not empty",
    "File exists",
    "File name too long",
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Input/output error",
    "Too many open files",
    "Address already in use",
    "Connection refused",
)  # of the system, which a catalog translates; others stay as they are


def reason_of(fault: Exception) -> Message:
    """What the system says of an error, without its number and path."""
    return Message.of(getattr(fault, "strerror", None) or str(fault))


LONGEST_RECOGNIZED = 500  # characters; of a longer text, made for the purpose, matching may take long
JOINTS = {
    ", ": "{left}, {right}",
    "; ": "{left}; {right}",
    " and ": "{left} and {right}",
    " or ": "{left} or {right}",
}


def listed(items: Iterable[Any], joint: str = ", ") -> Message:
    """Several values as one message: `a, b, c`; `joint` is one of JOINTS."""
    items = list(items)
    if len(items) < 2:
        return Message("{item}", item=items[0]) if items else Message("")
    middle = len(items) // 2  # not one by one, so that a long list is not deeply nested
    return Message(JOINTS[joint], left=listed(items[:middle], joint), right=listed(items[middle:], joint))


def recognized(text: str, templates: Iterable[str]) -> Message:
    """The message that a text was filled in from: the first of these templates that fits, with its values as text."""
    for template in templates if len(text) <= LONGEST_RECOGNIZED else ():
        parts = [(re.escape(before), name) for before, name, _, _ in Formatter().parse(template)]
        pattern = "".join(f"{before}(?P<{name}>.+)" if name else before for before, name in parts)
        if match := re.fullmatch(pattern, text, re.DOTALL):
            return Message(template, **match.groupdict())
    return Message.of(text)


class CalotypeError(Exception):
    """An error that the user can fix: the message names what failed, the cause and the next step.

    An interface shows it without a traceback and ends with status 2 (or an HTTP status). Any other exception is a bug
    and keeps its traceback.

    Args:
        template: the message, or its template (see `Message`).
        option: the name of the option that the error is about; by default the first one that the template names.
        remedy: what would fix it; appended to the message, or inserted where the template has {remedy}.
        values: for the template.
    """

    def __init__(self, template: str | Message, /, *, option: str = "", remedy: Remedy | None = None, **values: Any):
        self.message = Message(template, **values)
        self._option, self.remedy = option, remedy
        super().__init__(PLAIN.fill(self))

    @property
    def option(self) -> str:
        """The option that the error is about; empty if none."""
        return self._option or next(iter(self.message.options), "")

    def __str__(self) -> str:
        return PLAIN.fill(self)

    def as_data(self) -> dict[str, Any]:
        """As JSON: message, option and remedy, each as data."""
        remedy = self.remedy and [self.remedy.action, self.remedy.target]
        kind = (PictureError if isinstance(self, PictureError) else CalotypeError).__name__
        return {"error": self.message.as_data(), "kind": kind, "option": self._option, "remedy": remedy}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "CalotypeError":
        """The inverse of `as_data`. Raises KeyError, TypeError or ValueError for invalid data."""
        remedy = Remedy(*map(str, data["remedy"])) if data["remedy"] else None
        if remedy and remedy.action not in ACTIONS:
            raise ValueError(f"there is no remedy {remedy.action}")
        kind = PictureError if data["kind"] == "PictureError" else CalotypeError
        return kind(Message.from_data(data["error"]), option=str(data["option"]), remedy=remedy)

    def __reduce__(self) -> Any:  # pickled between processes
        return CalotypeError.from_data, (self.as_data(),)


class PictureError(CalotypeError):
    """An error about one picture, or the path of its result; others of the same run may succeed."""


def texts_of(sentence: "Message | CalotypeError") -> Iterator[str]:
    """The values of a message or an error, and of those within it."""
    message = sentence.message if isinstance(sentence, CalotypeError) else sentence
    for value in message.values.values():
        yield from texts_of(value) if isinstance(value, Message | CalotypeError) else (str(value),)


def with_path(fault: "Message | CalotypeError", path: str) -> "Message | CalotypeError":
    """An error or message about a file, its path in place of its name: the sentence needs no path before it."""
    message = fault.message if isinstance(fault, CalotypeError) else fault
    if message.values.get("name") != PurePath(path).name:
        return fault
    message = Message(message, name=path)
    if not isinstance(fault, CalotypeError):
        return message
    kind = PictureError if isinstance(fault, PictureError) else CalotypeError
    return kind(message, option=fault.option, remedy=fault.remedy)


class DoesNotFit(PictureError):
    """The format of a file cannot store the picture; another one can."""


class Wording:
    """How an interface words options, tasks and remedies, and in which language. This class is the default."""

    def __init__(self, language: str = ENGLISH):
        self._language = language

    @property
    def language(self) -> str:
        """The code of the language: `en`, `zh`."""
        return self._language

    def option(self, name: str) -> str:
        return name

    def task(self, kind: str) -> str:
        return kind

    def remedy(self, remedy: Remedy) -> str:
        """A clause, such as "fetch it"."""
        return self.translate(ACTIONS[remedy.action]).format(target=remedy.target)

    def translate(self, template: str) -> str:
        return translate(template, self.language)

    def fill(self, sentence: str | Message | Exception, *, with_remedy: bool = True) -> str:
        """The complete text. `with_remedy`: False if the interface shows the remedy separately, as a button."""
        fault = sentence if isinstance(sentence, CalotypeError) else None
        message = fault.message if fault else sentence
        if not isinstance(message, Message):
            return str(message)
        if message.template == "{sentence}" and isinstance(message.values["sentence"], str):
            return self.translate(message.values["sentence"])  # a text as it is: a template without values
        values = {n: self.fill(v) if isinstance(v, (Message, Exception)) else v for n, v in message.values.items()}
        remedy = self.remedy(fault.remedy) if fault and fault.remedy and with_remedy else ""
        ours = {"option": _Worded(self.option, fault.option if fault else ""), "task": _Worded(self.task)}
        text = self.translate(message.template).format(**{**values, **ours, "remedy": remedy})
        if not remedy or "{remedy}" in message.template:
            return text
        return self.translate("{sentence}; {remedy}").format(sentence=text, remedy=remedy)


class _Worded:
    """Formats `{option:mask}` in a template as the interface words `mask`."""

    def __init__(self, word: Any, usual: str = ""):
        self._word, self._usual = word, usual

    def __format__(self, name: str) -> str:
        return self._word(name or self._usual)


PLAIN = Wording()


def _names(template: str) -> Iterator[str]:
    """The values that a template uses, including those in format specifications."""
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            yield name
            yield from _names(spec or "")


def _data(value: Any) -> Any:
    if isinstance(value, CalotypeError):
        return value.as_data()
    if isinstance(value, Message):
        return {"message": value.as_data()}
    value = value.item() if hasattr(value, "item") else value  # a NumPy or torch scalar
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _value(data: Any) -> Any:
    if isinstance(data, dict):
        return CalotypeError.from_data(data) if "error" in data else Message.from_data(data["message"])
    return data
