"""Transparency: hidden colours are replaced, further channels are no transparency, first frames keep theirs."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from calotype.picture import Picture, alpha

RNG = np.random.default_rng(13)


def disk(height=37, width=50, dtype=np.uint8):
    y, x = np.mgrid[0:height, 0:width]
    full = np.iinfo(dtype).max
    return (((y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2) * full).astype(dtype)


def opened(path, data):
    path.write_bytes(data)
    return Picture.open(path)


def tiff(samples, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, samples, metadata=None, **options)
    return out.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_colours_leave_no_trace(dtype, channels):
    shape, mask = (37, 50, channels), disk(dtype=dtype)
    colour = RNG.integers(60, np.iinfo(dtype).max, shape).astype(dtype)
    first, second = (np.where(mask[:, :, None] > 0, colour, np.array(hidden, dtype)) for hidden in (0, 255))
    filled = alpha.with_visible_colours(first, mask)
    assert np.array_equal(filled, alpha.with_visible_colours(second, mask))
    assert np.array_equal(filled[mask > 0], colour[mask > 0])
    assert filled.min() >= colour[mask > 0].min()  # only visible colours, and means of them


def test_visible_colours_spread_from_where_they_are():
    colour, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    colour[:, :16], colour[:, 48:] = (200, 30, 30), (30, 30, 200)
    mask[:, :16] = mask[:, 48:] = 255
    filled = alpha.with_visible_colours(colour, mask)
    assert np.abs(filled[:, :20].astype(int) - (200, 30, 30)).max() < 40
    assert np.abs(filled[:, 44:].astype(int) - (30, 30, 200)).max() < 40


def test_bands_change_nothing(monkeypatch):
    colour, mask = RNG.integers(0, 256, (41, 53, 3)).astype(np.uint8), disk(41, 53)
    whole = alpha.with_visible_colours(colour, mask)
    monkeypatch.setattr(alpha, "_BAND", 53 * 3 * 7)
    assert np.array_equal(alpha.with_visible_colours(colour, mask), whole)


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_or_everything_visible_stays_as_it_is(value):
    colour = RNG.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    assert alpha.with_visible_colours(colour, np.full((9, 9), value, np.uint8)) is colour
    assert alpha.with_visible_colours(colour, None) is colour


def lab_samples(dtype, signed=True):
    """Lab of a grey and of sRGB's red, 4 x 4 each, with alpha; and their sRGB."""
    unit = 1 << (8 * np.dtype(dtype).itemsize - 8)
    lab = np.zeros((4, 8, 3))
    lab[:, :4], lab[:, 4:] = (53.585, 0, 0), (54.2917, 80.8125, 69.8851)
    ab = np.rint(lab[:, :, 1:] * unit).astype(int) + (0 if signed else 128 * unit)
    light = lab[:, :, :1] / 100 * (np.iinfo(dtype).max if signed else 255 * unit)
    samples = np.concatenate([np.rint(light), ab % (256 * unit)], axis=2).astype(dtype)
    return samples, np.array([[128, 128, 128], [255, 0, 0]]).repeat(4, axis=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [8, 9])
def test_lab_keeps_its_alpha_and_bits(tmp_path, dtype, kind):
    samples, wanted = lab_samples(dtype, signed=kind == 8)
    mask = RNG.integers(0, np.iinfo(dtype).max, (4, 8, 1)).astype(dtype)
    data = tiff(
        np.concatenate([samples, mask, mask], axis=2), photometric=kind, planarconfig="contig", extrasamples=(2, 0)
    )
    picture = opened(tmp_path / "lab.tif", data)
    assert picture.pixels.dtype == dtype
    error = picture.pixels / (1 if dtype == np.uint8 else 257) - wanted
    assert np.abs(error).max() < (14 if dtype == np.uint8 else 0.9)  # 8 bits of Lab are coarse at the edge of sRGB
    assert np.array_equal(picture.alpha, mask[:, :, 0])
    assert picture.notes == ("Lab turned into sRGB", "a further channel that is not transparency is left out")


@pytest.mark.parametrize("associated", [False, True])
def test_cmyk_keeps_its_alpha(tmp_path, associated):
    ink = RNG.integers(0, 120, (6, 7, 4)).astype(np.uint8)
    mask = np.full((6, 7, 1), 128, np.uint8)
    stored = np.rint(ink * (128 / 255)).astype(np.uint8) if associated else ink
    kind = "assocalpha" if associated else "unassalpha"
    data = tiff(np.concatenate([stored, mask], axis=2), photometric="separated", extrasamples=[kind])
    picture = opened(tmp_path / "cmyk.tif", data)
    assert (picture.alpha == 128).all()
    assert (
        np.abs(picture.pixels.astype(int) - np.asarray(Image.frombytes("CMYK", (7, 6), ink).convert("RGB"))).max() < 4
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_channel_without_a_meaning_is_not_transparency(tmp_path, dtype, channels):
    samples = RNG.integers(0, np.iinfo(dtype).max, (6, 7, channels + 1)).astype(dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    out = tiff(samples, photometric=photometric, planarconfig="contig", extrasamples=[0])
    picture = opened(tmp_path / "in.tif", without_entry(out, 338))
    assert picture.alpha is None and np.array_equal(picture.pixels, samples[:, :, :channels])
    assert picture.notes == ("a further channel that is not transparency is left out",)


def without_entry(data, tag):
    """The TIFF with a tag's number changed to one that nobody knows."""
    at = int.from_bytes(data[4:8], "little") + 2
    while data[at : at + 2] != tag.to_bytes(2, "little"):
        at += 12
    return data[:at] + (65_000).to_bytes(2, "little") + data[at + 2 :]


def test_the_channel_that_is_transparency_is_found(tmp_path):
    samples = RNG.integers(0, 256, (6, 7, 6)).astype(np.uint8)
    data = tiff(samples, photometric="rgb", planarconfig="contig", extrasamples=[0, 2, 0])
    picture = opened(tmp_path / "in.tif", data)
    assert np.array_equal(picture.alpha, samples[:, :, 4])
    assert picture.notes == ("2 further channels that are not transparency are left out",)


def test_a_palette_keeps_its_alpha(tmp_path):
    samples = RNG.integers(0, 256, (6, 7, 2)).astype(np.uint8)
    table = RNG.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    # tifffile writes no palette with more than one channel: written as grey, with the two entries changed
    tags = [(320, 3, 768, tuple(table.reshape(-1).tolist()), True)]
    data = tiff(samples, photometric="minisblack", planarconfig="contig", extrasamples=[2], extratags=tags)
    data = data.replace(struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 3))
    picture = opened(tmp_path / "in.tif", data)
    assert np.array_equal(picture.alpha, samples[:, :, 1])
    assert np.array_equal(picture.pixels, (table.T >> 8)[samples[:, :, 0]])


ONE_OF_TWO = "it holds 2 pictures; only the first was taken; pages all takes them all"


def frames(kind):
    """An animation of two frames with transparency; and the pixels of the first."""
    first, second = (np.dstack([RNG.integers(0, 256, (20, 24, 3)), disk(20, 24)]).astype(np.uint8) for _ in range(2))
    first[first[:, :, 3] == 0] = 0
    images = [Image.fromarray(frame) for frame in (first, second)]
    out = io.BytesIO()
    images[0].save(out, kind, save_all=True, append_images=images[1:], **({"lossless": True} if kind == "webp" else {}))
    return out.getvalue(), first


@pytest.mark.parametrize("kind", ["webp", "png", "gif", "avif"])
def test_the_first_frame_keeps_its_transparency(tmp_path, kind):
    data, first = frames(kind)
    picture = opened(tmp_path / "in", data)
    assert np.abs(picture.alpha.astype(int) - first[:, :, 3]).max() < (1 if kind != "avif" else 60)
    if kind in ("webp", "png"):
        assert np.array_equal(picture.pixels[first[:, :, 3] > 0], first[first[:, :, 3] > 0][:, :3])
    assert [str(note) for note in picture.notes] == [ONE_OF_TWO]


def test_what_the_first_frame_does_not_cover_is_empty(tmp_path):
    patch = Image.fromarray(RNG.integers(0, 4, (20, 30)).astype(np.uint8), "P")
    patch.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    out = io.BytesIO()
    patch.save(out, "gif", optimize=False)
    data = bytearray(out.getvalue())
    data[6:10] = (60).to_bytes(2, "little") + (40).to_bytes(2, "little")
    at = data.index(b",\0\0\0\0" + (30).to_bytes(2, "little"))
    data[at + 1 : at + 5] = (7).to_bytes(2, "little") + (5).to_bytes(2, "little")
    picture = opened(tmp_path / "in.gif", bytes(data))
    wanted = np.zeros((40, 60), np.uint8)
    wanted[5:25, 7:37] = 255
    assert np.array_equal(picture.alpha, wanted)
    assert np.array_equal(picture.pixels[5:25, 7:37], np.asarray(patch.convert("RGB")))
