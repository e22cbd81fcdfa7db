"""Files whose pixels are all there, in a container that is not as its format asks; and truncated ones beside them."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from calotype.errors import PictureError
from calotype.picture import Picture, save

TRAILERS = {
    "three bytes": b"abc",
    "zeros": bytes(300),
    "a phone's data": b"\x10\0\0\0SEFHj\0\0\0\1\0\0\0" + bytes(12) + b"\x18\0\0\0SEFT",
    "a box": b"\0\0\0\x10mpvdABCDEFGH",
    "a truncated box": b"\0\0\x20\0mpvdABCDEFGH",
    "noise": np.random.default_rng(0).bytes(3000),
}


@pytest.fixture(scope="module")
def pixels(portrait):
    return np.ascontiguousarray(portrait[:240:2, :200:2])


@pytest.fixture(scope="module", params=["heic", "avif"])
def boxed(request, pixels, tmp_path_factory):
    path = tmp_path_factory.mktemp("boxed") / f"a.{request.param}"
    save(Picture(pixels), path, format=request.param)
    return path


@pytest.mark.parametrize("trailer", TRAILERS)
def test_what_stands_behind_the_boxes_does_not_matter(boxed, tmp_path, trailer):
    path = tmp_path / boxed.name
    path.write_bytes(boxed.read_bytes() + TRAILERS[trailer])
    assert np.array_equal(Picture.open(path).pixels, Picture.open(boxed).pixels)


@pytest.mark.parametrize("end, filler", [(-1, b""), (-1000, b""), (-1000, bytes(8)), (200, b"\x10\0\0\0SEFH")])
def test_items_must_be_complete(boxed, tmp_path, end, filler):
    path = tmp_path / boxed.name
    path.write_bytes(boxed.read_bytes()[:end] + filler)
    with pytest.raises(PictureError, match="cut off"):
        Picture.open(path)


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (32, 32)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 16},
    "lzw": {"compression": "lzw", "rowsperstrip": 16},
    "deflate": {"compression": "zlib", "rowsperstrip": 16, "predictor": True},
    "packbits": {"compression": "packbits", "rowsperstrip": 16},
}


def tiff(pixels, layout):
    file = io.BytesIO()
    stored = np.moveaxis(pixels, 2, 0).copy() if layout == "planes" else pixels
    tifffile.imwrite(file, stored, photometric="rgb", **LAYOUTS[layout])
    return file.getvalue()


def entry(data, *tags):
    """Position of the first entry with one of these tags."""
    start = struct.unpack_from("<I", data, 4)[0]
    entries = [start + 2 + 12 * n for n in range(struct.unpack_from("<H", data, start)[0])]
    return next(at for at in entries if struct.unpack_from("<H", data, at)[0] in tags)


def with_counts(data, change):
    """Another list of the bytes of each strip."""
    at = entry(data, 279, 325)
    kind, count = struct.unpack_from("<HI", data, at + 2)
    layout = f"<{count}{ {3: 'H', 4: 'I'}[kind] }"
    where = at + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from("<I", data, at + 8)[0]
    changed = struct.pack(layout, *change(list(struct.unpack_from(layout, data, where))))
    return data[:where] + changed + data[where + len(changed) :]


def without_counts(data):
    at = entry(data, 279, 325)
    return data[:at] + struct.pack("<H", 60_001) + data[at + 2 :]


UNTIDY = {
    "zeros": lambda data: with_counts(data, lambda counts: [0] * len(counts)),
    "no list": without_counts,
    "a long last strip": lambda data: with_counts(data, lambda counts: [*counts[:-1], counts[-1] + 300]),
}


FIXED_LENGTH = [layout for layout in LAYOUTS if "compression" not in LAYOUTS[layout]]
READ = [(layout, what) for what in ("zeros", "no list") for layout in LAYOUTS]
READ += [(layout, "a long last strip") for layout in FIXED_LENGTH]


@pytest.mark.parametrize("layout, what", READ)
def test_bytes_of_strips_may_be_unknown(pixels, tmp_path, layout, what):
    (tmp_path / "a.tif").write_bytes(UNTIDY[what](tiff(pixels, layout)))
    assert np.array_equal(Picture.open(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("what", ["as it was", *UNTIDY])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strips_must_be_complete(pixels, tmp_path, layout, what):
    data = UNTIDY.get(what, bytes)(tiff(pixels, layout))
    for end in (-3, len(data) * 2 // 3):
        (tmp_path / "a.tif").write_bytes(data[:end])
        with pytest.raises(PictureError, match="cut off"):
            Picture.open(tmp_path / "a.tif")


def test_an_unknown_size_of_a_strip_does_not_get_round_the_pixel_limit(tmp_path):
    file = io.BytesIO()
    Image.new("L", (4000, 4000)).save(file, "TIFF", compression="tiff_adobe_deflate")
    data = file.getvalue()
    (tmp_path / "a.tif").write_bytes(with_counts(data, lambda counts: [0] * len(counts)))
    with pytest.raises(PictureError, match="max_pixels"):
        Picture.open(tmp_path / "a.tif", 1_000_000)
    assert Picture.open(tmp_path / "a.tif").pixels.shape == (4000, 4000, 1)


def png_chunks(data):
    """The ends of the chunks of a PNG, and their kinds."""
    at = 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], end
        at = end


@pytest.mark.parametrize("rest", [0, 3, 11])
@pytest.mark.parametrize("text", [{}, {"exif": b"MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
def test_a_png_whose_end_is_missing_is_read_where_its_pixels_are_complete(pixels, tmp_path, rest, text):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", **text)
    end = max(end for kind, end in png_chunks(out.getvalue()) if kind == b"IDAT") + rest
    (tmp_path / "a.png").write_bytes(out.getvalue()[:end])
    picture = Picture.open(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, pixels)
    assert "its end is missing, but not its pixels" in picture.notes


def test_the_pixels_of_a_png_must_be_complete(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "png")
    ends = [end for kind, end in png_chunks(out.getvalue()) if kind == b"IDAT"]
    assert len(ends) > 1
    for end in (ends[0], ends[0] + 5, ends[-1] - 1):
        (tmp_path / "a.png").write_bytes(out.getvalue()[:end])
        with pytest.raises(PictureError, match="cut off"):
            Picture.open(tmp_path / "a.png")
