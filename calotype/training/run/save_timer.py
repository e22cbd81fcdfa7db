"""When the state of a training run is saved."""

import time

SAVE_INTERVAL = 120.0  # seconds between two states if no number of steps is given


class SaveTimer:
    """Whether the next state is due: every `every` steps, or every two minutes if that is 0."""

    def __init__(self, every: int):
        self._every, self._saved = every, time.monotonic()

    def __call__(self, step: int) -> bool:
        return step % self._every == 0 if self._every else time.monotonic() - self._saved > SAVE_INTERVAL

    def saved(self) -> None:
        self._saved = time.monotonic()
