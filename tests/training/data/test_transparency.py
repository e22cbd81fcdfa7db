"""What lies hidden under transparency is never learnt: pictures are learnt as they look on white."""

import numpy as np
import pytest
from PIL import Image

from calotype.errors import CalotypeError
from calotype.picture import Picture
from calotype.tasks import Note
from calotype.training.data import patches as crops
from calotype.training.data.captioned import CaptionedSet, read_pairs
from calotype.training.data.faces import Face, faces_in
from calotype.training.data.patches import HighRes
from calotype.training.data.squares import Images, of_folder

SIDE = 64


def seen_by_upscaler(folder, engine):
    return [event.pixels for event in crops.open_images(folder, 10**9) if isinstance(event, HighRes)]


def seen_by_restorer(folder, engine):
    return [
        e.pixels for e in faces_in(folder, SIDE, True, engine.models.detector(), None, 10**9) if isinstance(e, Face)
    ]


def seen_by_gan(folder, engine):
    return next(e for e in of_folder(folder, SIDE, 10**9, 10**9) if isinstance(e, Images)).pictures.numpy()


def seen_by_diffusion(folder, engine):
    return next(e for e in read_pairs(folder, SIDE) if isinstance(e, CaptionedSet)).pixels.numpy()


def drawn(folder, hidden, count=8):
    """Discs with a soft edge around them, and whatever is hidden there."""
    folder.mkdir()
    y, x = np.mgrid[:96, :96]
    away = np.hypot(y - 44, x - 50)
    alpha = np.clip((38 - away) * 40, 0, 255).astype(np.uint8)
    for n in range(count):
        colour = np.where(alpha[..., None] > 0, np.uint8([200, 20 * n, 90]), hidden(y, x)).astype(np.uint8)
        Image.fromarray(np.dstack([colour, alpha])).save(folder / f"{n}.png")
        (folder / f"{n}.txt").write_text("a disc")
    return folder


@pytest.mark.parametrize("seen", [seen_by_upscaler, seen_by_restorer, seen_by_gan, seen_by_diffusion])
def test_what_is_hidden_changes_nothing(engine, tmp_path, seen):
    one = seen(drawn(tmp_path / "black", lambda y, x: np.zeros((96, 96, 3))), engine)
    other = seen(drawn(tmp_path / "stripes", lambda y, x: np.stack([y * 31, x * 17, y * x], 2) % 256), engine)
    assert len(one) == len(other) == 8
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a, b) and a.min() < 150 and a.max() == 255


def test_edges_that_are_empty_are_cut_off(tmp_path):
    told = list(crops.open_images(drawn(tmp_path / "discs", lambda y, x: np.zeros((96, 96, 3)), 1), 10**9))
    [sharp] = (event for event in told if isinstance(event, HighRes))
    assert sharp.pixels.shape == (75, 75, 3) and (sharp.pixels[0, 0] == 255).all()
    assert "1 pictures are partly transparent" in next(event.text for event in told if isinstance(event, Note))


def test_a_picture_that_is_read_again_is_the_same(tmp_path, monkeypatch):
    folder = drawn(tmp_path / "discs", lambda y, x: np.full((96, 96, 3), 77), 1)
    kept = seen_by_upscaler(folder, None)
    monkeypatch.setattr(crops, "MAX_CACHED_BYTES", 0)
    assert np.array_equal(seen_by_upscaler(folder, None)[0], kept[0])


def test_a_picture_that_shows_nothing_is_left_out(tmp_path):
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "empty.png")
    with pytest.raises(CalotypeError, match="has no pictures to train on"):
        for event in crops.open_images(tmp_path, 10**9):
            assert not isinstance(event, Note) or "empty.png is fully transparent" in event.text


def test_an_opaque_picture_is_laid_on_nothing():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(Picture(pixels, np.full((4, 4), 255, np.uint8)).on_white().pixels, pixels)
    plain = Picture(pixels)
    assert plain.on_white() is plain
