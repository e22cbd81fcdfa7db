"""Faces are found as restoring finds them, with a small copy of the photo."""

from PIL import Image

from calotype import runner
from calotype.tasks import read_task
from calotype.tasks.events import Saved


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
