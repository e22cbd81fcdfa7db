"""How long a run has worked, over all its sittings, and how far a stage of it has come."""

import math
import time
from dataclasses import dataclass


class TimeBudget:
    """Seconds of work, with those of earlier sittings."""

    def __init__(self, before: float = 0.0):
        self.before, self._begun = before, time.monotonic()

    @property
    def now(self) -> float:
        return self.before + time.monotonic() - self._begun


@dataclass
class TimedSteps:
    """So many steps, from one time to another at the latest.

    On a machine that is as quick as it was when the steps were counted, they alone tell how far the stage has come. On
    one that has become slower the time does, so that all that hangs on it (rates, losses that join late) is gone
    through in a shorter way, and not broken off.
    """

    clock: TimeBudget
    steps: int
    begin: float = 0.0  # seconds of the clock
    end: float = math.inf
    reserve: float = 0.0  # seconds before the end that something else will take

    def share(self, done: int) -> float:
        """How much of it is behind after so many steps, from 0 to 1."""
        return min(1.0, max(done / self.steps, self._passed))

    @property
    def is_late(self) -> bool:
        """No time is left."""
        return self._passed >= 1

    @property
    def _passed(self) -> float:
        if self.end == math.inf:
            return 0.0
        return (self.clock.now - self.begin) / max(self.end - self.reserve - self.begin, 1e-9)
