"""Learning to find scratches, small: it learns, goes on where it stopped, and its file works in restoring."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.files import run_lock
from calotype.models.repairer import build
from calotype.record import Result
from calotype.tasks import Note, Progress, Restore, TrainRepairer
from calotype.training.repair.losses import Figures, repair_loss
from calotype.training.repair.pairs import Pairs, make_pairs
from calotype.training.run.result import TrainResult

TINY = {"channels": "4,4", "patch_size": 64, "train_batch_size": 2, "mixed_precision": "no", "validate_every": 100}


@pytest.fixture(scope="module")
def engine(settings):
    return Engine(replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("照片")
    for n, pixels in enumerate((data.coffee(), data.chelsea(), data.camera())):
        Image.fromarray(pixels[:200, :240]).save(folder / f"{n}.png")
    return folder


def learn(engine, photos, out, stop=None, **options):
    events, run = [], engine.run(TrainRepairer(photos=photos, output_dir=out, **{**TINY, **options}))
    for event in run:
        events.append(event)
        if stop and isinstance(event, Progress) and event.what == "steps" and event.done == stop:
            run.close()
            break
    return events


def said(events):
    return "\n".join(event.text for event in events if isinstance(event, Note))


def test_it_learns_to_find_scratches_and_shows_it(engine, photos, tmp_path):
    options = {"channels": "8,8", "max_train_steps": 80, "validate_every": 40, "learning_rate": 1e-2}
    events = learn(engine, photos, tmp_path, **options)
    assert isinstance(events[-1], TrainResult) and events[-1].pictures == 2
    lines = [json.loads(line) for line in (tmp_path / "repairer.log.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss/current"] for line in lines if "loss/current" in line]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    assert sum("Marks/recall" in line for line in lines) == 2
    assert "2 pictures to train on, 1 for validation" in said(events) and "step 80: precision" in said(events)
    assert Image.open(tmp_path / "sample" / "repairer_000080_00.png").size == (2 * 64, 3 * 64)


def test_its_file_works_in_restoring(engine, photos, tmp_path):
    path = learn(engine, photos, tmp_path, max_train_steps=2)[-1].path
    assert build(load_file(path)).multiple == 4
    photo = next(photos.iterdir())
    options = {"upscaler": "none", "face_model": "none", "faces": "none", "scale": 1, "repair": "scratches"}
    *_, result = engine.run(Restore(source=photo, repair_model=str(path), **options))
    assert isinstance(result, Result)


def test_going_on_gives_the_same_file(engine, photos, tmp_path):
    options = {"max_train_steps": 4, "save_state_every": 1}
    whole = learn(engine, photos, tmp_path / "whole", **options)
    learn(engine, photos, tmp_path / "parts", stop=2, **options)
    events = learn(engine, photos, tmp_path / "parts", **options)
    assert "going on after step 2 of 4" in said(events)
    assert events[-1].path.read_bytes() == whole[-1].path.read_bytes()


def test_a_network_learns_on(engine, photos, tmp_path):
    first = learn(engine, photos, tmp_path / "first", max_train_steps=2)[-1].path
    events = learn(engine, photos, tmp_path / "second", max_train_steps=1, model=str(first), channels="32,48,64,96")
    assert load_file(events[-1].path).keys() == load_file(first).keys()
    with pytest.raises(CalotypeError, match="faces-v2 is for restoring faces, not for finding scratches and dust"):
        learn(engine, photos, tmp_path / "third", model="faces-v2")


def test_minutes_end_a_run(engine, photos, tmp_path):
    events = learn(engine, photos, tmp_path, max_train_steps=10_000, minutes=0.01)
    assert "the 0.01 minutes are over after" in said(events) and isinstance(events[-1], TrainResult)


def test_a_dry_run_writes_nothing(engine, photos, tmp_path):
    events = learn(engine, photos, tmp_path / "out", dry_run=True, max_train_steps=1)
    assert "1 step; batches of 2 patches of 64 pixels" in said(events) and not (tmp_path / "out").exists()


def test_what_cannot_be_is_said(engine, photos, tmp_path):
    with pytest.raises(CalotypeError, match="patch_size is a multiple of 16, not 100"):
        TrainRepairer(photos=photos, patch_size=100)
    with pytest.raises(CalotypeError, match="two to four whole numbers"):
        TrainRepairer(photos=photos, channels="8")
    learn(engine, photos, tmp_path, max_train_steps=1)
    with pytest.raises(CalotypeError, match="is there already, from a run that ended"):
        learn(engine, photos, tmp_path, max_train_steps=1)
    with run_lock(tmp_path / "other", "repairer"), pytest.raises(CalotypeError):
        learn(engine, photos, tmp_path / "other", max_train_steps=1)


def pairs_of(seed, count=6):
    photo = np.ascontiguousarray(data.astronaut()[:200, :240])
    return make_pairs(lambda rng: photo, count, 64, seed)


def test_pairs_are_seeded_and_their_masks_are_where_marks_are_visible():
    pairs, again, other = pairs_of("1 0"), pairs_of("1 0"), pairs_of("1 1")
    assert torch.equal(pairs.marked, again.marked) and not torch.equal(pairs.marked, other.marked)
    assert pairs.marked.shape == (6, 3, 64, 64) and pairs.marked.min() >= 0 and pairs.marked.max() <= 1
    many = pairs_of("2", 40)
    shares = many.mask.mean((1, 2, 3))
    assert (shares == 0).sum() >= 5 and 0.002 < shares.mean() < 0.08
    assert (many.weight[many.mask > 0] == 1).all() and 0 < (many.weight == 0).float().mean() < 0.1


def test_the_loss_is_lower_for_the_right_mask_and_ignores_what_is_faint():
    pairs = pairs_of("3")
    right = 12 * pairs.mask - 6
    assert repair_loss(right, pairs, 0.5) < 0.2 * repair_loss(-right, pairs, 0.5)
    faint = right + 9 * (1 - pairs.weight)
    assert repair_loss(faint, pairs, 0.5) == pytest.approx(float(repair_loss(right, pairs, 0.5)), rel=1e-4)


def test_figures_allow_for_a_pixel_beside():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5, 2:12] = 1
    pairs = Pairs(torch.zeros(1, 3, 16, 16), mask, torch.ones_like(mask))
    figures = Figures()
    figures.add(20 * mask.roll(1, 2) - 10, pairs)
    assert figures.precision == figures.recall == 1
    figures.add(20 * mask.roll(4, 2) - 10, pairs)
    assert figures.precision == figures.recall == 0.5
