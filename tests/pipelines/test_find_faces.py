"""Faces are found as restoring finds them, with a small copy of the photo."""

import numpy as np
import pytest
from PIL import Image

from calotype import runner
from calotype.errors import CalotypeError
from calotype.record import Result
from calotype.tasks import read_task
from calotype.tasks.events import Saved, worded


def found(engine, source, out, **options):
    task = read_task("find_faces", {"source": source, "out": out, **options})
    return next(event for event in runner.run(runner.Request((task,)), engine) if isinstance(event, Saved))


def test_faces_have_the_numbers_and_boxes_of_the_photo(engine, portrait, tmp_path):
    photo, copy = tmp_path / "photo.png", tmp_path / "copies" / "small.jpg"
    Image.fromarray(portrait).save(photo)
    facts = found(engine, photo, copy, side=128).facts
    assert (facts["width"], facts["height"]) == (512, 512) and len(facts["found"]) == 1
    face = facts["found"][0]
    x, y, width, height = face["box"]
    assert face["number"] == 1 and face["confidence"] > 0.7
    assert 150 < x + width / 2 < 300 and 50 < y + height / 2 < 200, "of the photo, not of the copy"
    with Image.open(copy) as small:
        assert small.size == (128, 128) and small.format == "JPEG"


def test_a_photo_without_faces_has_none(engine, tmp_path):
    photo = tmp_path / "grey.png"
    Image.new("L", (40, 30), 120).save(photo)
    facts = found(engine, photo, tmp_path / "small.jpg").facts
    assert facts["found"] == [] and (facts["width"], facts["height"]) == (40, 30)


def test_the_plan_is_what_restoring_does(engine, portrait, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(portrait).save(photo)
    facts = worded(found(engine, photo, tmp_path / "small.jpg", scale=1.5, upscaler="photo-x2").facts)
    assert facts["plan"][0] == "512 x 512 pixels become 768 x 768"
    assert facts["plan"][1].startswith("photo-x2 takes about ") and len(facts["plan"]) == 3
    task = read_task("restore", {"source": photo, "scale": 1.5, "upscaler": "photo-x2"})
    result = next(step for step in engine.run(task) if isinstance(step, Result))
    assert result.picture.pixels.shape[:2] == (768, 768)
    assert facts["plan"][2] == f"faces are restored by {result.record.models[1].name}"
    small = worded(found(engine, photo, tmp_path / "b.jpg", min_face=400, speed="quick").facts)
    [face] = small["found"]
    assert face["why"].startswith("too small (") and "photo-x2 takes" in small["plan"][1] and len(small["plan"]) == 2
    [face] = worded(found(engine, photo, tmp_path / "c.jpg", face_model="none", upscaler="none").facts)["found"]
    assert face["why"] == "no face network"


def test_faces_are_found_on_the_photo_as_it_is_repaired(engine, portrait, tmp_path):
    source = tmp_path / "silk.png"
    small = np.asarray(Image.fromarray(portrait).resize((320, 320)), np.float32)
    y, x = np.mgrid[:320, :320]
    weave = 15 * np.sin(2 * np.pi * (0.21 * x + 0.05 * y)) * np.sin(2 * np.pi * (0.19 * y - 0.04 * x))
    Image.fromarray((small + weave[..., None]).clip(0, 255).round().astype(np.uint8)).save(source)
    facts = worded(found(engine, source, tmp_path / "a.jpg", upscaler="none").facts)
    task = read_task("restore", {"source": source, "upscaler": "none"})
    result = next(step for step in engine.run(task) if isinstance(step, Result))
    assert facts["plan"][0].startswith("a texture repeats over the whole print")
    assert [face["box"] for face in facts["found"]] == [list(face.box) for face in result.record.faces]


def test_measures_are_those_of_restoring(engine, portrait, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(portrait).save(photo)
    facts = worded(found(engine, photo, tmp_path / "a.jpg", upscaler="none").facts)
    names = [measure["title"] for measure in facts["measures"]]
    before = ["photos", "border", "noise", "blur", "blocks", "texture"]
    assert names == [*before, "scratches", "specks", "fading", "cast", "face"]
    face = facts["measures"][-1]
    assert face["value"] > 80 and face["decision"].startswith("face 1: ") and face["decision"].endswith("restored")
    task = read_task("restore", {"source": photo, "upscaler": "none", "scale": 1})
    result = next(step for step in engine.run(task) if isinstance(step, Result))
    assert [m.decision for m in result.record.measures][:-1] == [m["decision"] for m in facts["measures"]][:-1]


def test_a_wrong_option_of_restoring_is_refused(tmp_path):
    with pytest.raises(CalotypeError, match="faces is all, none, center"):
        read_task("find_faces", {"source": "a.png", "out": "b.jpg", "faces": "both"})
