"""Aspect ratio buckets as kohya's sd-scripts chooses them: many shapes, one area."""

import math
from dataclasses import dataclass

from calotype.tasks.training import TrainLora

Size = tuple[int, int]  # (width, height), as in the settings and logs of trainers


@dataclass(frozen=True)
class Fit:
    """How one image is fitted into its bucket: scaled to cover it, then cropped."""

    bucket: Size
    scaled: Size  # before cropping, at least as large as the bucket
    original: Size  # of the image file

    @property
    def time_ids(self) -> tuple[int, ...]:
        """SDXL's size conditioning as in sd-scripts: original height, width; crop top, left; bucket height, width.

        Top and left are of the whole image centered within the bucket, not of the crop.
        """
        (width, height), shape = self.bucket, self.original[0] / self.original[1]
        top, left = (height - min(height, width / shape)) // 2, (width - min(width, height * shape)) // 2
        return (*self.original[::-1], int(top), int(left), height, width)


def bucket_sizes(resolution: Size, min_size: int = 256, max_size: int = 1024, step: int = 64) -> list[Size]:
    """All buckets of an area: the square, and for each width the largest height within the area.

    >>> len(sizes((512, 512)))
    17
    """
    area = resolution[0] * resolution[1]
    square = int(math.sqrt(area) // step) * step
    buckets = {(square, square)}
    for width in range(max(step, min_size // step * step), -(-max_size // step) * step + 1, step):
        height = min(max_size, int(area // width // step) * step)
        if height >= min_size:
            buckets |= {(width, height), (height, width)}
    return sorted(buckets)


def fit_of(size: Size, task: TrainLora, resolution: Size, step: int) -> Fit:
    """The fit of an image of this size by the options of the task; `step` divides the sides of buckets."""
    if not task.enable_bucket:
        return fit(size, [resolution])
    if task.bucket_no_upscale:
        return fit_unscaled(size, resolution, step)
    min_size, max_size = min(task.min_bucket_reso, *resolution), max(task.max_bucket_reso, *resolution)
    return fit(size, bucket_sizes(resolution, min_size, max_size, step))


def fit(size: Size, buckets: list[Size]) -> Fit:
    """The bucket with the nearest aspect ratio, or one of the image's exact size."""
    if size in buckets:
        return Fit(size, size, size)
    shape = size[0] / size[1]
    bucket = min(buckets, key=lambda candidate: abs(candidate[0] / candidate[1] - shape))
    return Fit(bucket, _covering(size, bucket), size)


def fit_unscaled(size: Size, resolution: Size, step: int = 64) -> Fit:
    """`bucket_no_upscale`: only images larger than the area are scaled down to it.

    The bucket has both sides rounded down to multiples of `step`.
    """
    area, scaled = resolution[0] * resolution[1], size
    if size[0] * size[1] > area:
        scaled = _scaled_to_area(size, area, step)
    bucket = tuple(max(step, _floor(side, step)) for side in scaled)
    return Fit(bucket, tuple(max(side, minimum) for side, minimum in zip(scaled, bucket, strict=True)), size)


def _scaled_to_area(size: Size, area: int, step: int) -> Size:
    """The size scaled to the area, with one side a multiple of `step`.

    It is the side that changes the aspect ratio less, with the other side rounded down to a multiple as well.
    """
    shape = size[0] / size[1]
    width = math.sqrt(area * shape)
    by_width = max(step, _floor(_rounded(width), step))
    by_height = max(step, _floor(_rounded(area / width), step))
    from_width, from_height = (by_width, _rounded(by_width / shape)), (_rounded(by_height * shape), by_height)

    def shape_error(scaled: Size) -> float:
        return abs(max(step, _floor(scaled[0], step)) / max(step, _floor(scaled[1], step)) - shape)

    return from_width if shape_error(from_width) < shape_error(from_height) else from_height


def _floor(side: int, step: int) -> int:
    return side // step * step


def _rounded(side: float) -> int:
    """Rounds halves up."""
    return math.floor(side + 0.5)


def _covering(size: Size, bucket: Size) -> Size:
    """The smallest scaled size that covers the bucket; halves round up."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    return tuple(max(minimum, _rounded(side * scale)) for side, minimum in zip(size, bucket, strict=True))
