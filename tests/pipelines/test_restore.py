"""Restoring with the real networks that ship: faces keep their place, strength does as it says."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image

from calotype.checkpoints import open_network
from calotype.checkpoints.store import ModelStore
from calotype.cli import main
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.inference.faces import find_faces, restore_crop, restore_crops
from calotype.models.network import Network
from calotype.ops.faces import align, similarity, template
from calotype.outputs.reproduce import task_again
from calotype.outputs.sidecar import StoredRecord
from calotype.picture import Picture
from calotype.record import Record, Result
from calotype.tasks import Note, Restore, Strengths, chosen_faces

QUICK = "realesr-animevideov3"
PLAIN = {"upscaler": "none"}  # where only the faces count


def finish(run):
    *events, result = list(run)
    assert isinstance(result, Result)
    return [event.text for event in events if isinstance(event, Note)], result


def restored(engine, source, **options):
    return finish(engine.run(Restore(source=source, **{"upscaler": QUICK, **options})))[1]


def test_the_face_is_found_and_drawn_and_keeps_its_place(engine, old_photo):
    """Eyes, nose and mouth of the result lie within 3 px at half the output's scale of where they were."""
    result = restored(engine, old_photo, scale=4)
    (before,) = result.record.faces
    assert before.treated and before.number == 1
    (after,) = find_faces(result.picture, engine.models)
    away = np.linalg.norm(np.array(after.landmarks) - (np.array(before.landmarks) + 0.5) * 4 + 0.5, axis=1)
    assert away.max() < 3 * 4 / 2


def test_the_face_region_changes_and_the_rest_does_not(engine, old_photo):
    plain = restored(engine, old_photo, faces="none", **PLAIN)
    face = restored(engine, old_photo, **PLAIN)
    x, y, w, h = (round(2 * v) for v in face.record.faces[0].box)
    changed = (plain.picture.pixels != face.picture.pixels).any(2)
    assert changed[y : y + h, x : x + w].mean() > 0.9
    changed[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w] = False
    assert not changed.any()


def test_strength_0_returns_the_picture_itself(engine, old_photo):
    result = restored(engine, old_photo, scale=1, strength="0")
    assert np.array_equal(result.picture.pixels, Picture.open(old_photo).pixels)
    assert [face.why for face in result.record.faces] == ["strength 0"]


def test_strength_is_monotone_everywhere(engine, old_photo, tmp_path):
    Image.open(old_photo).crop((50, 0, 178, 128)).save(tmp_path / "a.png")
    strengths = ("0", "0.3", "0.7", "1")
    results = [restored(engine, tmp_path / "a.png", strength=s).picture.pixels.astype(int) for s in strengths]
    away = [np.abs(pixels - results[0]) for pixels in results]
    for sooner, later in pairwise(away):
        assert (later >= sooner - 1).all()  # one level of rounding
    assert away[-1].mean() > 1


def test_each_face_has_its_own_strength(engine, old_photo):
    whole = restored(engine, old_photo, strength="1", **PLAIN)
    gentle = restored(engine, old_photo, strength="1,1=0.2", **PLAIN)
    x, y, w, h = (round(2 * v) for v in whole.record.faces[0].box)
    middle = slice(y + h // 3, y + 2 * h // 3), slice(x + w // 3, x + 2 * w // 3)
    assert (whole.picture.pixels[middle] != gentle.picture.pixels[middle]).any()
    assert np.array_equal(whole.picture.pixels[:50, :50], gentle.picture.pixels[:50, :50])
    assert gentle.record.faces[0].strength == 0.2


def test_grey_photos_stay_grey(engine, old_photo, tmp_path):
    path = tmp_path / "grey.png"
    Image.open(old_photo).convert("L").save(path)
    result = restored(engine, path)
    assert result.picture.pixels.shape == (512, 512, 1)
    assert result.record.faces[0].treated


def test_16_bits_stay_16_bits_with_the_face_as_bright_as_before(engine, old_photo, tmp_path):
    """The original program pastes 0-255 faces into a 0-65535 picture: black faces."""
    path = tmp_path / "deep.png"
    deep = np.asarray(Image.open(old_photo).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(path)
    result = restored(engine, path, scale=1)
    assert result.picture.pixels.dtype == np.uint16
    x, y, w, h = (round(v) for v in result.record.faces[0].box)
    was, now = (p[y : y + h, x : x + w].mean() for p in (deep, result.picture.pixels))
    assert now == pytest.approx(was, rel=0.05)


def test_faces_by_number_center_and_none(engine, old_photo, tmp_path):
    photo = np.asarray(Image.open(old_photo))
    pair = tmp_path / "pair.png"
    Image.fromarray(np.hstack([photo, photo[:, ::-1]])).save(pair)

    def treated(asked):
        return [face.treated for face in restored(engine, pair, faces=asked, scale=1, **PLAIN).record.faces]

    assert treated("all") == [True, True]
    assert treated("2") == [False, True]
    assert sum(treated("center")) == 1
    assert treated("none") == []
    with pytest.raises(CalotypeError, match="2 faces, no face 7"):
        treated("7")


def test_unsure_and_tiny_faces_are_left_alone_and_it_is_said(engine, old_photo):
    unsure = restored(engine, old_photo, min_confidence=0.99, **PLAIN).record.faces[0]
    assert not unsure.treated and "not sure" in unsure.why
    tiny = restored(engine, old_photo, min_face=200, **PLAIN).record.faces[0]
    assert not tiny.treated and "too small" in tiny.why
    asked = restored(engine, old_photo, min_face=200, faces="1", **PLAIN).record.faces[0]
    assert asked.treated  # asked for by its number


def test_an_aligned_face_comes_out_at_the_networks_side(engine, old_photo, tmp_path):
    path = tmp_path / "face.png"
    Image.open(old_photo).crop((60, 10, 150, 100)).save(path)
    result = restored(engine, path, aligned=True)
    assert result.picture.pixels.shape == (512, 512, 3)
    assert [model.name for model in result.record.models] == ["faces-v3"]


def test_an_aligned_face_keeps_its_alpha_must_be_square_and_is_itself_at_strength_0(engine, old_photo, tmp_path):
    face = Image.open(old_photo).crop((60, 10, 150, 100))
    face.putalpha(128)
    face.save(tmp_path / "face.png")
    assert (restored(engine, tmp_path / "face.png", aligned=True).picture.alpha == 128).all()
    same = restored(engine, tmp_path / "face.png", aligned=True, strength="0").picture.pixels
    assert np.array_equal(same, np.asarray(face)[..., :3])
    face.crop((0, 0, 90, 60)).save(tmp_path / "wide.png")
    with pytest.raises(CalotypeError, match="an aligned face is square"):
        restored(engine, tmp_path / "wide.png", aligned=True)
    with pytest.raises(CalotypeError, match="leave out none"):
        Restore(source=tmp_path / "face.png", aligned=True, faces="none")


@pytest.mark.slow
def test_a_grey_photo_stored_as_rgb_stays_grey_with_its_face_drawn(engine, old_photo, tmp_path):
    path = tmp_path / "grey.png"
    Image.open(old_photo).convert("L").convert("RGB").save(path)
    result = restored(engine, path)
    assert result.record.faces[0].treated
    assert (result.picture.pixels == result.picture.pixels[..., :1]).all()


def test_the_record_names_the_models_and_what_was_computed(engine, old_photo):
    record = restored(engine, old_photo).record
    assert [model.name for model in record.models] == [QUICK, "faces-v3"]
    assert all(len(model.sha256) == 64 for model in record.models)
    assert record.source_size == (256, 256) and len(record.source_sha256) == 64
    assert type(record).from_json(record.as_json()) == record


def test_without_a_face_network_the_rest_is_restored_and_it_is_said(engine, old_photo, monkeypatch):
    monkeypatch.setattr(engine.models.store, "best_faces", lambda: None)
    said, result = finish(engine.run(Restore(source=old_photo, upscaler=QUICK)))
    assert result.picture.pixels.shape == (512, 512, 3)
    assert any("fetch it" in text for text in said)
    assert [face.why for face in result.record.faces] == ["no face network"]


def test_the_same_work_gives_the_same_pixels(engine, old_photo, tmp_path):
    Image.open(old_photo).crop((50, 0, 178, 128)).save(tmp_path / "a.png")
    one, other = (restored(engine, tmp_path / "a.png").picture.pixels for _ in range(2))
    assert np.array_equal(one, other)


def test_a_photo_without_a_face_is_only_enlarged(engine, tmp_path):
    path = tmp_path / "none.png"
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(path)
    result = restored(engine, path)
    assert result.record.faces == () and result.picture.pixels.shape == (128, 128, 3)


@pytest.mark.parametrize("text", ["2", "-0.1", "nan", "x", "0.5,a=1", "1=2", "", "eye=1", "eyes=2"])
def test_strengths_that_mean_nothing_are_refused(text):
    with pytest.raises(CalotypeError, match="strength"):
        Strengths.read(text)


def test_the_parts_that_have_a_strength_are_named():
    valid = "strength names faces by number, parts (eyes, brows, nose, mouth, skin) or background, not"
    for text, wrong in (
        ("eye=0.3", "eye, did you mean eyes?"),
        ("0.5, backround =1", "backround, did you mean background?"),
        ("hat=1", "hat"),
        ("=1", "''"),
    ):
        with pytest.raises(CalotypeError) as told:
            Strengths.read(text)
        assert str(told.value) == f"{valid} {wrong}"


def test_strengths_that_mean_something():
    read = Strengths.read("0.8,2=0.3,background=1")
    assert (read.of(1), read.of(2), read.background) == (0.8, 0.3, 1.0)
    assert Strengths.read("0.4").background == 0.4
    parts = Strengths.read("0.8,eyes=0.3, mouth=0.6")
    assert parts.parts == {"eyes": 0.3, "mouth": 0.6} and parts.overall == parts.background == 0.8


@pytest.mark.parametrize(
    ("text", "leaves"),
    [("0", True), ("0,eyes=1", False), ("0,eyes=0", True), ("1,1=0", True), ("0,eyes=1,1=0", True), ("0,1=1", False)],
)
def test_a_face_is_left_where_neither_it_nor_a_part_has_strength(text, leaves):
    assert Strengths.read(text).leaves(1) is leaves


@pytest.mark.parametrize("text", ["0", "1,,2", "left", "-1", ""])
def test_faces_that_mean_nothing_are_refused(text):
    with pytest.raises(CalotypeError, match="faces"):
        chosen_faces(text)


def test_fidelity_reaches_a_network_that_has_it(settings):
    """The value is handed to the network's own call."""
    import torch

    seen = []

    def call(module, x, fidelity):
        seen.append(fidelity)
        return x

    loaded = replace(open_network.load(ModelStore(settings).find("faces-v2")), call=call, has_fidelity=True)
    restore_crop(np.full((256, 256, 3), 90, np.uint8), Network(loaded, torch.device("cpu"), torch.float32), 0.25)
    assert seen == [0.25]


@pytest.mark.parametrize("limit, calls", [(8, [3]), (1, [3, 1, 1, 1])])
def test_faces_of_a_photo_are_one_batch_where_memory_allows_it(limit, calls):
    import torch

    batches = []

    def network(x, fidelity):
        batches.append(len(x))
        if len(x) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x * 0.5 + 0.1

    crops = [np.random.default_rng(n).integers(0, 256, (32, 32, 3 if n else 1), np.uint8) for n in range(3)]
    together = restore_crops(crops, network, 0.5)
    assert batches == calls
    for crop, drawn in zip(crops, together, strict=True):
        torch.testing.assert_close(drawn, restore_crop(crop, network, 0.5))


def test_a_face_and_its_mirror_image_are_restored_alike(engine, portrait):
    (found,) = engine.models.detector().find(portrait)
    crop = cv2.GaussianBlur(align(portrait, similarity(found.landmarks, template(512)), 512), (0, 0), 6)
    mirrored, network = np.ascontiguousarray(crop[:, ::-1]), engine.models.faces("faces-v3")
    apart = [
        float((a.flip(2) - b).abs().max())
        for a, b in (restore_crops([crop, mirrored], network, 0.5, is_mirrored) for is_mirrored in (False, True))
    ]
    assert network.sees_mirrored and apart[0] > 0.05 and apart[1] < 0.002


@pytest.mark.parametrize(
    "cover, crop, size, left",
    [
        ("64x64", True, (64, 64), 16),  # 96x64 is cut by 16 columns on each side
        ("64x64", False, (64, 96), 0),
        ("33x100", True, (100, 33), 58),  # of 150 columns
        ("30x20", True, (20, 30), 0),
        ("13", True, (13, 13), 3),  # of 19.5, rounded to 20, columns: smaller than the picture
    ],
)
def test_the_result_covers_a_size_and_is_cut_to_it(engine, tmp_path, cover, crop, size, left):
    """The picture is 30 wide, 20 high and dark up to its tenth column, and is turned in its file."""
    pixels = np.full((20, 30, 3), 250, np.uint8)
    pixels[:, :10] = 10
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "a.png", exif=exif)
    result = restored(engine, tmp_path / "a.png", cover=cover, crop=crop, faces="none", **PLAIN)
    assert result.picture.pixels.shape[:2] == size
    factor = max(int(cover.partition("x")[0]) / 30, int(cover.partition("x")[2] or cover) / 20)
    edge = np.flatnonzero(result.picture.pixels[size[0] // 2, :, 0] > 128)[0]
    assert abs(edge - (10 * factor - left)) <= 1 or (edge == 0 and 10 * factor < left)
    assert (result.record.options["cover"], result.record.options["crop"]) == (cover, crop)


def test_a_size_far_beyond_the_picture_is_refused(engine, tmp_path):
    Image.new("RGB", (10, 400)).save(tmp_path / "a.png")
    with pytest.raises(CalotypeError, match="is 50 times the size of the picture, and 16 times is the most"):
        restored(engine, tmp_path / "a.png", cover="500x500", faces="none", **PLAIN)
    with pytest.raises(CalotypeError, match="cover is such as 512"):
        Restore(source=tmp_path / "a.png", cover="0x512")


def test_faces_are_pasted_by_their_mesh_and_records_of_earlier_versions_are_not(engine, old_photo):
    new, earlier = (restored(engine, old_photo, auto_face_mesh=way, **PLAIN) for way in ("", "none"))
    assert new.record.face_mesh == "3" and earlier.record.face_mesh == "none"
    assert new.record.options == earlier.record.options
    assert not np.array_equal(new.picture.pixels, earlier.picture.pixels)
    plain = restored(engine, old_photo, faces="none", **PLAIN).picture.pixels.astype(int)
    (face,) = new.record.faces
    x, y, width, height = (round(2 * v) for v in face.box)
    beside = np.ones(plain.shape[:2], bool)
    beside[:, x - width // 10 : x + width + width // 10] = False
    beside[:y] = beside[y + height :] = False
    beyond = [np.abs(made.picture.pixels - plain)[beside].sum() for made in (new, earlier)]
    assert beyond[0] < 0.8 * beyond[1]


def test_a_part_alone_is_restored_and_a_part_alone_is_left(engine, old_photo):
    plain, whole, eyes, no_eyes = (
        restored(engine, old_photo, strength=text, **PLAIN) for text in ("0", "1", "0,eyes=1,background=1", "1,eyes=0")
    )
    (face,) = whole.record.faces
    eye, mouth = ([round(2 * v + 0.5) for v in face.landmarks[n]] for n in (0, 3))

    def change(result, point, than=plain):
        rows, columns = slice(point[1] - 3, point[1] + 4), slice(point[0] - 3, point[0] + 4)
        a, b = (made.picture.pixels[rows, columns].astype(int) for made in (result, than))
        return np.abs(a - b).mean()

    assert change(whole, eye) > 5 and change(whole, mouth) > 5
    assert change(eyes, eye, whole) <= 1 and change(eyes, mouth) <= 1
    assert change(no_eyes, eye) <= 1 and change(no_eyes, mouth, whole) <= 1
    assert eyes.record.faces[0].treated and eyes.record.options["strength"] == "0,eyes=1,background=1"


def test_an_aligned_face_has_strengths_of_parts(engine, old_photo, portrait, tmp_path):
    (face,) = engine.models.detector().find(portrait)
    crop = align(portrait, similarity(face.landmarks, template(512)), 512)
    Image.fromarray(crop).save(tmp_path / "aligned.png")
    eyeless = restored(engine, tmp_path / "aligned.png", aligned=True, strength="1,eyes=0").picture.pixels
    at = tuple(np.round(template(512)[0]).astype(int))[::-1]
    assert np.abs(eyeless[at].astype(int) - crop[at]).max() <= 1 and not np.array_equal(eyeless, crop)


def test_records_tell_what_was_measured_of_a_face(engine, old_photo):
    record = restored(engine, old_photo, **PLAIN).record
    (face,) = record.faces
    assert 0.5 < face.identity < 1 and face.kept == 1 and abs(face.yaw) < 10
    assert len(face.eyes) == len(face.creases) == 2
    assert record.computed["identity"] == record.identity_measure and record.identity_measure in ("dlib", "mesh")
    assert type(record).from_json(record.as_json()) == record
    assert "min_likeness" not in record.options


def test_a_face_too_unlike_the_photo_is_blended_back_and_it_is_said(engine, old_photo):
    notes, result = finish(engine.run(Restore(source=old_photo, min_likeness=0.95, auto_identity="mesh", **PLAIN)))
    (face,) = result.record.faces
    assert face.kept < 1 and face.identity >= 0.95 and result.record.options["min_likeness"] == 0.95
    assert notes[-1].startswith("face 1 came out too unlike the photo (likeness 0.8")


def test_a_face_of_which_the_photo_shows_too_little_is_left_softer(engine, portrait, tmp_path):
    small = cv2.GaussianBlur(cv2.resize(portrait, (128, 128), interpolation=cv2.INTER_AREA), (0, 0), 1)
    noisy = small + np.random.default_rng(0).normal(0, 10, small.shape)
    source = tmp_path / "far.png"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(source)

    def run(**options):
        options = {"faces": "1", "min_confidence": 0.8, "min_likeness": 0, **PLAIN, **options}
        return finish(engine.run(Restore(source=source, **options)))

    (notes, soft), (others, full) = run(), run(unclear_strength=1)
    (face,), (whole,) = ([f for f in result.record.faces if f.treated] for result in (soft, full))
    assert any("too little of face" in note for note in notes) and not any("too little" in note for note in others)
    assert face.clarity == whole.clarity < 0.5 and (face.softened, whole.softened) == (0.4, 1)
    assert soft.record.computed["face_mesh"] == "3" and "unclear_strength" not in soft.record.options
    plain = restored(engine, source, faces="none", **PLAIN).picture.pixels.astype(int)
    changes = [np.abs(result.picture.pixels - plain).sum() for result in (soft, full)]
    assert 0.3 * changes[1] < changes[0] < 0.5 * changes[1]


def test_a_record_of_an_earlier_version_is_made_again_without_the_mirror_image(
    engine, old_photo, tmp_path, monkeypatch
):
    new = restored(engine, old_photo, **PLAIN)
    network = engine.models.faces("faces-v3")
    with monkeypatch.context() as patch:
        patch.setattr(network, "sees_mirrored", False)
        once = restored(engine, old_photo, **PLAIN)
    earlier = replace(new.record, computed=new.record.computed | {"face_mesh": "1"})
    again = finish(engine.run(task_again(StoredRecord(earlier, tmp_path / "old.json"), old_photo)))[1]
    assert again.record.face_mesh == "1" and np.array_equal(again.picture.pixels, once.picture.pixels)
    assert not np.array_equal(again.picture.pixels, new.picture.pixels)


def test_the_mesh_is_not_loaded_where_no_face_is_restored(settings, old_photo):
    fresh = Engine(settings)
    restored(fresh, old_photo, strength="0", scale=1, **PLAIN)
    assert "facemesh" not in fresh.models.loaded
    restored(fresh, old_photo, scale=1, **PLAIN)
    assert "facemesh" in fresh.models.loaded


def silk(photo, folder):
    """The photo as a print on silk paper."""
    with Image.open(photo) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((320, 320)), np.float32)
    y, x = np.mgrid[:320, :320]
    weave = 15 * np.sin(2 * np.pi * (0.21 * x + 0.05 * y)) * np.sin(2 * np.pi * (0.19 * y - 0.04 * x))
    path = folder / "silk.png"
    Image.fromarray((pixels + weave[..., None]).clip(0, 255).round().astype(np.uint8)).save(path)
    return path


def test_the_texture_of_a_print_is_taken_out_before_it_is_enlarged(engine, old_photo, tmp_path):
    source = silk(old_photo, tmp_path)
    notes, result = finish(engine.run(Restore(source=source, faces="none", scale=1, **PLAIN)))
    assert notes[0].startswith("a texture repeats over the whole print (")
    assert result.record.computed["repaired"]["texture"] > 2.8 and result.record.repairs == "texture"
    assert "repair" not in result.record.options
    plain = restored(engine, source, faces="none", scale=1, repair="none", **PLAIN)
    assert np.array_equal(plain.picture.pixels, Picture.open(source).pixels)
    assert "repaired" not in plain.record.computed and plain.record.options["repair"] == "none"
    steps, plain_steps = (np.abs(np.diff(made.picture.pixels.astype(int), axis=1)).mean() for made in (result, plain))
    assert steps < 0.9 * plain_steps


def test_what_auto_repaired_is_repaired_again_and_nothing_else(engine, old_photo, tmp_path):
    """Records of versions without repairs have none."""
    source = silk(old_photo, tmp_path)
    first, again, earlier = (
        restored(engine, source, faces="none", scale=1, auto_repair=names, **PLAIN) for names in ("", "texture", "none")
    )
    assert np.array_equal(first.picture.pixels, again.picture.pixels) and first.record == again.record
    assert np.array_equal(earlier.picture.pixels, Picture.open(source).pixels)


def test_measures_are_recorded_and_left_out_where_nothing_is_repaired(engine, old_photo):
    result = restored(engine, old_photo, scale=1, **PLAIN)
    assert Record.from_json(result.record.as_json()) == result.record
    names = {"photos", "border", "noise", "blur", "blocks", "texture", "scratches", "specks", "fading", "cast", "face"}
    assert {measure.name for measure in result.record.measures} == names
    for options in ({"repair": "none"}, {"examined": False}):
        assert "measures" not in restored(engine, old_photo, scale=1, **options, **PLAIN).record.as_data()


def test_records_without_measures_are_made_again_without(engine, old_photo):
    for repair, is_examined in (("none", False), ("auto", True)):
        record = restored(engine, old_photo, scale=1, faces="none", repair=repair, **PLAIN).record
        task = task_again(StoredRecord(record, old_photo), old_photo)
        assert (task.examined, task.auto_repair) == (is_examined, "none")


@pytest.mark.parametrize("measures", [["x"], [{"name": "noise"}], [{"name": 1}], "noise", 1])
def test_measures_that_are_none_are_refused(measures, engine, old_photo):
    record = restored(engine, old_photo, scale=1, faces="none", **PLAIN).record.as_data() | {"measures": measures}
    with pytest.raises(CalotypeError, match="is not a Calotype record"):
        Record.from_json(json.dumps(record))


def test_a_repair_that_is_asked_for_says_where_there_is_nothing_to_repair(engine, old_photo):
    notes, result = finish(engine.run(Restore(source=old_photo, faces="none", scale=1, repair="texture", **PLAIN)))
    [sentence] = notes
    assert re.fullmatch(r"no texture repeats over the whole print \([\d.]+, from 1.5\), so none is taken out", sentence)
    assert np.array_equal(result.picture.pixels, Picture.open(old_photo).pixels)


def test_known_repairs_are_no_options(capsys):
    assert main(["restore", "a.png", "--repair", "textur"]) == 2
    assert ", not 'textur'" in capsys.readouterr().err


def test_unknown_repairs_are_named_with_the_nearest_known():
    with pytest.raises(CalotypeError, match=r"auto, none, or a list of .*, not 'textur', did you mean texture"):
        Restore(source="a.png", repair="textur")
    with pytest.raises(CalotypeError, match="so repair has no effect"):
        Restore(source="a.png", repair="texture", aligned=True)
