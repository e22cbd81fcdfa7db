"""The result of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """The last event of a trainer.

    Attributes:
        path: the file, or folder, that was trained.
        losses: of all steps; empty if the trainer keeps none.
        pictures: how many it was trained on.
        report: the page about the run.
        extra: what else the run found out, JSON-ready.
    """

    path: Path
    losses: tuple[float, ...]
    pictures: int
    report: Path
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What the last event of the run says besides the file: the mean loss of the last 50 steps, and `extra`."""
        recent = self.losses[-50:]
        loss = {"loss": round(sum(recent) / len(recent), 5)} if recent else {}
        return loss | dict(self.extra)
