"""Files that crash a decoder or keep it busy for ever."""

import contextlib
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from calotype import out_of_process
from calotype.errors import CalotypeError, PictureError
from calotype.out_of_process import call
from calotype.picture import Picture, decoder, read_record, save, size_of
from calotype.runner import Request, run
from calotype.tasks import read_task
from calotype.tasks.events import Failed, Finished, Saved
from calotype.tasks.output import Album
from tests import crashing


@pytest.fixture
def crash(monkeypatch):
    """Files named abort..., null..., loop... are decoded by functions that do that."""
    monkeypatch.setattr(Picture, "open_here", staticmethod(crashing.open_or_crash))
    monkeypatch.setattr(decoder, "SECONDS", 1.0)


def write(path, seed=0):
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    "name, says", [("abort", "crashes its decoder (Aborted)"), ("null", "(Segmentation fault)"), ("loop", "too long")]
)
def test_such_a_file_is_an_error_in_a_sentence(crash, tmp_path, name, says):
    write(tmp_path / f"{name}.png")
    with pytest.raises(PictureError) as fault:
        Picture.open(tmp_path / f"{name}.png")
    assert f"{name}.png" in str(fault.value) and says in str(fault.value)
    pixels = write(tmp_path / "good.png")
    assert np.array_equal(Picture.open(tmp_path / "good.png").pixels, pixels)


def test_an_album_goes_on_and_says_which_pictures_failed(crash, tmp_path, engine):
    for n, name in enumerate(("a", "abort-b", "c", "null-d", "loop-e", "f")):
        write(tmp_path / "in" / f"{name}.png", n)
    task = read_task("upscale", {"model": "realesr-animevideov3-x2", "source": tmp_path / "in"})
    events = list(run(Request((task,), (tmp_path / "in",)), engine, Album(out=tmp_path / "out")))
    assert [event.source[-5:] for event in events if isinstance(event, Saved)] == ["a.png", "c.png", "f.png"]
    failed = [event for event in events if isinstance(event, Failed)]
    assert [type(event.cause) for event in failed] == [PictureError] * 3
    assert isinstance(events[-1], Finished) and (events[-1].done, len(events[-1].failures)) == (3, 3)


@pytest.fixture
def calls(monkeypatch):
    """Names of the functions that are called in the decoder process."""
    names = []
    monkeypatch.setattr(decoder.out_of_process, "call", lambda f, *a, **k: names.append(f.__name__) or call(f, *a, **k))
    return names


def test_a_picture_that_was_read_ahead_is_not_read_again(calls, tmp_path):
    pixels = write(tmp_path / "a.png")
    ahead = Picture.open_ahead(tmp_path / "a.png", 1000, limit=1000)
    assert np.array_equal(Picture.open(tmp_path / "a.png", 1000).pixels, pixels)
    assert ahead.is_read and calls == ["size_of_here", "open_here"]
    Picture.open(tmp_path / "a.png", 1000)
    assert calls[2:] == ["open_here"]


def test_a_picture_that_was_changed_meanwhile_is_read_again(tmp_path):
    write(tmp_path / "a.png")
    ahead = Picture.open_ahead(tmp_path / "a.png", 1000, limit=1000)
    assert ahead.is_read
    (tmp_path / "a.png").unlink()
    pixels = write(tmp_path / "b.png", seed=1)
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    assert np.array_equal(Picture.open(tmp_path / "a.png", 1000).pixels, pixels)
    ahead.forget()
    assert not decoder._AHEAD


def test_a_large_picture_is_not_read_ahead(calls, tmp_path):
    pixels = write(tmp_path / "a.png")
    assert not Picture.open_ahead(tmp_path / "a.png", 1000, limit=12 * 16 - 1).is_read
    assert calls == ["size_of_here"]
    assert np.array_equal(Picture.open(tmp_path / "a.png", 1000).pixels, pixels)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("content", [None, b"", b"no picture", "null"])
def test_the_error_of_a_picture_that_was_read_ahead_is_that_of_reading_it(crash, tmp_path, content):
    path = tmp_path / f"{content if isinstance(content, str) else 'x'}.png"
    if isinstance(content, str):
        write(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(CalotypeError) as plain:
        Picture.open(path, 1000)
    ahead = Picture.open_ahead(path, 1000, limit=1000)
    ahead.wait()
    with pytest.raises(CalotypeError) as fault:
        Picture.open(path, 1000)
    ahead.forget()
    assert str(fault.value) == str(plain.value) and not decoder._AHEAD


def test_an_album_is_decoded_by_one_process_and_each_picture_once_more_at_most(calls, tmp_path, engine):
    for n in range(3):
        write(tmp_path / "in" / f"{n}.png", n)
    task = read_task("upscale", {"model": "realesr-animevideov3-x2", "source": tmp_path / "in"})
    request = Request((task,), (tmp_path / "in",))
    assert list(run(request, engine, Album(out=tmp_path / "out")))[-1].done == 3
    assert calls.count("open_here") - (not engine.is_loaded) <= 4 and len(out_of_process._POOL._waiting) == 1
    calls.clear()
    assert list(run(request, engine, Album(out=tmp_path / "out")))[-1].skipped == 3
    assert "open_here" not in calls


def test_a_picture_is_not_blamed_for_what_an_earlier_one_damaged(crash, tmp_path):
    for n in range(3):
        pixels = write(tmp_path / f"late-{n}.png", n)
        assert np.array_equal(Picture.open(tmp_path / f"late-{n}.png").pixels, pixels)


def test_a_file_that_really_crashes_a_decoder(tmp_path, monkeypatch):
    """simplejpeg 1.9 writes beyond its memory when it decodes a lossless JPEG at an eighth of its size."""
    import imagecodecs

    pixels = (np.indices((480, 640)).sum(0) % 251).astype(np.uint8)
    (tmp_path / "lossless.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, lossless=True))
    monkeypatch.setattr(Picture, "open_here", staticmethod(crashing.open_by_simplejpeg))
    with contextlib.suppress(PictureError):  # it may crash now or later
        for _ in range(3):
            Picture.open(tmp_path / "lossless.jpg")
    monkeypatch.undo()
    assert np.array_equal(Picture.open(tmp_path / "lossless.jpg").pixels[..., 0], pixels)


def test_sizes_and_records_are_read_in_that_process_too(tmp_path, capfd):
    write(tmp_path / "a.png")
    save(Picture.open(tmp_path / "a.png"), tmp_path / "b.png", format="png", record="{}")
    assert size_of(tmp_path / "b.png", 1000) == (12, 16) and read_record(tmp_path / "b.png") == "{}"
    program = "import sys; from calotype.picture import *; print(size_of(sys.argv[1], 1000), read_record(sys.argv[1]))"
    program += "; print([name for name in ('imagecodecs', 'tifffile') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "b.png"], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["(12, 16) {}", "[]"] and not done.stderr


def test_decoders_print_nothing(tmp_path, capfd):
    """libpng warns about every interlaced picture."""
    pixels = write(tmp_path / "a.png")
    (tmp_path / "interlaced.png").write_bytes(interlaced(pixels))
    assert np.array_equal(Picture.open(tmp_path / "interlaced.png").pixels, pixels)
    assert capfd.readouterr() == ("", "")


def interlaced(pixels):
    """A PNG in Adam7's seven passes."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row for y, x, down, across in passes for row in pixels[y::down, x::across] if row.size]
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    height, width, _ = pixels.shape
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)), (b"IDAT", body), (b"IEND", b"")]
    framed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_a_call_costs_little(tmp_path):
    """2,000 times less than the second in which a network enlarges a small picture."""
    call(crashing.returned, seconds=30)
    started = time.process_time()
    for _ in range(20):
        call(crashing.returned, seconds=30)
    assert (time.process_time() - started) / 20 < 0.005
