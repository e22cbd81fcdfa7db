"""Films: what is shown is in them for as long as it was shown, small, and never all in memory."""

import weakref

import numpy as np
import pytest
from PIL import Image

from calotype.errors import CalotypeError, Message
from calotype.outputs.drawings import DrawingPaths
from calotype.picture import video as film
from calotype.record import Film
from calotype.tasks.output import DrawingOutput


def frames(count, height=90, width=120):
    """A picture in whose corner something moves, shown twice in between."""
    y, x = np.mgrid[:height, :width]
    for n in range(count):
        frame = np.dstack([x * 255 // width, y * 255 // height, np.full_like(x, 90)]).astype(np.uint8)
        frame[5:15, 10 + 3 * (n // 2) : 20 + 3 * (n // 2)] = 250
        yield frame


def of_pillow(path, shown, seconds):
    """The same film, all frames at once."""
    images = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in shown]
    times = [round(1000 * s) for s in seconds]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0, optimize=False)


def test_a_gif_shows_its_frames_and_is_as_small_as_pillows(tmp_path):
    seconds = [0.6, *[0.2] * 8, 3.0]
    of_pillow(tmp_path / "whole.gif", frames(10), seconds)
    with film.gif(tmp_path / "parts.gif") as show:
        for frame, time in zip(frames(10), seconds, strict=True):
            show(frame, time)
    assert (tmp_path / "parts.gif").stat().st_size <= 1.02 * (tmp_path / "whole.gif").stat().st_size
    with Image.open(tmp_path / "whole.gif") as whole, Image.open(tmp_path / "parts.gif") as parts:
        assert parts.n_frames == whole.n_frames == 5 and parts.info["loop"] == 0
        for n, frame in enumerate(list(frames(10))[::2]):
            whole.seek(n)
            parts.seek(n)
            assert parts.info["duration"] == whole.info["duration"]
            pixels = np.asarray(parts.convert("RGB"))
            assert np.array_equal(pixels, np.asarray(whole.convert("RGB")))
            assert np.abs(pixels.astype(int) - frame).mean() < 4


def test_a_wide_gif_is_shrunk(tmp_path):
    with film.gif(tmp_path / "a.gif") as show:
        show(np.full((100, 2 * film.WIDE, 3), 9, np.uint8), 1.0)
    with Image.open(tmp_path / "a.gif") as made:
        assert made.size == (film.WIDE, 50) and made.info["duration"] == 1000


def test_an_mp4_lasts_as_long_as_it_is_told_and_fades(tmp_path):
    av = pytest.importorskip("av")
    with film.mp4(tmp_path / "a.mp4", fade=0.5) as show:
        for grey in (0, 200):
            show(np.full((65, 81, 3), grey, np.uint8), 1.0)
    with av.open(str(tmp_path / "a.mp4")) as made:
        shown = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]
    assert len(shown) == 2 * film.RATE and shown[0].shape == (64, 80, 3)
    light = [frame.mean() for frame in shown]
    assert light[film.RATE - 1] < 10 and 80 < light[film.RATE + 5] < 120 and light[-1] > 190


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_frames_are_not_kept(tmp_path, monkeypatch, kind):
    if kind == "mp4":
        pytest.importorskip("av")
    known, there = [], []

    def noted(image, *args, **options):
        known.append(weakref.ref(made := quantize(image, *args, **options)))
        return made

    quantize = Image.Image.quantize
    monkeypatch.setattr(Image.Image, "quantize", noted)
    with getattr(film, kind)(tmp_path / f"a.{kind}") as show:
        for frame in frames(20):
            show(frame, 0.1)
            known.append(weakref.ref(frame))
            del frame
            there.append(sum(one() is not None for one in known))
    assert len(known) == (40 if kind == "gif" else 20) and max(there) <= 2


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_film_that_is_broken_off_leaves_nothing(tmp_path, kind):
    if kind == "mp4":
        pytest.importorskip("av")
    with pytest.raises(KeyboardInterrupt), getattr(film, kind)(tmp_path / f"a.{kind}") as show:
        for frame in frames(3):
            show(frame, 0.1)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_walk_is_kept_as_both(tmp_path, monkeypatch):
    output = DrawingOutput(out=tmp_path)
    walk = Film(tuple(frames(6)), 0.1, 7)
    path, told = DrawingPaths(output, 1).save_film(walk)
    if film.can_mp4():
        assert path == tmp_path / "00000-7-walk.mp4" and path.is_file() and not told
    with Image.open(tmp_path / "00000-7-walk.gif") as made:
        assert made.n_frames == 3
    monkeypatch.setattr(film, "can_mp4", lambda: False)
    path, told = DrawingPaths(output, 1).save_film(walk)
    assert path == tmp_path / "00001-7-walk.gif" and told == (Message.of(film.missing()),)
    with pytest.raises(CalotypeError, match="PyAV is not installed"), film.mp4(tmp_path / "a.mp4"):
        pass


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_film_without_frames_replaces_nothing(tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    path.write_bytes(b"an earlier one")
    if kind == "mp4" and not film.can_mp4():
        pytest.skip("PyAV is an extra")
    with pytest.raises(CalotypeError, match="no frames"), getattr(film, kind)(path):
        pass
    assert path.read_bytes() == b"an earlier one" and len(list(tmp_path.iterdir())) == 1


def test_a_gif_that_stands_still_for_long_is_shown_as_long_as_gif_can(tmp_path):
    with film.gif(tmp_path / "still.gif") as shown:
        for _ in range(3):
            shown(np.zeros((4, 4, 3), np.uint8), 400.0)
    assert Image.open(tmp_path / "still.gif").info["duration"] == 655_350
