"""A run whose results lie among its pictures goes on, and learns from the pictures alone."""

import numpy as np
import pytest
from PIL import Image

from calotype.tasks import Note, TrainDiffusion, TrainGan, TrainRestorer, TrainUpscaler
from calotype.training.data.captioned import CaptionedSet, read_pairs
from tests.pipelines.test_train_diffusion import SMALL, few_steps  # noqa: F401
from tests.pipelines.test_train_gan import few_frames  # noqa: F401
from tests.pipelines.test_train_restorer import TINY as RESTORER
from tests.pipelines.test_train_upscaler import TINY as UPSCALER

STEPS = 4
GAN = {"resolution": 32, "capacity": 0.25, "train_batch_size": 2, "max_train_steps": STEPS, "snapshots": 2}
DIFFUSION = SMALL | {"sample_count": 1, "vae_train_steps": 1, "max_train_steps": STEPS - 1}
ENHANCING = {"validate_every": 1, "l1_steps": STEPS, "gan_steps": 0, "save_state_every": 1}


@pytest.fixture
def folder(tmp_path):
    for n in range(9):
        pixels = np.random.default_rng(n).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{n}.png")
        (tmp_path / f"{n}.txt").write_text("a picture")
    return tmp_path


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("inner", ["", "out"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TrainGan, GAN),
        (TrainUpscaler, UPSCALER | ENHANCING),
        (TrainRestorer, RESTORER | ENHANCING),
        (TrainDiffusion, DIFFUSION),
    ],
    ids=["gan", "upscaler", "restorer", "diffusion"],
)
def test_a_run_beside_its_pictures_goes_on(engine, folder, inner, kind, options):
    task = kind(photos=folder, output_dir=folder / inner, **options)
    run = engine.run(task)
    for event in run:
        if getattr(event, "what", "") == "steps" and event.done == 2:
            break
    run.close()
    drawn = len(list(folder.rglob("*.png"))) - 9
    assert drawn
    told = [event.text for event in engine.run(task) if isinstance(event, Note)]
    assert f"going on after step 2 of {STEPS}" in told
    assert any(text.startswith(f"pictures left out because they are results: {drawn} ") for text in told)
    pairs = list(read_pairs(folder, 64))[-1]
    assert isinstance(pairs, CaptionedSet) and len(pairs.pairs) == 9
