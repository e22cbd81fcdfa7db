"""Colour for a grey photo, from strokes of a person or from another photo. Its lightness stays as it is.

Chroma is (blue - grey, red - grey), where grey is 0.299 red + 0.587 green + 0.114 blue. It spreads from where it is
given to neighbours of like lightness: Levin, Lischinski, Weiss 2004, "Colorization using optimization". That is solved
on a reduced copy, from coarse to fine; the full size follows the lightness of the photo, as a guided filter does.

A reference gives chroma to places that look alike: in lightness, texture and surroundings, as Welsh, Ashikhmin, Mueller
2002, "Transferring color to greyscale images", and around faces by their place beside the face.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import cg, spsolve
from scipy.spatial import cKDTree

from calotype.ops.resize import averaged

WEIGHTS = (299, 587, 114)  # of red, green, blue in a thousand
WORKING = 400_000  # pixels of the reduced copy
COARSEST = 4000  # pixels at which the equations are solved directly
ROUNDS = 150  # of conjugate gradients at each size
CONTRAST = 0.02  # difference of lightness, of its range, that colour hardly crosses
LEAK = 1e-6  # of colour that crosses any edge
OWN = 4e-6  # weight of what a place has itself where nobody gave it a colour
GIVEN = 10.0  # weight of a stroke
RADIUS, EPSILON = 4, 1e-4  # of the guided filter, in pixels of the reduced copy, and in lightness squared
OPAQUE = 128  # of a stroke, of 255
STROKE_CHROMA, STROKE_CHANGE = 24, 16  # of a stroke painted over the photo itself: colour, and difference from it
GREY_STROKE = 8  # range of the channels of a stroke that is grey
TONED, COLOURED = 0.05, 0.05  # chroma that a toned print has beside its tone, and the share of pixels with more
BANDS = 256  # rows at once


def grey_values(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) of 8 or 16 bits -> (H, W) of the same type: the lightness that colouring keeps."""
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    grey = np.empty(pixels.shape[:2], pixels.dtype)
    for rows in _bands(len(pixels)):
        grey[rows] = (pixels[rows].astype(np.int64) @ np.array(WEIGHTS) + 500) // 1000
    return grey


def coloured(grey: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """(H, W) of 8 or 16 bits with (H, W, 2) chroma -> (H, W, 3) whose `grey_values` are exactly `grey`.

    Chroma that no colour of this lightness has is reduced, its hue stays. Of the colours around the exact one, the
    nearest with the same grey value is taken.
    """
    limit = float(np.iinfo(grey.dtype).max)
    blue, red = chroma[..., 0], chroma[..., 1]
    green = -(WEIGHTS[0] * red + WEIGHTS[2] * blue) / WEIGHTS[1]
    offsets = np.stack([red, green, blue], -1).astype(np.float64)
    level = grey.astype(np.float64)[..., None] / limit
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(offsets > 0, (1 - level) / offsets, np.where(offsets < 0, -level / offsets, np.inf))
    exact = (level + offsets * np.clip(room.min(-1, keepdims=True), 0, 1)) * limit
    nearest = np.rint(exact).astype(np.int64)
    wrong = (nearest @ np.array(WEIGHTS) + 500) // 1000 != grey
    nearest[wrong] = _with_grey(exact[wrong], grey[wrong])
    return nearest.astype(grey.dtype)


def _with_grey(exact: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """(N, 3) whole numbers beside (N, 3) colours: of the eight around each, the nearest with the grey value."""
    low = np.floor(exact + 1e-9).astype(np.int64)
    best, best_distance = low.copy(), np.full(len(low), np.inf)
    for step in np.ndindex(2, 2, 2):
        around = low + np.array(step)
        distance = ((around - exact) ** 2).sum(1)
        distance[(around @ np.array(WEIGHTS) + 500) // 1000 != grey] = np.inf
        better = distance < best_distance
        best[better], best_distance[better] = around[better], distance[better]
    return best


def chroma_of(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) of 8 or 16 bits -> (..., 2) float32."""
    values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    grey = values @ np.array(WEIGHTS, np.float32) / 1000
    return np.stack([values[..., 2] - grey, values[..., 0] - grey], -1)


def is_in_colour(pixels: np.ndarray) -> bool:
    """Whether a photo has colours, besides one tone such as sepia, which depends on lightness alone."""
    if pixels.shape[2] == 1:
        return False
    small = reduced(pixels, 100_000)
    chroma, level = chroma_of(small), grey_values(small).astype(int) * 15 // np.iinfo(small.dtype).max
    beside = np.zeros(level.shape, bool)
    for step in np.unique(level):
        at = level == step
        beside[at] = np.hypot(*(chroma[at] - np.median(chroma[at], 0)).T) > TONED
    return float(beside.mean()) > COLOURED


def has_colours(pixels: np.ndarray) -> bool:
    """Whether more than a hundredth of a picture is no grey."""
    if pixels.shape[2] == 1:
        return False
    return float((np.hypot(*np.moveaxis(chroma_of(reduced(pixels, 100_000)), -1, 0)) > 0.03).mean()) > 0.01


def reduced(pixels: np.ndarray, count: int = WORKING) -> np.ndarray:
    """(H, W, ...) with at most so many pixels, averaged; itself where it has fewer."""
    height, width = pixels.shape[:2]
    factor = math.sqrt(count / (height * width))
    if factor >= 1:
        return pixels
    return averaged(pixels, max(1, round(height * factor)), max(1, round(width * factor)))


@dataclass(frozen=True, eq=False)
class Given:
    """Chroma of places on the reduced copy, and how sure it is: 0 where nothing is given."""

    chroma: np.ndarray  # (h, w, 2) float32
    weight: np.ndarray  # (h, w) float32


# Strokes.


def strokes(hints: np.ndarray, alpha: np.ndarray | None, photo: np.ndarray) -> Given | None:
    """The colours of strokes: on a transparent picture, or painted over the photo. None where none has a colour.

    A grey stroke on a transparent picture keeps a place grey.

    Args:
        hints: (H, W, 3) uint8.
        alpha: (H, W) uint8.
        photo: (H, W, 3) uint8, on which they are painted.
    """
    span = hints.max(2) - hints.min(2)
    if alpha is not None and alpha.min() < OPAQUE:
        is_stroke = alpha >= OPAQUE
    else:
        is_stroke = (span >= STROKE_CHROMA) & (cv2.absdiff(hints, photo).max(2) >= STROKE_CHANGE)
    if not (is_stroke & (span > GREY_STROKE)).any():
        return None
    painted = np.where(is_stroke[..., None], hints, 0).astype(np.uint8)
    coverage = reduced(is_stroke.astype(np.float32))
    mean = reduced(painted).astype(np.float32) / np.maximum(coverage, 1e-3)[..., None]
    chroma = chroma_of(np.clip(mean, 0, 255).astype(np.uint8))
    return Given(np.where(coverage[..., None] > 0, chroma, 0), np.where(coverage > 0.02, GIVEN, 0).astype(np.float32))


# Spreading chroma.


def propagate(grey: np.ndarray, given: Given, own: np.ndarray, own_weight: float = OWN) -> np.ndarray:
    """(h, w, 2) chroma of a reduced copy: what is given, spread to neighbours of like lightness.

    Args:
        grey: (h, w) float32 from 0 to 1.
        own: (h, w, 2) chroma towards which a place goes, with `own_weight`, where nothing is near.
    """
    height, width = grey.shape
    if height * width > COARSEST:
        half = (max(1, width // 2), max(1, height // 2))
        small_weight = cv2.resize(given.weight, half, interpolation=cv2.INTER_AREA)
        weighted = cv2.resize(given.chroma * given.weight[..., None], half, interpolation=cv2.INTER_AREA)
        small = Given(weighted / np.maximum(small_weight, 1e-6)[..., None], small_weight)
        small_grey, small_own = (cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (grey, own))
        coarse = propagate(small_grey, small, small_own, own_weight * 4)
        start = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        start = None
    matrix = _equations(grey, given.weight + own_weight)
    targets = given.chroma * given.weight[..., None] + own * own_weight
    solved = np.empty((height, width, 2), np.float32)
    scale = sparse.diags(1 / matrix.diagonal())
    for n in range(2):
        right = targets[..., n].ravel().astype(np.float64)
        if start is None:
            solved[..., n] = spsolve(matrix.tocsc(), right).reshape(height, width)
        else:
            begin = start[..., n].ravel().astype(np.float64)
            values, _ = cg(matrix, right, x0=begin, rtol=1e-6, maxiter=ROUNDS, M=scale)
            solved[..., n] = values.reshape(height, width)
    return solved


def _equations(grey: np.ndarray, weight: np.ndarray) -> sparse.csr_matrix:
    """The symmetric matrix of the sum of squared differences between neighbours, and from what each place is given."""
    height, width = grey.shape
    number = np.arange(height * width).reshape(height, width)
    diagonal = weight.ravel().astype(np.float64)
    rows, columns, values = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        ys, xs = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        yt, xt = slice(dy, height), slice(max(0, dx), width + min(0, dx))
        like = np.exp(-((grey[ys, xs] - grey[yt, xt]) ** 2) / (2 * CONTRAST**2)).ravel() + LEAK
        a, b = number[ys, xs].ravel(), number[yt, xt].ravel()
        rows += [a, b]
        columns += [b, a]
        values += [-like, -like]
        diagonal += np.bincount(a, like, len(diagonal)) + np.bincount(b, like, len(diagonal))
    rows.append(number.ravel())
    columns.append(number.ravel())
    values.append(diagonal)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix(entries, shape=(len(diagonal), len(diagonal)))


@dataclass(frozen=True, eq=False)
class Guide:
    """Chroma as a linear function of lightness, for each place of the reduced copy."""

    slope: np.ndarray  # (h, w, 2)
    offset: np.ndarray  # (h, w, 2)


def guide(grey: np.ndarray, chroma: np.ndarray) -> Guide:
    """Fits the chroma of a reduced copy to its lightness, around each place: He, Sun, Tang 2010, "Guided filter"."""
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    mean, mean_chroma = cv2.blur(grey, size), cv2.blur(chroma, size)
    variance = cv2.blur(grey * grey, size) - mean * mean
    covariance = cv2.blur(chroma * grey[..., None], size) - mean_chroma * mean[..., None]
    slope = covariance / (variance + EPSILON)[..., None]
    offset = mean_chroma - slope * mean[..., None]
    return Guide(cv2.blur(slope, size), cv2.blur(offset, size))


def colour_at_full_size(grey: np.ndarray, fitted: Guide) -> np.ndarray:
    """(H, W) of 8 or 16 bits -> (H, W, 3) of the same type, in bands of rows."""
    height, width = grey.shape
    out = np.empty((height, width, 3), grey.dtype)
    planes = np.concatenate([fitted.slope, fitted.offset], 2).astype(np.float32)
    columns = ((np.arange(width) + 0.5) * planes.shape[1] / width - 0.5).astype(np.float32)
    for rows in _bands(height):
        lines = ((np.arange(rows.start, rows.stop) + 0.5) * planes.shape[0] / height - 0.5).astype(np.float32)
        x, y = np.meshgrid(columns, lines)
        local = cv2.remap(planes, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        level = grey[rows].astype(np.float32)[..., None] / np.iinfo(grey.dtype).max
        out[rows] = coloured(grey[rows], local[..., :2] * level + local[..., 2:])
    return out


def _bands(height: int) -> Iterator[slice]:
    return (slice(top, min(top + BANDS, height)) for top in range(0, height, BANDS))


# A reference.

CELL = 5  # side in pixels of the reduced copy
NEIGHBOURS = 12  # places of the reference that decide together
AGREEMENT = 0.06  # difference in chroma of places that agree
FACE_ZONE = (2.2, 1.3, 4.0)  # of a person around a face: to each side, above and below its middle, in widths of it
PLACE, FACE_PLACE = 0.35, 0.25  # weight of the place in the picture, and beside a face, against lightness
FAR = 0.15  # difference of features at which a place counts half as much
TEXTURE, CONTEXT = 0.5, 0.6  # weights of texture, and of the lightness around
FROM_REFERENCE = 0.2  # weight of a place that is sure

Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True, eq=False)
class Look:
    """A reduced copy as it is compared: its grey, and the boxes of its faces in its pixels."""

    grey: np.ndarray  # (h, w) float32 from 0 to 1
    faces: Sequence[Box]
    is_opaque: np.ndarray | None = None  # (h, w) bool: what is not transparent

    @property
    def opaque(self) -> np.ndarray:
        """The lightness of what is not transparent."""
        return self.grey if self.is_opaque is None or not self.is_opaque.any() else self.grey[self.is_opaque]


def from_reference(photo: Look, reference: Look, chroma: np.ndarray) -> Given:
    """The chroma of the places of a reference that look like each place of a photo.

    Who is on both photos is compared with the person that looks most alike, place by place around the face; all else
    with what is beside nobody.

    Args:
        chroma: (h, w, 2) of the reference.
    """
    height, width = photo.grey.shape
    level = _as_in(photo, reference)
    cells, their = _cells(photo), _cells(reference)
    features, known = _features(level, cells), _features(reference.grey, their)
    means = cv2.blur(chroma, (CELL, CELL))[their[:, 0], their[:, 1]]
    ours, theirs = _beside_faces(photo, cells), _beside_faces(reference, their)
    found, sure = np.zeros((len(cells), 2), np.float32), np.zeros(len(cells), np.float32)
    pairs = _pairs(Look(level, photo.faces), reference)
    for number, (partner, mirrored) in pairs.items():
        here, there = ours.face == number, theirs.face == partner
        if here.any() and there.any():
            place = ours.place[here] * [-1 if mirrored else 1, 1]
            found[here], sure[here] = _nearest(
                _with_place(features[here], place), _with_place(known[there], theirs.place[there]), means[there]
            )
    here, there = ~np.isin(ours.face, list(pairs)), ~np.isin(theirs.face, [partner for partner, _ in pairs.values()])
    if here.any():
        there = there if there.any() else np.ones(len(their), bool)
        found[here], sure[here] = _nearest(features[here], known[there], means[there])
    given, weight = np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.float32)
    given[cells[:, 0], cells[:, 1]], weight[cells[:, 0], cells[:, 1]] = found, sure * FROM_REFERENCE
    return Given(given, weight)


def _pairs(photo: Look, reference: Look) -> dict[int, tuple[int, bool]]:
    """For faces of a photo, by number: the most alike one of the reference, and whether it is so mirrored."""
    if not photo.faces or not reference.faces:
        return {}
    ours, theirs = ([_portrait(look.grey, face) for face in look.faces] for look in (photo, reference))
    costs = np.array([[[_unlike(a, b), _unlike(a, b[:, ::-1])] for b in theirs] for a in ours])
    best = costs.min(2)
    partners = best.argmin(1)
    if len(ours) <= len(theirs):
        partners = linear_sum_assignment(best)[1]
    return {n: (int(partner), bool(costs[n, partner].argmin())) for n, partner in enumerate(partners)}


def _portrait(grey: np.ndarray, face: Box) -> np.ndarray:
    """(9, 7) lightness around a face: from above the hair to the chest."""
    x, y, width, height = face
    blurred = cv2.GaussianBlur(grey, (0, 0), max(0.5, 0.12 * width))
    across, down = np.meshgrid(np.linspace(-1.2, 1.2, 7), np.linspace(-0.8, 2.4, 9))
    places = (x + width * (0.5 + across)).astype(np.float32), (y + height / 2 + width * down).astype(np.float32)
    return cv2.remap(blurred, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _unlike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def _as_in(photo: Look, reference: Look) -> np.ndarray:
    """The lightness of a photo with the mean and spread of the reference's."""
    (mean, deviation), (mean_there, deviation_there) = (
        (g.mean(), g.std()) for g in (look.opaque for look in (photo, reference))
    )
    return ((photo.grey - mean) * (deviation_there / max(deviation, 1e-3)) + mean_there).astype(np.float32)


def _cells(look: Look) -> np.ndarray:
    """(N, 2) y, x of the middle of each cell that is seen."""
    y, x = (np.arange(CELL // 2, side, CELL) for side in look.grey.shape)
    cells = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    return cells if look.is_opaque is None else cells[look.is_opaque[cells[:, 0], cells[:, 1]]]


def _features(level: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(N, F) of cells: lightness, texture, the lightness around, and the place in the picture."""
    height, width = level.shape
    near = cv2.blur(level, (CELL, CELL))
    texture = np.sqrt(np.maximum(cv2.blur(level**2, (9, 9)) - cv2.blur(level, (9, 9)) ** 2, 0))
    around = cv2.GaussianBlur(level, (0, 0), 4 * CELL)
    at = cells[:, 0], cells[:, 1]
    columns = [near[at], TEXTURE * np.log1p(20 * texture[at]) / 2, CONTEXT * around[at]]
    columns += [PLACE * cells[:, 0] / height, PLACE / 2 * np.abs(2 * cells[:, 1] / width - 1)]
    return np.stack(columns, 1)


def _with_place(features: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Features of cells with their places beside a face, which count less the further away they are."""
    return np.concatenate([features[:, :3], FACE_PLACE * np.sign(place) * np.sqrt(np.abs(place))], 1)


@dataclass(frozen=True, eq=False)
class _Beside:
    """Where cells are beside the nearest face."""

    face: np.ndarray  # (N,) its number; -1: no face within `FACE_ZONE`
    place: np.ndarray  # (N, 2) across and down, in widths of the face


def _beside_faces(look: Look, cells: np.ndarray) -> _Beside:
    best, place = np.full(len(cells), np.inf), np.zeros((len(cells), 2))
    face = np.full(len(cells), -1)
    aside, above, below = FACE_ZONE
    for number, (x, y, width, height) in enumerate(look.faces):
        across = (cells[:, 1] - x - width / 2) / width
        down = (cells[:, 0] - y - height / 2) / width
        is_near = (np.abs(across) < aside) & (down > -above) & (down < below)
        distance = np.where(is_near, np.hypot(across, down / 2), np.inf)
        closer = distance < best
        best[closer], face[closer] = distance[closer], number
        place[closer] = np.stack([across, down], 1)[closer]
    return _Beside(face, place)


def _nearest(features: np.ndarray, known: np.ndarray, chroma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) chroma that most of the nearest known places have, and (N,) how sure that is, from 0 to 1."""
    count = min(NEIGHBOURS, len(known))
    distance, index = cKDTree(known).query(features, count)
    near = chroma[index.reshape(len(features), count)]
    distances = np.hypot(*np.moveaxis(near[:, :, None] - near[:, None], -1, 0))
    alike = distances < AGREEMENT
    chosen = alike[np.arange(len(features)), alike.sum(2).argmax(1)].astype(np.float32)
    mean = (near * chosen[..., None]).sum(1) / chosen.sum(1)[:, None]
    far = distance.reshape(len(features), count)[:, 0]
    return mean, (chosen.mean(1) ** 2 / (1 + (far / FAR) ** 2)).astype(np.float32)
