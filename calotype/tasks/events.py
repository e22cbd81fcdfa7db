"""What a running task yields, and what a run of the program tells a door."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from calotype.errors import Message


@dataclass(frozen=True)
class Progress:
    """How far a task is: `done` of `total` units of `what`."""

    done: int
    total: int
    what: str
    remaining: float | None = None  # seconds, where it can be told


@dataclass(frozen=True)
class Drawing(Progress):
    """Progress of a picture that is being drawn; `look()` shows it as it is now, small: (h, w, 3) uint8."""

    look: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Learning(Progress):
    """Progress of a training run, after a step."""

    loss: float | None = None  # the mean of the last steps; None where it is no number
    rate: float | None = None  # the highest of the learning rates
    memory: int | None = None  # bytes in use, of the device that computes


@dataclass(frozen=True)
class Note:
    """A sentence for the person about the picture in hand."""

    message: Message

    @property
    def text(self) -> str:
        """Worded for no door in particular."""
        return str(self.message)


def note(sentence: str | Message | Exception, /, **values: Any) -> Note:
    """A note; values are for the sentence where it is a template. A text without values is taken as it is."""
    return Note(Message(sentence, **values) if values or isinstance(sentence, Message) else Message.of(sentence))
