"""The input of the linter: a run as configured before its first step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from calotype.errors import Message
from calotype.tasks.training import TrainLora
from calotype.training.data import batches as plan
from calotype.training.data.buckets import Fit, Size
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats

NAMED = 3  # photos named in a message; the rest are counted


@dataclass(frozen=True, eq=False)
class RunSummary:
    """The task, its photos, the model and the device. `photos`, `stats`, `fits` and `items` have the same order."""

    task: TrainLora
    photos: Sequence[Example]
    stats: Sequence[ImageStats]
    fits: Sequence[Fit]
    items: Sequence[plan.BatchItem]
    subsets: Sequence[TrainLora]  # options of each photo's subset
    sizes: Sequence[Size]  # of each dataset: of the area of its buckets
    batch_sizes: Sequence[int]  # of each dataset, over all processes
    batches: int  # of an epoch
    steps: int
    warmup: int  # warmup steps
    family: str  # of the model: "sd1", "sd2", "sdxl" ...
    native: int  # the model's training resolution, in pixels
    device: str
    dtype: str  # "float32" ...
    tokens: Callable[[str], int]  # number of the caption's tokens

    @property
    def train(self) -> list[tuple[Example, ImageStats, Fit]]:
        return [item for item in zip(self.photos, self.stats, self.fits, strict=True) if not item[0].is_regularization]

    @property
    def regularization(self) -> list[tuple[Example, ImageStats, Fit]]:
        return [item for item in zip(self.photos, self.stats, self.fits, strict=True) if item[0].is_regularization]

    @property
    def views(self) -> float:
        """Number of training samples of the whole run, without regularization images."""
        per_epoch = sum(photo.repeats for photo, *_ in self.train)
        return per_epoch * self.steps / max(1, plan.steps(self.batches, self.task.gradient_accumulation_steps))


def names_of(photos: Iterable[Example]) -> Message:
    """ "a.jpg, b.jpg, c.jpg and 4 more"."""
    names = [photo.path.name for photo in photos]
    shown, hidden = ", ".join(names[:NAMED]), len(names) - NAMED
    return (
        Message("{names} and {count} more", names=shown, count=hidden)
        if hidden > 0
        else Message("{names}", names=shown)
    )
