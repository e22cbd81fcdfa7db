"""When the state of a training run is saved."""

import time

SAVED_AFTER = 120.0  # seconds between two states, where no number of steps is told


class SaveTimer:
    """Whether it is time for the next state: after so many steps, or every two minutes where that is 0."""

    def __init__(self, every: int):
        self._every, self._saved = every, time.monotonic()

    def __call__(self, done: int) -> bool:
        return done % self._every == 0 if self._every else time.monotonic() - self._saved > SAVED_AFTER

    def saved(self) -> None:
        self._saved = time.monotonic()
