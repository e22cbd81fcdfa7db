"""Training time of a run, including the runs it resumes, and the progress of its stages."""

import math
import time
from dataclasses import dataclass


class TimeBudget:
    """Seconds of training, including earlier parts of a resumed run."""

    def __init__(self, earlier: float = 0.0):
        self.earlier, self._begin = earlier, time.monotonic()

    @property
    def now(self) -> float:
        return self.earlier + time.monotonic() - self._begin


@dataclass
class TimedSteps:
    """A number of steps with a time limit.

    Progress is that of the steps, or that of the time if the machine has become slower than when the steps were
    computed. Schedules by progress (learning rates, losses that are added late) are then compressed, not cut off.
    """

    clock: TimeBudget
    steps: int
    begin: float = 0.0  # seconds of the clock
    end: float = math.inf
    reserve: float = 0.0  # seconds before the end for other work

    def progress(self, done: int) -> float:
        """Progress after `done` steps, from 0 to 1."""
        return min(1.0, max(done / self.steps, self._time_progress))

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._time_progress >= 1

    @property
    def _time_progress(self) -> float:
        if self.end == math.inf:
            return 0.0
        return (self.clock.now - self.begin) / max(self.end - self.reserve - self.begin, 1e-9)
