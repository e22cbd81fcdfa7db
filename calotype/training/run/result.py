"""The result of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """The file, the loss of every step, the number of photos, and the report."""

    path: Path
    losses: tuple[float, ...]
    photos: int
    report: Path

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for the last event: the mean loss of the last 50 steps."""
        return mean_loss(self.losses)


def mean_loss(losses: tuple[float, ...]) -> dict[str, Any]:
    recent = losses[-50:]
    return {"loss": round(sum(recent) / len(recent), 5)} if recent else {}
