"""What save writes: bit for bit where the format allows it, whole or not at all."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calotype.errors import CalotypeError
from calotype.picture import Metadata, Picture, read_record, save
from calotype.picture.codecs import tiff as tiff_module
from calotype.picture.codecs.formats import KNOWN
from calotype.tasks import FORMATS

KINDS = FORMATS[1:]


def drawn(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def picture(shape=(13, 17, 3), dtype=np.uint8, has_alpha=False, **how):
    return Picture(drawn(shape, dtype), drawn(shape[:2], dtype, 1) if has_alpha else None, **how)


def same(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.pixels.dtype == other.pixels.dtype
    assert (one.alpha is None) == (other.alpha is None)
    if one.alpha is not None:
        np.testing.assert_array_equal(one.alpha, other.alpha)


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    has_alpha=st.booleans(),
    format=st.sampled_from(["png", "tiff", "webp", "bmp"]),
    seed=st.integers(0, 1000),
)
def test_lossless_formats_keep_every_bit(tmp_path_factory, height, width, channels, dtype, has_alpha, format, seed):
    if format in ("webp", "bmp"):
        dtype, has_alpha, channels = np.uint8, has_alpha and format == "webp", 3
    before = Picture(
        drawn((height, width, channels), dtype, seed), drawn((height, width), dtype, seed + 1) if has_alpha else None
    )
    path = tmp_path_factory.mktemp("trip") / "picture"
    assert save(before, path, format=format, quality=100) == ()
    after = Picture.open(path)
    same(before, after)
    assert after.format == format and after.notes == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_other_programs_read_the_same(tmp_path, dtype, channels, has_alpha, order):
    exif = {
        "<": b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x02\0\0\0A\0\0\0",
        ">": b"MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0\x02A\0\0\0",
    }
    before = picture((300, 211, channels), dtype, has_alpha, metadata=Metadata(exif=exif[order] + bytes(4)))
    samples = before.pixels if before.alpha is None else np.dstack([before.pixels, before.alpha])
    save(before, tmp_path / "a.tif", format="tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.byteorder == order
        assert file.pages[0].tags[271].value == "A"
        np.testing.assert_array_equal(file.asarray().reshape(samples.shape), samples)
        assert len(file.pages[0].dataoffsets) == (
            1 if samples.nbytes <= 1 << 18 else -(-300 // file.pages[0].rowsperstrip)
        )
    save(before, tmp_path / "a.png", format="png")
    if channels + has_alpha != 2:
        # OpenCV multiplies the transparency of an 8-bit TIFF into its colours
        for name in ("a.png", "a.tif")[: 1 if has_alpha and dtype == np.uint8 else 2]:
            read = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).reshape(samples.shape)
            turned = [0] if channels == 1 else [2, 1, 0, 3][: samples.shape[2]]
            np.testing.assert_array_equal(read[:, :, turned], samples)
    elif dtype == np.uint8:
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), samples)


def test_big_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_module, "_CLASSIC", 1000)
    before = picture((500, 400, 3), np.uint16, True, metadata=Metadata(dpi=(240, 240)))
    save(before, tmp_path / "big.tif", format="tiff", record='{"a":1}')
    assert (tmp_path / "big.tif").read_bytes()[:4] == b"II+\0"
    after = Picture.open(tmp_path / "big.tif")
    same(before, after)
    assert after.metadata.dpi == (240, 240)
    assert read_record(tmp_path / "big.tif") == '{"a":1}'
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        np.testing.assert_array_equal(file.asarray()[:, :, :3], before.pixels)


@pytest.mark.parametrize("format", KINDS)
@pytest.mark.parametrize("has_alpha", [False, True])
def test_same_input_same_bytes(tmp_path, format, has_alpha):
    exact = []
    for name in ("one", "another"):
        before = picture((64, 80, 3), np.uint16, has_alpha, metadata=Metadata(dpi=(300, 300)))
        save(before, tmp_path / name, format=format, record="{}")
        exact.append((tmp_path / name).read_bytes())
    assert exact[0] == exact[1]


def test_16_bits_are_rounded_to_8(tmp_path):
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    assert save(Picture(every), tmp_path / "a.bmp", format="bmp") == ("BMP keeps 8 bits only",)
    np.testing.assert_array_equal(Picture.open(tmp_path / "a.bmp").pixels, np.rint(every / 257.0).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_laid_on_white(tmp_path, dtype):
    most = np.iinfo(dtype).max
    before = picture((20, 30, 3), dtype, True)
    before.alpha[:10] = most
    before.alpha[10:12] = 0
    notes = save(before, tmp_path / "a.bmp", format="bmp")
    assert "BMP has no transparency: laid on white" in notes
    after = Picture.open(tmp_path / "a.bmp").pixels.astype(float)
    share = before.alpha[:, :, None] / most
    np.testing.assert_allclose(after, (before.pixels / most * share + (1 - share)) * 255, atol=0.51)
    assert (after[10:12] == 255).all()


@pytest.mark.parametrize("quality, halved", [(95, False), (90, False), (89, True)])
def test_jpeg_keeps_colour_whole_from_quality_90(tmp_path, quality, halved):
    save(picture((64, 64, 3)), tmp_path / "a.jpg", format="jpeg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.layer[0][1:3] == ((2, 2) if halved else (1, 1))


@pytest.mark.parametrize("format", ["jpeg", "avif", "heic", "jxl"])
def test_grey_stays_grey(tmp_path, format):
    save(picture((40, 50, 1)), tmp_path / "a", format=format)
    assert Picture.open(tmp_path / "a").pixels.shape == (40, 50, 1)


@pytest.mark.parametrize(
    "format, side", [("jpeg", 65_501), ("webp", 16_384), ("avif", 32_769), ("heic", 16_385), ("jxl", 262_145)]
)
def test_too_large_names_a_format_that_fits(tmp_path, format, side):
    title = KNOWN[format].title
    with pytest.raises(CalotypeError, match=rf"{side}x1, too large for {title}; PNG or TIFF can hold it") as told:
        save(picture((1, side, 1)), tmp_path / "wide", format=format)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format, side", [("jpeg", 65_500), ("webp", 16_383), ("avif", 32_768), ("heic", 16_384)])
def test_the_largest_side_works(tmp_path, format, side):
    height = 64 if format == "heic" else 8
    save(Picture(np.zeros((height, side, 3), np.uint8)), tmp_path / "wide", format=format)
    assert Picture.open(tmp_path / "wide").pixels.shape[:2] == (height, side)


def test_a_shape_that_only_the_encoder_refuses(tmp_path):
    with pytest.raises(CalotypeError, match="16384x8 pixels; PNG or TIFF can hold them"):
        save(Picture(np.zeros((8, 16_384, 3), np.uint8)), tmp_path / "wide", format="heic")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.many(plain=7)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (8, 4000, 3), (4000, 8, 1)])
@pytest.mark.parametrize("format", KINDS)
def test_odd_sizes(tmp_path, shape, format):
    for dtype, has_alpha in ((np.uint8, False), (np.uint16, True)):
        save(picture(shape, dtype, has_alpha), tmp_path / "odd", format=format)
        assert Picture.open(tmp_path / "odd").pixels.shape[:2] == shape[:2]


@pytest.mark.parametrize("name", ["照片 🎞️ a b.png", "x" * 200 + ".png", "字" * 80 + ".png", "-rf.png"])
def test_names(tmp_path, name):
    save(picture(), tmp_path / name, format="png")
    same(picture(), Picture.open(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, why in (
        (tmp_path / "none" / "a.png", "there is no folder"),
        (tmp_path / "file" / "a.png", "cannot be written"),
        (tmp_path / "folder", "is a folder"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(CalotypeError, match=why) as told:
            save(picture(), path, format="png")
        assert "\n" not in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.fixture
def closed():
    """A folder with a picture, neither open to us: root may go anywhere, so for a moment we are nobody."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no such permissions here")
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(picture(), folder / "a.png", format="png")
        (folder / "a.png").chmod(0)
        folder.chmod(0o555)
        if was == 0:
            os.seteuid(65_534)
        yield folder
        os.seteuid(was)
        folder.chmod(0o700)


def test_what_is_closed_to_us(closed):
    with pytest.raises(CalotypeError, match="closed to you"):
        save(picture(), closed / "b.png", format="png")
    with pytest.raises(CalotypeError, match="may not be read"):
        Picture.open(closed / "a.png")


@pytest.mark.many(plain=2)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("format", KINDS)
def test_a_file_over_the_limit_of_its_size_leaves_nothing(tmp_path, format):
    script = f"""
        import resource
        import numpy as np
        from calotype.errors import CalotypeError
        from calotype.picture import Picture, save
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
        try:
            save(Picture(noise), {str(tmp_path / "a")!r}, format={format!r})
        except CalotypeError as told:
            print(told)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start = f"{tmp_path / 'a'} cannot be written: it is larger than `ulimit -f` or the file system of"
    assert done.stdout.startswith(start) and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_keeps_the_old_file(tmp_path, fault, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")

    def stop(*_):
        raise fault

    monkeypatch.setattr(imagecodecs, "deflate_encode", stop)
    with pytest.raises(fault):
        save(picture(), path, format="tiff")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    save(picture(), path, format="png")
    same(picture(), Picture.open(path))
