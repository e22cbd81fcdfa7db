"""Captions and crops for photos to learn from, as the command writes them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from calotype.cli import main
from calotype.errors import CalotypeError
from calotype.models.face_detector import DetectedFace
from calotype.picture import Picture
from calotype.tasks import Caption, Note
from calotype.tasks.events import Failed, Saved, Skipped
from calotype.training.data.face_crop import largest, window
from calotype.training.data.tagger import Tagger

SIDE = 16


def told(engine, **options):
    return list(engine.run(Caption(**options)))


def of(kind, steps):
    return [step for step in steps if isinstance(step, kind)]


def source_name(step):
    return Path(step.source).name


def plain(folder, names, colour=(200, 30, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((40, 30, 3), colour, np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def photos(tmp_path):
    return plain(tmp_path / "照片" / "10_zkz 猫", ["一.png", "b.c.jpg", "third.webp"]).parent


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_captions_come_from_trigger_and_folder_and_nothing_else_changes(engine, photos):
    before = contents(photos)
    steps = told(engine, photos=photos, trigger="anna")
    assert [step.facts["text"] for step in of(Saved, steps)] == ["anna, zkz 猫"] * 3
    after = contents(photos)
    assert {path.name for path in after.keys() - before.keys()} == {"一.txt", "b.c.txt", "third.txt"}
    assert all(after[path] == data for path, data in before.items())
    assert (photos / "10_zkz 猫" / "一.txt").read_text("utf-8") == "anna, zkz 猫\n"


def test_a_trigger_that_begins_the_folders_name_is_not_said_twice(engine, photos):
    assert of(Saved, told(engine, photos=photos, trigger="ZKZ"))[0].facts["text"] == "zkz 猫"


def test_captions_that_are_there_stay(engine, photos):
    room = photos / "10_zkz 猫"
    (room / "一.txt").write_text("mine", "utf-8")
    steps = told(engine, photos=photos)
    assert [source_name(step) for step in of(Skipped, steps)] == ["一.png"] and len(of(Saved, steps)) == 2
    assert (room / "一.txt").read_text("utf-8") == "mine"
    told(engine, photos=photos, overwrite=True)
    assert (room / "一.txt").read_text("utf-8") == "zkz 猫\n"


def test_a_prefix_goes_before_what_captions_say(engine, photos, tmp_path):
    room = photos / "10_zkz 猫"
    (room / "一.txt").write_bytes("红, 裙, 红".encode("gb18030"))
    (room / "b.c.txt").write_bytes(b"\x00\xff\x00\xfe\xff")
    steps = told(engine, photos=photos, trigger="anna", prefix=True, out=tmp_path / "new")
    texts = {source_name(step): step.facts["text"] for step in of(Saved, steps)}
    assert texts == {"一.png": "anna, 红, 裙", "third.webp": "anna, zkz 猫"}
    [failed] = of(Failed, steps)
    assert source_name(failed) == "b.c.jpg" and "no text" in str(failed.cause)
    assert (tmp_path / "new" / "10_zkz 猫" / "一.txt").read_text("utf-8") == "anna, 红, 裙\n"
    told(engine, photos=photos, trigger="anna", prefix=True, out=tmp_path / "new", overwrite=True)
    assert (room / "一.txt").read_bytes() == "红, 裙, 红".encode("gb18030")


def test_a_prefix_goes_into_captions_that_are_there_once(engine, photos):
    room = photos / "10_zkz 猫"
    (room / "一.txt").write_text("a red square\n\nred, {big|small}", "utf-8")
    (room / "b.c.txt").write_text("Anna, blue", "utf-8")
    steps = told(engine, photos=photos, trigger="anna", prefix=True)
    [stays] = of(Skipped, steps)
    assert source_name(stays) == "b.c.jpg" and "trigger word" in str(stays.why)
    texts = {name: (room / f"{name}.txt").read_text("utf-8") for name in ("一", "b.c", "third")}
    assert texts == {
        "一": "anna, a red square\nanna, red, {big|small}\n",
        "b.c": "Anna, blue",
        "third": "anna, zkz 猫\n",
    }
    before = contents(photos)
    assert len(of(Skipped, told(engine, photos=photos, trigger="anna", prefix=True))) == 3
    assert contents(photos) == before


def test_files_that_are_no_pictures_get_no_captions(engine, photos):
    room = photos / "10_zkz 猫"
    (room / "none.jpg").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(room / "cut.png")
    (room / "cut.png").write_bytes((room / "cut.png").read_bytes()[:4000])
    steps = told(engine, photos=photos, trigger="anna")
    assert [source_name(step) for step in of(Failed, steps)] == ["cut.png", "none.jpg"]
    assert not (room / "none.txt").exists() and not (room / "cut.txt").exists() and len(of(Saved, steps)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to write into captions"),
        ({"tagger": "none.onnx"}, "give tagger_tags"),
        ({"out": "inside", "face": True}, "is within the folder of the photos"),
    ],
)
def test_what_cannot_be_is_said(engine, tmp_path, options, words):
    plain(tmp_path / "photos", ["a.png"])
    options = {
        name: tmp_path / "photos" / value if isinstance(value, str) else value for name, value in options.items()
    }
    with pytest.raises(CalotypeError, match=words):
        told(engine, photos=tmp_path / "photos", **options)


@pytest.mark.parametrize(
    "options", [{"prefix": True}, {"trigger": "a\nb"}, {"caption_extension": ".png"}, {"caption_extension": "../x"}]
)
def test_odd_options_are_refused(tmp_path, options):
    with pytest.raises(CalotypeError):
        Caption(photos=tmp_path, **options)


# ------------------------------------------------------------------ faces


@pytest.fixture
def people(tmp_path, portrait):
    """One upright, one turned by its EXIF, two people, nobody, and a damaged file."""
    room = tmp_path / "people" / "4_collins"
    plain(room, ["nobody.png"])
    photo = Image.fromarray(portrait)
    photo.save(room / "upright.png")
    turned = photo.rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(room / "turned.jpg", exif=exif, quality=95)
    both = np.full((512, 900, 3), 255, np.uint8)
    both[:, :512] = portrait
    both[100:356, 600:856] = np.asarray(photo.resize((256, 256)))
    Image.fromarray(both).save(room / "two.png")
    (room / "cut.jpg").write_bytes(contents(room)[room / "turned.jpg"][:4000])
    (room / "two.txt").write_text("two people", "utf-8")
    return room.parent


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(("shape", "ratio"), [("square", 1.0), ("portrait", 4 / 3)])
def test_faces_are_cut_out_upright_and_whole(engine, people, tmp_path, shape, ratio):
    before = contents(people)
    steps = told(engine, photos=people, face=True, out=tmp_path / "crops", face_shape=shape, face_margin=0.5)
    crops = {source_name(step): step for step in of(Saved, steps)}
    assert crops.keys() == {"upright.png", "turned.jpg", "two.png"}
    assert crops["upright.png"].target == str(tmp_path / "crops" / "4_collins" / "upright.png")
    assert crops["upright.png"].facts["text"] == "collins" and crops["two.png"].facts["text"] == "two people"
    said = [step.text for step in of(Note, steps)]
    assert said == ["nobody.png: no face was found, so it is skipped", "two.png: the largest of 2 faces is used"]
    assert [source_name(step) for step in of(Failed, steps)] == ["cut.jpg"]
    pictures = {name: Picture.open(Path(step.target)).pixels for name, step in crops.items()}
    for name, pixels in pictures.items():
        height, width = pixels.shape[:2]
        assert abs(height / width - ratio) < 0.02, name
        [face] = [face for face in engine.models.detector().find(pixels) if face.confidence > 0.8]
        x, y, w, h = face.box
        assert x > 0 and y > 0 and x + w < width and y + h < height
        assert 0.3 < max(w, h) / width < 0.7 and abs((x + w / 2) / width - 0.5) < 0.1
        assert face.landmarks[0, 1] < face.landmarks[3, 1]  # eyes above the mouth
    assert abs(pictures["two.png"].shape[1] / pictures["upright.png"].shape[1] - 1) < 0.1, "the larger of the two"
    assert contents(people) == before
    again = told(engine, photos=people, face=True, out=tmp_path / "crops", face_shape=shape)
    assert len(of(Skipped, again)) == 3 and not of(Saved, again)


def test_crops_of_a_plain_folder_get_a_number_and_a_name(engine, tmp_path, portrait):
    folder = plain(tmp_path / "me", [])
    clear = np.dstack([portrait, np.full((512, 512), 255, np.uint8)])
    clear[:60, :, 3] = 0
    Image.fromarray(clear).save(folder / "a.png")
    Image.fromarray(portrait).save(folder / "a.webp", lossless=True)
    steps = told(engine, photos=folder, face=True, trigger="../zkz", face_margin=5.0)
    targets = [step.target for step in of(Saved, steps)]
    assert targets == [str(tmp_path / "me-faces" / "7_zkz" / name) for name in ("a.png", "a-webp.png")]
    first = Picture.open(targets[0])
    assert first.alpha is None and first.pixels[:60].min() == 255, "what hid under transparency does not come back"


def test_without_any_face_it_is_said(photos, capsys):
    assert main(["train", "caption", str(photos), "--face"]) == 1
    assert "no face was found in any photo of" in capsys.readouterr().err
    assert not list(photos.parent.glob("*-faces"))


def test_a_window_stays_within_the_picture():
    face = DetectedFace((-10.0, 5.0, 60.0, 80.0), np.zeros((5, 2)), 0.9)
    for shape in ("square", "portrait"):
        for size in ((100, 300), (300, 100), (90, 90), (4000, 3000)):
            rows, columns = window(face, size, shape, 1.0)
            assert 0 <= rows.start < rows.stop <= size[0] and 0 <= columns.start < columns.stop <= size[1]
    faces = [face, DetectedFace((0, 0, 500, 500), np.zeros((5, 2)), 0.55)]
    assert largest(faces) == (face, 1), "what the detector is not sure of does not win by its size"


# ------------------------------------------------------------------ tags


NAMES = ["general", "red_dress", "blue_sky", "^_^", "anna_(series)", "anna_from_afar"]
CATEGORIES = [9, 0, 0, 0, 4, 4]


def wd14(folder, names=NAMES):
    """A tagger of the layout of SmilingWolf's: (N, side, side, 3) BGR to sigmoids; its tags are mean colours."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((3, len(NAMES)), np.float32)
    weights[2, 1] = weights[0, 2] = 0.1  # BGR: red dress from red, blue sky from blue
    weights[2, 4] = 0.05
    bias = np.array([5, -13, -13, 3, -8, -9], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    held = {"axes": np.array([1, 2], np.int64), "weights": weights, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "wd14",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(NAMES)])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    rows = [f"{n},{name},{category},10" for n, (name, category) in enumerate(zip(names, CATEGORIES, strict=False))]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]), "utf-8")
    return folder


def test_tags_are_those_that_a_wd14_tagger_is_sure_of(engine, photos, tmp_path):
    folder = wd14(tmp_path / "tagger")
    tagger = Tagger(folder)
    red = np.full((30, 30, 3), (250, 0, 0), np.uint8)
    assert tagger.tags(red) == ["anna (series)", "red dress", "^_^"], "figures first, ratings never"
    assert tagger.tags(red[..., ::-1]) == ["blue sky", "^_^"], "the channels are the right way round"
    assert tagger.tags(red, 0.97, without=frozenset({"anna (series)"})) == ["red dress"]
    steps = told(engine, photos=photos, trigger="anna", tagger=folder / "model.onnx", exclude_tags="^_^, blue_sky")
    assert {step.facts["text"] for step in of(Saved, steps)} == {"anna, zkz 猫, anna (series), red dress"}


def test_a_photo_that_cannot_be_read_gets_no_tags_and_stops_nothing(engine, photos, tmp_path):
    (photos / "10_zkz 猫" / "坏.png").write_bytes(b"no picture")
    steps = told(engine, photos=photos, tagger=wd14(tmp_path / "tagger"))
    assert len(of(Saved, steps)) == 3 and [source_name(step) for step in of(Failed, steps)] == ["坏.png"]


def test_files_that_are_no_tagger_are_said(tmp_path):
    folder = wd14(tmp_path / "short", NAMES[:4])
    with pytest.raises(CalotypeError, match="has 6 outputs, the list has 4 tags"):
        Tagger(folder)
    (folder / "selected_tags.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(CalotypeError, match="not a list of tags"):
        Tagger(folder)
    folder = wd14(tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(CalotypeError, match="cannot be read as an ONNX model"):
        Tagger(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(CalotypeError, match=r"the tagger .* does not exist"):
        Tagger(folder)


# ------------------------------------------------------------------ the door


def test_the_command_tells_what_it_did(photos, capsys):
    (photos / "10_zkz 猫" / "一.txt").write_text("mine", "utf-8")
    assert main(["train", "caption", str(photos), "--trigger", "zkz", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events if event["event"] in ("done", "skipped")] == ["done", "done", "skipped"]
    assert events[-1]["event"] == "summary" and events[-1]["done"] == 2 and events[-1]["skipped"] == 1
    assert main(["train", "caption", str(photos / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
