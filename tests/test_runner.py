"""The runner: requests through the engine to files and events, without a door."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.checks import check
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.outputs.sidecar import sidecar_of
from calotype.runner import Request, run
from calotype.tasks import read_task
from calotype.tasks.events import Failed, Finished, ItemStarted, Preview, Saved, Skipped, Started
from calotype.tasks.output import Album, DrawingOutput

QUICK = {"model": "realesr-animevideov3-x2"}


def draw(path: Path, size=(24, 20), seed=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def album(tmp_path):
    """Three pictures, of which the second is cut off."""
    for n, name in enumerate(("a.png", "b.png", "c.png")):
        draw(tmp_path / "in" / name, seed=n)
    cut = tmp_path / "in/b.png"
    cut.write_bytes(cut.read_bytes()[:60])
    return tmp_path / "in"


def upscale(album, engine, **more):
    task = read_task("upscale", {**QUICK, "source": album})
    return run(Request((task,), (album,)), engine, Album(out=album.parent / "out", **more))


def kinds(events):
    return [type(event).__name__ for event in events if type(event).__name__ not in ("Progress", "Note")]


def test_a_failure_is_told_when_it_happens_and_stops_nothing(album, engine):
    events = list(upscale(album, engine))
    assert kinds(events) == [
        "Started",
        *("ItemStarted", "Saved", "ItemStarted", "Failed", "ItemStarted", "Saved"),
        "Finished",
    ]
    assert "b.png" in str(next(e for e in events if isinstance(e, Failed)).cause)
    assert (events[-1].done, events[-1].skipped, len(events[-1].failures)) == (2, 0, 1)
    assert {path.name for path in (album.parent / "out").iterdir()} == {"a.png", "a.png.json", "c.png", "c.png.json"}


def test_what_is_done_is_skipped(album, engine):
    (album / "b.png").unlink()
    list(upscale(album, engine))
    sidecar_of(album.parent / "out/a.png").unlink()
    events = list(upscale(album, engine))
    assert [type(event) for event in events] == [Started, ItemStarted, Skipped, ItemStarted, Skipped, Finished]
    assert sidecar_of(album.parent / "out/a.png").is_file()


def test_an_interrupt_between_two_events_ends_the_run_with_its_last_event(album, engine):
    events = upscale(album, engine, compare=True)
    for event in events:
        if isinstance(event, Saved):
            break
    last = [events.throw(KeyboardInterrupt), *events]
    assert kinds(last) == ["Finished"] and last[-1].interrupted and last[-1].done == 1


def test_closing_leaves_nothing_half_done(album, engine):
    events = upscale(album, engine)
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, ItemStarted):
                break
    assert not list((album.parent / "out").iterdir())


def test_bad_usage_is_raised_before_anything_is_begun(album, engine):
    with pytest.raises(CalotypeError, match="no model is named nine"):
        next(run(Request((read_task("upscale", {"source": album, "model": "nine"}),)), engine))
    with pytest.raises(CalotypeError, match="doesn't exist"):
        next(run(Request((read_task("upscale", {"source": album / "none.png"}),)), engine))


def test_a_task_alone_is_its_own_input(album, engine, tmp_path):
    task = read_task("upscale", {**QUICK, "source": album / "a.png"})
    *_, saved, last = run(Request((task,)), engine, Album(out=tmp_path / "big.png"))
    assert Path(saved.target) == tmp_path / "big.png" and last.done == 1


@pytest.mark.slow
def test_a_drawing_is_seen_as_it_forms(engine, tmp_path):
    task = read_task("imagine", {"prompt": "red apple, fluent 3d", "seed": 1, "steps": 3})
    events = list(run(Request((task,)), engine, DrawingOutput(out=tmp_path / "x.png"), preview_every=0))
    previews = [event for event in events if isinstance(event, Preview)]
    assert len(previews) == 3 and all(event.image.startswith(b"\xff\xd8\xff") for event in previews)
    assert not [
        e for e in run(Request((task,)), engine, DrawingOutput(out=tmp_path / "y.png")) if isinstance(e, Preview)
    ]


def test_a_picture_to_start_from_that_is_cut_fails_as_a_photo_does(album, engine, tmp_path):
    task = read_task("imagine", {"prompt": "x", "init": album / "b.png"})
    events = list(run(Request((task,)), engine, DrawingOutput(out=tmp_path / "x.png")))
    assert kinds(events) == ["Started", "ItemStarted", "Failed", "Finished"]


WRONG = {
    "restore": ["restore", "cut.jpg"],
    "upscale": ["upscale", "cut.jpg"],
    "imagine": ["imagine", "x", "--init", "cut.jpg"],
    "lora": ["train", "lora", "NOFOLDER"],
    "restorer": ["train", "restorer", "NOFOLDER"],
    "repairer": ["train", "repairer", "NOFOLDER"],
    "gan": ["train", "gan", "NOFOLDER"],
    "upscaler": ["train", "upscaler", "NOFOLDER"],
    "diffusion": ["train", "diffusion", "NOFOLDER"],
    "caption": ["train", "caption", "NOFOLDER"],
    "model": ["upscale", "good.png", "--model", "nine"],
    "checkpoint": ["imagine", "x", "--model", "nine"],
}


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("args", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_said_before_torch_is_loaded(args, tmp_path):
    draw(tmp_path / "good.png", (400, 300))
    Image.open(tmp_path / "good.png").save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    program = (
        "import json, sys, time\nfrom calotype.cli import main\n"
        f"status = main({args!r})\n"
        "heavy = sorted({'torch', 'spandrel', 'diffusers', 'torchvision'} & sys.modules.keys())\n"
        "print(json.dumps([status, heavy, time.process_time()]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    status, heavy, seconds = json.loads(done.stdout.splitlines()[-1])
    assert heavy == [] and status == (1 if "cut.jpg" in args else 2)
    assert done.stderr.startswith("calotype: ") and done.stderr.count("\n") == 1
    assert seconds < 2  # of the processor; on a quiet machine under one


def test_an_engine_is_made_without_torch():
    program = (
        "import sys\nfrom calotype.engine import Engine\nfrom calotype.settings import Settings\n"
        "engine = Engine(Settings())\nprint(engine.is_loaded, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_what_is_to_be_done_before_torch_is_loaded_is_done_once(settings):
    calls = []
    engine = Engine(settings, lambda: calls.append(1))
    assert not calls and not engine.is_loaded
    assert engine.models is engine.models and engine.is_loaded and calls == [1]


def test_what_is_checked_before_torch_takes_every_form_of_weights(settings, tmp_path):
    (tmp_path / "peft/unet").mkdir(parents=True)
    check(read_task("convert_lora", {"lora": str(tmp_path / "peft"), "out": tmp_path / "x.safetensors"}), settings)
    for name in ("realesrgan-x4plus", "realesr-animevideov3-x2"):
        check(read_task("upscale", {"source": tmp_path / "a.png", "model": name}), settings)
    check(read_task("restore", {"source": tmp_path / "a.png", "face_model": "faces-v2"}), settings)
    check(read_task("imagine", {"model": "emoji"}), settings)


def test_a_file_of_weights_that_is_cut_is_said_before_torch(settings, tmp_path):
    from calotype.checkpoints.bundled import shipped

    whole = (shipped("faces-v2") / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CalotypeError, match="bytes are missing"):
        check(read_task("restore", {"source": "a.png", "face_model": str(tmp_path / "cut.safetensors")}), settings)
    (tmp_path / "a.txt").write_text("no")
    with pytest.raises(CalotypeError, match="is no file of weights"):
        check(read_task("restore", {"source": "a.png", "face_model": str(tmp_path / "a.txt")}), settings)
