"""Marks on a print that hide it: scratches, hairs, fluff, specks, creases and tears, with the mask of what they change.

Beside those of `age`, which are thin and short, they cross a picture, bend, and break its surface. They are drawn at
four times the size and reduced, so that widths may be fractions of a pixel. The values were chosen by eye.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import cv2
import numpy as np

from calotype.ops.degrade.age import poisson

FINER = 4  # times the size at which marks are drawn
DARK, LIGHT = (0.1, 0.085, 0.075), (0.97, 0.95, 0.9)  # RGB of dirt and of bare paper
Draw = Callable[[np.ndarray, Random, float], None]


def damaged(pixels: np.ndarray, rng: Random, unit: float, density: float = 1.0) -> np.ndarray:
    """A picture with random marks.

    Args:
        pixels: (H, W, 3) float32, RGB in [0, 1].
        unit: 1 for a picture whose shorter side was 512 pixels; widths and lengths scale with it.
        density: mean number of marks, 1 for a badly kept print.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    height, width = pixels.shape[:2]
    area = height * width / (512 * unit) ** 2
    for tone in (LIGHT, DARK):
        canvas = np.zeros((height * FINER, width * FINER), np.uint8)
        for draw, mean in MARKS.items():
            for _ in range(poisson(rng, mean * density * max(area, 0.1) / 2)):
                draw(canvas, rng, unit * FINER)
        strength = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        strength = cv2.GaussianBlur(strength, (0, 0), rng.uniform(0.3, 0.6) * max(1.0, unit**0.5))
        colour = np.float32(tone) + np.float32(rng.gauss(0, 0.04))
        pixels = pixels + strength[..., None] * (colour - pixels)
    return pixels.clip(0, 1)


def _path(rng: Random, start: tuple[float, float], angle: float, length: float, bend: float, jitter: float) -> list:
    """Points of a line whose direction changes: by `bend` radians over its length, and at random by `jitter`."""
    steps = max(4, min(60, int(length / (4 * FINER))))
    points, turn = [start], bend / steps
    for _ in range(steps):
        angle += turn + rng.gauss(0, jitter)
        turn += rng.gauss(0, abs(bend) / steps / 3)
        x, y = points[-1]
        points.append((x + math.cos(angle) * length / steps, y + math.sin(angle) * length / steps))
    return points


def _stroke(canvas: np.ndarray, points: Sequence, width: float, strengths: Sequence[float]) -> None:
    """A line of so many pixels, of a strength from 0 to 1 for each of its parts; where lines cross, the stronger."""
    for (start, end), strength in zip(pairwise(points), strengths, strict=False):
        low = np.floor(np.minimum(start, end) - width - 2).astype(int).clip(0)
        high = np.ceil(np.maximum(start, end) + width + 2).astype(int).clip(0)
        region = canvas[low[1] : high[1], low[0] : high[0]]
        if region.size:
            line = np.zeros_like(region)
            ends = (tuple(np.rint(16 * (np.array(point) - low)).astype(int).tolist()) for point in (start, end))
            cv2.line(line, *ends, round(255 * strength), max(1, round(width)), cv2.LINE_AA, 4)
            np.maximum(region, line, out=region)


def _anywhere(canvas: np.ndarray, rng: Random) -> tuple[float, float]:
    height, width = canvas.shape
    return rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height


def _scratch(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Thin and nearly straight, with gaps and ends that fade."""
    angle = rng.gauss(math.pi / 2, 0.35) if rng.random() < 0.6 else rng.uniform(0, math.pi)
    length = rng.uniform(30, 420) * unit
    points = _path(rng, _anywhere(canvas, rng), angle, length, rng.gauss(0, 0.15), 0.01)
    count, top, phase = len(points) - 1, rng.uniform(0.25, 0.9), rng.uniform(0, 6)
    gaps, often = rng.uniform(0, 0.9) * (rng.random() < 0.5), rng.uniform(0.2, 0.8)
    along = [(n + 0.5) / count for n in range(count)]
    strengths = [
        top * (4 * t * (1 - t)) ** 0.3 * (1 - gaps * (math.sin(often * n + phase) > 0.4)) for n, t in enumerate(along)
    ]
    _stroke(canvas, points, rng.uniform(0.5, 2.0) * unit, strengths)


def _hair(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Bent, of even width and strength: it lay on the glass of the scanner, or on the negative."""
    length = rng.lognormvariate(4.0, 0.7) * unit
    bend = rng.gauss(0, 2.0)
    points = _path(rng, _anywhere(canvas, rng), rng.uniform(0, 2 * math.pi), length, bend, 0.04)
    _stroke(canvas, points, rng.uniform(0.7, 2.0) * unit, [rng.uniform(0.35, 0.95)] * len(points))


def _speck(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """A grain of dust: an uneven blob."""
    radius = min(rng.lognormvariate(0.25, 0.6), 9.0) * unit
    x, y = _anywhere(canvas, rng)
    flat, turn = rng.uniform(0.5, 1), rng.uniform(0, math.pi)
    corners = []
    for n in range(9):
        angle, reach = 2 * math.pi * n / 9, radius * rng.uniform(0.7, 1.2)
        u, v = reach * math.cos(angle), flat * reach * math.sin(angle)
        corners.append((x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)))
    low = np.floor(np.min(corners, 0)).astype(int).clip(0)
    high = np.ceil(np.max(corners, 0)).astype(int).clip(0) + 1
    region = canvas[low[1] : high[1], low[0] : high[0]]
    if region.size:
        blob = np.zeros_like(region)
        outline = np.rint(16 * (np.array(corners) - low)).astype(np.int32)
        cv2.fillPoly(blob, [outline], round(255 * rng.uniform(0.3, 1)), cv2.LINE_AA, 4)
        np.maximum(region, blob, out=region)


def _fluff(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """A few short hairs in one place."""
    x, y = _anywhere(canvas, rng)
    strength = rng.uniform(0.3, 0.9)
    for _ in range(rng.randint(2, 5)):
        start = x + rng.gauss(0, 4) * unit, y + rng.gauss(0, 4) * unit
        points = _path(rng, start, rng.uniform(0, 6.3), rng.uniform(6, 25) * unit, rng.gauss(0, 2), 0.1)
        _stroke(canvas, points, rng.uniform(0.5, 1.2) * unit, [strength] * len(points))


def _crease(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """A fold or tear from side to side: the surface is broken along it, in a width that changes."""
    angle, length = rng.uniform(0, math.pi), rng.uniform(100, 700) * unit
    points = _path(rng, _anywhere(canvas, rng), angle, length, rng.gauss(0, 0.2), 0.12)
    base, strength = rng.uniform(1.0, 6.0) * unit, rng.uniform(0.5, 1)
    for start, end in pairwise(points):
        _stroke(canvas, (start, end), base * rng.uniform(0.4, 1.5), [strength * rng.uniform(0.6, 1)])


MARKS: dict[Draw, float] = {_scratch: 8.0, _hair: 5.0, _speck: 60.0, _fluff: 3.0, _crease: 1.2}  # mean number of each
