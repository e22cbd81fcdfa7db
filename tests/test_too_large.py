"""Results that are too large for their format: another format, or refused before any work."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.engine import Engine
from calotype.errors import PictureError
from calotype.picture import Picture, save, size_of
from calotype.picture.codecs import heif
from calotype.runner import Request, run
from calotype.tasks import read_task
from calotype.tasks.events import Failed, Note, Progress, Saved, Skipped
from calotype.tasks.output import Album

LANCZOS = {"upscaler": "none", "faces": "none"}


@pytest.fixture
def wide(tmp_path):
    """A WebP of 4100x2 pixels; WebP holds up to 16383."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.arange(4100 * 2 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 4100, 3)).save(
        tmp_path / "in/a.webp", lossless=True
    )
    return tmp_path / "in/a.webp"


def restore(wide, engine, out: Path, overwrite=False, **options):
    task = read_task("restore", {**LANCZOS, "scale": 4.0, "source": wide, **options})
    return list(run(Request((task,), (wide.parent,)), engine, Album(out=out, overwrite=overwrite)))


def kinds(events):
    return [type(event) for event in events]


def test_it_is_saved_in_a_format_that_holds_it_and_a_note_says_so(wide, engine, tmp_path):
    events = restore(wide, engine, tmp_path / "out")
    assert size_of(tmp_path / "out/a.png", 1 << 30) == (8, 16_400)
    notes = [str(event.message) for event in events if isinstance(event, Note)]
    assert "a result of 16400x8 pixels is too large for WEBP: it is saved as PNG" in notes
    assert Skipped in kinds(restore(wide, engine, tmp_path / "out"))
    assert not (tmp_path / "out/a.webp").exists()


def test_another_picture_keeps_its_name(wide, engine, tmp_path):
    Image.new("RGB", (8, 8), "red").save(wide.parent / "a.png")
    restore(wide, engine, tmp_path / "out")
    assert size_of(tmp_path / "out/a.png", 1 << 30) == (32, 32)
    assert size_of(tmp_path / "out/a-webp.png", 1 << 30) == (8, 16_400)


@pytest.mark.parametrize("out, options", [("out", {"format": "webp"}), ("out/b.webp", {})])
def test_a_format_that_was_asked_for_is_refused_before_torch_is_loaded(wide, settings, tmp_path, out, options):
    engine = Engine(settings)
    events = restore(wide, engine, tmp_path / out, **options)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert str(failed.cause).endswith("would be 16400x8, too large for WebP; PNG or TIFF can hold it")
    assert not engine.is_loaded and Progress not in kinds(events)


def test_the_networks_own_factor_counts(wide, engine, tmp_path):
    task = read_task("upscale", {"model": "realesrgan-x4plus", "source": wide})
    with pytest.raises(StopIteration):
        events = run(Request((task,), (wide,)), engine, Album(out=tmp_path / "out"))
        while not isinstance(event := next(events), Progress | Saved):
            if isinstance(event, Note) and "saved as PNG" in str(event.message):
                events.close()


def test_what_fits_is_as_it_was(wide, engine, tmp_path):
    restore(wide, engine, tmp_path / "out", scale=3.9)
    assert size_of(tmp_path / "out/a.webp", 1 << 30) == (8, 15_990)


def test_what_only_the_encoder_knows_changes_the_format_too(engine, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    source = tmp_path / "in/a.heic"
    save(Picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), source, format="heic")
    monkeypatch.setattr(heif, "_MAX_BYTES", 2000)
    events = restore(source, engine, tmp_path / "out", scale=1)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a.png", "a.png.json"]
    assert any("too large for HEIC" in str(event.message) for event in events if isinstance(event, Note))
    with pytest.raises(PictureError, match="HEIC of 64x64 pixels at quality 95 is larger"):
        save(Picture.open(source), tmp_path / "b.heic", format="heic")
    assert not (tmp_path / "b.heic").exists()
