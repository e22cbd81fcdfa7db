"""Learning to restore faces, for real and small, on one face in several lights."""

import dataclasses
import json
import math
import random
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given as given_any
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from skimage.data import astronaut

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.models import face_identity
from calotype.models.face_restorer import Restorer, build, grown
from calotype.ops.faces import align, similarity, template
from calotype.pipelines.train_restorer import make_batch, recipe
from calotype.tasks import Note, Progress, Restore, TrainRestorer
from calotype.training.data.faces import Face, loss_weight_map, mirrored, patch_corners, split
from calotype.training.enhance.evaluate import methods_of
from calotype.training.optim import perceptual
from calotype.training.optim.perceptual import is_installed
from calotype.training.run.result import TrainResult

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
    return "\n".join(event.text for event in told if isinstance(event, Note))


@pytest.fixture(scope="module")
def run(engine, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    options = {"l1_steps": 60, "gan_steps": 6, "gan_warmup_steps": 2, "validate_every": 30, "clean": 0.2, "pieces": 16}
    return learn(engine, faces, out, **options), out


def test_it_learns_and_whole_sheets_are_held_back(run):
    told, out = run
    assert isinstance(told[-1], TrainResult)
    lines = [json.loads(line) for line in (out / "restorer.log.jsonl").read_text("utf-8").splitlines()]
    psnr = [line["PSNR in dB/held back"] for line in lines if "PSNR in dB/held back" in line]
    assert len(psnr) == 4 and psnr[-1] > psnr[0]
    assert any("Adversary/network" in line for line in lines)
    assert "2 for validation (sheets or photos: 1)" in said(told)


def test_restore_uses_the_file(run, engine, old_photo):
    """Its size is read from the weights: a face of 64 pixels, a prior of 8 codes."""
    told, _ = run
    network = build(load_file(told[-1].path))
    assert (network.side, network.shuffle, len(network.prior.keys)) == (64, 4, 8)
    *_, result = engine.run(Restore(source=old_photo, face_model=str(told[-1].path), upscaler="none", scale=1))
    assert result.picture.pixels.shape == (256, 256, 3)


@pytest.mark.slow
def test_going_on_gives_the_same_file(engine, faces, tmp_path):
    options = {"l1_steps": 3, "gan_steps": 3, "gan_warmup_steps": 1, "save_state_every": 1}
    whole = learn(engine, faces, tmp_path / "whole", **options)
    learn(engine, faces, tmp_path / "parts", stop=5, **options)
    told = learn(engine, faces, tmp_path / "parts", **options)
    assert "going on after step 5 of 6" in said(told)
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()


@pytest.mark.parametrize("options", [{"dry_run": True}, {"model": "faces-v2", "evaluate": True}])
def test_where_it_cannot_write_is_said_before_any_face_is_read(engine, faces, tmp_path, options):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(CalotypeError, match="out is a file, not a folder; give another output_dir"):
        learn(engine, tmp_path / "no such folder", tmp_path / "out", **options)


def test_what_lies_where_results_go_is_not_learnt_from(engine, faces, tmp_path):
    for path in faces.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/restored_r00c00.png").write_bytes(path.read_bytes())
    told = said(learn(engine, tmp_path, tmp_path / "out", dry_run=True))
    learnt, held = re.search(r"(\d) faces to train on, (\d) ", told).groups()
    assert int(learnt) + int(held) == 5
    assert "because they are results: 1 in" in told


def test_faces_are_found_in_photos(engine, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(astronaut()).save(folder / "portrait.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(folder / "wall.png")
    told = learn(engine, folder, tmp_path / "out", aligned=False, dry_run=True)
    assert "1 face to train on" in said(told) and "left out: wall.png has no face" in said(told)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="the features are an extra")
def test_figures_stand_side_by_side(run, engine, faces, tmp_path):
    """Of faces of 64 pixels, the side of the network that is compared."""
    learned = str(run[0][-1].path)
    told = learn(engine, faces, tmp_path, model=learned, evaluate=True, evaluate_count=1, beside="faces-v2")
    data = json.loads((tmp_path / "restorer-figures.json").read_text("utf-8"))
    upscaler = "realesrgan-x4plus"
    known = ["unrestored", "bicubic", upscaler, f"{upscaler}, of a quarter", "faces-v2", "restorer"]
    assert [row["way"] for row in data["rows"]] == known
    assert data["faces"] == 1 and data["side"] == 64
    assert all(math.isfinite(row[key]) for row in data["rows"] for key in ("perceptual", "psnr", "identity"))
    assert cv2.imread(str(tmp_path / "restorer-figures.jpg")).shape == (64, 7 * 64, 3)
    assert "perceptual" in said(told)
    persons = [row["person"] for row in data["rows"]]
    assert all(isinstance(d, float) for d in persons) if face_identity.is_installed() else not any(persons)


def test_networks_of_one_name_have_a_row_each():
    def opened(name):
        return SimpleNamespace(name=Path(name).stem, side=None)

    models = SimpleNamespace(upscaler=lambda name: None, faces=opened)
    others = ("old/restorer.safetensors", "new/restorer.safetensors", "other.safetensors", "there/bicubic.safetensors")
    ways = methods_of(SimpleNamespace(compared_models=others, model="new/restorer.safetensors"), models, 64)
    assert list(ways)[4:] == [
        "old/restorer.safetensors",
        "other",
        "there/bicubic.safetensors",
        "new/restorer.safetensors",
    ]


@pytest.mark.likeness
def test_a_person_is_nearer_to_itself_than_to_another():
    from skimage.data import lfw_subset  # faces of 25 pixels, so of other people at least

    face = torch.from_numpy(align(astronaut(), similarity(LANDMARKS, template(150)), 150).copy())
    face = face.permute(2, 0, 1) / 255
    other = torch.nn.functional.interpolate(
        torch.from_numpy(lfw_subset()[:1].astype(np.float32)).expand(3, -1, -1)[None], (150, 150), mode="bicubic"
    )[0].clamp(0, 1)
    soft = torch.nn.functional.avg_pool2d(face, 3, 1, 1)
    measure = face_identity.FaceIdentity()
    landmarks = template(150)
    distances = [measure.distance(face, x, landmarks) for x in (face, soft, other)]
    assert distances[0] == 0 < distances[1] < 0.6 < distances[2]


def test_eyes_and_mouth_count_more():
    weight = loss_weight_map(template(128), 128, 2.0)[0]
    assert abs(float(weight.mean()) - 1) < 1e-5
    (x, y), corner = template(128)[0].round().astype(int), weight[2, 2]
    assert 2.5 < float(weight[y, x] / corner) <= 3.0


@given_any(
    landmarks=st.lists(st.tuples(st.floats(-20, 84), st.floats(-20, 84)), min_size=5, max_size=5),
    piece=st.integers(1, 64),
    seed=st.integers(0, 99),
)
def test_pieces_lie_within_the_face(landmarks, piece, seed):
    found = patch_corners(np.array(landmarks), 64, piece, random.Random(seed))
    assert len(found) == 4 and all(0 <= at <= 64 - piece for place in found for at in place)


def test_pieces_lie_at_eyes_and_mouth_also_of_a_mirrored_face():
    points = template(512)
    for landmarks in (points, mirrored(points, 512)):
        left, right, mouth, _ = patch_corners(landmarks, 512, 128, random.Random(0))
        assert left[1] + 64 < 256 < right[1] + 64 and mouth[0] > left[0] + 64
        for (y, x), (px, py) in zip((left, right, mouth), (*landmarks[:2], landmarks[3:].mean(0)), strict=True):
            assert abs(y + 64 - py) <= 0.5 and abs(x + 64 - px) <= 0.5
    np.testing.assert_allclose(mirrored(mirrored(points, 512), 512), points)


def test_what_the_discriminator_judges_is_cut_where_the_face_has_it(faces):
    """Mirrored or not, at the size asked for; a face that is not larger is judged whole."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    eyes = template(64).round().astype(int)[:2]
    for x, y in eyes:
        pixels[y, x] = 255
    face = Face("f", "s", "", pixels, template(64).round())
    given = {name: value for name, value in TINY.items() if name != "validation_split"}
    still = {"worn": 0.0, "toned": 0.0, "grey": 0.0}
    task = TrainRestorer(photos=faces, **given, **still, pieces=16)
    for step in range(4):
        batch = make_batch(task, [face], torch.device("cpu"), step)
        cuts = batch.discriminator_input(batch.true)
        assert cuts.shape == (8, 3, 16, 16)
        assert torch.equal(cuts[[0, 1, 4, 5]].amax((1, 2, 3)), torch.ones(4))
    assert make_batch(dataclasses.replace(task, pieces=64), [face], torch.device("cpu"), 0).crop is None


def test_worn_and_toned_faces_are_learnt(faces):
    """A worn face is to lose its damage, a faded one is to stay faded."""
    face = Face("f", "s", "", np.full((64, 64, 3), 200, np.uint8), template(64))
    given = TINY | {"clean": 0.0, "grey": 0.0}
    worn, toned, plain = (
        make_batch(TrainRestorer(photos=faces, **given, worn=w, toned=t), [face], torch.device("cpu"), 1)
        for w, t in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    )
    assert torch.equal(worn.true, plain.true) and not torch.equal(worn.low, plain.low)
    assert (toned.true - plain.true).abs().mean() > 0.01
    assert (toned.low.mean((2, 3)) - toned.true.mean((2, 3))).abs().max() < 0.05


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
        ({"channels": "8"}, "channels is such as"),
        ({"channels": "8,12"}, "multiples of 8"),
        ({"blocks": "1,1,1"}, "their lengths must match"),
        ({"side": 68}, "side is a multiple of 8"),
        ({"beside": "faces-v2"}, "beside needs evaluate"),
        ({"pieces": 20}, "pieces is a multiple of 8, not 20"),
        ({"evaluate": True}, "give it with model"),
        ({"model": "realesrgan-x4plus"}, "realesrgan-x4plus"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(engine, faces, tmp_path, options, why):
    with pytest.raises(CalotypeError, match=why):
        learn(engine, faces, tmp_path, **options)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"model": "faces-v2", "side": 256, "codes": 8}, "faces-v2 sets the architecture.*so side and codes have no"),
        ({"model": "faces-v2", "grow": True, "channels": "8,16", "blocks": "1,1"}, "so channels and blocks have no"),
        ({"identity_weight": 0.3, "perceptual": "none"}, "so identity_weight has no effect"),
        ({"identity_weight": 0.3, "vgg": Path("vgg.pth")}, "EfficientNet-Lite0's features, so identity_weight"),
        ({"sharpen": 0.5, "enlarge": "realesrgan-x4plus"}, "realesrgan-x4plus enlarges.*so sharpen has no"),
        ({"held_back": Path("held"), "validation_split": 0.3}, "so validation_split has no"),
    ],
)
def test_what_would_go_unheard_is_refused(options, why):
    with pytest.raises(CalotypeError, match=why):
        TrainRestorer(photos=Path("faces"), **options)
    TrainRestorer(photos=Path("faces"), model="faces-v2", grow=True, codes=8, sharpen=0.5, perceptual="none")


@pytest.mark.parametrize(("option", "name"), [("landmark_weight", "Landmarks"), ("eye_weight", "Eyes")])
def test_a_loss_of_points_is_one_of_the_losses_where_it_has_a_weight(engine, faces, tmp_path, option, name):
    """Faces of 64 pixels: the networks see them enlarged."""
    for weight in (0.0, 2.0):
        out = tmp_path / str(weight)
        learn(engine, faces, out, l1_steps=2, gan_steps=0, **{option: weight})
        rows = [json.loads(line) for line in (out / "restorer.log.jsonl").read_text().splitlines()]
        losses = [row[f"{name}/distance"] for row in rows if f"{name}/distance" in row]
        assert len(losses) == (2 if weight else 0) and all(0 < loss < weight for loss in losses)


@pytest.mark.likeness
def test_a_descriptor_loss_is_one_of_the_losses_where_it_has_a_weight(engine, faces, tmp_path):
    learn(engine, faces, tmp_path, descriptor_weight=0.5, l1_steps=2, gan_steps=0)
    rows = [json.loads(line) for line in (tmp_path / "restorer.log.jsonl").read_text().splitlines()]
    losses = [row["Descriptors/distance"] for row in rows if "Descriptors/distance" in row]
    assert len(losses) == 2 and all(0 < loss < 1 for loss in losses)


def test_a_descriptor_loss_without_its_weights_does_not_begin(engine, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(face_identity, "is_installed", lambda: False)
    monkeypatch.setattr(engine.models, "_face_identity", None)
    with pytest.raises(CalotypeError, match="dlib's descriptors of faces are not installed"):
        learn(engine, faces, tmp_path, descriptor_weight=0.5, l1_steps=2, gan_steps=0)


def test_faces_that_are_too_small_are_left_out(engine, faces, tmp_path):
    told = []
    with pytest.raises(CalotypeError, match="no faces to train on"):
        for event in engine.run(TrainRestorer(photos=faces, output_dir=tmp_path, **{**TINY, "side": 512})):
            told.append(event)
    assert "a_r00c00.png is 96x96, not an aligned face of 512 pixels" in said(told)


@pytest.mark.slow
def test_more_faces_than_memory_holds_are_refused_before_they_fill_it(engine, faces, tmp_path, monkeypatch):
    folder, face = tmp_path / "many", next(faces.iterdir()).read_bytes()
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.png").write_bytes(face)
    monkeypatch.setattr(engine.models, "free_memory", lambda device: 30 * 3 * 64**2)
    run, read = engine.run(TrainRestorer(photos=folder, output_dir=tmp_path, dry_run=True, **TINY)), 0
    with pytest.raises(CalotypeError, match=r"^40 faces take .* GiB at 64 pixels, and .*smaller side"):
        for event in run:
            read += isinstance(event, Progress)
    assert read < 2
    monkeypatch.setattr(engine.models, "free_memory", lambda device: 58 * 3 * 64**2)
    assert "to train on" in said(learn(engine, folder, tmp_path, dry_run=True))


def test_without_the_features_it_does_not_begin(engine, faces, tmp_path, monkeypatch):
    """22,000 steps without likeness are not what was asked for."""
    monkeypatch.setattr(perceptual, "is_installed", lambda: False)
    with pytest.raises(CalotypeError, match="the features of EfficientNet-Lite0 are not installed"):
        learn(engine, faces, tmp_path, perceptual="auto", dry_run=True)
    assert "to train on" in said(learn(engine, faces, tmp_path, perceptual="none", dry_run=True))


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
    assert "1 of the faces in" in said(told) and "too good" in said(told) and "5 faces to train on" in said(told)
    state = load_file(tmp_path / "large/restorer.safetensors")
    assert state["enter.weight"].shape[1] == 3 * 8**2 and len(state["prior.keys"]) == 8
    with pytest.raises(CalotypeError, match="grow needs a network to enlarge"):
        learn(engine, faces, tmp_path, grow=True)
