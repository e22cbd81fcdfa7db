"""One drawing as it is planned, and the clock that counts its steps."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.pipelines.imagine.canvas import Canvas
from calotype.pipelines.imagine.conditions import Reader, StepPrompts
from calotype.pipelines.imagine.look import Look
from calotype.pipelines.imagine.words import Words
from calotype.sampling import Sampler
from calotype.tasks import Drawing, Imagine, Note, Progress

Work = Generator[Progress | Note, None, Tensor]


class Clock:
    """Counts steps over all that is drawn, and tells how long the rest will take."""

    def __init__(self, total: int):
        self.total, self.done, self._begun = total, 0, time.monotonic()
        self._first = 0.0

    def tick(self, look: Any) -> Drawing:
        self.done += 1
        now = time.monotonic()
        self._first = self._first or now
        each = (now - self._first) / (self.done - 1) if self.done > 1 else now - self._begun
        return Drawing(self.done, max(self.total, self.done), "steps", each * (self.total - self.done), look)


@dataclass(frozen=True, eq=False)
class Job:
    """One prompt at one size, ready to be drawn with any seed."""

    task: Imagine  # nothing left open
    model: Diffusion
    words: Words
    sampler: Sampler
    schedule: str
    canvas: Canvas
    reader: Reader
    look: Look
    is_compiled: bool = False


@dataclass(frozen=True, eq=False)
class Pass:
    """One way down the noise."""

    scheduler: Any
    begin: int  # index of the first timestep
    said: list[StepPrompts]
    clean: Tensor | None  # (1 or N, C, h, w): what it starts from
    shape: tuple[int, int]  # of the latents
