"""What is left of a damaged JPEG or PNG is read where that is asked for, and only there."""

import contextlib
import importlib
import io
import json
import random
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from calotype.cli import main
from calotype.errors import CalotypeError, PictureError, Wording
from calotype.picture import Picture
from calotype.picture.picture import size_of
from calotype.tasks import options_of, read_task

OFFER = "give damaged_file to use what is left of it"
DAMAGED = "its file is damaged, but can be read: parts may be missing, blurred, shifted or discoloured"
END = b"\xff\xd9"
JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
STRAY = random.Random(0).randbytes(290) + b"\xff\x3f\xff\xd3\xff\xc4\xff\xda\xff\xd0"  # 300 bytes; markers among them


def cut(data):
    return data[: len(data) * 2 // 3]


def middle(data, put):
    """With 300 bytes of its middle replaced."""
    return data[: len(data) // 2] + put + data[len(data) // 2 + 300 :]


DAMAGES = {
    "cut off": cut,
    "with an end mark": lambda data: cut(data) + END,
    "stray markers": lambda data: middle(data, STRAY),
    "a part removed": lambda data: middle(data, b""),
}


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def refused(path, damaged_file, **how):
    with pytest.raises(PictureError) as caught:
        Picture.open(path, damaged_file=damaged_file, **how)
    return caught.value


def same_rows(picture, pixels):
    """How many rows look as those of the undamaged picture."""
    return (np.abs(picture.pixels.astype(int) - pixels).mean((1, 2)) < 12).sum()


READABLE = ("progressive", "a part removed")  # libjpeg finds its way again


@pytest.mark.parametrize("kind, damage", [pair for pair in product(JPEGS, DAMAGES) if pair != READABLE])
def test_what_is_left_of_a_jpeg_is_read_where_it_is_asked_for(portrait, tmp_path, kind, damage):
    path = tmp_path / "a.jpg"
    path.write_bytes(DAMAGES[damage](jpeg(portrait, **JPEGS[kind])))
    assert str(refused(path, None)).endswith("try another copy of it")
    fault = refused(path, False)
    assert str(fault).endswith(OFFER) and fault.option == "damaged_file"
    picture = Picture.open(path, damaged_file=True)
    [note] = picture.notes
    assert note.startswith("its file is damaged: what is left of it was read")
    is_progressive = "progressive" in kind  # which keeps all of it, in less detail
    assert same_rows(picture, portrait) >= (500 if is_progressive else 260)


def test_what_can_be_read_without_the_option_is_read_alike_and_said_to_be_damaged(portrait, tmp_path):
    kind, damage = READABLE
    (tmp_path / "a.jpg").write_bytes(DAMAGES[damage](jpeg(portrait, **JPEGS[kind])))
    pictures = [Picture.open(tmp_path / "a.jpg", damaged_file=damaged_file) for damaged_file in (None, False, True)]
    assert all(np.array_equal(picture.pixels, pictures[0].pixels) for picture in pictures)
    assert same_rows(pictures[0], portrait) >= 500 and not any(picture.is_remains for picture in pictures)
    assert [picture.notes for picture in pictures] == [(DAMAGED,)] * 3


@pytest.mark.parametrize("kind", JPEGS)
def test_a_readable_jpeg_is_said_to_be_damaged_where_libjpeg_warns_of_that(portrait, tmp_path, kind):
    """Much damage looks like other data to libjpeg, mostly in a baseline JPEG."""
    data, rng, path, noted = jpeg(portrait, **JPEGS[kind]), random.Random(2), tmp_path / "a.jpg", 0
    start = data.index(b"\xff\xda") + 20
    for _ in range(20):
        damaged, at = bytearray(data), rng.randrange(start, len(data) - 30)
        damaged[at : at + 30] = bytes(30)
        path.write_bytes(damaged)
        with contextlib.suppress(CalotypeError):
            notes = Picture.open_here(path, 0, None, 1 << 20).notes
            assert notes in ((), (DAMAGED,))
            noted += bool(notes)
    assert noted >= 5


def whole_jpegs(portrait):
    image, mpo, cmyk, raw = Image.fromarray(portrait), io.BytesIO(), io.BytesIO(), jpeg(portrait)
    image.save(mpo, "MPO", save_all=True, append_images=[image])
    image.convert("CMYK").save(cmyk, "JPEG")
    video = b"\0\0\0\x18ftypmp42" + random.Random(0).randbytes(5000) + b"\x10\0\0\0MotionPhoto_Data"
    return {
        **{kind: jpeg(portrait, **options) for kind, options in JPEGS.items()},
        "grey": jpeg(portrait[..., 1]),
        "MPO": mpo.getvalue(),
        "CMYK": cmyk.getvalue(),
        "with a video behind it": raw + video,
        "without end mark": raw[:-2],
        "without end mark, with a video behind it": raw[:-2] + random.Random(0).randbytes(5000).replace(b"\xff", b"\0"),
        "filled with zeros": raw[:-2] + bytes(5000) + END,
        "with padding": raw[:-2] + b"\1\2\3\4\5\6" + END,
    }


@pytest.mark.parametrize("kind", whole_jpegs(np.zeros((64, 64, 3), np.uint8)))
def test_a_whole_jpeg_is_not_said_to_be_damaged(portrait, tmp_path, kind):
    (tmp_path / "a.jpg").write_bytes(whole_jpegs(portrait)[kind])
    assert "damaged" not in " ".join(map(str, Picture.open(tmp_path / "a.jpg").notes))


def test_a_damaged_file_of_several_pictures_says_how_many_it_holds(portrait, tmp_path):
    file, path = io.BytesIO(), tmp_path / "a.mpo"
    Image.fromarray(portrait).save(file, "MPO", save_all=True, append_images=[Image.fromarray(portrait[::-1])])
    data = bytearray(file.getvalue())
    data[9000:9300] = STRAY
    path.write_bytes(data)
    assert str(refused(path, False)).endswith(OFFER)
    first, second = (Picture.open(path, page=page, damaged_file=True) for page in (0, 2))
    assert first.count == second.count == 2 and first.is_remains and not second.is_remains
    assert str(first.notes[0]).startswith("it holds 2 pictures; only the first was taken") and not second.notes


def test_a_marker_in_damaged_data_does_not_end_the_picture(portrait, tmp_path):
    data = jpeg(portrait)
    at = len(data) // 2
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xff\x3f\xff\xd3" + data[at + 4 :])
    below = Picture.open(tmp_path / "a.jpg", damaged_file=True).pixels[320:480]
    assert len(np.unique(below.reshape(-1, 3), axis=0)) > 1000  # not the grey of data that are missing


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("damage", ["cut off", "a part removed", "zeros"])
def test_a_png_is_read_to_the_row_where_it_is_damaged(portrait, tmp_path, mode, damage):
    image = Image.fromarray(portrait)
    image = {
        "RGBA": lambda: Image.fromarray(np.dstack([portrait, portrait[:, :, 0] | 1])),
        "P": lambda: image.quantize(200),
        "I;16": lambda: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
    }.get(mode, lambda: image.convert(mode))()
    data, path = png(image), tmp_path / "a.png"
    path.write_bytes(data)
    whole = Picture.open(path)
    path.write_bytes({**DAMAGES, "zeros": lambda data: middle(data, bytes(300))}[damage](data))
    assert str(refused(path, None)).endswith("try another copy of it") and str(refused(path, False)).endswith(OFFER)
    assert size_of(path, 1 << 20, damaged_file=True) == (512, 512)
    picture = Picture.open(path, damaged_file=True)
    [note] = picture.notes
    percent = int(note.split("about ")[1].split(" %")[0])
    rows, missing = 512 * percent // 100 - 10, 512 * (percent + 1) // 100 + 1  # data after the damage may decompress
    assert 30 < percent < 70 and picture.pixels.dtype == whole.pixels.dtype
    assert np.array_equal(picture.pixels[:rows], whole.pixels[:rows])
    assert len(np.unique(picture.pixels[missing:].reshape(-1, picture.pixels.shape[2]), axis=0)) == 1
    assert picture.alpha is None or not picture.alpha[missing:].any()


def with_wrong_checksum(data, kind, number=0):
    """Of so many a chunk of a PNG of that kind."""
    at, places = 8, []
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        places += [end - 4] if data[at + 4 : at + 8] == kind else []
        at = end
    at = places[number]
    return data[:at] + bytes(255 - byte for byte in data[at : at + 4]) + data[at + 4 :]


@pytest.mark.parametrize("mode, kind", [("RGB", b"IDAT"), ("RGB", b"IEND"), ("P", b"IDAT"), ("P", b"PLTE")])
def test_a_wrong_checksum_of_a_chunk_loses_nothing_behind_it(portrait, tmp_path, mode, kind):
    image, path = Image.fromarray(portrait), tmp_path / "a.png"
    data = png(image.quantize(200) if mode == "P" else image, compress_level=0)
    path.write_bytes(data)
    whole = Picture.open(path)
    path.write_bytes(with_wrong_checksum(data, kind))
    assert str(refused(path, False)).endswith(OFFER)
    picture = Picture.open(path, damaged_file=True)
    assert np.array_equal(picture.pixels, whole.pixels)
    wrong = "all of it was read, but parts may be wrong"  # a palette has no checksum but that of its chunk
    assert picture.notes == ("its file is damaged" + (f": {wrong}" if kind == b"PLTE" else ", but not its pixels"),)


def test_wrong_pixels_of_a_png_do_not_lose_those_after_them(portrait, tmp_path):
    data, path = bytearray(png(Image.fromarray(portrait), compress_level=0)), tmp_path / "a.png"
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    picture = Picture.open(path, damaged_file=True)
    assert picture.notes == ("its file is damaged: all of it was read, but parts may be wrong",)
    assert same_rows(picture, portrait) > 500 and not np.array_equal(picture.pixels, portrait)


def test_a_damaged_entry_between_the_pixels_of_a_damaged_png_is_left_out(portrait, tmp_path):
    data, path = png(Image.fromarray(portrait), compress_level=0), tmp_path / "a.png"
    at = data.rindex(b"IDAT") - 4
    stray = with_wrong_checksum(bytes(8) + (4).to_bytes(4, "big") + b"abCdtext" + bytes(4), b"abCd")[8:]
    path.write_bytes(with_wrong_checksum(data[:at] + stray + data[at:], b"IDAT"))
    picture = Picture.open(path, damaged_file=True)
    assert picture.notes == ("a damaged abCd entry is left out", "its file is damaged, but not its pixels")
    assert np.array_equal(picture.pixels, portrait)


def test_a_damaged_png_keeps_what_stands_before_its_pixels(portrait, tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a fox\nSteps: 2")
    data = png(Image.fromarray(portrait), pnginfo=texts, dpi=(300, 300))
    (tmp_path / "a.png").write_bytes(cut(data))
    picture = Picture.open(tmp_path / "a.png", damaged_file=True)
    assert picture.metadata.infotext.startswith("a fox") and round(picture.metadata.dpi[0]) == 300


def test_whole_files_are_read_as_without_it(portrait, tmp_path):
    for name, data in (("a.jpg", jpeg(portrait)), ("a.png", png(Image.fromarray(portrait)))):
        (tmp_path / name).write_bytes(data)
        picture = Picture.open(tmp_path / name, damaged_file=True)
        assert picture.notes == () and np.array_equal(picture.pixels, Picture.open(tmp_path / name).pixels)


def left_of_nothing(portrait):
    image, file = Image.fromarray(portrait), io.BytesIO()
    data, webp = jpeg(portrait), io.BytesIO()
    image.save(webp, "WEBP")
    image.save(file, "TIFF", compression="tiff_lzw")
    stored = png(image)
    interlaced = bytearray(stored)
    interlaced[28] = 1
    return {
        "a header": data[: data.index(b"\xff\xda")],
        "the header of a scan": data[: data.index(b"\xff\xda") + 14],
        "a jpeg of zeros": data[: data.index(b"\xff\xda") + 14] + bytes(9999),
        "half a header of a png": stored[:30],
        "a png without rows": stored[:60],
        "an interlaced png": cut(bytes(interlaced)),
        "a webp": cut(webp.getvalue()),
        "a tiff": cut(file.getvalue()),
    }


@pytest.mark.parametrize("kind", left_of_nothing(np.zeros((9, 9, 3), np.uint8)))
def test_where_nothing_is_left_the_sentence_offers_nothing(portrait, tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(left_of_nothing(portrait)[kind])
    sentences = {str(refused(path, damaged_file)) for damaged_file in (None, False, True)}
    assert len(sentences) == 1 and sentences.pop().endswith("try another copy of it")


@pytest.mark.parametrize("kind", ["a webp", "a tiff"])
def test_a_format_of_which_nothing_can_be_left_is_decoded_once(portrait, tmp_path, monkeypatch, kind):
    (tmp_path / "a").write_bytes(left_of_nothing(portrait)[kind])
    format = kind.split()[1]
    module = importlib.import_module(f"calotype.picture.codecs.{format}")
    reader, calls = getattr(module, f"open_{format}"), []
    monkeypatch.setattr(module, f"open_{format}", lambda *args: calls.append(args) or reader(*args))
    for damaged_file in (False, True):
        with pytest.raises(PictureError):
            Picture.open_here(tmp_path / "a", 0, damaged_file, 1 << 20)
    assert len(calls) == 2


def test_pixels_are_counted_before_what_is_left_is_decoded(portrait, tmp_path):
    for data in (jpeg(portrait), png(Image.fromarray(portrait))):
        (tmp_path / "a").write_bytes(cut(data))
        assert "more than the 262,143 allowed" in str(refused(tmp_path / "a", True, max_pixels=512 * 512 - 1))


def test_what_is_offered_can_be_read_however_a_file_is_damaged(portrait, tmp_path):
    rng, path = random.Random(1), tmp_path / "a"
    small = np.ascontiguousarray(portrait[100:228, 150:310])
    kinds = [*(jpeg(small, **options) for options in JPEGS.values()), png(Image.fromarray(small))]
    for _ in range(300):
        data = bytearray(rng.choice(kinds))
        at, count = rng.randrange(20, len(data)), rng.choice((1, 30, 300))
        data[at : at + count] = rng.choice((b"", bytes(count), rng.randbytes(count), END))
        path.write_bytes(data)
        answers = []
        for damaged_file in (None, False, True):
            try:
                answers.append(Picture.open_here(path, 0, damaged_file, 1 << 20).pixels.shape)
            except CalotypeError as fault:
                answers.append(str(fault))
        plain, offering, read = answers
        assert isinstance(plain, tuple) == isinstance(offering, tuple)
        assert (isinstance(offering, str) and offering.endswith(OFFER)) == (isinstance(plain, str) and read != plain)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_the_offer_is_made_in_the_readers_language(portrait, tmp_path):
    (tmp_path / "a.jpg").write_bytes(cut(jpeg(portrait)))
    sentence = Wording("zh").fill(refused(tmp_path / "a.jpg", False))
    assert sentence == "a.jpg 已损坏或不完整（缺少结尾）；请换一份试试，或用 damaged_file 读出还能读的部分"


def test_a_damaged_photo_is_restored_on_request_and_again_the_same(portrait, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(cut(jpeg(portrait[::4, ::4])))
    command = ["restore", "cut.jpg", "--upscaler", "none", "--face-model", "none", "--format", "png"]
    assert main(command) == 1
    assert "or give --damaged-file to use what is left of it" in capsys.readouterr().err
    assert not (tmp_path / "out/cut.png").exists()
    assert main([*command, "--damaged-file"]) == 0
    assert "its file is damaged" in capsys.readouterr().err
    record = json.loads((tmp_path / "out/cut.png.json").read_text())
    assert record["options"]["damaged_file"] is True and "its file is damaged" in " ".join(record["said"])
    assert main(["again", "out/cut.png"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    assert (tmp_path / "out/cut-again.png").read_bytes() == (tmp_path / "out/cut.png").read_bytes()


@pytest.mark.parametrize("orientation, side", [(1, "bottom"), (3, "top"), (6, "left"), (8, "right")])
@pytest.mark.parametrize(
    "kind, mode", [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "I;16"), ("JPEG", "RGB")]
)
def test_rows_that_are_missing_are_not_measured(portrait, tmp_path, kind, mode, orientation, side):
    image = Image.fromarray(portrait.astype(np.uint16)[..., 0] * 257) if mode == "I;16" else Image.fromarray(portrait)
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    (image if mode == "I;16" else image.convert(mode)).save(file, kind, exif=exif)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(cut(file.getvalue()))
    picture = Picture.open(path, damaged_file=True)
    rows, columns = picture.known_part()
    height, width = picture.pixels.shape[:2]
    cuts = {"top": rows.start, "bottom": height - rows.stop, "left": columns.start, "right": width - columns.stop}
    length = height if side in ("top", "bottom") else width
    assert 0.1 * length < cuts.pop(side) < 0.6 * length and not any(cuts.values())
    known = picture.without_missing_rows()
    np.testing.assert_array_equal(known.pixels, picture.pixels[rows, columns])
    assert (known.pixels != known.pixels[0, 0]).any((1, 2)).mean() > 0.9
    whole = replace(picture, is_remains=False)
    assert whole.without_missing_rows() is whole


@pytest.mark.parametrize("marker", [b"\xff\xc4", b"\xff\xda"])
def test_bytes_in_the_header_of_a_jpeg_that_are_skipped_are_no_damage(portrait, tmp_path, marker):
    data = jpeg(portrait[::4, ::4])
    at = data.index(marker)
    (tmp_path / "a.jpg").write_bytes(data[:at] + bytes(range(1, 21)) + data[at:])
    (tmp_path / "b.jpg").write_bytes(data)
    stray, whole = (Picture.open(tmp_path / name) for name in ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(stray.pixels, whole.pixels)
    assert not stray.notes


def test_a_scan_that_is_damaged_is_not_copied_as_the_photo_on_it(portrait, tmp_path, monkeypatch):
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(cut(jpeg(portrait, progressive=True)))  # all of it, in less detail
    assert main(["split", "cut.jpg", "--damaged-file"]) == 0
    assert Picture.open(tmp_path / "out/cut-01.jpg").pixels.shape == portrait.shape


def test_a_whole_scan_is_copied_as_the_photo_on_it_with_the_option_too(portrait, tmp_path, monkeypatch):
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole.jpg").write_bytes(jpeg(portrait))
    assert main(["split", "whole.jpg", "--damaged-file"]) == 0
    assert (tmp_path / "out/whole-01.jpg").read_bytes() == (tmp_path / "whole.jpg").read_bytes()


def test_a_result_of_a_damaged_photo_is_compared_later_without_the_option(portrait, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(cut(jpeg(portrait[:160, 96:256])))
    command = ["upscale", "cut.jpg", "--model", "realesr-animevideov3-x2"]
    assert main([*command, "--damaged-file"]) == 0
    assert main([*command, "--compare"]) == 0
    assert (tmp_path / "out/cut-compare.jpg").exists()


def test_what_is_done_stays_done_when_the_album_is_run_again_with_it(portrait, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album").mkdir()
    data = jpeg(portrait[:160, 96:256])
    for name, content in (("whole.jpg", data), ("cut.jpg", cut(data))):
        (tmp_path / "album" / name).write_bytes(content)
    command = ["upscale", "album", "--model", "realesr-animevideov3-x2", "-o", "out"]
    assert main(command) == 1
    done = (tmp_path / "out" / "whole.jpg").stat().st_mtime_ns
    assert main([*command, "--damaged-file"]) == 0
    assert (tmp_path / "out" / "whole.jpg").stat().st_mtime_ns == done and (tmp_path / "out" / "cut.jpg").exists()


def test_a_hostile_jpeg_is_given_up_soon(portrait, tmp_path):
    """Tables without end, at each of which a scan might begin."""
    head = jpeg(portrait[:64, :64])
    start = head.index(b"\xff\xda") + 14
    (tmp_path / "a.jpg").write_bytes(head[:start] + b"\xff\xc4\x00\x02" * 50_000)
    began = time.monotonic()
    with pytest.raises(CalotypeError):
        Picture.open(tmp_path / "a.jpg", 10**6, damaged_file=False)
    assert time.monotonic() - began < 10


def test_records_hold_the_option_only_where_it_is_given():
    assert "damaged_file" not in options_of(read_task("upscale", {"source": "a.jpg"}))
    assert options_of(read_task("upscale", {"source": "a.jpg", "damaged_file": True}))["damaged_file"] is True
