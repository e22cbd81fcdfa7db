"""Pictures with numbers on them, by which people choose: faces in boxes, the nine regions of a grid."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

ACCENT = (214, 120, 40)
SIDE = 1024  # of a picture to choose on, at most
GRID = 3  # regions in a row, and rows
REGIONS = GRID**2

Box = tuple[float, float, float, float]  # x, y, width, height


def draw_boxes(image: "Image.Image", boxes: Iterable[tuple[int, Box]], size: int) -> None:
    """Draws boxes in pixels of the image, each with its number above it, or below where there is no room above, so that
    it covers no face. `size`: of the digits, in pixels."""
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=size)
    for number, (x, y, width, height) in boxes:
        draw.rectangle((x, y, x + width, y + height), outline=ACCENT, width=3)
        right, bottom = draw.textbbox((0, 0), str(number), font)[2:]
        wide, high = right + 8, bottom + 6
        left, top = max(0, min(x, image.width - wide - 1)), y - high
        if top < 0:
            top = y + height if y + height + high < image.height else 0
        draw.rectangle((left, top, left + wide, top + high), fill=ACCENT)
        draw.text((left + 4, top + 2), str(number), (255, 255, 255), font)


def numbered_faces(photo: Path, boxes: Iterable[tuple[int, Box]], max_pixels: int) -> bytes:
    """A small copy of a photo with its faces numbered, as JPEG. `boxes`: in pixels of the upright photo.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    from calotype.picture import decoder

    return decoder.read(_numbered_faces_here, photo, tuple(boxes), max_pixels=max_pixels)


def numbered_regions(picture: Path, max_pixels: int) -> bytes:
    """A small copy of a picture under a grid of nine regions, numbered row by row from 1, as JPEG.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    from calotype.picture import decoder

    return decoder.read(_numbered_regions_here, picture, max_pixels=max_pixels)


def region_mask(width: int, height: int, regions: Iterable[int]) -> bytes:
    """A mask of this size as PNG, white in the regions of the grid."""
    from PIL import Image

    mask = Image.new("L", (width, height))
    for number in regions:
        mask.paste(255, region_box(number, width, height))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def region_box(number: int, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a region, from 1, in pixels."""
    row, column = divmod(number - 1, GRID)
    left, right = (round(width * n / GRID) for n in (column, column + 1))
    top, bottom = (round(height * n / GRID) for n in (row, row + 1))
    return left, top, right, bottom


def _numbered_faces_here(photo: Path, boxes: tuple[tuple[int, Box], ...], max_pixels: int) -> bytes:
    from calotype.outputs.publish import on_white

    image = on_white(photo, max_pixels).convert("RGB")
    whole = image.width
    image.thumbnail((SIDE, SIDE))
    factor = image.width / whole
    draw_boxes(image, ((number, tuple(v * factor for v in box)) for number, box in boxes), max(image.size) // 36)
    return _jpeg(image)


def _numbered_regions_here(picture: Path, max_pixels: int) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    from calotype.outputs.publish import on_white

    image = on_white(picture, max_pixels).convert("RGB")
    factor = SIDE / max(image.size)  # a small picture is enlarged, so that the numbers can be read
    image = image.resize(tuple(max(1, round(side * factor)) for side in image.size), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(16, min(image.size) // 12))
    for number in range(1, REGIONS + 1):
        box = region_box(number, *image.size)
        draw.rectangle(box, outline=(0, 0, 0), width=5)
        draw.rectangle(box, outline=(255, 255, 255), width=2)
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        draw.text(middle, str(number), (255, 255, 255), font, "mm", stroke_width=4, stroke_fill=(0, 0, 0))
    return _jpeg(image)


def _jpeg(image: "Image.Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
