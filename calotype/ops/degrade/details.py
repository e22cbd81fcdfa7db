"""Details of a picture that look like marks on a print and belong to the picture: they have to stay.

Wires, whiskers, hair, stems and grass, glints and stars, writing, grids. They are drawn on a photo before it is printed
and scanned, as the camera would have seen them. The values were chosen by eye.
"""

import math
from collections.abc import Callable
from random import Random

import cv2
import numpy as np

FINER = 4  # times the size at which details are drawn
BLUR = 0.7, 1.4  # sigma of the lens in pixels: marks are sharper, as they lie on the print
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
LETTERS = "abcdefghijklmnopqrstuvwxyz      ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-"
Draw = Callable[[np.ndarray, Random, float], None]


def with_details(pixels: np.ndarray, rng: Random, unit: float) -> np.ndarray:
    """A picture with details of one kind, in one colour that occurs in it or is its lightest or darkest.

    Args:
        pixels: (H, W, 3) float32, RGB in [0, 1].
        unit: 1 for a picture whose shorter side was 512 pixels.
    """
    height, width = pixels.shape[:2]
    canvas = np.zeros((height * FINER, width * FINER), np.uint8)
    rng.choice(DETAILS)(canvas, rng, unit * FINER)
    strength = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    strength = cv2.GaussianBlur(strength, (0, 0), rng.uniform(*BLUR) * max(1.0, unit**0.5))[..., None]
    if rng.random() < 0.5:
        colour = pixels[rng.randrange(height), rng.randrange(width)]
    else:
        colour = np.float32([rng.choice((0.02, 0.1, 0.9, 1.0))] * 3) + np.float32(
            [rng.gauss(0, 0.04) for _ in range(3)]
        )
    return (pixels + rng.uniform(0.4, 1) * strength * (colour - pixels)).clip(0, 1)


def _curve(canvas: np.ndarray, points: np.ndarray, width: float, strength: int = 255) -> None:
    cv2.polylines(
        canvas, [np.rint(16 * points).astype(np.int32)], False, strength, max(1, round(width)), cv2.LINE_AA, 4
    )


def _bow(start: np.ndarray, end: np.ndarray, sag: float) -> np.ndarray:
    """(17, 2) points from start to end that bend aside by a part of the length."""
    t = np.linspace(0, 1, 17)[:, None]
    aside = (end - start)[::-1] * (1, -1)
    return start + t * (end - start) + 4 * t * (1 - t) * sag * aside


def _wires(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Some lines from side to side, nearly parallel, that hang."""
    height, width = canvas.shape
    tall, sag, thick = rng.uniform(-0.6, 0.6), rng.gauss(0, 0.05), rng.uniform(0.6, 3) * unit
    for _ in range(rng.randint(1, 6)):
        y = rng.uniform(-0.2, 1.2) * height
        ends = np.array([[-0.1 * width, y], [1.1 * width, y + tall * width + rng.gauss(0, 0.03) * height]])
        ends = ends[:, ::-1] if rng.random() < 0.25 else ends
        _curve(canvas, _bow(*ends, sag + rng.gauss(0, 0.01)), thick)


def _whiskers(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Some bent lines from about one place."""
    centre = np.array([rng.uniform(0, 1) * side for side in canvas.shape[::-1]])
    angle, length = rng.uniform(0, 6.3), rng.uniform(30, 180) * unit
    for _ in range(rng.randint(3, 12)):
        turn = angle + rng.gauss(0, 0.4)
        start = centre + np.array([rng.gauss(0, 8), rng.gauss(0, 8)]) * unit
        end = start + length * rng.uniform(0.6, 1.2) * np.array([math.cos(turn), math.sin(turn)])
        _curve(canvas, _bow(start, end, rng.gauss(0, 0.12)), rng.uniform(0.5, 1.6) * unit, rng.randint(120, 255))


def _strands(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Many lines that run along each other: hair, grass, threads."""
    centre = np.array([rng.uniform(0, 1) * side for side in canvas.shape[::-1]])
    angle, length, deviation = rng.uniform(0, 6.3), rng.uniform(40, 250) * unit, rng.uniform(20, 120) * unit
    sag = rng.gauss(0, 0.2)
    for _ in range(rng.randint(15, 90)):
        turn = angle + rng.gauss(0, 0.12)
        start = centre + np.array([rng.gauss(0, deviation), rng.gauss(0, deviation)])
        end = start + length * rng.uniform(0.5, 1.3) * np.array([math.cos(turn), math.sin(turn)])
        _curve(canvas, _bow(start, end, sag + rng.gauss(0, 0.05)), rng.uniform(0.4, 1.8) * unit, rng.randint(40, 255))


def _stray_hairs(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """A few loose ones beside each other."""
    centre = np.array([rng.uniform(0, 1) * side for side in canvas.shape[::-1]])
    angle = rng.uniform(0, 6.3)
    for _ in range(rng.randint(2, 7)):
        turn, length = angle + rng.gauss(0, 0.5), rng.uniform(20, 120) * unit
        start = centre + np.array([rng.gauss(0, 25), rng.gauss(0, 25)]) * unit
        end = start + length * np.array([math.cos(turn), math.sin(turn)])
        _curve(canvas, _bow(start, end, rng.gauss(0, 0.25)), rng.uniform(0.4, 1.0) * unit, rng.randint(80, 230))


def _glints(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Spots of light in a group: on water, metal, eyes, leaves; or stars."""
    height, width = canvas.shape
    is_everywhere = rng.random() < 0.4
    centre, deviation = (rng.uniform(0, width), rng.uniform(0, height)), rng.uniform(10, 90) * unit
    for _ in range(rng.randint(2, 40)):
        x, y = (rng.gauss(c, deviation) for c in centre)
        if is_everywhere:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = min(rng.lognormvariate(0.0, 0.5), 4.0) * unit
        axes = max(1, round(radius)), max(1, round(radius * rng.uniform(0.4, 1)))
        cv2.ellipse(
            canvas, (round(x), round(y)), axes, rng.uniform(0, 180), 0, 360, rng.randint(90, 255), -1, cv2.LINE_AA
        )


def _writing(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Lines of letters."""
    font, size = rng.choice(FONTS), rng.uniform(0.25, 1.3) * unit
    thick, pitch = max(1, round(size * rng.uniform(1, 2.5))), 32 * size
    y, x = rng.uniform(0, 0.8) * canvas.shape[0], rng.uniform(-0.2, 0.6) * canvas.shape[1]
    for line in range(rng.randint(1, 7)):
        text = "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 30)))
        cv2.putText(canvas, text, (round(x), round(y + line * pitch)), font, size, 255, thick, cv2.LINE_AA)


def _grid(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Lines at even distances, in one direction or in two."""
    height, width = canvas.shape
    angle, thick, pitch = rng.uniform(0, math.pi), rng.uniform(0.5, 2.5) * unit, rng.uniform(6, 60) * unit
    reach = math.hypot(height, width)
    for turn in (angle, angle + math.pi / 2)[: rng.randint(1, 2)]:
        along = np.array([math.cos(turn), math.sin(turn)])
        aside = along[::-1] * (1, -1)
        middle = np.array([width, height]) / 2
        for n in range(-int(reach / 2 / pitch), int(reach / 2 / pitch) + 1):
            centre = middle + n * pitch * aside
            _curve(canvas, np.array([centre - reach * along, centre + reach * along]), thick)


def _bricks(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Joints of a wall."""
    height, width = canvas.shape
    thick, pitch = rng.uniform(0.8, 3.5) * unit, rng.uniform(10, 40) * unit
    long, offset = pitch * rng.uniform(1.3, 3), rng.uniform(0, pitch)
    for row in range(-1, int(height / pitch) + 1):
        y = row * pitch + offset
        _curve(canvas, np.array([[0, y], [width, y]]), thick)
        for n in range(int(width / long) + 1):
            x = (n + row % 2 / 2) * long
            _curve(canvas, np.array([[x, y], [x, y + pitch]]), thick)


def _rims(canvas: np.ndarray, rng: Random, unit: float) -> None:
    """Edges of cups, plates, spectacles and wheels: arcs of ellipses, some of them within each other."""
    height, width = canvas.shape
    for _ in range(rng.randint(1, 4)):
        centre = np.array([rng.uniform(0, 1) * width, rng.uniform(0, 1) * height])
        radius, flat, turn = rng.uniform(12, 160) * unit, rng.uniform(0.15, 1), rng.gauss(0, 0.5)
        start, sweep = rng.uniform(0, 6.3), rng.choice((6.3, rng.uniform(0.8, 4)))
        t = np.linspace(start, start + sweep, 65)
        across = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        for scale in (1.0, rng.uniform(0.8, 0.97))[: rng.randint(1, 2)]:
            arc = scale * radius * np.stack([np.cos(t), flat * np.sin(t)], 1) @ across
            _curve(canvas, centre + arc, rng.uniform(0.5, 2.5) * unit, rng.randint(120, 255))


DETAILS: tuple[Draw, ...] = (
    _wires,
    _whiskers,
    _strands,
    _stray_hairs,
    _glints,
    _glints,
    _writing,
    _grid,
    _bricks,
    _rims,
)
