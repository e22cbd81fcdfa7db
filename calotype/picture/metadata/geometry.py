"""How positions in a picture change when it is turned upright or resized."""

from dataclasses import dataclass
from functools import cached_property

# Stored -> displayed in a unit square, for EXIF orientations 1 to 8: x' = a x + b y + c, y' = d x + e y + f.
_UPRIGHT = {
    1: (1, 0, 0, 0, 1, 0),
    2: (-1, 0, 1, 0, 1, 0),
    3: (-1, 0, 1, 0, -1, 1),
    4: (1, 0, 0, 0, -1, 1),
    5: (0, 1, 0, 1, 0, 0),
    6: (0, -1, 1, 1, 0, 0),
    7: (0, -1, 1, -1, 0, 1),
    8: (0, 1, 0, -1, 0, 1),
}


@dataclass(frozen=True)
class Affine:
    """x' = xx x + xy y + x0, y' = yx x + yy y + y0; axes stay axes."""

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0

    def extent(self, width: float, height: float) -> tuple[float, float]:
        """Width and height of a box."""
        return abs(self.xx) * width + abs(self.xy) * height, abs(self.yx) * width + abs(self.yy) * height

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, top, width and height."""
        (x, y), (w, h) = self.point(left + width / 2, top + height / 2), self.extent(width, height)
        return x - w / 2, y - h / 2, w, h

    def length(self, value: float) -> float:
        """A length without a direction, such as a diameter."""
        (a, b), (c, d) = self.extent(1, 0), self.extent(0, 1)
        return value * (abs((a + b) * (c + d))) ** 0.5


@dataclass(frozen=True)
class Geometry:
    """A picture of size `before` was turned by `orientation` and has the size `after`. Sizes are height, width."""

    before: tuple[int, int]
    after: tuple[int, int]
    orientation: int = 1
    is_part: bool = False  # it was cut out of the other, so that positions in that hold no longer

    @classmethod
    def turned(cls, size: tuple[int, int], orientation: int) -> "Geometry":
        """Turned upright from EXIF orientation 1 to 8."""
        return cls(size, size[::-1] if orientation >= 5 else size, orientation)

    @property
    def swaps_axes(self) -> bool:
        return self.orientation >= 5

    @property
    def is_identity(self) -> bool:
        return self.orientation == 1 and self.before == self.after and not self.is_part

    @property
    def is_uniform(self) -> bool:
        """Whether height and width were scaled alike, but for rounding; otherwise it was cropped or extended."""
        if self.is_part:
            return False
        before = self.before[::-1] if self.swaps_axes else self.before
        longer = 0 if before[0] >= before[1] else 1
        scale = self.after[longer] / before[longer]
        return abs(self.after[1 - longer] - before[1 - longer] * scale) <= 1 + scale / 2

    @cached_property
    def relative(self) -> Affine:
        """Of positions as fractions of width and height."""
        return Affine(*_UPRIGHT[self.orientation])

    @cached_property
    def pixels(self) -> Affine:
        """Of positions in pixels, from the top left corner."""
        turn, (height, width), (height_after, width_after) = self.relative, self.before, self.after
        return Affine(
            turn.xx * width_after / width,
            turn.xy * width_after / height,
            turn.x0 * width_after,
            turn.yx * height_after / width,
            turn.yy * height_after / height,
            turn.y0 * height_after,
        )


def composed(first: int, second: int) -> int:
    """The EXIF orientation that means the same as two, applied one after the other."""
    a, b = Affine(*_UPRIGHT[first]), Affine(*_UPRIGHT[second])
    corners = [b.point(*a.point(x, y)) for x, y in ((0, 0), (1, 0), (0, 1))]
    return next(n for n in _UPRIGHT if corners == [Affine(*_UPRIGHT[n]).point(*at) for at in ((0, 0), (1, 0), (0, 1))])
