"""JPEG XL, JPEG 2000, PSD, TGA, PCX, PPM, QOI, ICO, camera raw and PDF: pixels, metadata and what is left out."""

import io
import math
import struct
import sys
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from calotype.errors import CalotypeError
from calotype.picture import Metadata, Picture, pages_of, save, size_of
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profiles
from calotype.picture.metadata import iptc
from calotype.picture.metadata.exif import Exif
from tests.picture.more_formats import MATRIX, box, boxed_jp2, dng, psd

RNG = np.random.default_rng(11)
BYTES = RNG.integers(0, 256, (23, 31, 4)).astype(np.uint8)
WORDS = RNG.integers(0, 65_536, (23, 31, 4)).astype(np.uint16)
SMOOTH = np.stack(np.meshgrid(np.linspace(20, 230, 48), np.linspace(30, 200, 40)), 2)
SMOOTH = np.rint(np.concatenate([SMOOTH, 255 - SMOOTH[:, :, :1]], 2)).astype(np.uint8)
P3 = profiles.rgb_profile("P3", profiles.P3_PRIMARIES, (profiles.SRGB_CURVE,))
TABLE = profiles.rgb_profile(
    "Table", profiles.P3_PRIMARIES, (profiles.Curve(table=tuple(int(65_535 * (n / 255) ** 2.6) for n in range(256))),)
)
GREY = profiles.grey_profile("Grey", profiles.Curve(1.8))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="attic"/></rdf:RDF></x:xmpmeta>'
)


def block(orientation=1):
    root = {271: exif_blocks.text("Leica"), 274: exif_blocks.short("<", orientation)}
    return exif_blocks.pack(Exif("<", root))


@pytest.fixture
def read(tmp_path):
    def read(data, name="photo.png", **options):
        path = tmp_path / name
        path.write_bytes(data)
        return Picture.open(path, **options)

    return read


def check(picture, format, colour, alpha=None):
    assert picture.format == format and picture.pixels.dtype == colour.dtype
    np.testing.assert_array_equal(picture.pixels, colour)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)


def parts(samples):
    """Colour and alpha of (H, W, 1 to 4) samples."""
    channels = samples.shape[2]
    return (samples[:, :, :-1], samples[:, :, -1]) if channels in (2, 4) else (samples, None)


def pillow(samples, format, **options):
    out = io.BytesIO()
    Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else np.ascontiguousarray(samples)).save(
        out, format, **options
    )
    return out.getvalue()


# JPEG XL


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("has_profile", [False, True])
def test_lossless_jxl_holds_everything(tmp_path, samples, channels, has_profile):
    colour, alpha = parts(np.ascontiguousarray(samples[:, :, :channels]))
    icc = (GREY if channels < 3 else TABLE) if has_profile else None
    metadata = Metadata(icc=icc, exif=block(), xmp=XMP, dpi=(300, 300))
    notes = save(Picture(colour, alpha, metadata), tmp_path / "a.jxl", format="jxl", quality=100, record='{"a":1}')
    assert notes == ()
    picture = Picture.open(tmp_path / "a.jxl")
    check(picture, "jxl", colour, alpha)
    assert picture.metadata.icc == icc and picture.metadata.dpi == (300, 300) and picture.notes == ()
    assert exif_blocks.parse(picture.metadata.exif).root[271].data.startswith(b"Leica")
    assert b"attic" in picture.metadata.xmp
    # another program's eyes: the same numbers, in the profile of the codestream
    theirs = imagecodecs.jpegxl_decode((tmp_path / "a.jxl").read_bytes())
    np.testing.assert_array_equal(theirs.reshape(samples[:, :, :channels].shape), samples[:, :, :channels])


@pytest.mark.parametrize("icc", [None, P3, TABLE], ids=["sRGB", "P3", "table"])
@pytest.mark.parametrize("is_deep", [False, True])
def test_quality_counts_for_jxl_in_every_profile(tmp_path, icc, is_deep):
    pixels = SMOOTH.astype(np.uint16) * 257 if is_deep else SMOOTH
    sizes = {}
    for quality in (30, 90, 100):
        notes = save(Picture(pixels, metadata=Metadata(icc=icc)), tmp_path / "a", format="jxl", quality=quality)
        picture = Picture.open(tmp_path / "a")
        assert picture.pixels.dtype == pixels.dtype and picture.metadata.icc == icc
        error = np.abs(picture.pixels.astype(float) - pixels).mean() / (257 if is_deep else 1)
        assert error < {30: 4, 90: 1.5, 100: 1e-9}[quality]
        sizes[quality] = (tmp_path / "a").stat().st_size
        is_lossless = quality < 100 and is_deep and icc is not None
        assert len(notes) == is_lossless and (not notes or "lossless" in notes[0])
    assert sizes[30] < sizes[90] or (is_deep and icc)


def test_the_same_picture_gives_the_same_jxl(tmp_path):
    for name in ("a", "b"):
        save(Picture(SMOOTH, metadata=Metadata(icc=P3)), tmp_path / name, format="jxl", quality=80)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jxl_is_turned_by_its_own_orientation(read, orientation):
    """That of the EXIF is the same word once more, and is not applied again."""
    corner = np.zeros((40, 48, 3), np.uint8)
    corner[:20, :24] = (200, 60, 20)
    data = pillow(corner, "jpeg", exif=b"Exif\0\0" + block(orientation), quality=100, subsampling=0)
    theirs = read(imagecodecs.jpegxl_encode_jpeg(data))
    ours = read(data)
    assert theirs.pixels.shape == ours.pixels.shape
    assert np.abs(theirs.pixels.astype(int) - ours.pixels).mean() < 1
    assert exif_blocks.parse(theirs.metadata.exif).number(274) == 1


def test_metadata_of_jxl_may_be_compressed_and_its_codestream_divided(read):
    stream = imagecodecs.jpegxl_encode(BYTES[:, :, :3], lossless=True, usecontainer=False)
    container = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    container += box(b"brob", b"Exif" + imagecodecs.brotli_encode(bytes(4) + block()))
    container += box(b"jxlp", bytes(4) + stream[:40]) + box(b"brob", b"xml " + imagecodecs.brotli_encode(XMP))
    picture = read(container + box(b"jxlp", b"\x80\0\0\1" + stream[40:]))
    check(picture, "jxl", BYTES[:, :, :3])
    assert b"attic" in picture.metadata.xmp and b"Leica" in picture.metadata.exif


def test_an_animated_jxl_says_what_is_left_out(read):
    frames = np.stack([BYTES[:, :, :3], 255 - BYTES[:, :, :3]])
    picture = read(imagecodecs.jpegxl_encode(frames, lossless=True))
    check(picture, "jxl", BYTES[:, :, :3])
    assert [str(note) for note in picture.notes] == [
        "it holds 2 pictures; only the first was taken; pages all takes them all"
    ]


@pytest.mark.parametrize("kind", ["grey", "grey alpha", "a mask", "10 bits", "RGBA"])
@pytest.mark.parametrize("count", [1, 3])
def test_each_frame_of_a_jxl_opens_by_its_number(tmp_path, kind, count):
    shape = {"grey": (), "grey alpha": (2,), "a mask": (), "10 bits": (3,), "RGBA": (4,)}[kind]
    frames = np.arange(5 * 5 * count * math.prod(shape), dtype=np.uint16).reshape(count, 5, 5, *shape) % 247
    if kind == "a mask":  # a channel that is not transparency, behind the grey
        data = imagecodecs.jpegxl_encode(np.stack([frames, frames + 9], 1).astype(np.uint8), planar=True)
    elif kind == "10 bits":
        data = imagecodecs.jpegxl_encode(frames, bitspersample=10, photometric="rgb")
    else:
        data = imagecodecs.jpegxl_encode(frames.astype(np.uint8), photometric="rgb" if kind == "RGBA" else "gray")
    path = tmp_path / "a.jxl"
    path.write_bytes(data)
    assert pages_of(path, 1 << 20) == count
    for number, frame in enumerate(frames, 1):
        picture = Picture.open(path, page=number)
        found = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
        if kind == "10 bits":
            frame = (frame / 1023 * 65535).round().astype(np.uint16)
        np.testing.assert_array_equal(found, frame.reshape(found.shape))
    with pytest.raises(CalotypeError, match=f"has no picture {count + 1}: it holds {count}"):
        Picture.open(path, page=count + 1)


def test_an_animated_jxl_whose_frames_cannot_be_counted_is_read(tmp_path, monkeypatch):
    decode = imagecodecs.jpegxl_decode
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", lambda data, index=0, out=None: decode(data, index))
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(np.stack([BYTES[:, :, :3]] * 2), lossless=True))
    picture = Picture.open_here(tmp_path / "a.jxl", 0, None, 1 << 20)
    check(picture, "jxl", BYTES[:, :, :3])
    assert picture.notes == ("it is animated: the first frame is used",)


# JPEG-LS, and other rare kinds of JPEG


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_ls_is_read_whatever_its_name(read, samples, channels):
    samples = np.ascontiguousarray(samples[:, :, :channels])
    data = imagecodecs.jpegls_encode(samples[:, :, 0] if channels == 1 else samples)
    exif = b"Exif\0\0" + block(6)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    for name, end in (("a.jpg", data), ("a.jls", data), ("a.jpg", data + bytes(99)), ("a.jpg", data[:-2])):
        picture = read(end, name)
        check(picture, "jpeg", np.rot90(samples, -1))
        assert b"Leica" in picture.metadata.exif
    for end in (data[:-9], data[: len(data) // 2], data[:-400] + b"\xff\xd9"):
        with pytest.raises(CalotypeError, match="is damaged or cut off"):
            read(end, "a.jpg")


def test_jpeg_ls_of_more_channels_is_refused(read):
    with pytest.raises(CalotypeError, match="a JPEG-LS of 4 components, which is not supported"):
        read(imagecodecs.jpegls_encode(BYTES), "a.jpg")


@pytest.mark.parametrize(("marker", "kind"), [(0xC5, "hierarchical"), (0xCB, "lossless with arithmetic coding")])
def test_a_kind_of_jpeg_that_no_decoder_reads_is_named(read, marker, kind):
    data = imagecodecs.jpeg8_encode(SMOOTH).replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    with pytest.raises(CalotypeError, match=rf"a JPEG of a kind that is not read \({kind}\); save it as PNG"):
        read(data, "a.jpg")


# JPEG 2000


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["jp2", "j2k"])
def test_jpeg_2000_keeps_bits_and_channels(read, samples, channels, kind):
    samples = np.ascontiguousarray(samples[:, :, :channels])
    data = imagecodecs.jpeg2k_encode(
        samples[:, :, 0] if channels == 1 else samples, level=0, reversible=True, codecformat=kind
    )
    check(read(data), "jp2", *parts(samples))


@pytest.mark.parametrize("bits", [1, 4, 10, 12])
def test_jpeg_2000_of_other_depths_has_the_full_range(read, bits):
    values = RNG.integers(0, 1 << bits, (23, 31)).astype(np.uint8 if bits <= 8 else np.uint16)
    picture = read(imagecodecs.jpeg2k_encode(values, level=0, reversible=True, bitspersample=bits))
    full = 255 if bits <= 8 else 65_535
    assert np.abs(picture.pixels[:, :, 0] - values * (full / ((1 << bits) - 1))).max() <= 0.5


def test_boxes_of_jpeg_2000_are_read(read):
    stream = imagecodecs.jpeg2k_encode(BYTES[:, :, :3], level=0, reversible=True, codecformat="j2k")
    resolution = box(b"res ", box(b"resd", struct.pack(">4H2b", 11_811, 1, 11_811, 1, 0, 0)))
    header = box(b"colr", b"\2\0\0" + P3) + resolution
    captions = iptc.pack([(1, 90, b"\x1b%G"), (2, 120, "Großmutter".encode())])
    further = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP)
    further += box(b"uuid", b"JpgTiffExif->JP2" + block(6))
    further += box(b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38") + captions)
    picture = read(boxed_jp2(stream, (23, 31, 3), header, further))
    check(picture, "jp2", np.rot90(BYTES[:, :, :3], -1))
    assert picture.metadata.icc == P3 and picture.metadata.dpi == (300.0, 300.0)
    assert b"attic" in picture.metadata.xmp and b"Leica" in picture.metadata.exif
    assert (2, 120, "Großmutter".encode()) in picture.metadata.iptc.datasets


def test_palette_cmyk_and_ycc_of_jpeg_2000(read):
    indices = RNG.integers(0, 4, (23, 31)).astype(np.uint8)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
    srgb, cmyk, ycc = (box(b"colr", b"\1\0\0" + struct.pack(">I", code)) for code in (16, 12, 18))
    palette = box(b"pclr", struct.pack(">HB", 4, 3) + b"\7\7\7" + colours.tobytes())
    palette += box(b"cmap", b"\0\0\1\0\0\0\1\1\0\0\1\2")

    def stream(samples):
        return imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k", mct=False)

    check(read(boxed_jp2(stream(indices), (23, 31, 1), srgb + palette)), "jp2", colours[indices])
    inks = np.zeros((23, 31, 4), np.uint8)
    inks[:, :, 1] = 255  # magenta
    picture = read(boxed_jp2(stream(inks), (23, 31, 4), cmyk))
    assert picture.pixels[0, 0, 1] < 60 < 180 < picture.pixels[0, 0, 0] and "CMYK" in picture.notes[0]
    converted = np.asarray(Image.fromarray(SMOOTH).convert("YCbCr"))
    picture = read(boxed_jp2(stream(converted), (40, 48, 3), ycc))
    assert np.abs(picture.pixels.astype(int) - SMOOTH).max() <= 3


# PSD


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_psd_keeps_bits_and_channels(read, samples, channels, version, packed):
    samples = np.ascontiguousarray(samples[:, :, :channels])
    check(read(psd(samples, version=version, packed=packed)), "psd", *parts(samples))


def test_the_flattened_picture_of_layers_loses_the_white_below_it(read):
    colour = np.full((8, 12, 3), (200, 40, 90), np.uint8)
    alpha = np.tile(np.linspace(40, 255, 12), (8, 1)).astype(np.uint8)[:, :, None]
    on_white = np.rint(colour * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)
    picture = read(psd(np.concatenate([on_white, alpha], 2), layers=-3))
    assert np.abs(picture.pixels.astype(int) - colour).max() <= 4
    np.testing.assert_array_equal(picture.alpha, alpha[:, :, 0])
    assert picture.notes == ("its layers are not carried over",)


def test_a_saved_selection_of_a_psd_is_no_transparency(read):
    picture = read(psd(BYTES, {1006: b"\x07Alpha 1"}))
    check(picture, "psd", BYTES[:, :, :3])
    assert "a further channel that is not transparency is left out" in picture.notes


def test_resources_of_a_psd_are_read(read):
    captions = iptc.pack([(1, 90, b"\x1b%G"), (2, 120, "Großmutter".encode())])
    resolution = struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1)
    resources = {1005: resolution, 1028: captions, 1039: P3, 1058: block(), 1060: XMP}
    picture = read(psd(BYTES[:, :, :3], resources))
    assert picture.metadata.icc == P3 and picture.metadata.dpi == (300.0, 300.0)
    assert b"attic" in picture.metadata.xmp and b"Leica" in picture.metadata.exif
    assert (2, 120, "Großmutter".encode()) in picture.metadata.iptc.datasets


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
@pytest.mark.parametrize("layers", [1, -2, 5])
def test_a_psd_that_ends_after_its_layers_says_how_to_save_it(read, version, samples, layers):
    samples = samples[:, :, :3]
    data = psd(samples, layers=layers, version=version)
    picture = read(data)
    check(picture, "psd", samples)
    assert ("its layers are not carried over" in str(picture.notes)) == (abs(layers) > 1)
    end = len(data) - samples.nbytes - 2
    for cut in (end, end + 2):
        with pytest.raises(CalotypeError, match="no flattened picture; save it in Photoshop with Maximize Compat"):
            read(data[:cut])
    for cut in (end - 1, end + 50, len(data) - 1):
        with pytest.raises(CalotypeError, match="is damaged or cut off"):
            read(data[:cut])
    flat = psd(samples, version=version)
    with pytest.raises(CalotypeError, match="is damaged or cut off"):
        read(flat[: len(flat) - samples.nbytes - 2])


def test_colour_modes_of_a_psd(read):
    inks = np.full((5, 6, 4), 255, np.uint8)
    inks[:, :, 0] = 0  # full cyan
    picture = read(psd(inks, mode=4))
    assert picture.pixels[0, 0, 0] < 60 < 140 < picture.pixels[0, 0, 2]
    lab = np.full((5, 6, 3), 128, np.uint8)
    assert np.abs(read(psd(lab, mode=9)).pixels.astype(int) - 119).max() <= 2  # L 50
    palette = np.zeros((3, 256), np.uint8)
    palette[:, 7] = (1, 2, 3)
    check(
        read(psd(np.full((5, 6, 1), 7, np.uint8), mode=2, palette=palette.tobytes())),
        "psd",
        np.full((5, 6, 3), (1, 2, 3), np.uint8),
    )
    with pytest.raises(CalotypeError, match="Maximize Compatibility"):
        read(psd(BYTES[:, :, :3], {1057: b"\0\0\0\1\0"}))


# The small ones


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("how", [{}, {"compression": "tga_rle"}, {"orientation": 1}], ids=["raw", "packed", "top"])
def test_tga(read, channels, how):
    samples = np.ascontiguousarray(BYTES[:, :, :channels])
    check(read(pillow(samples, "tga", **how)), "tga", *parts(samples))


def test_a_fourth_channel_of_a_tga_that_is_empty_hides_nothing(read):
    data = bytearray(pillow(np.dstack([BYTES[:, :, :3], np.zeros((23, 31), np.uint8)]), "tga"))
    data[17] &= 0xF0  # no bits of transparency
    check(read(bytes(data)), "tga", BYTES[:, :, :3])


@pytest.mark.parametrize("samples", [BYTES[:, :, :3], BYTES[:, :, :1], BYTES[:, :, :1] // 128 * 255])
def test_pcx(read, samples):
    image = Image.fromarray(samples.squeeze())
    out = io.BytesIO()
    (image.convert("1") if samples.max() == 255 and len(np.unique(samples)) == 2 else image).save(out, "pcx")
    check(read(out.getvalue()), "pcx", samples)


@pytest.mark.parametrize("samples", [BYTES, WORDS], ids=["8", "16"])
def test_ppm_family(read, samples):
    full, code = np.iinfo(samples.dtype).max, samples.dtype.newbyteorder(">")
    grey, colour = samples[:, :, :1], samples[:, :, :3]
    check(read(b"P5 31 23 %d\n" % full + grey.astype(code).tobytes()), "pnm", grey)
    check(read(b"P6\n# attic\n31 23\n%d\n" % full + colour.astype(code).tobytes()), "pnm", colour)
    check(read(b"P3 31 23 %d\n" % full + b" ".join(b"%d" % value for value in colour.flat)), "pnm", colour)
    head = b"P7\nWIDTH 31\nHEIGHT 23\nDEPTH 4\nMAXVAL %d\nTUPLTYPE RGB_ALPHA\nENDHDR\n" % full
    check(read(head + samples.astype(code).tobytes()), "pnm", colour, samples[:, :, 3])
    bits = samples[:, :, 0] > full // 2
    black = np.where(bits, 0, 255).astype(np.uint8)[:, :, None]
    check(read(b"P4\n31 23\n" + np.packbits(bits, axis=1).tobytes()), "pnm", black)
    check(read(b"P1\n31 23\n" + b"\n".join(b"".join(b"%d" % bit for bit in row) for row in bits)), "pnm", black)


def test_a_ppm_of_another_maximum_has_the_full_range(read):
    values = RNG.integers(0, 1024, (23, 31, 1))
    picture = read(b"P5 31 23 1023\n" + values.astype(">u2").tobytes())
    assert np.abs(picture.pixels - values * (65_535 / 1023)).max() <= 0.5
    with pytest.raises(CalotypeError, match="floating-point"):
        read(b"Pf\n2 2\n-1.0\n" + bytes(16))


@pytest.mark.parametrize("channels", [3, 4])
def test_qoi_is_read_under_any_name(read, channels):
    samples = np.ascontiguousarray(BYTES[:, :, :channels])
    check(read(imagecodecs.qoi_encode(samples), "photo.png"), "qoi", *parts(samples))


@pytest.mark.parametrize("how", [{}, {"bitmap_format": "bmp"}])
def test_the_largest_picture_of_an_icon_is_taken(read, how):
    samples = BYTES.repeat(3, 0).repeat(3, 1)[:64, :64]
    picture = read(pillow(samples, "ico", sizes=[(16, 16), (64, 64)], **how))
    check(picture, "ico", samples[:, :, :3], samples[:, :, 3])
    assert "it holds 2 pictures; only the largest was taken" in str(picture.notes[0])


# Camera raw and PDF


def srgb(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_dng_is_developed_into_srgb_and_turned(read, orientation):
    pytest.importorskip("rawpy")
    light = np.zeros((64, 96, 3))
    light[:32], light[32:] = (0.5, 0.2, 0.1), (0.1, 0.3, 0.6)
    picture = read(dng(light, orientation), "photo.dng")
    turned = picture.pixels
    stored = {1: turned, 3: turned[::-1, ::-1], 6: np.rot90(turned), 8: np.rot90(turned, 3)}
    pixels = stored[orientation]
    assert picture.format == "raw" and pixels.dtype == np.uint16 and pixels.shape == (64, 96, 3)
    np.testing.assert_allclose(pixels[16, 48] / 65_535, srgb(light[16, 48]), atol=0.002)
    np.testing.assert_allclose(pixels[48, 48] / 65_535, srgb(light[48, 48]), atol=0.002)
    found = exif_blocks.parse(picture.metadata.exif)
    assert found.root[272].data == b"Camera\0" and found.number(274) == 1 and picture.metadata.icc is None
    assert not found.root.keys() & {50706, 33422, 273, 256}


def test_a_dng_that_begins_with_a_preview_is_developed(read):
    pytest.importorskip("rawpy")
    matrix = sum(((value, 10_000_000) for value in MATRIX), ())
    tags = [(271, 2, 0, "Acme", True), (272, 2, 0, "Camera", True), (274, 3, 1, 6, True)]
    tags += [(50706, 1, 4, (1, 4, 0, 0), True), (50708, 2, 0, "Camera", True), (50721, 10, 9, matrix, True)]
    tags += [(50728, 5, 3, (1,) * 6, True), (50778, 3, 1, 21, True)]
    sensor = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, (0, 1, 1, 2), True), (50717, 4, 1, 65_535, True)]
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        preview = np.full((16, 24, 3), 9, np.uint8)
        writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=tags)
        grey = np.full((64, 96), 20_000, np.uint16)
        writer.write(grey, photometric="cfa", subfiletype=0, metadata=None, extratags=sensor)
    picture = read(out.getvalue())
    assert picture.format == "raw" and picture.pixels.shape == (96, 64, 3)
    np.testing.assert_allclose(picture.pixels[48, 32] / 65_535, srgb(np.array([20_000 / 65_535] * 3)), atol=0.002)
    with pytest.raises(CalotypeError, match="the end is missing"):
        read(out.getvalue()[:-5000])


def test_the_exposure_that_a_dng_asks_for_is_applied(read):
    pytest.importorskip("rawpy")
    light = np.full((32, 48, 3), 0.2)
    pixels = read(dng(light, stops=1)).pixels
    np.testing.assert_allclose(pixels[16, 24] / 65_535, srgb(light[16, 24] * 2), atol=0.003)


def test_a_scan_in_a_pdf_has_its_own_pixels(read):
    pytest.importorskip("pypdfium2")
    samples = BYTES[:, :, :3].repeat(8, 0).repeat(8, 1)
    picture = read(pillow(samples, "pdf", resolution=200, quality=100, subsampling=0))
    assert picture.format == "pdf" and picture.metadata.dpi == (200.0, 200.0)
    assert picture.pixels.shape == samples.shape and np.abs(picture.pixels.astype(int) - samples).mean() < 1


@pytest.mark.parametrize(
    "package, data, extra",
    [("rawpy", dng(np.full((16, 16, 3), 0.5)), "raw"), ("pypdfium2", b"%PDF-1.4\n", "pdf")],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, package, data, extra):
    from calotype.cli.wording import WORDING

    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "photo").write_bytes(data)
    with pytest.raises(CalotypeError) as raised:
        Picture.open_here(tmp_path / "photo", 0, None, 1 << 30)
    sentence = WORDING.fill(raised.value)
    assert f"needs the package {package}; run pip install 'calotype[{extra}]'" in sentence


# Headers of more pixels than there is memory for


def bombs():
    jxl = bytearray(imagecodecs.jpegxl_encode(BYTES[:, :, :3], lossless=True, usecontainer=False))
    jp2 = bytearray(imagecodecs.jpeg2k_encode(BYTES[:, :, :3], codecformat="j2k"))
    jp2[8:16] = struct.pack(">II", 60_000, 60_000)
    flat = bytearray(psd(BYTES[:, :, :3], version=2))
    flat[14:22] = struct.pack(">II", 60_000, 60_000)
    tga = bytearray(pillow(BYTES[:, :, :3], "tga", compression="tga_rle"))
    tga[12:16] = struct.pack("<HH", 60_000, 60_000)
    pcx = bytearray(pillow(BYTES[:, :, :3], "pcx"))
    pcx[8:12] = struct.pack("<HH", 59_999, 59_999)
    icon = bytearray(pillow(BYTES[:16, :16, :3], "ico", sizes=[(16, 16)], bitmap_format="bmp"))
    icon[26:34] = struct.pack("<II", 60_000, 120_000)
    value = 3 << 1 | ((1 << 30) - 1) << 3 | 1 << 33  # a height of 2^30, and the same width
    jxl[2:8] = (value | (int.from_bytes(jxl[2:8], "little") >> 36) << 36).to_bytes(6, "little")
    return {
        "jxl": bytes(jxl),
        "jp2": bytes(jp2),
        "psd": bytes(flat),
        "tga": bytes(tga),
        "pcx": bytes(pcx),
        "ppm": b"P6 60000 60000 255\n" + bytes(99),
        "plain ppm": b"P3 60000 60000 255\n0 0 0",
        "qoi": b"qoif" + struct.pack(">IIBB", 60_000, 60_000, 3, 0) + bytes(99) + b"\1",
        "ico": bytes(icon),
    }


@pytest.mark.parametrize("kind", bombs())
def test_gigantic_headers_end_in_a_sentence_within_a_second(tmp_path, kind):
    (tmp_path / "a").write_bytes(bombs()[kind])
    Picture.open_here(*_small(tmp_path))  # the decoders are imported
    started = time.monotonic()
    with pytest.raises(CalotypeError, match=r"pixels, more than|damaged"):
        Picture.open(tmp_path / "a")
    assert time.monotonic() - started < 1


def _small(folder):
    (folder / "small").write_bytes(pillow(BYTES[:, :, :3], "png"))
    return folder / "small", 0, None, 1 << 30


@pytest.mark.parametrize(
    "data",
    [
        b"P6 0 0 255\n",
        b"qoif" + bytes(30),
        b"8BPS\0\1" + bytes(60),
        b"\xff\x4f\xff\x51" + bytes(60),
        b"\0\0\2" + bytes(9) + b"\0\0\1\0\x18" + bytes(30),
    ],
)
def test_pictures_without_pixels_are_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    for function in (Picture.open, lambda path: size_of(path, 1 << 30)):
        with pytest.raises(CalotypeError):
            function(tmp_path / "a")


# Containers that say a wrong length or lack an end mark, though every pixel is there


def webp(kind):
    """A lossless WebP of SMOOTH, of each kind of container."""
    out, image = io.BytesIO(), Image.fromarray(SMOOTH)
    options = {
        "plain": {},
        "EXIF": {"exif": b"Exif\0\0" + block()},
        "animation": {"save_all": True, "append_images": [image.rotate(180)]},
    }
    image.save(out, "webp", lossless=True, **options[kind])
    return out.getvalue()


@pytest.mark.parametrize("kind", ["plain", "EXIF", "animation"])
@pytest.mark.parametrize("length", [0, 30, -40, -9, 500, 0xFFFFFFF0])
def test_a_webp_whose_length_is_wrong_is_read_by_its_chunks(read, kind, length):
    data = webp(kind)
    wrong = length if length in (0, 30, 0xFFFFFFF0) else len(data) + length
    wrong_data = data[:4] + wrong.to_bytes(4, "little") + data[8:]
    picture = read(wrong_data, "a.webp")
    check(picture, "webp", SMOOTH)
    assert picture.count == (2 if kind == "animation" else 1) and (picture.metadata.exif is not None) == (
        kind == "EXIF"
    )
    for cut in (2, 11, 40, len(data) // 2):
        with pytest.raises(CalotypeError, match="is damaged or cut off"):
            read(wrong_data[:-cut], "a.webp")


def test_what_is_behind_a_webp_is_no_part_of_it(read):
    check(read(webp("plain") + b"SEFH" + bytes(40), "a.webp"), "webp", SMOOTH)


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("tile", [None, (32, 16)])
def test_a_jpeg_2000_without_end_mark_whose_tiles_are_there_is_read(read, kind, tile):
    out = io.BytesIO()
    Image.fromarray(SMOOTH).save(out, "jpeg2000", no_jp2=kind == "j2k", tile_size=tile, irreversible=False)
    data = out.getvalue()
    assert data.endswith(b"\xff\xd9")
    for end in (data, data[:-2], data[:-2] + b"something else", data + b"something else"):
        check(read(end), "jp2", SMOOTH)
    for cut in (3, 20, len(data) // 2):
        with pytest.raises(CalotypeError, match="is damaged or cut off"):
            read(data[:-cut])
    at = data.rindex(b"\xff\x90\0\x0a")  # the last tile-part, which now says that it is one of two
    two_parts = data[: at + 11] + b"\2" + data[at + 12 :]
    check(read(two_parts), "jp2", SMOOTH)
    with pytest.raises(CalotypeError, match=r"is damaged or cut off \(the end is missing\)"):
        read(two_parts[:-2])


@pytest.mark.parametrize("size", ["0", "64 bits", "too large"])
def test_the_box_of_a_jpeg_2000_without_end_mark_may_say_any_length(read, size):
    data = imagecodecs.jpeg2k_encode(SMOOTH, level=0, reversible=True, codecformat="jp2")
    at = data.index(b"jp2c")
    head = {"0": bytes(4) + b"jp2c", "64 bits": b"\0\0\0\1jp2c" + struct.pack(">Q", len(data) - at + 10)}
    head["too large"] = struct.pack(">I", len(data)) + b"jp2c"
    check(read(data[: at - 4] + head[size] + data[at + 4 : -2]), "jp2", SMOOTH)
