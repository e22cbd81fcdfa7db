"""Bad files end in one sentence: never a traceback, never a picture with a grey bottom, never a full memory."""

import io
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from calotype.errors import CalotypeError, Wording, reason_of
from calotype.picture import Metadata, Picture, read_record, save
from calotype.picture.metadata import exif
from tests.picture import more_formats

NOISE = np.random.default_rng(3).integers(0, 256, (24, 36, 3)).astype(np.uint8)


def made(kind, tmp):
    """A small file of a kind, with everything in it."""
    block = exif.pack(exif.with_resolution(exif.with_software(exif.Exif(), "x"), (72, 72)))
    picture = Picture(NOISE, NOISE[:, :, 0].copy(), Metadata(exif=block, dpi=(72, 72)))
    deep = Picture(NOISE.astype(np.uint16) * 257, metadata=picture.metadata)
    out = io.BytesIO()
    image = Image.fromarray(NOISE)
    by_pillow = {
        "gif": lambda: image.save(out, "gif", save_all=True, append_images=[image.rotate(180)]),
        "progressive": lambda: image.save(out, "jpeg", progressive=True),
        "palette": lambda: image.quantize(9).save(out, "png", transparency=2),
        "moving webp": lambda: image.save(out, "webp", save_all=True, append_images=[image.rotate(180)]),
        "jpeg tiff": lambda: tifffile.imwrite(out, NOISE, photometric="rgb", compression="jpeg"),
        "lzw tiff": lambda: tifffile.imwrite(out, NOISE, photometric="rgb", compression="lzw", predictor=True),
        "tiles": lambda: tifffile.imwrite(out, NOISE, photometric="rgb", tile=(16, 16)),
        "fax": lambda: image.convert("1").save(out, "tiff", compression="group4"),
    }
    if kind in by_pillow:
        by_pillow[kind]()
        return out.getvalue()
    if kind in MORE:
        return MORE[kind]()
    save(deep if kind.startswith("deep") else picture, tmp / "made", format=kind.split()[-1], record='{"a":1}')
    return (tmp / "made").read_bytes()


MORE = {
    "jpeg-ls": lambda: imagecodecs.jpegls_encode(NOISE),
    "jp2": lambda: imagecodecs.jpeg2k_encode(NOISE, level=0, reversible=True, codecformat="jp2"),
    "j2k": lambda: imagecodecs.jpeg2k_encode(NOISE.astype(np.uint16) * 257, level=30, codecformat="j2k"),
    "jxl codestream": lambda: imagecodecs.jpegxl_encode(NOISE, lossless=True, usecontainer=False),
    "psd": lambda: more_formats.psd(NOISE, {1005: bytes(16), 1060: b"<x/>"}, packed=True),
    "psb": lambda: more_formats.psd(NOISE.astype(np.uint16) * 257, layers=-1, version=2),
    "tga": lambda: pillow(NOISE, "tga"),
    "packed tga": lambda: pillow(NOISE // 128 * 255, "tga", compression="tga_rle"),
    "pcx": lambda: pillow(NOISE, "pcx"),
    "ppm": lambda: b"P6 36 24 65535\n" + (NOISE.astype(">u2") * 257).tobytes(),
    "plain ppm": lambda: b"P3\n# made here\n36 24\n255\n" + b" ".join(b"%d" % value for value in (NOISE // 26).flat),
    "pam": lambda: b"P7\nWIDTH 36\nHEIGHT 24\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + NOISE.tobytes(),
    "qoi": lambda: imagecodecs.qoi_encode(NOISE),
    "ico": lambda: pillow(NOISE, "ico", sizes=[(36, 24)], bitmap_format="bmp"),
    "dng": lambda: more_formats.dng(NOISE / 255),
    "pdf": lambda: pillow(NOISE, "pdf", resolution=72),
}


def pillow(samples, format, **options):
    out = io.BytesIO()
    Image.fromarray(samples).save(out, format, **options)
    return out.getvalue()


KINDS = ["jpeg", "progressive", "png", "palette", "webp", "tiff", "bmp", "avif", "heic", "gif"]
KINDS += ["deep png", "deep tiff", "deep heic", "moving webp", "jpeg tiff", "lzw tiff", "tiles", "fax"]
KINDS += ["jxl", "deep jxl", *MORE]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {kind: made(kind, folder) for kind in KINDS}


def refused(path, **how):
    with pytest.raises(CalotypeError) as told:
        Picture.open(path, **how)
    sentence = str(told.value)
    assert "\n" not in sentence and len(sentence) < 400 + len(str(path)) and path.name in sentence
    return sentence


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_open(files, tmp_path, kind):
    (tmp_path / "a").write_bytes(files[kind])
    assert Picture.open(tmp_path / "a").pixels.shape[:2] == (24, 36)


@pytest.mark.many(plain=8)
@pytest.mark.parametrize("kind", KINDS)
def test_cut_files_are_refused_wherever_they_are_cut(files, tmp_path, kind, capfd):
    data, path = files[kind], tmp_path / "cut"
    whole = tmp_path / "whole"
    whole.write_bytes(data)
    pixels = Picture.open(whole).pixels
    steps, last = (15, 6) if kind in MORE else (60, 24)
    for length in sorted({*range(0, len(data), max(1, len(data) // steps)), *range(len(data) - last, len(data))}):
        path.write_bytes(data[:length])
        try:
            picture = Picture.open(path)
        except CalotypeError as told:
            assert "\n" not in str(told)
        else:  # what was cut off was not needed: a second frame, metadata behind the pixels, a closing mark
            np.testing.assert_array_equal(picture.pixels, pixels)
    assert capfd.readouterr().err == ""


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MORE])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_bytes_end_in_a_picture_or_a_sentence(files, tmp_path_factory, kind, data):
    _flip_bytes(files[kind], tmp_path_factory.getbasetemp() / "broken", data)


@pytest.mark.parametrize("kind", MORE)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_bytes_of_formats_that_are_only_read(files, tmp_path_factory, kind, data):
    _flip_bytes(files[kind], tmp_path_factory.getbasetemp() / "broken", data)


def test_a_tiff_with_two_values_where_one_belongs_is_refused(tmp_path):
    out = io.BytesIO()
    tifffile.imwrite(out, NOISE, photometric="rgb")
    data = bytearray(out.getvalue())
    entry = data.index((259).to_bytes(2, "little") + (3).to_bytes(2, "little"))  # Compression, a short
    data[entry + 4 : entry + 8] = (2).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(CalotypeError, match=r"a\.tif") as told:
        Picture.open(tmp_path / "a.tif")
    assert "\n" not in str(told.value)


def _flip_bytes(file, path, data):
    broken = bytearray(file)
    places = st.integers(0, len(broken) - 1) | st.integers(0, min(200, len(broken) - 1))
    for at in data.draw(st.lists(places, min_size=1, max_size=6)):
        broken[at] = data.draw(st.sampled_from([0, 1, 255, 127, 128]) | st.integers(0, 255))
    path.write_bytes(broken)
    try:
        picture = Picture.open(path, max_pixels=1_000_000)
    except CalotypeError as told:
        assert "\n" not in str(told)
    else:
        assert picture.pixels.dtype in (np.uint8, np.uint16) and picture.pixels.shape[2] in (1, 3)
        save(picture, path.with_name("again"), format="png")
    try:
        read_record(path)
    except CalotypeError as told:
        assert "\n" not in str(told)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(kind):
    """A small file that declares 60000x60000 pixels."""
    side = 60_000
    if kind == "png":
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    if kind == "tiff":
        out = io.BytesIO()
        tifffile.imwrite(out, np.zeros((8, 8), np.uint8), rowsperstrip=8)
        data, page = bytearray(out.getvalue()), tifffile.TiffFile(io.BytesIO(out.getvalue())).pages[0]
        for tag in (256, 257, 278):
            entry = page.tags[tag]
            struct.pack_into("<I" if entry.dtype == 4 else "<H", data, entry.valueoffset, side)
        return bytes(data)
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    data = bytearray(out.getvalue())
    if kind == "jpeg":
        at = data.find(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", side, side)
    elif kind == "gif":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "avif":
        at = data.find(b"ispe")
        data[at + 8 : at + 16] = struct.pack(">II", 16_000, 16_000)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "gif", "avif"])
def test_declared_pixels_are_counted_before_decoding(tmp_path, kind):
    (tmp_path / "bomb").write_bytes(bomb(kind))
    sentence = refused(tmp_path / "bomb")
    assert "give max_pixels" in sentence or kind == "tiff"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "bmp", "avif", "heic", "gif"])
def test_the_budget_is_ours_for_every_format(files, tmp_path, kind):
    (tmp_path / "a").write_bytes(files[kind])
    assert "36x24 = 864 pixels, more than the 863 allowed" in refused(tmp_path / "a", max_pixels=863)
    assert Picture.open(tmp_path / "a", max_pixels=864)


def test_webp_canvas_is_counted(tmp_path):
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(out, "webp", save_all=True, append_images=[Image.new("RGBA", (8, 8))])
    data = bytearray(out.getvalue())
    at = data.find(b"VP8X")
    data[at + 12 : at + 18] = struct.pack("<I", 16_000)[:3] * 2
    (tmp_path / "a").write_bytes(data)
    assert "give max_pixels" in refused(tmp_path / "a")


@pytest.mark.slow
def test_pillow_keeps_its_own_limits(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    Image.new("L", (20_000, 10_000)).save(tmp_path / "large.png")  # beyond Pillow's own limit
    assert Picture.open(tmp_path / "large.png").pixels.shape == (10_000, 20_000, 1)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "is empty"),
        (b"Dear grandmother,\nthank you\n" * 9, "is text"),
        ("亲爱的奶奶：\n谢谢您的照片。\n".encode(), "is text"),
        *((b"x" * shift + "奶奶".encode() * 999, "is text") for shift in range(3)),  # cut within a character
        ("谢谢\0".encode(), "is something else"),
        ("亲爱的奶奶：谢谢您的照片。".encode("gbk"), "is something else"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg/>", "SVG"),
        (b"8BPS\0\1" + bytes(99), "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"%PDF-1.7\n", "damaged"),
        (b"v/1\1" + bytes(99), "an OpenEXR file"),
        (b"<!DOCTYPE html><html>", "web page"),
        (bytes(1000), "something else"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(50), "video"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut off"),
        (b"\xff\xd8\xff", "damaged or cut off"),
        (b"BM", "something else|text"),
        (b"II*\0\x08\0\0\0", "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "pointer of Git LFS"),  # git-lfs #5502
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2" + bytes(50), "CgBI"),  # timg #85, opencv #27295
    ],
)
def test_what_is_no_picture_is_told(tmp_path, data, why):
    (tmp_path / "scan.png").write_bytes(data)
    sentence = refused(tmp_path / "scan.png")
    assert any(word in sentence for word in why.split("|"))


def test_places_without_a_picture(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.png")
    assert "is a folder" in refused(tmp_path)
    with pytest.raises(CalotypeError, match="cannot be opened"):
        Picture.open(tmp_path / ("x" * 300))
    with pytest.raises(CalotypeError, match="cannot be opened"):
        Picture.open(tmp_path / "a\0b")


def test_a_device_is_not_read():
    with pytest.raises(CalotypeError, match="a device or a pipe"):
        Picture.open("/dev/zero")


def test_a_tiff_with_the_tag_of_a_dng_is_a_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "photo.dng", NOISE, photometric="rgb", extratags=[(50706, "B", 4, (1, 4, 0, 0), True)])
    np.testing.assert_array_equal(Picture.open(tmp_path / "photo.dng").pixels, NOISE)


def test_a_jpeg_with_grey_filled_up_is_refused(tmp_path):
    """Cut in its data and closed with an end mark: decoders fill the rest with grey and say nothing."""
    for progressive in (False, True):
        out = io.BytesIO()
        Image.fromarray(NOISE.repeat(8, 0).repeat(8, 1)).save(out, "jpeg", quality=95, progressive=progressive)
        data = out.getvalue()
        for share in (0.3, 0.99):
            (tmp_path / "a.jpg").write_bytes(data[: int(len(data) * share)] + b"\xff\xd9")
            assert "cut off" in refused(tmp_path / "a.jpg")


def test_heic_decoder_is_there():
    assert pillow_heif.libheif_info()["HEIF"]


@pytest.mark.parametrize(
    "kind, name, reason",
    [
        *(("jpeg", "bad.jpg", "缺少结尾"), ("ppm", "bad.ppm", "缺少结尾")),
        *(("psd", "bad.psd", "缺少结尾"), ("png", "bad.png", "条目 IHDR 已损坏")),
    ],
)
def test_why_a_file_is_damaged_is_said_in_the_readers_language(tmp_path, kind, name, reason):
    data = made(kind, tmp_path)
    path = tmp_path / name
    path.write_bytes(data[:20] + b"?" + data[21:] if kind == "png" else data[: len(data) * 2 // 3])
    with pytest.raises(CalotypeError) as caught:  # as it comes out of the decoder's process
        Picture.open(path)
    assert Wording("zh").fill(caught.value) == f"{name} 已损坏或不完整（{reason}）；请换一份试试"


def test_what_the_system_says_is_in_the_readers_language(tmp_path):
    sentences = []
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError) as caught:
            path.read_bytes()
        sentences.append(Wording("zh").fill(reason_of(caught.value)))
    assert sentences == ["文件或文件夹不存在", "没有权限" if sys.platform == "win32" else "这是文件夹"]
    assert Wording("zh").fill(reason_of(OSError(5, "{new} of a system"))) == "{new} of a system"
