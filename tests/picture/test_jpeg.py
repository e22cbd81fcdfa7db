"""JPEGs of rare kinds, and with untidy ends."""

import io
import re

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from calotype.errors import PictureError
from calotype.picture import Picture

END = b"\xff\xd9"


@pytest.fixture(scope="module")
def pixels(portrait):
    return np.ascontiguousarray(portrait[:256:2, :320:2])


def jpeg(pixels, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def opened(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    return Picture.open(tmp_path / "a.jpg")


KINDS = {
    "baseline": {},
    "grey": {"mode": "L"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "optimized": {"optimize": True},
}
TRAILERS = {
    "nothing": b"",
    "zeros": bytes(3000),
    "a video": b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(3000),
    "a phone's data": b"SEFHj\0\0\0\1\0\0\0" + bytes(12) + b"\x18\0\0\0SEFT",
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_its_end_mark_a_complete_picture_is_read(pixels, tmp_path, kind, trailer):
    data = jpeg(pixels, **KINDS[kind])
    expected = np.asarray(Image.open(io.BytesIO(data)))
    picture = opened(tmp_path, data.removesuffix(END) + TRAILERS[trailer])
    assert np.array_equal(picture.pixels.squeeze(), expected)


@pytest.mark.parametrize("filler", [b"", bytes(20_000), b"\xff" * 20_000, END, b"\0" + END])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.5, 0.98])
def test_a_truncated_picture_is_refused_whatever_stands_behind_it(pixels, tmp_path, kind, part, filler):
    data = jpeg(pixels, **KINDS[kind])
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    cut = int(scans[0] + part * (len(data) - scans[0]))
    if kind == "progressive" and END in filler:  # with an end mark, missing scans are only missing detail
        cut = scans[0] + 200
    with pytest.raises(PictureError, match="damaged or cut off"):
        opened(tmp_path, data[:cut] + filler)


def test_a_progressive_picture_without_its_last_scan_is_refused(pixels, tmp_path):
    data = jpeg(pixels, progressive=True)
    for marker in (b"\xff\xda", b"\xff\xc4"):
        with pytest.raises(PictureError, match="end mark is missing"):
            opened(tmp_path, data[: data.rfind(marker)])


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_jpegs_are_read_exactly(pixels, tmp_path, bits, channels):
    stored = pixels[..., :channels].squeeze().astype(np.uint16)
    stored = stored * ((1 << bits) - 1) // 255
    data = imagecodecs.jpeg8_encode(
        stored.astype(np.uint8 if bits == 8 else np.uint16), lossless=True, bitspersample=bits
    )
    picture = opened(tmp_path, data)
    largest = 255 if bits == 8 else 65_535
    expected = np.rint(stored * (largest / ((1 << bits) - 1)))
    assert picture.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.array_equal(picture.pixels.squeeze(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_12_bit_jpegs_are_read_with_16_bits_and_their_metadata(pixels, tmp_path, channels):
    stored = pixels[..., :channels].squeeze().astype(np.uint16) * 16
    data = imagecodecs.jpeg8_encode(stored, level=98, bitspersample=12)
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    block = exif.tobytes()
    data = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    picture = opened(tmp_path, data)
    assert picture.pixels.dtype == np.uint16 and b"Maker of cameras" in picture.metadata.exif
    error = picture.pixels.squeeze() / 65_535 - stored / 4095
    assert np.abs(error).mean() < 0.01
    with pytest.raises(PictureError, match="cut off"):
        opened(tmp_path, data[: len(data) // 2])
