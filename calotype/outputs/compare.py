"""Pictures for display: 8 bits, sRGB, limited in size."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont

from calotype.picture import Metadata, Picture, save, scaled_size
from calotype.picture.alpha import on_white

SAME_SHAPE = 0.02  # of the width, by which proportions may differ
MAX_SIDE = 8192  # longer side of a comparison in pixels; few programs open larger ones
BACKGROUND, TEXT_COLOR, GAP = (250, 249, 246), (96, 90, 82), 0.004
ACCENT, LIGHT, NUMBER = (160, 84, 20), (255, 255, 255), 0.06  # of outlines; size of their numbers, of the longer side


@dataclass(frozen=True)
class Window:
    """A region of a picture, in its pixels; may exceed the edges, where it is clipped."""

    x: float
    y: float
    width: float
    height: float

    def clipped(self, height: int, width: int, scale: tuple[float, float]) -> tuple[slice, slice]:
        """Rows and columns in a picture that is `scale` (vertical, horizontal) times as large; at least one pixel."""
        top, left = (max(0, int(v * s)) for v, s in zip((self.y, self.x), scale, strict=True))
        bottom = min(height, max(top + 1, round((self.y + self.height) * scale[0])))
        right = min(width, max(left + 1, round((self.x + self.width) * scale[1])))
        return slice(min(top, height - 1), bottom), slice(min(left, width - 1), right)


def shown(picture: Picture, max_side: int, region: tuple[slice, slice] | None = None) -> Image.Image:
    """The picture, or a region of it, on white, as RGB in sRGB, its longer side at most `max_side` pixels."""
    rows, columns = region or (slice(None), slice(None))
    pixels, alpha = picture.pixels[rows, columns], picture.alpha
    if alpha is not None:
        pixels = on_white(pixels, alpha[rows, columns])
    return _srgb(shown_pixels(pixels, max_side), picture.metadata.icc)


def outlined(picture: Picture, outlines: Sequence[np.ndarray], max_side: int) -> Image.Image:
    """As `shown`, with outlines, (N, 2) of x and y in pixels of the picture, and their numbers from 1."""
    image = shown(picture, max_side)
    scale = np.array(image.size) / picture.pixels.shape[1::-1]
    draw, width = ImageDraw.Draw(image), max(2, round(0.004 * max(image.size)))
    font = ImageFont.load_default(NUMBER * max(image.size))
    for number, outline in enumerate(outlines, 1):
        points = [tuple(point) for point in (outline * scale).tolist()]
        draw.polygon(points, outline=LIGHT, width=3 * width)
        draw.polygon(points, outline=ACCENT, width=width)
        draw.text(
            np.mean(points, 0).tolist(), str(number), LIGHT, font, "mm", stroke_width=2 * width, stroke_fill=ACCENT
        )
    return image


def shown_pixels(pixels: np.ndarray, max_side: int) -> Image.Image:
    """(H, W, C) pixels as an 8-bit image; downscaled first, so that a huge picture is not copied."""
    height, width = pixels.shape[:2]
    size = _within((width, height), max_side)
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels))


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    return scaled_size(size, min(1.0, max_side / max(size)))


def _srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # an invalid profile: displayed as sRGB
    return image.convert("RGB")


def fitted_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in this width and height; one of other proportions, such as the scan of a photo, is not distorted."""
    if abs(image.width * size[1] - image.height * size[0]) <= SAME_SHAPE * image.height * size[0]:
        return image.resize(size, Image.Resampling.BICUBIC)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    sheet = Image.new("RGB", size, BACKGROUND)
    corner = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    sheet.paste(image.resize(inner, Image.Resampling.BICUBIC), corner)
    return sheet


def side_by_side(before: Picture, after: Picture) -> Image.Image:
    """Before, as large as after, and after; side by side, or stacked if they are very wide."""
    height, width = after.pixels.shape[:2]
    stacked = width > 2 * height
    max_side = MAX_SIDE if max(width, height) * 2 <= MAX_SIDE else MAX_SIDE // 2
    right = shown(after, max_side)
    left = fitted_to(shown(before, max_side), right.size)
    gap = max(2, round(GAP * max(right.size)))
    band = max(22, round(0.045 * min(1600, max(right.size))))
    cell = (right.width, right.height + band)
    corners = [(0, 0), (0, cell[1] + gap) if stacked else (cell[0] + gap, 0)]
    sheet = Image.new("RGB", (corners[1][0] + cell[0], corners[1][1] + cell[1]), BACKGROUND)
    for image, corner, label in ((left, corners[0], "before"), (right, corners[1], "after")):
        sheet.paste(image, corner)
        _label(sheet, corner[0], corner[1] + image.height, cell[0], band, label)
    return sheet


def _label(sheet: Image.Image, x: int, y: int, width: int, band: int, text: str) -> None:
    font = ImageFont.load_default(size=band * 0.55)
    ImageDraw.Draw(sheet).text((x + width / 2, y + band / 2), text, TEXT_COLOR, font, anchor="mm")


def save_comparison(before: Picture, after: Picture, path: Path) -> None:
    """Writes `side_by_side` as JPEG. Raises CalotypeError where it can't be written."""
    sheet = side_by_side(before, after)
    save(Picture(np.asarray(sheet), metadata=Metadata()), path, format="jpeg", quality=92)
