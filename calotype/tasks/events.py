"""What a running task tells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
class Said:
    """A sentence for the person about the picture in hand."""

    text: str
