"""ICC profiles: which pixels a profile is for, and conversion to sRGB."""

import io
from functools import cache

from PIL import Image

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}


def space_of(icc: bytes) -> str | None:
    """The Pillow mode of the pixels a profile is for; None if it is broken or for another colour space."""
    is_valid = len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc)
    return _SPACES.get(icc[16:20]) if is_valid else None


@cache
def srgb() -> bytes:
    """The sRGB profile. Little CMS writes the current time into it; replaced by the date of the standard."""
    from PIL import ImageCms

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = b"".join(number.to_bytes(2, "big") for number in (1999, 10, 18, 0, 0, 0))
    return bytes(data)


def to_srgb(icc: bytes | None, mode: str):
    """A function from a Pillow image of this mode to an sRGB one; None where no profile fits."""
    from PIL import ImageCms

    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif icc is not None and space_of(icc) == mode:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        else:
            return None
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def to_rgb(image: Image.Image) -> Image.Image:
        return ImageCms.applyTransform(image, transform)

    return to_rgb
