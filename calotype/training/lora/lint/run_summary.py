"""What the linter looks at: a run as it is settled before its first step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from calotype.errors import Message
from calotype.tasks.training import TrainLora
from calotype.training.data import batches as plan
from calotype.training.data.buckets import Fit, Size
from calotype.training.data.dataset import Example
from calotype.training.data.inspect import ImageStats

NAMED = 3  # photos that a sentence names; the rest are counted


@dataclass(frozen=True, eq=False)
class RunSummary:
    """The task, its photos, and what model and computer they meet. `photos`, `glances` and `fits` go together."""

    task: TrainLora
    photos: Sequence[Example]
    glances: Sequence[ImageStats]
    fits: Sequence[Fit]
    size: Size  # of the area that buckets keep to
    batch: int  # pictures in a step, over all processes
    batches: int  # in an epoch
    steps: int
    warm: int  # of these, while the rate rises
    family: str  # of the model: "sd1", "sd2", "sdxl" ...
    native: int  # side in pixels that it was trained at
    device: str
    dtype: str  # of its numbers: "float32" ...
    tokens: Callable[[str], int]  # of a caption, in the model's words

    @property
    def learnt(self) -> list[tuple[Example, ImageStats, Fit]]:
        return [one for one in zip(self.photos, self.glances, self.fits, strict=True) if not one[0].is_regularization]

    @property
    def regular(self) -> list[tuple[Example, ImageStats, Fit]]:
        return [one for one in zip(self.photos, self.glances, self.fits, strict=True) if one[0].is_regularization]

    @property
    def views(self) -> float:
        """How often photos to learn are shown in the whole run, all together."""
        per_epoch = sum(photo.repeats for photo, *_ in self.learnt)
        return per_epoch * self.steps / max(1, plan.steps(self.batches, self.task.gradient_accumulation_steps))


def some(photos: Iterable[Example]) -> Message:
    """ "a.jpg, b.jpg, c.jpg and 4 more"."""
    names = [photo.path.name for photo in photos]
    first, rest = ", ".join(names[:NAMED]), len(names) - NAMED
    return Message("{names} and {count} more", names=first, count=rest) if rest > 0 else Message("{names}", names=first)
