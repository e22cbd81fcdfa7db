"""A public copy of a picture: its pixels and colour profile, and nothing else that its file holds."""

from pathlib import Path
from typing import TYPE_CHECKING

from calotype import out_of_process
from calotype.errors import PictureError
from calotype.out_of_process import ProcessEnded

if TYPE_CHECKING:
    from PIL import Image

SECONDS = 300.0
QUALITY = 95
THUMBNAIL_QUALITY = 85
SHRINK = 1.5  # of the sides of a copy that is still too large
MEDIA_TYPES = {
    "image/jpeg": ("jpeg", ".jpg"),
    "image/png": ("png", ".png"),
    "image/webp": ("webp", ".webp"),
    "image/avif": ("avif", ".avif"),
    "image/heic": ("jpeg", ".jpg"),
    "image/tiff": ("png", ".png"),
    "image/bmp": ("png", ".png"),
}  # of a file: format and suffix of its copy, which every browser shows


def publish(source: Path, target: Path, media_type: str, max_pixels: int) -> tuple[str, str]:
    """Writes the copy; the second process of `out_of_process` decodes the picture. Returns suffix and media type.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    if media_type not in MEDIA_TYPES:
        raise PictureError("only pictures can be made public, and this file is {media_type}", media_type=media_type)
    format, suffix = MEDIA_TYPES[media_type]
    try:
        out_of_process.call(_publish_here, source, target, format, max_pixels, seconds=SECONDS)
    except ProcessEnded as fault:
        raise PictureError("the picture cannot be read: {cause}", cause=fault.cause) from fault
    return suffix, f"image/{format}"


def thumbnail(source: Path, side: int, max_pixels: int) -> bytes:
    """A small copy on white as JPEG, at most `side` pixels wide and high; the decoder process makes it.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    from calotype.picture import decoder

    return decoder.read(_thumbnail_here, source, side, max_pixels=max_pixels)


def fitting(source: Path, max_bytes: int, max_pixels: int) -> bytes:
    """A copy on white as JPEG that is not larger than so many bytes; its sides shrink as far as needed.

    Raises:
        CalotypeError: not a picture, or one that cannot be read.
    """
    from calotype.picture import decoder

    return decoder.read(_fitting_here, source, max_bytes, max_pixels=max_pixels)


def _fitting_here(source: Path, max_bytes: int, max_pixels: int) -> bytes:
    picture, side = on_white(source, max_pixels), 2**14
    while len(content := _small_jpeg(picture, side)) > max_bytes and side > 64:
        side = round(side / SHRINK)
    return content


def _thumbnail_here(source: Path, side: int, max_pixels: int) -> bytes:
    return _small_jpeg(on_white(source, max_pixels), side)


def on_white(source: Path, max_pixels: int) -> "Image.Image":
    """Opened, in sRGB with 8 bits, without transparency."""
    from PIL import Image

    from calotype.picture.alpha import in_8_bits
    from calotype.picture.picture import Picture

    pixels = Picture.open_here(source, 0, None, max_pixels).on_white().in_srgb().pixels
    pixels = in_8_bits(pixels) if pixels.dtype.itemsize > 1 else pixels
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def _small_jpeg(picture: "Image.Image", side: int) -> bytes:
    import io

    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return file.getvalue()


def _publish_here(source: Path, target: Path, format: str, max_pixels: int) -> None:
    from dataclasses import replace

    from calotype.picture.picture import Metadata, Picture
    from calotype.picture.save import save

    picture = Picture.open_here(source, 0, None, max_pixels)
    save(replace(picture, metadata=Metadata(icc=picture.metadata.icc)), target, format=format, quality=QUALITY)
