"""Line plots as SVG that stands in a page: light and dark come from the page's colours, nothing is fetched."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 88, 16, 14, 44  # room around the plot, for numbers in the letters of a narrow page
MOST = 500  # points of a line that are drawn

STYLE = """
figure.plot { margin: 16px 0 0; } .plot svg { display: block; width: 100%; height: auto; }
.plot text { font: 13px/1 system-ui, sans-serif; fill: var(--soft); } .plot .grid { stroke: var(--line); }
.plot path { fill: none; stroke-width: 2.2; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.plot .c0 { --c: var(--accent); } .plot .c1 { --c: var(--second); } .plot .c2 { --c: var(--third); }
.plot path { stroke: var(--c); } .plot path.raw { stroke-width: 1; opacity: .38; }
.plot circle { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.plot circle.best { fill: var(--c); } .plot text.best { fill: var(--ink); font-weight: 600; }
.plot .key { display: inline-block; width: 22px; height: 0; border-top: 3px solid var(--c); vertical-align: middle;
  margin-right: 8px; } .plot .key.raw { border-top-width: 1px; opacity: .6; }
.plot figcaption { display: flex; flex-wrap: wrap; gap: 4px 26px; margin-top: 6px; color: var(--soft);
  font-size: 15px; }
:root { --second: #2f6f8f; --third: #5d7a2c; }
@media (prefers-color-scheme: dark) { :root { --second: #7db8d6; --third: #a9c46c; } }
@media (max-width: 700px) { .plot text { font-size: 24px; } }
@media print { .plot { break-inside: avoid; } }
"""

Points = Sequence[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    name: str
    points: Points
    colour: int = 0  # 0 to 2
    kind: str = "line"  # raw: thin, for what jumps about; dots: with a ring at every point
    best: float | None = None  # the step of the point that is marked


def smoothed(points: Points) -> list[tuple[float, float]]:
    """A running mean that forgets (exponential, unbiased at the beginning), over about a fifteenth of the points."""
    keep = 1 - 1 / max(1.0, min(100.0, len(points) / 15))
    mean, weight, found = 0.0, 0.0, []
    for step, value in points:
        if math.isfinite(value):
            mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
            found.append((step, mean / weight))
    return found


def plot(title: str, lines: Sequence[Line], x_name: str = "step") -> str:
    """A figure with axes and a legend; what lies far outside the rest is cut at the edge."""
    lines = [line for line in lines if _real(line.points)]
    if not lines:
        return ""
    right = max(max(step for step, _ in line.points) for line in lines)
    low, high = _range(lines)
    place = _Place(right, low, high)
    drawn = "".join(_drawn(line, place) for line in lines)
    keys = "".join(
        f'<span><i class="key c{line.colour}{" raw" if line.kind == "raw" else ""}"></i>{escape(line.name)}</span>'
        for line in lines
    )
    return f"""<figure class="plot">
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">
{place.axes(x_name)}{drawn}
</svg>
<figcaption>{keys}</figcaption>
</figure>
"""


def _real(points: Points) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """Lowest and highest value that is shown; of raw lines one point in fifty may lie outside at each end."""
    lows, highs = [], []
    for line in lines:
        values = sorted(value for _, value in _real(line.points))
        spare = len(values) // 50 if line.kind == "raw" else 0
        lows.append(values[spare])
        highs.append(values[len(values) - 1 - spare])
    low, high = min(lows), max(highs)
    if 0 < low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-290):
        high, low = max(high, 0.0) + abs(high) * 0.1 + (0 if abs(high) > 1e-290 else 1.0), min(0.0, low)
    return low, high


class _Place:
    """From steps and values to the paper."""

    def __init__(self, right: float, low: float, high: float):
        self.ticks_y = _ticks(low, high, 5)
        if len(self.ticks_y) > 1 and high > self.ticks_y[-1] * (1 + 1e-9):
            self.ticks_y.append(self.ticks_y[-1] + self.ticks_y[1] - self.ticks_y[0])
        self.low, self.high = min(low, self.ticks_y[0]), max(high, self.ticks_y[-1])
        self.right = max(1.0, right)
        self.ticks_x = [tick for tick in _ticks(0, self.right, 5) if tick == int(tick) and tick <= self.right]

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.right

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    def axes(self, x_name: str) -> str:
        digits = _digits(self.ticks_y)
        parts = [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(v):.1f}" y2="{self.y(v):.1f}"/>'
            f'<text x="{LEFT - 10}" y="{self.y(v):.1f}" text-anchor="end" dominant-baseline="middle">'
            f"{_number(v, digits)}</text>"
            for v in self.ticks_y
        ]
        last = self.ticks_x[-1]
        parts += [
            f'<text x="{self.x(v):.1f}" y="{HEIGHT - BOTTOM + 26}" '
            f'text-anchor="{"end" if v == last and self.x(v) > WIDTH - 60 else "middle"}">'
            f"{f'{x_name} ' if v == last else ''}{v:g}</text>"
            for v in self.ticks_x
        ]
        return "".join(parts)


def _drawn(line: Line, place: _Place) -> str:
    points = _thinned(_real(line.points))
    way = " ".join(f"{'M' if n == 0 else 'L'}{place.x(s):.1f} {place.y(v):.1f}" for n, (s, v) in enumerate(points))
    made = f'<path class="{"raw " if line.kind == "raw" else ""}c{line.colour}" d="{way}"/>'
    dots = points if line.kind == "dots" and len(points) <= 60 else [p for p in points if p[0] == line.best]
    for step, value in dots:
        is_best = step == line.best
        made += (
            f'<circle class="c{line.colour}{" best" if is_best else ""}" cx="{place.x(step):.1f}" '
            f'cy="{place.y(value):.1f}" r="{6 if is_best else 3.5}"><title>step {step:g}: {value:.5g}</title></circle>'
        )
        if is_best:
            anchor = "end" if place.x(step) > WIDTH * 0.8 else "start" if place.x(step) < WIDTH * 0.2 else "middle"
            above = place.y(value) - 14 if place.y(value) > HEIGHT / 4 else place.y(value) + 30
            made += (
                f'<text class="best" x="{place.x(step):.1f}" y="{above:.1f}" text-anchor="{anchor}">'
                f"best {_number(value, 4)}</text>"
            )
    return made


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of every stretch its lowest and its highest point, in order: peaks stay."""
    if len(points) <= MOST:
        return points
    size, found = math.ceil(2 * len(points) / MOST), []
    for n in range(0, len(points), size):
        part = points[n : n + size]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        found += sorted(ends)
    return found


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, last + 1)] or [low]


def _digits(values: Sequence[float]) -> int:
    """Behind the point, so that all of them can be told apart; -1: too many for that."""
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
