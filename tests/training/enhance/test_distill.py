"""Training on the output of a teacher: what is computed, what is kept on disk, and what the student is."""

import dataclasses
import random

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from calotype.checkpoints import realesrgan as official
from calotype.checkpoints.models import Models
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.tasks import Note, TrainUpscaler
from calotype.training.data.patches import HighRes, open_images
from calotype.training.enhance.distill import TeacherPairs
from calotype.training.run.result import TrainResult

SMALL = {"gt_size": 64, "batch_size": 2, "discriminator_feat": 8, "mixed_precision": "no", "perceptual": "none"}
SMALL |= {"l1_steps": 4, "gan_steps": 2, "gan_warmup_steps": 1, "teacher_patches": 5, "sample_count": 0}


@pytest.fixture(scope="module")
def plain(settings):
    return dataclasses.replace(settings, precision="float32")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three pictures of random blocks."""
    folder = tmp_path_factory.mktemp("照片")
    rng = random.Random(0)
    for n in range(3):
        blocks = Image.new("RGB", (24, 20))
        blocks.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(480)])
        blocks.resize((120, 100), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small network of scale 4, as a file."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    official.write(path, official.new_network("srvgg", 4, 16, 2), {})
    return path


@pytest.fixture
def pairs(plain, photos, teacher, tmp_path):
    images = [event for event in open_images(photos, 10**6) if isinstance(event, HighRes)]

    def make(**changes):
        options = {"count": 5, "scale": 2, "side": 64, "clean": 0.5, "seed": 3, "folder": tmp_path}
        return TeacherPairs(Models(plain).upscaler(str(teacher)), images, **options | changes)

    return make


def test_the_target_is_the_teachers_output_in_the_students_scale(pairs):
    own = pairs()
    list(own.prepare())
    for n in range(5):
        pair = own.pair(n)
        low = pair.low[None].float() / 255
        expected = F.interpolate(own.teacher(low).clamp(0, 1), (64, 64), mode="area")
        assert pair.low.shape == (3, 32, 32) and pair.target.shape == (3, 64, 64)
        assert (pair.target[None].float() / 255 - expected).abs().max() < 1 / 255


def test_pairs_are_computed_once_and_kept_by_what_they_depend_on(pairs, tmp_path):
    steps = list(pairs().prepare())
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert len(files) == 5 and steps[-1].done == steps[-1].total == 5
    again = pairs()
    assert list(again.prepare()) == []  # nothing is missing
    assert list(pairs(clean=0.25).prepare())[-1].total == 5 and len(list(tmp_path.rglob("*.safetensors"))) == 10
    lost = next(iter(files))
    lost.write_bytes(b"damaged")
    for n in range(5):
        pairs().pair(n)
    assert lost.read_bytes() == files[lost]


def _turned(patch, flip, turns):
    return (patch.flip(2) if flip else patch).rot90(turns, (1, 2)).float() / 255


def test_a_batch_turns_input_and_target_alike(pairs):
    own = pairs(clean=1.0)
    batch = own.batch(7, size=6, device=torch.device("cpu"))
    assert batch.low.shape == (6, 3, 32, 32) and batch.target.shape == (6, 3, 64, 64) and batch.true is batch.target
    turned = 0
    for low, target in zip(batch.low, batch.target, strict=True):
        originals = [own.pair(n) for n in range(5)]
        views = [
            (flip, turns, pair)
            for pair in originals
            for flip in (False, True)
            for turns in range(4)
            if torch.equal(_turned(pair.low, flip, turns), low)
        ]
        assert any(torch.equal(_turned(pair.target, flip, turns), target) for flip, turns, pair in views)
        turned += (False, 0) not in [view[:2] for view in views]
    assert turned
    assert torch.equal(own.batch(7, size=6, device=torch.device("cpu")).low, batch.low)


def test_a_smaller_scale_averages_the_subpixels():
    torch.manual_seed(0)
    network = official.new_network("srvgg", 4, 8, 1)
    smaller = official.fitted(network, 2)
    x = torch.rand(1, 3, 10, 12)
    with torch.no_grad():
        expected = F.avg_pool2d(network(x), 2)
        assert smaller(x).shape == (1, 3, 20, 24) and torch.allclose(smaller(x), expected, atol=1e-6)
    assert official.scale_of(smaller) == 2


@pytest.mark.parametrize(("kind", "scale", "wanted"), [("rrdbnet", 4, 2), ("srvgg", 2, 4)])
def test_other_networks_cannot_be_fitted(kind, scale, wanted):
    with pytest.raises(CalotypeError, match=f"scale {scale} cannot be fitted to scale {wanted}"):
        official.fitted(official.new_network(kind, scale, 8, 1), wanted)


def run(plain, photos, out, **options):
    return list(Engine(plain).run(TrainUpscaler(photos=photos, output_dir=out, **SMALL | options)))


def test_a_student_is_trained_and_saved(plain, photos, teacher, tmp_path):
    options = {"teacher": str(teacher), "model": str(teacher), "scale": 2}
    events = run(plain, photos, tmp_path, **options)
    said = "\n".join(event.text for event in events if isinstance(event, Note))
    assert isinstance(events[-1], TrainResult) and events[-1].path.is_file()
    assert "the ground truth is the output of teacher for 5 patches" in said and "scale 2" in said
    state = load_file(events[-1].path)
    assert state["body.6.weight"].shape[0] == 12 and len(events[-1].losses) == 6


def test_a_closed_run_with_a_teacher_resumes_at_its_step(plain, photos, teacher, tmp_path):
    options = {"teacher": str(teacher), "model": "none", "network": "srvgg", "num_feat": 8, "num_block": 1, "scale": 2}
    whole = run(plain, photos, tmp_path / "whole", **options)
    task = TrainUpscaler(photos=photos, output_dir=tmp_path / "parts", **SMALL | options)
    events = Engine(plain).run(task)
    for event in events:
        if getattr(event, "what", "") == "steps" and event.done == 3:
            events.close()
            break
    again = list(Engine(plain).run(task))
    assert any(isinstance(event, Note) and "going on after step 3 of 6" in event.text for event in again)
    assert whole[-1].losses == again[-1].losses


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": "no-such"}, "no-such"),
        ({"teacher": "faces-v2"}, "faces-v2"),
        (
            {"teacher": "realesr-animevideov3-x2", "model": "none", "network": "srvgg", "scale": 4},
            "scale 2, which is not a multiple",
        ),
        ({"model": "realesrgan-x4plus", "scale": 2, "teacher": "realesr-animevideov3"}, "cannot be fitted to scale 2"),
    ],
)
def test_a_teacher_or_student_that_does_not_fit_is_one_sentence(plain, photos, tmp_path, options, said):
    with pytest.raises(CalotypeError, match=said) as fault:
        run(plain, photos, tmp_path / "out", **options)
    assert "\n" not in str(fault.value) and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"teacher_patches": 9}, "there is no"), ({"teacher": "x", "rotate": True}, "gives the ground truth")],
)
def test_options_without_effect_are_refused(photos, options, said):
    with pytest.raises(CalotypeError, match=said):
        TrainUpscaler(photos=photos, **options)


def test_a_teacher_that_is_damaged_is_named(plain, photos, tmp_path):
    path = tmp_path / "bad.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CalotypeError, match="bad"):
        run(plain, photos, tmp_path / "out", teacher=str(path))
