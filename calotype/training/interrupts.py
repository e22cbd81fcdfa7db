"""Stopping a run between two steps, never within one."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVED_AFTER = 120.0  # seconds between two states, where no number of steps is told


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """What is done within is done to its end: an interrupt is raised behind it, a second one at once.

    Only interrupts that would be raised as KeyboardInterrupt, and only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for number in ours:
        signal.signal(number, later)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    if waiting:
        raise KeyboardInterrupt


class Due:
    """Whether it is time for the next state: after so many steps, or every two minutes where that is 0."""

    def __init__(self, every: int):
        self._every, self._saved = every, time.monotonic()

    def __call__(self, done: int) -> bool:
        return done % self._every == 0 if self._every else time.monotonic() - self._saved > SAVED_AFTER

    def saved(self) -> None:
        self._saved = time.monotonic()
