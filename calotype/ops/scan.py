"""Photos on one scan: where each lies, how it is turned, and what is cut.

The lid of the scanner is a smooth colour that surrounds the photos. Each colour that may be it is tried: what differs
from it falls into parts, parts become rectangles, and the colour that explains the most of the scan is the lid. All of
it happens on a reduced copy; the sides of each rectangle are then fitted to edges at full size, below a pixel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from calotype.ops import channels
from calotype.ops.resize import averaged

SIDE = 900  # longer side of the reduced copy, pixels
LID_TOLERANCE = 0.08  # largest difference of the lid from its colour, of the range of values
NOISE = 5.0  # standard deviations of the lid's noise that a photo differs from it
LOWEST, HIGHEST = 0.02, 0.06  # bounds of that difference, of the range of values
FLAT = 0.03  # range of values in 3 x 3 pixels of the lid
PLANE, CURVED = 0.03, 0.15  # of the scan that a lid covers whose colour is fitted as a plane, as a curved surface
LIDS = 4  # colours that are tried as the lid
FITTED = 20_000  # pixels that its colour and its surface are fitted to
SMALLEST = 0.008  # area of a photo, of the scan
FRAGMENT = 0.0004  # area of a part that may belong to a photo
RECTANGULAR = 0.93  # of its rectangle that a part covers
COVERED, SUPPORTED, WORST_SIDE = 0.72, 0.7, 0.1  # of a photo that lost parts to the lid: area, sides, worst side
OPEN, BASE, NEIGHBOUR = 0.5, 0.8, 0.4  # of a photo that lost a whole side to it: area, opposite side, those between
PURE = 0.9  # of what lies outside of the photos that is lid
SMOOTH = 0.7  # of the lid that is wider than `NARROW` pixels of the reduced copy
NARROW = 5
MAX_PARTS = 40  # that differ from the lid; more are the details of one picture
CUTS = 32  # that are tried where photos touch
ON_SCAN = 0.85  # of a photo's rectangle; a smaller part of it is no rectangle any more
FULL = 0.97  # of the scan that photos cover at most; where they cover more there is no lid
NARROWEST, LONGEST = 24, 6  # of a photo: shorter side in pixels of the scan, longer side for one of the shorter
CONTENT = 0.02  # standard deviation inside a photo, of the range of values; less is a sheet of paper
BLANK = 0.97  # of a scan without a photo that is lid; the rest is dust and hairs
REACH = 6.0  # pixels around a side, within which its edge is searched
STRAIGHT, MARGIN, FILLING = 0.3, 0.2, 0.6  # of a single photo's own border: degrees, width, area of the picture in it
BORDER = 0.25  # widest border of a photo, of its side
BORDER_LINE = 0.98  # of a line of pixels that is border
EDGE = 0.5  # of a line of pixels behind the border that may have its colour
EDGE_WIDTH = 1  # of pixels that are part photo and part lid
FAINTEST = 0.0024  # difference of a sky from the lid around it, of the range of values
BESIDE, BAND = 3, 8  # pixels from a side's end to where both are measured, and over how many
CERTAIN = 6.0  # standard deviations of a difference that is there
SHORTEST = 8  # pixels by which a photo is extended
ACROSS, STEPPED = 4.0, 0.85  # pixels inward and outward of the only side with lid beside it; of the side, with a step
EXACT = 0.5  # pixels: a turn that moves no corner further is not made


@dataclass(frozen=True)
class ScannedPhoto:
    """A photo on a scan: a rectangle, in pixels of the scan; its top left corner is (0, 0)."""

    center: tuple[float, float]  # x, y
    size: tuple[float, float]  # height, width
    angle: float  # degrees clockwise by which it lies turned, from -45 to 45

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (x, y) along its width and its height."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return np.array([cos, sin]), np.array([-sin, cos])

    @property
    def corners(self) -> np.ndarray:
        """(4, 2) x, y: top left, top right, bottom right, bottom left, as the photo itself has them."""
        along, down = self.axes
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * self.size[::-1]
        return np.array(self.center) + half[:, :1] * along + half[:, 1:] * down

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of what it covers."""
        low, high = self.corners.min(0), self.corners.max(0)
        return (*map(float, low), *map(float, high - low))

    def scaled(self, factor: float) -> "ScannedPhoto":
        center, size = ((pair[0] * factor, pair[1] * factor) for pair in (self.center, self.size))
        return ScannedPhoto(center, size, self.angle)


@dataclass(frozen=True)
class Scan:
    """What lies on a scan.

    Without photos it is blank, or it has no lid: then one picture fills it.
    """

    photos: tuple[ScannedPhoto, ...] = ()  # in reading order
    lid: tuple[float, ...] = ()  # its colour, 0 to 1 for each channel; empty where there is none

    @property
    def is_blank(self) -> bool:
        return bool(self.lid) and not self.photos

    def moved(self, right: int, down: int) -> "Scan":
        """The same photos on a scan that begins so many pixels farther left and up."""
        photos = (replace(photo, center=(photo.center[0] + right, photo.center[1] + down)) for photo in self.photos)
        return replace(self, photos=tuple(photos))


@dataclass(frozen=True)
class Border:
    """Widths of a plain border, in pixels."""

    top: int = 0
    right: int = 0
    bottom: int = 0
    left: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.right, self.bottom, self.left))


def find_photos(pixels: np.ndarray) -> Scan:
    """Finds the photos on a scan with a white, black or coloured lid.

    A photo may be turned, touch the edge of the scan or go beyond it; a narrow gap to the next one is enough. Its own
    border belongs to it, as far as it differs from the lid.

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
    """
    small = _reduced(pixels)
    is_flat = _is_flat(small)
    layouts = [layout for colour in _lid_colours(small, is_flat) if (layout := _layout(small, is_flat, colour))]
    if not layouts:
        return Scan()
    best = max(layouts, key=lambda layout: layout.explained)
    lid = tuple(float(value) for value in best.lid.colour)
    if best.is_blank:
        return Scan(lid=lid)
    photos = [photo for photo in best.photos if _content(small, photo) > CONTENT]
    photos = [_extended(photo, small, best) for photo in photos]
    if len(photos) == 1 and _has_skyline(photos[0], small, best.lid):
        return Scan()
    factor = max(pixels.shape[:2]) / max(small.shape[:2])
    full = [_fitted(photo.scaled(factor), pixels, best.lid, factor) for photo in photos]
    full = [photo for photo in full if max(NARROWEST, max(photo.size) / LONGEST) <= min(photo.size)]
    if not full or _fills(full, pixels.shape):
        return Scan()
    return Scan(tuple(reading_order(full)), lid)


def reading_order(photos: list[ScannedPhoto]) -> list[ScannedPhoto]:
    """In rows from top to bottom, each from left to right. A photo is in a row if half of it is beside the topmost."""
    left, ordered = list(photos), []
    while left:
        first = min(left, key=lambda photo: photo.center[1])
        row = [photo for photo in left if photo is first or _beside(photo, first)]
        ordered += sorted(row, key=lambda photo: photo.center[0])
        left = [photo for photo in left if photo not in row]
    return ordered


def _beside(a: ScannedPhoto, b: ScannedPhoto) -> bool:
    """Whether half of the lower one of two photos is at the height of the neighbour."""
    (_, top_a, _, height_a), (_, top_b, _, height_b) = a.box, b.box
    shared = min(top_a + height_a, top_b + height_b) - max(top_a, top_b)
    return shared > min(height_a, height_b) / 2


def cut(pixels: np.ndarray, photo: ScannedPhoto, fill: tuple[float, ...]) -> np.ndarray:
    """The photo, turned straight: resampled once, or not at all if it is straight already.

    Where it is resampled, the outermost pixels are left out, as the lid shows in them.

    Args:
        pixels: (H, W, C) of 8 or 16 bits; the result is of the same type.
        fill: of what lies beyond the edge of the scan, 0 to 1 for each channel.
    """
    height, width = (max(1, round(side)) for side in photo.size)
    limit = np.iinfo(pixels.dtype).max
    value = np.rint(np.array(fill) * limit)
    if abs(math.radians(photo.angle)) * math.hypot(height, width) / 2 <= EXACT:
        top, left = round(photo.center[1] - height / 2), round(photo.center[0] - width / 2)
        return _window(pixels, top, left, height, width, value)
    height, width = (max(1, side - 2 * EDGE_WIDTH) for side in (height, width))
    return _turned(pixels, photo, height, width, value)


def is_clipped(photo: ScannedPhoto, shape: tuple[int, ...]) -> bool:
    """Whether a part of its rectangle lies beyond the edge of a scan of this shape, by more than a pixel."""
    corners = photo.corners
    return bool((corners < -1).any() or (corners > np.array(shape[1::-1]) + 1).any())


def measure_border(pixels: np.ndarray) -> Border:
    """The plain border of a photo that lies straight: of one colour on three sides or four, with a straight inner edge.

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
    """
    small = _reduced(pixels)
    factor = max(pixels.shape[:2]) / max(small.shape[:2])
    skip = max(1, round(0.004 * max(small.shape[:2])))  # the edge of the paper, and the lid beside it
    inner = small[skip:-skip, skip:-skip]
    if min(inner.shape[:2]) < 16:
        return Border()
    colours, widths = [], []
    for turns in (0, 1, 2, 3):  # top, right, bottom, left
        lines = np.rot90(inner, turns)
        width, colour = _plain_lines(lines[: int(BORDER * len(lines))])
        widths.append(math.ceil((width + skip + 0.5) * factor) if width else 0)
        colours += [colour] if width else []
    if len(colours) < 3 or np.ptp(colours, 0).max() > LID_TOLERANCE:
        return Border()
    return Border(*widths)


def without_border(pixels: np.ndarray, border: Border) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[border.top : height - border.bottom, border.left : width - border.right]


def _plain_lines(lines: np.ndarray) -> tuple[int, np.ndarray]:
    """How many of the first lines are of one colour, and that colour; 0 where what follows has no straight edge."""
    first = lines[: max(2, len(lines) // 40)]
    colour = np.median(first, (0, 1))
    plain = (channels.largest(np.abs(lines - colour)) < LID_TOLERANCE)[:, 2:-2].mean(1)
    width = 0 if (plain >= BORDER_LINE).all() else int(np.argmin(plain >= BORDER_LINE))
    after = plain[width : width + max(3, len(lines) // 25)]
    return (width if width >= 2 and after.min() < EDGE else 0), colour


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """(h, w, C) float32 from 0 to 1, its longer side `SIDE` at most."""
    factor = min(1.0, SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    small = averaged(pixels, height, width) if factor < 1 else pixels
    return small.astype(np.float32) / np.iinfo(pixels.dtype).max


# The lid.


@dataclass(frozen=True, eq=False)
class _Lid:
    """The colour of the lid, which changes slowly over the scan."""

    colour: np.ndarray  # (C,)
    surface: np.ndarray  # (6, C): of 1, x, y, x², xy, y², where x and y are from -1 to 1
    threshold: float  # what differs more from it is no lid

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(..., C) its colour at positions from -1 to 1, which may be rows and columns that are broadcast."""
        constant, of_x, of_y, of_xx, of_xy, of_yy = self.surface.astype(x.dtype)
        x, y = x[..., None], y[..., None]
        value = (constant + x * (of_x + x * of_xx)) + y * (of_y + y * of_yy) + (x * y) * of_xy
        return self._within_tolerance(value)

    def over(self, height: int, width: int) -> np.ndarray:
        """(height, width, C) float32: its colour at all pixels of a scan."""
        y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
        surface = self.surface.astype(np.float32)
        of_row = np.stack([_terms(x, np.full_like(x, 0)) @ surface, x[:, None] * surface[4] + surface[2]])
        of_row = np.concatenate([of_row, np.broadcast_to(surface[5], (1, *of_row.shape[1:]))])
        value = np.stack([np.ones_like(y), y, y * y], 1) @ of_row.reshape(3, -1)
        return self._within_tolerance(value.reshape(height, width, -1))

    def _within_tolerance(self, value: np.ndarray) -> np.ndarray:
        """Changed in place, a channel at a time: numpy is slow over an axis as short as this."""
        for channel, colour in zip(np.moveaxis(value, -1, 0), self.colour, strict=True):
            np.clip(channel, colour - LID_TOLERANCE, colour + LID_TOLERANCE, out=channel)
        return value


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _is_flat(small: np.ndarray) -> np.ndarray:
    """(h, w) bool: pixels whose neighbours are of the same colour."""
    kernel = np.ones((3, 3), np.uint8)
    span = cv2.dilate(small, kernel) - cv2.erode(small, kernel)
    return channels.largest(span.reshape(small.shape)) < FLAT


def _lid_colours(small: np.ndarray, is_flat: np.ndarray) -> list[np.ndarray]:
    """Colours of flat areas: the most frequent ones at the edges of the scan, then of all of it."""
    rim = np.zeros_like(is_flat)
    width = max(2, round(0.02 * max(is_flat.shape)))
    rim[:width] = rim[-width:] = True
    rim[:, :width] = rim[:, -width:] = True
    colours: list[np.ndarray] = []
    for area, count in ((is_flat & rim, 3), (is_flat, 3)):
        values = small[area]
        for colour in _modes(values[:: max(1, len(values) // FITTED)], count):
            if all(np.abs(colour - known).max() > LID_TOLERANCE / 2 for known in colours):
                colours.append(colour)
    return colours[:LIDS]


def _modes(values: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """The most frequent colours of (N, C) values."""
    for _ in range(count):
        if len(values) < 50:
            return
        bins = np.rint(values * 24).astype(np.int32) @ (32 ** np.arange(values.shape[1], dtype=np.int32))
        colour = values[bins == np.bincount(bins).argmax()].mean(0)
        for _ in range(3):
            colour = values[channels.largest(np.abs(values - colour)) < LID_TOLERANCE].mean(0)
        yield colour
        values = values[channels.largest(np.abs(values - colour)) >= LID_TOLERANCE]


def _fit_lid(small: np.ndarray, colour: np.ndarray, members: np.ndarray) -> tuple[_Lid, np.ndarray]:
    """The lid of this colour, and (h, w) uint8: 1 where a pixel differs from it. Noise is averaged out.

    Args:
        members: (h, w) bool, the pixels that it is fitted to.
    """
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in small.shape[:2])
    rows, columns = np.nonzero(members)
    step = max(1, len(rows) // FITTED)
    rows, columns = rows[::step], columns[::step]
    surface, noise = _surface(x[columns], y[rows], small[rows, columns], float(members.mean()), colour)
    lid = _Lid(np.asarray(colour), surface, float(np.clip(NOISE * noise, LOWEST, HIGHEST)))
    signed = small - lid.over(*small.shape[:2])
    if lid.threshold > LOWEST:
        signed = cv2.blur(signed, (3, 3)).reshape(small.shape)
        lid = replace(lid, threshold=max(LOWEST, lid.threshold / 2))
    mask = (channels.largest(np.abs(signed)) > lid.threshold).astype(np.uint8)
    return lid, cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))  # dust, hairs, bridges between photos


def _surface(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, coverage: float, colour: np.ndarray
) -> tuple[np.ndarray, float]:
    """(6, C) fitted to (N, C) values, and their standard deviation from it. A small share of the scan is no curve."""
    terms = _terms(x, y)
    used = 6 if coverage > CURVED else 3 if coverage > PLANE else 1
    surface = np.zeros((6, values.shape[1]))
    surface[0] = colour
    keep, noise = np.ones(len(terms), bool), LOWEST / NOISE
    for _ in range(3):
        surface[:used] = np.linalg.lstsq(terms[keep][:, :used], values[keep], rcond=None)[0]
        residual = np.abs(values - terms @ surface).max(1)
        noise = 1.4826 * float(np.median(residual))
        keep = residual <= max(3 * noise, 1e-3)
    return surface, noise


# Parts of the scan that are not lid, and their rectangles.


@dataclass(frozen=True, eq=False)
class _Part:
    """A connected part that is not lid."""

    mask: np.ndarray  # (h, w) uint8 of its window, holes filled
    corner: tuple[int, int]  # x, y of the window
    shape: tuple[int, int]  # height, width of the scan
    area: int
    hull: np.ndarray  # (N, 2) x, y
    photo: ScannedPhoto  # the rectangle around it
    covered: float  # of the rectangle, as far as it is on the scan

    @property
    def is_rectangular(self) -> bool:
        return self.covered >= RECTANGULAR


@dataclass(frozen=True, eq=False)
class _ScanLayout:
    """A scan as lid and photos."""

    lid: _Lid
    photos: tuple[ScannedPhoto, ...]
    explained: float  # of the scan

    @property
    def is_blank(self) -> bool:
        return not self.photos


def _layout(small: np.ndarray, is_flat: np.ndarray, colour: np.ndarray) -> _ScanLayout | None:
    """What lies on a lid of this colour; None where nothing does that could be a photo, and it is not blank either.

    A sky or a coat of nearly the lid's colour bends the surface that is fitted to all of the scan. So it is fitted once
    more, outside of the parts that differ from the first one.
    """
    members = is_flat & (channels.largest(np.abs(small - colour)) < LID_TOLERANCE)
    lid, mask = _fit_lid(small, colour, members)
    rectangles = [part.photo for part in _parts(mask, SMALLEST)]
    members &= _filled(rectangles, mask.shape) == 0
    if members.mean() > PLANE:
        lid, mask = _fit_lid(small, colour, members)
    lid_area = 1 - float(mask.mean())
    if lid_area >= BLANK:
        return _ScanLayout(lid, (), lid_area)
    wide = cv2.morphologyEx(1 - mask, cv2.MORPH_OPEN, np.ones((NARROW, NARROW), np.uint8))
    if lid_area == 0 or float(wide.mean()) < SMOOTH * lid_area:
        return None
    if len(_components(mask, mask.shape)[1]) > MAX_PARTS:
        return None
    sections = _merged([section for part in _parts(mask) for section in _separated(part)])
    photos = [section.photo for section in sections if section.area >= SMALLEST * mask.size and _is_photo(section)]
    inside = _filled(photos, mask.shape)
    outside = int((inside == 0).sum())
    if not photos or outside < (1 - FULL) * mask.size or float((mask[inside == 0] == 0).sum()) < PURE * outside:
        return None
    return _ScanLayout(lid, tuple(photos), float(((inside > 0) | (mask == 0)).mean()))


def _filled(photos: list[ScannedPhoto], shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) uint8: 1 inside of these rectangles."""
    mask = np.zeros(shape, np.uint8)
    for photo in photos:
        cv2.fillConvexPoly(mask, np.rint(photo.corners - 0.5).astype(np.int32), 1)
    return mask


def _is_photo(part: _Part) -> bool:
    if not (part.is_rectangular or _has_sides(part) or _has_three_sides(part)):
        return False
    on_scan = _area_on_scan(part.photo.corners, *part.shape)
    return on_scan >= ON_SCAN * part.photo.size[0] * part.photo.size[1]


def _components(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, list[list[int]]]:
    """Labels of a mask's connected parts, and of each its label, box and area: the largest first, specks left out."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    min_area = max(4.0, FRAGMENT * shape[0] * shape[1])
    numbers = sorted(range(1, count), key=lambda n: -stats[n, cv2.CC_STAT_AREA])[: MAX_PARTS + 1]
    return labels, [[n, *map(int, stats[n])] for n in numbers if stats[n, cv2.CC_STAT_AREA] >= min_area]


def _parts(
    mask: np.ndarray, smallest: float = 0.0, corner: tuple[int, int] = (0, 0), shape: tuple[int, ...] = ()
) -> list[_Part]:
    """The connected parts of a mask, the largest first; specks are left out.

    Args:
        mask: a window whose top left corner is `corner`, x and y, in a scan of this shape; all of it where not given.
        smallest: their area with holes filled, of the scan.
    """
    shape = shape or mask.shape
    labels, components = _components(mask, shape)
    min_area, found = smallest * shape[0] * shape[1], []
    for number, x, y, width, height, _ in components:
        if width * height >= min_area:
            window = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
            found.append(_part(window, (corner[0] + x, corner[1] + y), shape))
    return [part for part in found if part.area >= min_area]


def _part(mask: np.ndarray, corner: tuple[int, int], shape: tuple[int, ...]) -> _Part:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)
    points = np.concatenate(contours)[:, 0] + np.array(corner)
    corners = np.concatenate([points + np.array(step) for step in np.ndindex(2, 2)])  # of pixels, not their middles
    hull = cv2.convexHull(corners.astype(np.float32))[:, 0]
    photo, on_scan = _rectangle(hull, shape)
    area = int(filled.sum())
    return _Part(filled, corner, (shape[0], shape[1]), area, hull, photo, area / max(on_scan, 1.0))


def _together(a: _Part, b: _Part) -> _Part:
    left, top = (min(a.corner[n], b.corner[n]) for n in (0, 1))
    right, bottom = (max(p.corner[n] + p.mask.shape[1 - n] for p in (a, b)) for n in (0, 1))
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for part in (a, b):
        x, y = part.corner[0] - left, part.corner[1] - top
        mask[y : y + part.mask.shape[0], x : x + part.mask.shape[1]] |= part.mask
    return _part(mask, (left, top), a.shape)


def _rectangle(hull: np.ndarray, shape: tuple[int, ...]) -> tuple[ScannedPhoto, float]:
    """The rectangle of which a hull covers the most on the scan, and the area of it there.

    Its angle is one of the hull's sides that are not sides of the scan: so it is right where the scan cuts it off.
    """
    height, width = shape[:2]
    ends = np.roll(hull, -1, 0)
    vectors, middles = ends - hull, (ends + hull) / 2
    lengths = np.hypot(*vectors.T)
    inside = (np.minimum(middles, [width, height] - middles) > 1).all(1)
    usable = inside & (lengths >= min(8.0, lengths.max() / 2)) if inside.any() else np.ones(len(hull), bool)
    usable = usable if usable.any() else np.ones(len(hull), bool)
    angles = np.degrees(np.arctan2(vectors[usable, 1], vectors[usable, 0]))
    angles = np.unique(np.round((angles + 45) % 90 - 45, 2))
    photos = _around(hull, angles)
    areas = [_area_on_scan(photo.corners, height, width) for photo in photos]
    best = int(np.argmin(areas))
    return photos[best], max(areas[best], cv2.contourArea(hull))


def _around(points: np.ndarray, angles: np.ndarray) -> list[ScannedPhoto]:
    """The rectangles of these angles around (N, 2) points."""
    turns = np.radians(angles)
    along, down = np.array([np.cos(turns), np.sin(turns)]), np.array([-np.sin(turns), np.cos(turns)])  # (2, angles)
    x, y = points @ along, points @ down
    centers = ((x.min(0) + x.max(0)) / 2 * along + (y.min(0) + y.max(0)) / 2 * down).T
    sizes = np.stack([np.ptp(y, 0), np.ptp(x, 0)], 1)
    return [
        ScannedPhoto(tuple(center), tuple(size), angle)
        for center, size, angle in zip(centers.tolist(), sizes.tolist(), angles.tolist(), strict=True)
    ]


def _area_on_scan(corners: np.ndarray, height: int, width: int) -> float:
    """Of a rectangle, as far as it is on a scan of this size."""
    if corners.min() >= 0 and corners[:, 0].max() <= width and corners[:, 1].max() <= height:
        return float(np.hypot(*(corners[1] - corners[0])) * np.hypot(*(corners[2] - corners[1])))
    return _shared_area(corners, np.array([[0, 0], [width, 0], [width, height], [0, height]], float))


def _separated(part: _Part) -> Iterator[_Part]:
    """Photos that touch: cut where the outline of a part is concave, if all sections are rectangles then."""
    sections = None if part.is_rectangular or _has_sides(part) else _fewest_cuts(part)
    yield from sections or (part,)


def _fewest_cuts(part: _Part) -> list[_Part] | None:
    budget = iter(range(CUTS))
    return next((sections for cuts in (1, 2, 3) if (sections := _cut_up(part, cuts, budget))), None)


def _cut_up(part: _Part, cuts: int, budget: Iterator[int]) -> list[_Part] | None:
    """The part in sections that are rectangles, by so many cuts; None where the budget of tries is spent before."""
    if part.is_rectangular:
        return [part]
    if not cuts:
        return None
    for start, direction in _concave(part):
        if next(budget, None) is None:
            return None
        line = part.mask.copy()
        reach = direction * max(line.shape) * 2
        ends = [tuple(int(v) for v in np.rint(start + sign * reach)) for sign in (-1, 1)]
        cv2.line(line, *ends, 0, 3)
        sections = _parts(line, SMALLEST / 2, part.corner, part.shape)
        if len(sections) < 2 or max(section.covered for section in sections) < RECTANGULAR:
            continue
        rest = [_cut_up(section, cuts - 1, budget) for section in sections]
        if all(rest):
            return [section for found in rest for section in found]
    return None


def _concave(part: _Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points where the outline turns inwards, the deepest first, with directions of the sides beside them."""
    contour = max(cv2.findContours(part.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=cv2.contourArea)
    contour = cv2.approxPolyDP(contour, 2.0, True)
    hull = cv2.convexHull(contour, returnPoints=False)
    hull[::-1].sort(0)
    defects = cv2.convexityDefects(contour, hull) if len(hull) > 3 else None
    min_length = 0.03 * math.sqrt(part.area)
    for _, _, number, depth in sorted([] if defects is None else defects.reshape(-1, 4), key=lambda row: -row[3])[:4]:
        if depth / 256 < min_length:
            return
        point = contour[number, 0].astype(float)
        for neighbour in (contour[number - 1, 0], contour[(number + 1) % len(contour), 0]):
            side = neighbour - point
            length = float(np.hypot(*side))
            if length >= min_length:
                yield point, side / length
                yield point, np.array([-side[1], side[0]]) / length


def _merged(parts: list[_Part]) -> list[_Part]:
    """Parts of one photo put together, where some of it has the colour of the lid."""
    whole = [part for part in parts if part.is_rectangular]
    sections = sorted((part for part in parts if not part.is_rectangular), key=lambda part: -part.area)
    while sections:
        part = sections.pop(0)
        for neighbour in [*sections, *(p for p in whole if p.area < part.area)]:
            if not _overlap(part.photo, neighbour.photo):
                continue
            both = _together(part, neighbour)
            if both.covered > part.covered:
                part = both
                sections = [section for section in sections if section is not neighbour]
                whole = [section for section in whole if section is not neighbour]
        whole.append(part)
    alone = [
        part for part in whole if not any(_is_within(part, neighbour) for neighbour in whole if neighbour is not part)
    ]
    return alone


def _overlap(a: ScannedPhoto, b: ScannedPhoto) -> bool:
    shared = _shared_area(a.corners, b.corners)
    return shared > 0.5 * min(a.size[0] * a.size[1], b.size[0] * b.size[1])


def _shared_area(a: np.ndarray, b: np.ndarray) -> float:
    """Of two (N, 2) convex polygons, clockwise as seen: one is clipped at each side of the other (Sutherland, Hodgman).

    OpenCV's own function finds nothing where two are almost the same.
    """
    points = a.tolist()
    for (x, y), (x_end, y_end) in zip(b.tolist(), np.roll(b, -1, 0).tolist(), strict=True):
        dx, dy = x_end - x, y_end - y
        sides = [dx * (py - y) - dy * (px - x) for px, py in points]
        clipped = []
        for n, (point, side) in enumerate(zip(points, sides, strict=True)):
            before, side_before = points[n - 1], sides[n - 1]
            if (side >= 0) != (side_before >= 0):
                fraction = side_before / (side_before - side)
                clipped.append(tuple(p + fraction * (q - p) for p, q in zip(before, point, strict=True)))
            if side >= 0:
                clipped.append(point)
        points = clipped
    cross = (points[n - 1][0] * py - points[n - 1][1] * px for n, (px, py) in enumerate(points))
    return abs(sum(cross)) / 2


def _is_within(part: _Part, neighbour: _Part) -> bool:
    return neighbour.area > part.area and _overlap(part.photo, neighbour.photo)


def _has_sides(part: _Part) -> bool:
    """Whether the outline follows the sides of the rectangle, though the photo has the lid's colour in places."""
    if part.covered < COVERED:
        return False
    fractions = [fraction for fraction, on_scan in _followed(part) if on_scan > 0.3]
    return bool(fractions) and float(np.mean(fractions)) >= SUPPORTED and min(fractions) >= WORST_SIDE


def _has_three_sides(part: _Part) -> bool:
    """Whether the outline follows a side and begins to follow both beside it, all on the lid: where the sky of a photo
    has the lid's colour, its fourth side is where the longer of these two ends.
    """
    if part.covered < OPEN:
        return False
    sides = [fraction if on_scan == 1 else 0.0 for fraction, on_scan in _followed(part)]
    return any(
        sides[n] >= BASE and min(sides[n - 1], sides[(n + 1) % 4]) >= NEIGHBOUR and _is_open(part, n) for n in range(4)
    )


def _is_open(part: _Part, base: int) -> bool:
    """Whether all that a part lacks of its rectangle reaches the side opposite of the base."""
    height, width = part.mask.shape
    corners = part.photo.corners - 0.5 - part.corner
    whole = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), np.rint(corners).astype(np.int32), 1)
    lacking = whole & (1 - part.mask)
    start, end = corners[(base + 2) % 4], corners[(base + 3) % 4]
    side = cv2.line(np.zeros_like(whole), *(tuple(np.rint(p).astype(int).tolist()) for p in (start, end)), 1, 7)
    _, labels = cv2.connectedComponents(lacking)
    reached = np.isin(labels, np.unique(labels[(side > 0) & (lacking > 0)])) & (lacking > 0)
    return float(reached.sum()) >= PURE * float(lacking.sum())


def _followed(part: _Part) -> Iterator[tuple[float, float]]:
    """Of each side (top, right, bottom, left): how much of it on the scan the outline follows, how much is there."""
    mask = cv2.copyMakeBorder(part.mask, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=0)
    kernel = np.ones((3, 3), np.uint8)
    near = cv2.dilate(cv2.dilate(mask, kernel) - cv2.erode(mask, kernel), kernel)
    (height, width), shift = part.shape, np.array(part.corner) - 3
    corners = part.photo.corners - 0.5
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        points = np.rint(start + np.linspace(0.03, 0.97, 200)[:, None] * (end - start)).astype(int)
        on_scan = ((points >= -1) & (points <= [width, height])).all(1)
        x, y = np.clip(points[on_scan] - shift, 0, np.array(near.shape[::-1]) - 1).T
        yield float(near[y, x].mean()) if on_scan.any() else 0.0, float(on_scan.mean())


def _content(small: np.ndarray, photo: ScannedPhoto) -> float:
    """Standard deviation inside a photo, without its rim."""
    inner = replace(photo, size=(photo.size[0] * 0.9, photo.size[1] * 0.9))
    mask = cv2.fillConvexPoly(np.zeros(small.shape[:2], np.uint8), np.rint(inner.corners).astype(np.int32), 1)
    return float(small[mask > 0].std(0).max()) if mask.any() else 0.0


def _fills(photos: list[ScannedPhoto], shape: tuple[int, ...]) -> bool:
    """Whether a single photo fills the scan: without a lid, or with a border, narrow, straight and on all sides."""
    if len(photos) != 1 or abs(photos[0].angle) > STRAIGHT:
        return False
    height, width = shape[:2]
    left, top, box_width, box_height = photos[0].box
    if box_width * box_height >= FULL * height * width:
        return True
    margins = left / width, top / height, 1 - (left + box_width) / width, 1 - (top + box_height) / height
    return min(margins) > 0.005 and max(margins) < MARGIN and box_width * box_height > FILLING * height * width


def _has_skyline(photo: ScannedPhoto, small: np.ndarray, lid: _Lid) -> bool:
    """Whether the lid is a plain sky or water: it lies beside one side alone, and that side is not straight."""
    limits = np.array(small.shape[1::-1])
    corners, middle = photo.corners, np.array(photo.center)
    stepped = []
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        outward = (start + end) / 2 - middle
        outward *= ACROSS / max(1e-6, float(np.hypot(*outward)))
        points = (start + np.linspace(0.04, 0.96, 200)[:, None] * (end - start))[None] + [[outward], [-outward]]
        on_scan = ((points > 1) & (points < limits - 1)).all((0, 2))
        if on_scan.mean() < OPEN:
            continue
        column, row = np.floor(points[:, on_scan]).astype(int).transpose(2, 0, 1)
        x, y = np.moveaxis(2 * points[:, on_scan] / limits - 1, 2, 0)
        outside, inside = channels.largest(np.abs(small[row, column] - lid.at(x, y))) > lid.threshold
        stepped.append(float((~outside & inside).mean()))
    return len(stepped) == 1 and stepped[0] < STEPPED


# Skies that hardly differ from the lid.


def _extended(photo: ScannedPhoto, small: np.ndarray, layout: _ScanLayout) -> ScannedPhoto:
    """The photo with what follows beyond a side and differs from the lid by less than a pixel shows, such as a sky.

    Over all rows along both of the sides beside it, the difference shows all the same.
    """
    for turns in range(4):
        grown = _grown(_quarter(photo, turns), small, layout)
        photo = _quarter(grown, -turns)
    return photo


def _quarter(photo: ScannedPhoto, turns: int) -> ScannedPhoto:
    """The same place, described with another of its sides as the upper one."""
    size = photo.size if turns % 2 == 0 else photo.size[::-1]
    return ScannedPhoto(photo.center, size, photo.angle + 90 * turns)


def _grown(photo: ScannedPhoto, small: np.ndarray, layout: _ScanLayout) -> ScannedPhoto:
    """The photo, extended at its upper side where something faint goes on there."""
    height, width = photo.size
    strip = _strip_above(photo, small, layout)
    rim = BESIDE + BAND
    if len(strip) < SHORTEST + BAND or width < 4 * rim:
        return photo
    outer = strip[:, :BAND], strip[:, -BAND:]
    inner = strip[:, rim + BESIDE : 2 * rim], strip[:, -2 * rim : -rim - BESIDE]
    steps = np.stack([i.mean(1) - o.mean(1) for i, o in zip(inner, outer, strict=True)])  # (2, rows, C)
    channel = int(np.abs(steps[:, : len(strip) // 2].mean((0, 1))).argmax())
    steps, level = steps[..., channel], strip[:, rim:-rim, channel].mean(1)
    rows = _step_length(steps.mean(0))
    if not SHORTEST <= rows <= len(strip) - BAND:
        return photo
    ends = level[rows - BAND : rows - 1].mean() - level[rows + 1 : rows + BAND].mean()
    if not _is_sky(steps[:, :rows], float(ends)):
        return photo
    _, down = photo.axes
    center = np.array(photo.center) - rows / 2 * down
    return ScannedPhoto((float(center[0]), float(center[1])), (height + rows, width), photo.angle)


def _is_sky(steps: np.ndarray, end: float) -> bool:
    """Whether there is a step at both sides and at the end, of one sign and about as high.

    Args:
        steps: (2, rows) by how much what is inside differs from what is outside, at each side.
        end: the same at the end of the rows, over all of its length.
    """
    mean = float(steps.mean())
    sides = steps.mean(1) * math.copysign(1.0, mean)
    noise = np.array([_row_noise(step) for step in steps]) / math.sqrt(steps.shape[1])
    lowest = max(FAINTEST, abs(mean)) / 2
    return bool(
        abs(mean) >= FAINTEST
        and (sides > np.maximum(CERTAIN * noise, lowest)).all()
        and math.copysign(end, end * mean) > lowest
    )


def _strip_above(photo: ScannedPhoto, small: np.ndarray, layout: _ScanLayout) -> np.ndarray:
    """(rows, columns, C) by how much the scan differs from the lid above a photo, from its upper side outwards.

    As far as the scan and the lid go there, and at most as far as the longer side of the photo.
    """
    along, down = photo.axes
    height, width = photo.size
    rim = BESIDE + BAND
    columns = np.arange(-rim, round(width) + rim) - width / 2 + 0.5
    rows = np.arange(1.5, max(height, width)) + height / 2
    points = np.array(photo.center) + columns[None, :, None] * along - rows[:, None, None] * down
    limits = np.array(small.shape[1::-1])
    on_scan = ((points > 1) & (points < limits - 1)).all(2).all(1)
    maps = (np.float32(points[..., n] - 0.5) for n in (0, 1))
    values = cv2.remap(small, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    x, y = np.moveaxis(2 * points / limits - 1, 2, 0)
    signed = values.reshape(*points.shape[:2], -1) - layout.lid.at(x, y)
    is_lid = on_scan & ((channels.largest(np.abs(signed)) > 2 * layout.lid.threshold).mean(1) < 0.02)
    return signed[: len(is_lid) if is_lid.all() else int(np.argmin(is_lid))]


def _row_noise(step: np.ndarray) -> float:
    """Standard deviation of the rows' differences, from neighbouring rows."""
    return max(1.4826 / math.sqrt(2) * float(np.median(np.abs(np.diff(step)))), 1e-4)


def _step_length(step: np.ndarray) -> int:
    """How many of the first rows differ from 0, if the others don't: the split that leaves the smallest error."""
    total = np.cumsum(step)
    return int(np.argmax(total**2 / np.arange(1, len(step) + 1))) + 1


# Sides below a pixel, at full size.


def _fitted(photo: ScannedPhoto, pixels: np.ndarray, lid: _Lid, factor: float) -> ScannedPhoto:
    """The rectangle with its sides at the edges of the photo. `factor`: pixels for one of the reduced copy."""
    for reach in (REACH, REACH, REACH / 2):
        photo = _moved(photo, pixels, lid, reach * factor, factor)
    return photo


def _moved(photo: ScannedPhoto, pixels: np.ndarray, lid: _Lid, reach: float, factor: float) -> ScannedPhoto:
    along, down = photo.axes
    height, width = photo.size
    sides = (  # outward, direction, half of the length, distance from the middle, sign of a turn
        (-down, along, width / 2, height / 2, -1),
        (along, down, height / 2, width / 2, -1),
        (down, along, width / 2, height / 2, 1),
        (-along, down, height / 2, width / 2, 1),
    )
    found = [_edge(photo, pixels, lid, side, reach, factor) for side in sides]
    weights = [0.0 if edge is None else edge[2] for edge in found]
    turn = 0.0
    if sum(weights) > 0:
        turn = sum(w * side[4] * edge[1] for w, side, edge in zip(weights, sides, found, strict=True) if edge)
        turn /= sum(weights)
    top, right, bottom, left = (0.0 if edge is None else edge[0] for edge in found)
    center = np.array(photo.center) + (right - left) / 2 * along + (bottom - top) / 2 * down
    angle = photo.angle + math.degrees(math.atan(turn))
    size = max(1.0, height + top + bottom), max(1.0, width + left + right)
    return ScannedPhoto((float(center[0]), float(center[1])), size, angle)


def _edge(
    photo: ScannedPhoto, pixels: np.ndarray, lid: _Lid, side: tuple, reach: float, factor: float
) -> tuple[float, float, float] | None:
    """How far outward the edge lies in the middle of a side, its slope, and the weight of that; None where none is."""
    from scipy.ndimage import uniform_filter1d  # only for photos on a scan: it takes a third of a second

    outward, direction, half, distance, _ = side
    count = int(np.clip(2 * half / factor, 24, 600))
    along = np.linspace(-0.92 * half, 0.92 * half, count)
    outside = np.arange(reach, -reach - 0.01, -factor / 2)  # from the lid inwards
    middle = np.array(photo.center) + outward * distance
    points = middle + along[:, None, None] * direction + outside[None, :, None] * outward
    x, y = points[..., 0], points[..., 1]
    height, width = pixels.shape[:2]
    is_there = (np.minimum(x, width - x) > factor) & (np.minimum(y, height - y) > factor)
    values = _sampled(pixels, x, y, factor)
    signed = values - lid.at(2 * x / width - 1, 2 * y / height - 1)
    difference = channels.largest(np.abs(uniform_filter1d(signed, 5, axis=0)))
    difference[~is_there] = 0
    over = (difference[:, :-1] > lid.threshold) & (difference[:, 1:] > lid.threshold)
    first = over.argmax(1)
    used = over.any(1) & (first > 0) & is_there[np.arange(count), np.maximum(first - 1, 0)]
    if used.sum() < max(12, 0.2 * count):
        return None
    offsets = _crossings(difference[used], first[used], outside, lid.threshold)
    return _line(along[used], offsets, half)


def _crossings(difference: np.ndarray, first: np.ndarray, outside: np.ndarray, threshold: float) -> np.ndarray:
    """Where each row comes to half of what it is inside, interpolated."""
    rows, last = np.arange(len(difference)), difference.shape[1] - 1
    level = difference[rows, np.minimum(first + 5, last)]
    over = difference > np.maximum(threshold, level / 2)[:, None]
    over &= np.arange(last + 1) >= first[:, None]
    at = np.where(over.any(1), over.argmax(1), first)
    before, after = difference[rows, at - 1], difference[rows, at]
    half = np.maximum(threshold, level / 2)
    fraction = np.clip((half - before) / np.maximum(after - before, 1e-6), 0, 1)
    return outside[at - 1] + fraction * (outside[at] - outside[at - 1])


def _line(along: np.ndarray, offsets: np.ndarray, half: float) -> tuple[float, float, float]:
    """A line through most of the points: its value in the middle, its slope, and the weight of the slope."""
    shift = max(1, len(along) // 2)
    slope = float(np.median((offsets[shift:] - offsets[:-shift]) / (along[shift:] - along[:-shift])))
    middle = float(np.median(offsets - slope * along))
    weights = np.ones_like(along)
    for _ in range(8):
        residual = offsets - middle - slope * along
        deviation = max(1.4826 * float(np.median(np.abs(residual))), 1e-3)
        weights = np.clip(1 - (residual / (4 * deviation)) ** 2, 0, None) ** 2
        total = weights.sum()
        mean_x, mean_y = (weights * along).sum() / total, (weights * offsets).sum() / total
        variance = (weights * (along - mean_x) ** 2).sum()
        slope = float((weights * (along - mean_x) * (offsets - mean_y)).sum() / max(variance, 1e-9))
        middle = float(mean_y - slope * mean_x)
    return middle, slope, float(variance / deviation**2)


def _sampled(pixels: np.ndarray, x: np.ndarray, y: np.ndarray, factor: float) -> np.ndarray:
    """(..., C) from 0 to 1 at positions whose (0, 0) is the corner of the picture; the mean of some around each."""
    height, width = pixels.shape[:2]
    steps = (0.0,) if factor < 1.5 else (-factor / 3, 0.0, factor / 3)
    total = 0.0
    for dy in steps:
        for dx in steps:
            total = total + _bilinear(pixels, np.clip(x + dx, 0, width) - 0.5, np.clip(y + dy, 0, height) - 0.5)
    return total / (len(steps) ** 2 * np.iinfo(pixels.dtype).max)


def _bilinear(pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    left, top = (np.clip(np.floor(v), 0, None).astype(int) for v in (x, y))
    left, top = np.minimum(left, width - 1), np.minimum(top, height - 1)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (np.clip(v, 0, 1)[..., None].astype(np.float32) for v in (x - left, y - top))
    upper = pixels[top, left] * (1 - fx) + pixels[top, right] * fx
    lower = pixels[bottom, left] * (1 - fx) + pixels[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def _window(pixels: np.ndarray, top: int, left: int, height: int, width: int, value: np.ndarray) -> np.ndarray:
    """A window that may exceed the edges; what lies beyond them has this value."""
    rows, columns = slice(max(0, top), top + height), slice(max(0, left), left + width)
    part = pixels[rows, columns]
    if part.shape[:2] == (height, width):
        return part.copy()
    out = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    out[:] = value
    y, x = max(0, -top), max(0, -left)
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out


def _turned(pixels: np.ndarray, photo: ScannedPhoto, height: int, width: int, value: np.ndarray) -> np.ndarray:
    """The photo by a Lanczos filter of eight pixels, from the part of the scan that it needs."""
    rim = 8
    left, top, box_width, box_height = photo.box
    left, top = math.floor(left) - rim, math.floor(top) - rim
    window = _window(pixels, top, left, math.ceil(box_height) + 2 * rim + 1, math.ceil(box_width) + 2 * rim + 1, value)
    along, down = photo.axes
    corner = np.array(photo.center) - (width * along + height * down) / 2  # the middle of its pixel is half a step in
    first = corner + (along + down) / 2 - [left, top] - 0.5
    matrix = np.stack([along, down, first], 1)  # of the result's pixels to the window's
    turned = cv2.warpAffine(
        window,
        matrix,
        (width, height),
        flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(value.tolist()),
    )
    return turned.reshape(height, width, -1)
