"""Learning to restore faces, for real and small, on one face in several lights."""

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.data import astronaut

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.models.restorer import Restorer, build, grown
from calotype.ops.faces import align, similarity, template
from calotype.pipelines.train_restorer import recipe
from calotype.tasks import Progress, Restore, Said, TrainRestorer
from calotype.training.faces import Face, emphasis, split
from calotype.training.learned import Learned
from calotype.training.perceptual import is_installed

TINY = {"side": 64, "channels": "8,16", "blocks": "1,1", "codes": 8, "batch_size": 2, "discriminator_feat": 8}
TINY |= {"mixed_precision": "no", "perceptual": "none", "learning_rate": 2e-3, "validation_split": 0.4}
LANDMARKS = np.array([[203, 101], [247, 103], [225, 125], [204, 141], [243, 143]], float)


@pytest.fixture(scope="module")
def engine(settings):
    return Engine(dataclasses.replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two sheets of two faces and one of one, aligned."""
    folder = tmp_path_factory.mktemp("лица")
    face = align(astronaut(), similarity(LANDMARKS, template(96)), 96)
    for n, name in enumerate(["a_r00c00", "a_r01c02", "b_r00c00", "b_r00c01", "c_r00c03"]):
        picture = face[:, ::-1] if n % 2 else face
        Image.fromarray((picture * (1 - 0.12 * n)).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


SHAPE = ("side", "channels", "blocks", "codes")  # of a new network


def learn(engine, faces, out, stop=None, **options):
    unused = SHAPE if "model" in options else ()
    unused += ("validation_split",) if "held_back" in options else ()
    given = {name: value for name, value in TINY.items() if name not in unused} | options
    told, run = [], engine.run(TrainRestorer(photos=faces, output_dir=out, **given))
    for event in run:
        told.append(event)
        if stop and isinstance(event, Progress) and event.what == "steps" and event.done == stop:
            run.close()
            break
    return told


def said(told):
    return "\n".join(event.text for event in told if isinstance(event, Said))


@pytest.fixture(scope="module")
def run(engine, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    options = {"l1_steps": 60, "gan_steps": 6, "gan_warmup_steps": 2, "validate_every": 30, "clean": 0.2}
    return learn(engine, faces, out, **options), out


def test_it_learns_and_whole_sheets_are_held_back(run):
    told, out = run
    assert isinstance(told[-1], Learned)
    lines = [json.loads(line) for line in (out / "restorer.log.jsonl").read_text("utf-8").splitlines()]
    psnr = [line["PSNR in dB/held back"] for line in lines if "PSNR in dB/held back" in line]
    assert len(psnr) == 4 and psnr[-1] > psnr[0]
    assert any("Adversary/network" in line for line in lines)
    assert "of 1 sheets or photos held back" in said(told)


def test_restore_uses_the_file(run, engine, old_photo):
    """Its size is read from the weights: a face of 64 pixels, a prior of 8 codes."""
    told, _ = run
    network = build(load_file(told[-1].path))
    assert (network.side, network.shuffle, len(network.prior.keys)) == (64, 4, 8)
    *_, result = engine.run(Restore(source=old_photo, face_model=str(told[-1].path), upscaler="none", scale=1))
    assert result.picture.pixels.shape == (256, 256, 3)


def test_going_on_gives_the_same_file(engine, faces, tmp_path):
    options = {"l1_steps": 3, "gan_steps": 3, "gan_warmup_steps": 1, "save_state_every": 1}
    whole = learn(engine, faces, tmp_path / "whole", **options)
    learn(engine, faces, tmp_path / "parts", stop=5, **options)
    told = learn(engine, faces, tmp_path / "parts", **options)
    assert "going on after step 5 of 6" in said(told)
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()


def test_faces_are_found_in_photos(engine, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(astronaut()).save(folder / "portrait.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(folder / "wall.png")
    told = learn(engine, folder, tmp_path / "out", aligned=False, dry_run=True)
    assert "1 faces to learn from" in said(told) and "left out: wall.png shows no face" in said(told)


@pytest.mark.skipif(not is_installed(), reason="the features are an extra")
def test_figures_stand_side_by_side(engine, faces, tmp_path):
    told = learn(engine, faces, tmp_path, model="faces-v0", evaluate=True, evaluate_count=1)
    data = json.loads((tmp_path / "restorer-figures.json").read_text("utf-8"))
    assert [row["way"] for row in data["rows"]] == ["unrestored", "bicubic", "realesrgan-x4plus", "faces-v0"]
    assert data["faces"] == 1 and data["side"] == 256
    assert all(math.isfinite(row[key]) for row in data["rows"] for key in ("perceptual", "psnr", "identity"))
    assert cv2.imread(str(tmp_path / "restorer-figures.jpg")).shape == (256, 5 * 256, 3)
    assert "perceptual" in said(told)


def test_eyes_and_mouth_count_more():
    weight = emphasis(template(128), 128, 2.0)[0]
    assert abs(float(weight.mean()) - 1) < 1e-5
    (x, y), corner = template(128)[0].round().astype(int), weight[2, 2]
    assert 2.5 < float(weight[y, x] / corner) <= 3.0


def test_a_sheet_is_not_torn():
    cuts = [Face(f"{n}", f"s{n // 3}", "", np.zeros((8, 8, 3), np.uint8), template(8)) for n in range(30)]
    learnt, held = split(cuts, 0.2, 1)
    assert len(held) == 6 and not {cut.sheet for cut in learnt} & {cut.sheet for cut in held}


def test_the_ranges_are_the_published_ones_at_512():
    whole, half = recipe(512), recipe(256)
    assert (whole.kernels.sigma, whole.smaller, whole.sigma) == ((0.1, 10.0), (0.8, 8.0), (0.0, 20.0))
    assert whole.quality == (60.0, 100.0) and (half.kernels.sigma[1], half.smaller[1]) == (5.0, 4.0)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"channels": "8"}, "--channels is such as"),
        ({"channels": "8,12"}, "multiples of 8"),
        ({"blocks": "1,1,1"}, "equally many"),
        ({"side": 68}, "--side is a multiple of 8"),
        ({"evaluate": True}, "name it with --model"),
        ({"model": "realesrgan-x4plus"}, "realesrgan-x4plus"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(engine, faces, tmp_path, options, why):
    with pytest.raises(CalotypeError, match=why):
        learn(engine, faces, tmp_path, **options)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"model": "faces-v0", "side": 256, "codes": 8}, "faces-v0 is trained on.*so --side and --codes would change"),
        ({"model": "faces-v0", "grow": True, "channels": "8,16", "blocks": "1,1"}, "so --channels and --blocks would"),
        ({"identity_weight": 0.3, "perceptual": "none"}, "so --identity-weight would change nothing"),
        ({"identity_weight": 0.3, "vgg": Path("vgg.pth")}, "EfficientNet-Lite0's features alone, so --identity-weight"),
        ({"sharpen": 0.5, "enlarge": "realesrgan-x4plus"}, "realesrgan-x4plus makes.*so --sharpen would"),
        ({"held_back": Path("held"), "validation_split": 0.3}, "so --validation-split would"),
    ],
)
def test_what_would_go_unheard_is_refused(options, why):
    with pytest.raises(CalotypeError, match=why):
        TrainRestorer(photos=Path("faces"), **options)
    TrainRestorer(photos=Path("faces"), model="faces-v0", grow=True, codes=8, sharpen=0.5, perceptual="none")


def test_faces_that_are_too_small_are_left_out(engine, faces, tmp_path):
    told = []
    with pytest.raises(CalotypeError, match="no faces that can be learnt from"):
        for event in engine.run(TrainRestorer(photos=faces, output_dir=tmp_path, **{**TINY, "side": 512})):
            told.append(event)
    assert "a_r00c00.png is 96x96, no aligned face of 512 pixels" in said(told)


def test_an_untrained_prior_hinders_nothing():
    torch.manual_seed(0)
    face = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.equal(Restorer((8, 16), (1, 1), 4, 8, 64)(face), face)


@pytest.mark.parametrize("codes", [0, 8])
def test_a_grown_one_restores_what_is_doubled_as_before(codes):
    torch.manual_seed(0)
    network = Restorer((16, 24), (1, 2), 2, 0, 64)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    larger = grown(network, codes)
    x = torch.rand(1, 3, 64, 64) * 2 - 1

    def doubled(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    assert (larger.side, larger.shuffle) == (128, 4)
    with torch.no_grad():
        torch.testing.assert_close(larger(doubled(x)), doubled(network(x)), rtol=1e-4, atol=1e-4)
        assert not torch.equal(network(x), x)
    again = build(larger.state_dict())
    assert again.shuffle == 4 and again.side == (128 if codes else 512)
    assert grown(larger, 4).shuffle == 8 and len(getattr(grown(larger, 4).prior, "keys", ())) == (codes or 4)


def test_it_grows_and_is_measured_on_a_folder_of_its_own(engine, faces, tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    (held / "x_r00c00.png").write_bytes((faces / "c_r00c03.png").read_bytes())
    learn(engine, faces, tmp_path / "small", l1_steps=1, gan_steps=0)
    small = str(tmp_path / "small/restorer.safetensors")
    options = {
        "model": small,
        "grow": True,
        "codes": 8,
        "held_back": held,
        "sharpen": 0.5,
        "l1_steps": 1,
        "gan_steps": 0,
    }
    told = learn(engine, faces, tmp_path / "large", **options)
    assert "1 of the faces in" in said(told) and "flatter" in said(told) and "5 faces to learn from" in said(told)
    state = load_file(tmp_path / "large/restorer.safetensors")
    assert state["enter.weight"].shape[1] == 3 * 8**2 and len(state["prior.keys"]) == 8
    with pytest.raises(CalotypeError, match="--grow makes a larger network of --model"):
        learn(engine, faces, tmp_path, grow=True)
