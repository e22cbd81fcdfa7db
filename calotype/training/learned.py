"""What a training run ends in."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Learned:
    """The file, the loss of every step, how many photos there were, and the page about the run."""

    path: Path
    losses: tuple[float, ...]
    photos: int
    report: Path
