"""What Picture.open makes of files that other programs wrote."""

import hashlib
import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms

from calotype.errors import CalotypeError
from calotype.picture import Picture
from calotype.picture.metadata.icc import srgb

RNG = np.random.default_rng(7)
BYTES = RNG.integers(0, 256, (23, 31, 4)).astype(np.uint8)
WORDS = RNG.integers(0, 65_536, (23, 31, 4)).astype(np.uint16)
SMOOTH = np.add.outer(np.arange(40) * 3, np.arange(48) * 2)[:, :, None].astype(np.uint8).repeat(3, axis=2)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, *extra):
    """A PNG of (H, W, C) samples written by hand, so that reader and writer do not share a fault."""
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(samples.dtype.newbyteorder(">")))
    head = struct.pack(">IIBBBBB", width, height, samples.itemsize * 8, colour, 0, 0, 0)
    data = chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def pillow(image, format, **how):
    out = io.BytesIO()
    image.save(out, format, **how)
    return out.getvalue()


def tiff(samples, **how):
    out = io.BytesIO()
    is_grey = samples.ndim == 3 and samples.shape[2] == 1
    tifffile.imwrite(out, samples[:, :, 0] if is_grey else samples, **how)
    return out.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(data, name="photo.bin", **how):
        path = tmp_path / name
        path.write_bytes(data)
        return Picture.open(path, **how)

    return read


def check(picture, colour, alpha=None):
    assert picture.pixels.dtype == colour.dtype
    assert picture.pixels.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, colour)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        assert picture.alpha.dtype == colour.dtype
        np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff", "big", "tiles", "planes", "motorola"])
def test_bits_and_channels_stay(read, samples, channels, kind):
    samples = np.ascontiguousarray(samples[:, :, :channels])
    how = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None}
    how |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    planes = {"planarconfig": "separate"} if channels > 1 else {}
    how |= {"planarconfig": "contig"} if channels > 1 and kind != "planes" else {}
    data = {
        "png": lambda: png(samples),
        "tiff": lambda: tiff(samples, compression="lzw", predictor=True, rowsperstrip=5, **how),
        "big": lambda: tiff(samples, bigtiff=True, **how),
        "tiles": lambda: tiff(samples, tile=(16, 16), compression="zlib", **how),
        "planes": lambda: tiff(np.moveaxis(samples, 2, 0) if planes else samples[:, :, 0], **planes, **how),
        "motorola": lambda: tiff(samples, byteorder=">", **how),
    }[kind]()
    colour = samples[:, :, : channels - 1 + channels % 2]
    picture = read(data)
    check(picture, colour, None if channels % 2 else samples[:, :, -1])
    assert picture.format == ("png" if kind == "png" else "tiff")
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_dark_16_bit_scan_stays_16_bit(read, kind, channels):
    dark = (WORDS[:, :, :channels] >> 8).astype(np.uint16)
    check(read(png(dark) if kind == "png" else tiff(dark)), dark)


@pytest.mark.parametrize("dtype", ["f4", "f2", "u4", "i2", "c8"])
def test_samples_that_are_no_picture_are_refused(read, dtype):
    with pytest.raises(CalotypeError, match=r"photo\.tif holds .*(float|signed|32-bit|complex).* samples; save it"):
        read(tiff(BYTES[:, :, :3].astype(dtype), photometric="rgb"), "photo.tif")


def test_one_bit_becomes_grey(read):
    bits = BYTES[:, :, 0] > 127
    grey = np.where(bits, 255, 0).astype(np.uint8)[:, :, None]
    image = Image.fromarray(grey[:, :, 0]).convert("1", dither=Image.Dither.NONE)
    for data in (pillow(image, "png"), pillow(image, "bmp"), pillow(image, "tiff", compression="group4")):
        check(read(data), grey)
    check(read(tiff(bits, photometric="minisblack")), grey)
    check(read(tiff(bits, photometric="miniswhite")), 255 - grey)


@pytest.mark.parametrize("bits", [10, 12])
def test_packed_tiff_spreads_over_16_bits(read, bits):
    deep = (WORDS[:, :, :1] >> (16 - bits)).astype(np.uint16)
    packed = np.concatenate([np.frombuffer(imagecodecs.packints_encode(row, bits), np.uint8) for row in deep[:, :, 0]])
    data = bytearray(tiff(packed[None]))
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    for tag, value in ((256, 31), (257, 23), (258, bits), (278, 23)):
        entry = page.tags[tag]
        struct.pack_into("<I" if entry.dtype == 4 else "<H", data, entry.valueoffset, value)
    check(read(bytes(data)), np.rint(deep * (65_535 / (2**bits - 1))).astype(np.uint16))


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
def test_white_is_zero(read, samples):
    grey = samples[:, :, :1]
    check(read(tiff(grey, photometric="miniswhite")), np.iinfo(grey.dtype).max - grey)


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
def test_associated_alpha_is_divided_out(read, samples):
    most = np.iinfo(samples.dtype).max
    alpha = np.maximum(samples[:, :, 3:], most // 2).astype(np.uint64)
    laid = ((samples[:, :, :3] * alpha + most // 2) // most).astype(samples.dtype)
    data = tiff(np.concatenate([laid, alpha.astype(samples.dtype)], 2), photometric="rgb", extrasamples=["assocalpha"])
    picture = read(data)
    np.testing.assert_array_equal(picture.alpha, alpha[:, :, 0])
    assert np.abs(picture.pixels.astype(int) - samples[:, :, :3]).max() <= 1  # what rounding loses


@pytest.mark.parametrize("kind", ["png", "gif", "tiff", "bmp"])
def test_palette_becomes_rgb(read, kind):
    image = Image.fromarray(BYTES[:, :, :3]).quantize(50)
    check(read(pillow(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_palette_transparency_becomes_alpha(read, kind):
    image = Image.fromarray(BYTES[:, :, :3]).quantize(50)
    picture = read(pillow(image, kind, transparency=3))
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    assert picture.pixels.shape[2] == 3


def test_a_transparent_colour_becomes_alpha(read):
    for samples in (BYTES[:, :, :3].copy(), WORDS[:, :, :3].copy()):
        samples[4, 5] = (1, 2, 3)
        most = np.iinfo(samples.dtype).max
        alpha = np.full(samples.shape[:2], most, samples.dtype)
        alpha[4, 5] = 0
        check(read(png(samples, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))), samples, alpha)


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif", "heif", "bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_formats_come_close(read, kind, mode):
    pillow_heif.register_heif_opener()
    image = Image.fromarray(SMOOTH).convert(mode)
    picture = read(pillow(image, kind, quality=97))
    wanted = np.asarray(image).reshape(40, 48, -1)
    assert picture.pixels.shape == (wanted if kind != "webp" else SMOOTH).shape
    assert np.abs(picture.pixels.astype(int) - wanted).max() <= 4
    assert picture.format == {"heif": "heic"}.get(kind, kind)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_keeps_its_bits(read, bits):
    deep = (SMOOTH.astype(np.uint16) << 8 >> (16 - bits)).astype(np.uint16)
    picture = read(imagecodecs.avif_encode(deep, level=100, bitspersample=bits, pixelformat="444"))
    assert picture.pixels.dtype == np.uint16
    wanted = deep * (65_535 / (2**bits - 1))
    assert np.abs(picture.pixels - wanted).max() <= 3 * 65_535 / (2**bits - 1)


def test_deep_heic_keeps_its_bits_and_its_white(read):
    deep = (SMOOTH.astype(np.uint16) << 8) | 255
    deep[:20] = 65_535
    file = pillow_heif.HeifFile()
    file.add_frombytes("RGB;16", (48, 40), deep.tobytes())
    out = io.BytesIO()
    file.save(out, quality=-1, chroma=444)
    picture = read(out.getvalue())
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels[2, 2].tolist() == [65_535] * 3
    assert np.abs(picture.pixels.astype(int) - deep).max() <= 4 * 64


def stored(upright, orientation):
    """The pixels a camera stores for what is seen, by the table of the EXIF standard."""
    rows_first = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(rows_first[orientation](upright))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "avif", "heif"])
def test_orientation_is_applied_once_and_reset(read, tmp_path, kind, orientation):
    pillow_heif.register_heif_opener()
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32], upright[:24, 32:], upright[24:, :32] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    exif = Image.Exif()
    exif[274] = orientation
    how = {"lossless": True} if kind == "webp" else {"quality": 100} if kind in ("jpeg", "avif", "heif") else {}
    data = pillow(Image.fromarray(stored(upright, orientation)), kind, exif=exif.tobytes(), **how)
    picture = read(data)
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 4
    if picture.metadata.exif:
        again = Image.Exif()
        again.load(picture.metadata.exif)
        assert again.get(274, 1) == 1


def cmyk_profile():
    """A small CMYK profile: Little CMS makes none, so a lookup table by hand (mft1, CMYK to Lab)."""
    grid = 2
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - corners[:, :3] * np.array([0.3, 0.5, 0.1])).prod(1) * (1 - corners[:, 3] * 0.9)
    lab = np.stack([light * 255, 128 + (corners[:, 1] - corners[:, 0]) * 60, 128 + (corners[:, 2]) * 70], 1)
    table = np.rint(lab).clip(0, 255).astype(np.uint8).tobytes()
    straight = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0]) + identity + straight * 4 + table + straight * 3
    lut += b"\0" * (-len(lut) % 4)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    text += b"\0" * (-len(text) % 4)
    tags, body, at = [], b"", 128 + 4 + 12 * 3
    for name, data in ((b"desc", text), (b"wtpt", white), (b"A2B0", lut)):
        tags.append(name + struct.pack(">II", at + len(body), len(data)))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + b"".join(tags) + body


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_cmyk_goes_through_its_profile(read, kind):
    icc = cmyk_profile()
    ink = Image.new("CMYK", (32, 16), (200, 30, 120, 10))
    way = ImageCms.buildTransform(io.BytesIO(icc), io.BytesIO(srgb()), "CMYK", "RGB")
    wanted = np.asarray(ImageCms.applyTransform(ink, way)).astype(int)
    picture = read(pillow(ink, kind, icc_profile=icc, **({"quality": 100} if kind == "jpeg" else {})))
    assert np.abs(picture.pixels - wanted).max() <= 4
    assert np.abs(wanted - np.asarray(ink.convert("RGB"))).max() > 20  # else the profile would prove nothing
    assert picture.metadata.icc == srgb()
    assert picture.notes == ("CMYK turned into sRGB through its profile",)


def test_cmyk_without_a_profile_is_said(read):
    ink = Image.new("CMYK", (32, 16), (200, 30, 120, 10))
    picture = read(pillow(ink, "jpeg", quality=100))
    assert np.abs(picture.pixels.astype(int) - np.asarray(ink.convert("RGB"))).max() <= 3
    assert "no CMYK profile" in picture.notes[0]


def test_lab_becomes_srgb(read):
    lab = Image.new("LAB", (8, 8), (128, 128 + 40, 128 - 30))
    picture = read(pillow(lab, "tiff"))
    red, green, blue = picture.pixels[0, 0].astype(int)  # L 50, a 40, b -30 is a purple: about (164, 93, 171)
    assert abs(red - 157) < 14 and abs(green - 92) < 10 and abs(blue - 171) < 10


def test_jpeg_inside_tiff(read):
    data = tiff(SMOOTH, compression="jpeg", compressionargs={"level": 97}, photometric="rgb", rowsperstrip=16)
    assert np.abs(read(data).pixels.astype(int) - SMOOTH).max() <= 6


def test_first_of_many_is_used_and_said(read):
    first, second = Image.fromarray(BYTES[:, :, :3]), Image.fromarray(255 - BYTES[:, :, :3])
    for kind, how in (("webp", {"lossless": True}), ("png", {}), ("tiff", {}), ("gif", {})):
        picture = read(pillow(first, kind, save_all=True, append_images=[second], **how))
        assert np.abs(picture.pixels.astype(int) - BYTES[:, :, :3]).mean() < (30 if kind == "gif" else 0.01), kind
        text = "it holds 2 pictures; only the first was taken; pages all takes them all"
        assert [str(note) for note in picture.notes] == [text] and picture.count == 2
    picture = read(pillow(first, "mpo", save_all=True, append_images=[second], quality=100, subsampling=0))
    assert picture.format == "jpeg" and "only the first was taken" in str(picture.notes[0])
    assert np.abs(picture.pixels.astype(int) - BYTES[:, :, :3]).mean() < 40


def test_a_thumbnail_page_is_stepped_over(read):
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(BYTES[::4, ::4, :3], photometric="rgb", subfiletype=1)
        writer.write(BYTES[:, :, :3], photometric="rgb")
    picture = read(out.getvalue())
    check(picture, BYTES[:, :, :3])
    assert picture.notes == () and picture.count == 1


def test_the_name_does_not_matter(read):
    assert read(png(BYTES), "photo.jpg").format == "png"
    assert read(pillow(Image.fromarray(SMOOTH), "jpeg"), "照片 with spaces 🎞️.png").format == "jpeg"


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 4000, 3), (4000, 8, 1)])
@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg", "webp", "bmp", "avif", "heif"])
def test_odd_sizes(read, shape, kind):
    pillow_heif.register_heif_opener()
    samples = np.full(shape, 90, np.uint8)
    image = Image.fromarray(samples[:, :, 0] if shape[2] == 1 else samples)
    picture = read(pillow(image, kind))
    assert picture.pixels.shape[:2] == shape[:2]
    assert np.abs(picture.pixels.astype(int) - 90).max() <= 3


def test_png_in_other_ways(read):
    interlaced = imagecodecs.png_encode(np.ascontiguousarray(BYTES[:, :, :3]))
    check(read(interlaced), BYTES[:, :, :3])
    hexed = b"Raw profile type exif\0\nexif\n      14\n" + (b"Exif\0\0II*\0" + bytes(4)).hex().encode()
    picture = read(png(BYTES, chunk(b"tEXt", hexed)))
    check(picture, BYTES[:, :, :3], BYTES[:, :, 3])
    assert any("EXIF is damaged" in note for note in picture.notes)
