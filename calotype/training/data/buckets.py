"""Sizes that training pictures are brought to, as kohya's sd-scripts chooses them: many shapes, one area."""

import math
from dataclasses import dataclass

from calotype.tasks.training import TrainLora

Size = tuple[int, int]  # width, height, as everything in a trainer's settings and logs has it


@dataclass(frozen=True)
class Fit:
    """How one picture comes to its bucket: scaled to cover it, then cropped."""

    bucket: Size
    scaled: Size  # before the crop, at least as large as the bucket
    own: Size  # the picture's, before all that

    @property
    def told(self) -> tuple[int, ...]:
        """SDXL's numbers as sd-scripts has them: own height and width, top and left, the bucket's height and width.

        Top and left are those of the picture laid into its bucket whole, not those of the crop.
        """
        (width, height), shape = self.bucket, self.own[0] / self.own[1]
        top, left = (height - min(height, width / shape)) // 2, (width - min(width, height * shape)) // 2
        return (*self.own[::-1], int(top), int(left), height, width)


def sizes(resolution: Size, least: int = 256, most: int = 1024, step: int = 64) -> list[Size]:
    """All buckets of an area: the square, and for each width the height that just stays within the area.

    >>> len(sizes((512, 512)))
    17
    """
    area = resolution[0] * resolution[1]
    square = int(math.sqrt(area) // step) * step
    found = {(square, square)}
    for width in range(max(step, least // step * step), -(-most // step) * step + 1, step):
        height = min(most, int(area // width // step) * step)
        if height >= least:
            found |= {(width, height), (height, width)}
    return sorted(found)


def fit_of(size: Size, task: TrainLora, resolution: Size, step: int) -> Fit:
    """How a picture of this size is trained on, as the task tells; `step` is what sides are multiples of."""
    if not task.enable_bucket:
        return fit(size, [resolution])
    if task.bucket_no_upscale:
        return fit_unscaled(size, resolution, step)
    least, most = min(task.min_bucket_reso, *resolution), max(task.max_bucket_reso, *resolution)
    return fit(size, sizes(resolution, least, most, step))


def fit(size: Size, buckets: list[Size]) -> Fit:
    """The bucket of the nearest shape; one of the picture's very size comes first."""
    if size in buckets:
        return Fit(size, size, size)
    shape = size[0] / size[1]
    bucket = min(buckets, key=lambda one: abs(one[0] / one[1] - shape))
    return Fit(bucket, _covering(size, bucket), size)


def fit_unscaled(size: Size, resolution: Size, step: int = 64) -> Fit:
    """`bucket_no_upscale`: a picture within the area stays as large as it is; a larger one comes down to the area.

    The bucket is what is left when both sides are cut to multiples of `step`.
    """
    area, scaled = resolution[0] * resolution[1], size
    if size[0] * size[1] > area:
        scaled = _brought_to(size, area, step)
    bucket = tuple(max(step, _cut(side, step)) for side in scaled)
    return Fit(bucket, tuple(max(side, wanted) for side, wanted in zip(scaled, bucket, strict=True)), size)


def _brought_to(size: Size, area: int, step: int) -> Size:
    """Scaled to stay within the area, one side on a multiple of the step.

    It is that side whose multiple, with the other side cut to one too, changes the shape less.
    """
    shape = size[0] / size[1]
    width = math.sqrt(area * shape)
    by_width = max(step, _cut(_rounded(width), step))
    by_height = max(step, _cut(_rounded(area / width), step))
    one, other = (by_width, _rounded(by_width / shape)), (_rounded(by_height * shape), by_height)

    def change(scaled: Size) -> float:
        return abs(max(step, _cut(scaled[0], step)) / max(step, _cut(scaled[1], step)) - shape)

    return one if change(one) < change(other) else other


def _cut(side: int, step: int) -> int:
    return side // step * step


def _rounded(side: float) -> int:
    """Halves round up."""
    return math.floor(side + 0.5)


def _covering(size: Size, bucket: Size) -> Size:
    """The picture scaled so that it just covers the bucket; halves round up."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    return tuple(max(wanted, _rounded(side * scale)) for side, wanted in zip(size, bucket, strict=True))
