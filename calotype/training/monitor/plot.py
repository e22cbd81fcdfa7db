"""Line plots as SVG within a page, drawn by `templates/plot.html`: axes with round numbers, peaks kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from calotype import html

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 88, 16, 14, 44  # margins, wide enough for the larger numbers of a narrow screen
MAX_POINTS = 500  # of a line that are drawn

Points = Sequence[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    name: str
    points: Points
    colour: int = 0  # 0 to 2
    kind: str = "line"  # raw: thin, for noisy values; dots: with a marker at every point
    best: float | None = None  # the step of the point that is marked


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Exponential moving average, unbiased at the beginning, over about a fifteenth of the points."""
    decay = 1 - 1 / max(1.0, min(100.0, len(points) / 15))
    mean, weight, averages = 0.0, 0.0, []
    for step, value in points:
        if math.isfinite(value):
            mean, weight = decay * mean + (1 - decay) * value, decay * weight + (1 - decay)
            averages.append((step, mean / weight))
    return averages


def plot(title: str, lines: Sequence[Line], x_name: str = "step") -> str:
    """A figure with axes and a legend, as HTML; outliers are clipped at the edge."""
    lines = [line for line in lines if _finite(line.points)]
    if not lines:
        return html.as_markup("")
    axes = _Axes(max(step for line in lines for step, _ in line.points), *_range(lines), x_name)
    return html.render("plot.html", title=title, axes=axes, lines=[_curve(line, axes) for line in lines])


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """The range of the y axis; of raw lines 2% of the points may be outside at each end."""
    lows, highs = [], []
    for line in lines:
        values = sorted(value for _, value in _finite(line.points))
        spare = len(values) // 50 if line.kind == "raw" else 0
        lows.append(values[spare])
        highs.append(values[len(values) - 1 - spare])
    low, high = min(lows), max(highs)
    if 0 < low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-290):
        high, low = max(high, 0.0) + abs(high) * 0.1 + (0 if abs(high) > 1e-290 else 1.0), min(0.0, low)
    return low, high


class _Axes:
    """Positions in the figure of steps and values, and the numbers at both axes."""

    width, height, left, right, bottom = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM

    def __init__(self, last: float, low: float, high: float, x_name: str):
        self.ticks_y = _ticks(low, high, 5)
        if len(self.ticks_y) > 1 and high > self.ticks_y[-1] * (1 + 1e-9):
            self.ticks_y.append(self.ticks_y[-1] + self.ticks_y[1] - self.ticks_y[0])
        self.low, self.high = min(low, self.ticks_y[0]), max(high, self.ticks_y[-1])
        self.last, self.x_name = max(1.0, last), x_name
        self.ticks_x = [tick for tick in _ticks(0, self.last, 5) if tick == int(tick) and tick <= self.last]

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.last

    def y(self, value: float) -> float:
        fraction = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - fraction)

    @property
    def rows(self) -> list[tuple[float, str]]:
        """Position and label of each grid line."""
        digits = _digits(self.ticks_y)
        return [(self.y(tick), _number(tick, digits)) for tick in self.ticks_y]

    @property
    def columns(self) -> list[tuple[float, str, str]]:
        """Position, label and text anchor of each number below the plot; the last one has the axis' name."""
        *ticks, last = self.ticks_x
        anchor = "end" if self.x(last) > WIDTH - 60 else "middle"
        return [
            *((self.x(tick), f"{tick:g}", "middle") for tick in ticks),
            (self.x(last), f"{self.x_name} {last:g}", anchor),
        ]


def _curve(line: Line, axes: _Axes) -> dict[str, Any]:
    """The values of a line for the template."""
    points = _thinned(_finite(line.points))
    dots = points if line.kind == "dots" and len(points) <= 60 else [p for p in points if p[0] == line.best]
    return {
        "name": line.name,
        "colour": line.colour,
        "classes": f"{'raw ' if line.kind == 'raw' else ''}c{line.colour}",
        "path": [(axes.x(step), axes.y(value)) for step, value in points],
        "dots": [_dot(axes.x(step), axes.y(value), step, value, step == line.best) for step, value in dots],
    }


def _dot(x: float, y: float, step: float, value: float, is_best: bool) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "title": f"step {step:g}: {value:.5g}",
        "is_best": is_best,
        "anchor": "end" if x > WIDTH * 0.8 else "start" if x < WIDTH * 0.2 else "middle",
        "label": _number(value, 4),
        "label_y": y - 14 if y > HEIGHT / 4 else y + 30,
    }


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The minimum and the maximum of every interval, so that peaks are kept."""
    if len(points) <= MAX_POINTS:
        return points
    size, extremes = math.ceil(2 * len(points) / MAX_POINTS), []
    for n in range(0, len(points), size):
        stretch = points[n : n + size]
        extremes += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return extremes


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, last + 1)] or [low]


def _digits(values: Sequence[float]) -> int:
    """Decimals that distinguish all of the values; -1: more than four."""
    step = min((abs(b - a) for a, b in pairwise(values)), default=abs(values[0]) or 1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step:.1e}".startswith("2.5") else 0))
    return digits if digits <= 4 else -1


def _number(value: float, digits: int) -> str:
    if not value:
        return "0"
    if digits < 0:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:.{max(0, digits)}f}"
