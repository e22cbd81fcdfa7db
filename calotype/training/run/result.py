"""What a training run ends in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Learned:
    """The file, the loss of every step, how many photos there were, and the page about the run."""

    path: Path
    losses: tuple[float, ...]
    photos: int
    report: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What the last event says besides the file: the mean loss of the last 50 steps."""
        return mean_loss(self.losses)


def mean_loss(losses: tuple[float, ...]) -> dict[str, Any]:
    recent = losses[-50:]
    return {"loss": round(sum(recent) / len(recent), 5)} if recent else {}
