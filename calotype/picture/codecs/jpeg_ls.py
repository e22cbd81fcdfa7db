"""JPEG-LS, which has the first bytes of a JPEG: CharLS (through imagecodecs) decodes the pixels."""

import numpy as np

from calotype.errors import PictureError
from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding, split, stretched
from calotype.picture.codecs.jpeg_scans import Frame
from calotype.picture.codecs.segments import read_segments


def open_jpeg_ls(data: bytes, frame: Frame, name: str) -> PictureFile:
    """Reads the header of a JPEG-LS.

    Raises:
        PictureError: damaged, or neither grey nor RGB.
    """
    if frame.components not in (1, 3):
        raise PictureError(
            "{name} is a JPEG-LS of {count} components, which is not supported; save it as TIFF first",
            name=name,
            count=frame.components,
        )
    at = frame.position + 5
    height, width = (int.from_bytes(data[start : start + 2], "big") for start in (at, at + 2))
    with decoding(name):
        if not height or not width:
            raise ValueError("its header has no size")
        segments = read_segments(data)

    def decode() -> Pixels:
        import imagecodecs

        with decoding(name):
            # Without an end mark CharLS may not return from truncated data.
            samples = imagecodecs.jpegls_decode(data if data.endswith(b"\xff\xd9") else data + b"\xff\xd9")
            if samples.shape[:2] != (height, width):
                raise ValueError("two different sizes")
            colour, _ = split(stretched(np.ascontiguousarray(samples), frame.bits))
        return Pixels(colour, None, segments.icc)

    return segments.file((height, width), decode)
