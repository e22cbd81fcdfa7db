"""The album: every result has a name of its own, no source is ever touched, what is done is known as done."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calotype.errors import CalotypeError
from calotype.files import readable
from calotype.outputs.compare import Window, shown, side_by_side
from calotype.outputs.inputs import Item, plan
from calotype.outputs.names import key, natural, shortened
from calotype.outputs.reproduce import find_source, reproduction, task_again
from calotype.outputs.save import save_result
from calotype.outputs.sidecar import existing_result, read_stored, sha256_of, sidecar_of
from calotype.picture import Picture
from calotype.record import FaceRecord, ModelRecord, Record, Result
from calotype.tasks import Upscale
from calotype.tasks.output import Album

FACE = FaceRecord(1, (1.0, 2.0, 3.0, 4.0), ((1.0, 1.0),) * 5, 0.9, True)
MODELS = (ModelRecord("realesrgan-x4plus", "ab" * 32),)
SHA_NOW = {"realesrgan-x4plus": "ab" * 32}


def draw(path: Path, size=(6, 8), seed=0) -> Path:
    """A small picture of noise, grey steps on one side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def names(planned) -> dict[str, str]:
    return {item.source.name: item.target.name for item in planned.items}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# which pictures


def test_files_folders_and_patterns_are_found_once_in_natural_order(folder):
    for name in ("scans/p10.jpg", "scans/p2.jpg", "scans/P1.jpg", "more/a.png"):
        draw(folder / name)
    planned = plan(["scans", "scans/p2.jpg", "more/*.png", "scans/../scans/p10.jpg"], Album(out=Path("out")))
    assert [item.source.name for item in planned.items] == ["P1.jpg", "p2.jpg", "p10.jpg", "a.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder):
    draw(folder / "a[1].jpg")
    draw(folder / "a1.jpg")
    assert list(names(plan(["a[1].jpg"], Album()))) == ["a[1].jpg"]
    assert list(names(plan(["a[0-9].jpg"], Album()))) == ["a1.jpg"]


def test_the_tree_is_kept_only_when_asked(folder):
    draw(folder / "in/a.jpg")
    draw(folder / "in/deep/er/a.jpg")
    draw(folder / "in/.hidden/c.jpg")
    draw(folder / "in/.d.jpg")
    assert len(plan(["in"], Album()).items) == 1
    targets = [i.target for i in plan(["in"], Album(recursive=True)).items]
    assert targets == [Path("out/a.jpg"), Path("out/deep/er/a.jpg")]


def test_strangers_in_a_folder_are_named_once(folder):
    draw(folder / "in/a.jpg")
    for name in ("a.txt", "b.pdf", "c.doc", "d.zip"):
        (folder / "in" / name).write_text("no picture")
    planned = plan(["in"], Album())
    assert [str(note) for note in planned.notes] == [
        "1 document in a folder was skipped: b.pdf; name the file, or give pages all for its pages",
        "3 files are not pictures and were skipped: a.txt, c.doc, d.zip",
    ]
    (folder / "in/a.jpg").unlink()
    with pytest.raises(CalotypeError, match="give pages all for its pages; 3 files are not pictures"):
        plan(["in"], Album())


def test_a_file_that_was_named_is_never_silently_left_out(folder):
    draw(folder / "a.jpg")
    (folder / "notes.txt").write_text("no picture")
    planned = plan(["a.jpg", "notes.txt", "gone.jpg"], Album())
    assert [item.source.name for item in planned.items] == ["a.jpg", "notes.txt", "gone.jpg"]
    assert "gone.jpg doesn't exist" in str(planned.items[2].fault)


@pytest.mark.parametrize(
    "given, words",
    [
        (["empty"], "no picture in empty"),
        (["gone.jpg"], "gone.jpg doesn't exist"),
        (["*.gif"], "doesn't exist"),
        (["empty", "empty"], "no picture"),
    ],
)
def test_nothing_to_do_is_one_sentence(folder, given, words):
    (folder / "empty").mkdir()
    with pytest.raises(CalotypeError, match=words) as caught:
        plan(given, Album())
    assert "\n" not in str(caught.value)


def test_a_folder_of_other_files_says_so(folder):
    (folder / "docs").mkdir()
    (folder / "docs/a.txt").write_text("")
    with pytest.raises(CalotypeError, match=r"1 file is not a picture and was skipped: a\.txt"):
        plan(["docs"], Album())


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
def test_links_to_nothing_and_pipes_are_faults_of_their_own(folder):
    draw(folder / "a.jpg")
    os.symlink("nowhere", folder / "link.jpg")
    os.mkfifo(folder / "pipe.jpg")
    faults = [item.fault for item in plan(["a.jpg", "link.jpg", "pipe.jpg"], Album()).items]
    assert faults[0] is None and all("not a readable file" in str(fault) for fault in faults[1:])


# where results go


def test_one_picture_may_be_given_a_name(folder):
    draw(folder / "a.jpg")
    assert plan(["a.jpg"], Album(out=Path("new/b.png"))).items[0].target == Path("new/b.png")
    assert (folder / "new").is_dir()


def test_a_name_for_many_pictures_is_refused(folder):
    draw(folder / "a.jpg")
    draw(folder / "b.jpg")
    with pytest.raises(CalotypeError, match="one file, but there are 2 pictures"):
        plan(["a.jpg", "b.jpg"], Album(out=Path("c.jpg")))
    with pytest.raises(CalotypeError, match="disagree about the format"):
        plan(["a.jpg"], Album(out=Path("c.jpg")), "png")


def test_results_that_would_collide_get_names_of_their_own(folder):
    for name in ("a.jpg", "a.png", "A.webp", "sub/a.jpg", "other/a.jpg", "x/other/a.jpg"):
        draw(folder / name)
    inputs = ["a.jpg", "a.png", "A.webp", "sub/a.jpg", "other/a.jpg", "x/other/a.jpg"]
    targets = [item.target.name for item in plan(inputs, Album(), "jpeg").items]
    assert targets == ["a.jpg", "a-png.jpg", "A-webp.jpg", "a-jpg.jpg", "a-jpg-other.jpg", "a-jpg-2.jpg"]
    assert [item.target.name for item in plan(inputs, Album(), "jpeg").items] == targets


@pytest.mark.parametrize(
    "source, format, name", [("a.JPG", "auto", "a.JPG"), ("a.gif", "auto", "a.png"), ("a.jfif", "png", "a.png")]
)
def test_the_ending_is_kept_where_we_write_it(folder, source, format, name):
    draw(folder / source)
    assert plan([source], Album(), format).items[0].target.name == name


def test_a_format_brings_its_ending(folder):
    draw(folder / "a.jpeg")
    draw(folder / "b.png")
    targets = [i.target.name for i in plan(["a.jpeg", "b.png"], Album(suffix="-x"), "jpeg").items]
    assert targets == ["a-x.jpeg", "b-x.jpg"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "A", "b", "é", "e\u0301", "a-png", "长" * 70]), st.sampled_from([".jpg", ".png"])
        ),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
def test_no_two_results_share_a_name_on_any_file_system(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("album")
    sources = []
    for n, (stem, ending) in enumerate(parts):
        path = root / str(n % 3) / (stem + ending)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        sources.append(path)
    planned = plan(sources, Album(out=root / "out"), "png")
    keys = [key(item.target) for item in planned.items]
    assert len(set(keys)) == len(sources)


@pytest.mark.parametrize("stem", ["x" * 251, "长" * 83, "🙂" * 62, "a b" * 80])
def test_long_names_are_cut_and_stay_apart(folder, stem):
    names = {shortened(stem[:-1] + end + "-restored-with-care", ".tiff", folder) for end in "ab"}
    assert len(names) == 2
    for name in names:
        assert len(os.fsencode(name + ".json")) <= 255 and name.endswith(".tiff")
        (folder / name).touch()


def test_a_source_is_never_a_target(folder):
    source = draw(folder / "a.jpg")
    (folder / "link").symlink_to(folder)
    os.link(source, folder / "hard.jpg")
    for out in (Path("."), Path("a.jpg"), folder / "link", Path("link/a.jpg"), Path("hard.jpg")):
        item = plan(["a.jpg"], Album(out=out, overwrite=True)).items[0]
        assert "would overwrite" in str(item.fault), out


def test_another_source_is_no_target_either(folder):
    draw(folder / "a.jpg")
    draw(folder / "a.png")
    items = plan(["a.jpg", "a.png"], Album(out=folder, overwrite=True), "jpeg").items
    assert items[0].fault and items[1].target.name == "a-png.jpg"


def test_results_of_an_earlier_run_in_the_same_folder_are_no_sources(folder):
    draw(folder / "in/a.jpg")
    album = Album(out=Path("in"), suffix="-restored")
    first = plan(["in"], album).items
    save_result(made(first[0]), first[0], Upscale(source=first[0].source), album)
    assert names(plan(["in"], album)) == {"a.jpg": "a-restored.jpg"}
    draw(folder / "in/b-restored.jpg")
    draw(folder / "in/b.jpg")
    assert names(plan(["in"], album))["b-restored.jpg"] == "b-restored-restored.jpg"
    assert names(plan(["in"], album))["b.jpg"] == "b-jpg-restored.jpg"


def test_the_folder_of_results_is_not_searched(folder):
    draw(folder / "a.jpg")
    draw(folder / "out/a.jpg")
    assert names(plan(["."], Album(recursive=True))) == {"a.jpg": "a.jpg"}


def test_a_place_where_no_folder_can_be_is_a_sentence(folder):
    draw(folder / "a.jpg")
    (folder / "file").touch()
    for out in (Path("file"), Path("file/deep")):
        with pytest.raises(CalotypeError, match="give another"):
            plan(["a.jpg"], Album(out=out))


@pytest.mark.parametrize("suffix", ["/x", "..\\x", "a\nb"])
def test_a_suffix_stays_in_the_folder(folder, suffix):
    draw(folder / "a.jpg")
    with pytest.raises(CalotypeError, match="suffix"):
        plan(["a.jpg"], Album(suffix=suffix))


# names for eyes


@given(st.text(max_size=30))
def test_a_shown_name_has_no_control_characters(text):
    shown_text = readable(text)
    assert all(ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0 for c in shown_text)
    shown_text.encode("utf-8")


def test_names_that_turn_text_or_are_no_utf8_are_shown_escaped():
    assert readable("photo\u202egpj.exe") == "photo\\u202egpj.exe"
    assert readable("a\x1b[31m\udcff") == "a\\x1b[31m\\udcff"
    assert readable("长 é 🙂") == "长 é 🙂"


@given(st.lists(st.text("a01½²-", max_size=6)))
def test_natural_order_is_an_order(texts):
    backwards = texts[::-1]
    assert sorted(texts, key=natural) == sorted(backwards, key=natural)


# what is done


def made(item: Item, **changes) -> Result:
    """A result as the engine makes it: the picture doubled plainly."""
    before = Picture.open(item.source)
    task = Upscale(source=item.source, **changes)
    after = before.then(before.pixels.repeat(2, 0).repeat(2, 1))
    result = Result.of(task, before, after, (), {"precision": "float32"})
    return replace(result, record=replace(result.record, models=MODELS))


def now(record: Record) -> dict[str, str]:
    return {model.name: model.sha256 for model in MODELS}


@pytest.fixture
def done(folder):
    """A finished item: source, target, sidecar."""
    source = draw(folder / "in/a.png")
    item = plan([source], Album(out=folder / "out")).items[0]
    save_result(made(item), item, Upscale(source=source), Album())
    return item


def test_a_result_is_known_as_done(done):
    found = existing_result(done.target, Upscale(source=done.source), now)
    assert found.stored and not found.fault


def test_without_its_sidecar_the_embedded_record_tells(done):
    sidecar_of(done.target).unlink()
    assert existing_result(done.target, Upscale(source=done.source), now).stored


@pytest.mark.parametrize("change", [{"tile": 128}, {"denoise": 0.1}, {"quality": 50}])
def test_options_that_change_nothing_are_not_compared(done, change):
    assert existing_result(done.target, Upscale(source=done.source, **change), now).stored


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: Upscale(source=d.source, scale=3.0), "other options"),
        (lambda d: Upscale(source=draw(d.source.with_name("b.png"), seed=1)), "another picture"),
    ],
)
def test_what_was_made_in_another_way_is_in_the_way(done, change, words):
    found = existing_result(done.target, change(done), now)
    assert found.stored is None and words in str(found.fault) and "overwrite" in str(found.fault)


def test_other_models_make_another_result(done):
    found = existing_result(done.target, Upscale(source=done.source), lambda record: {"realesrgan-x4plus": "cd" * 32})
    assert "other models" in str(found.fault)


def test_a_changed_or_foreign_file_is_not_ours(done):
    done.target.write_bytes(done.target.read_bytes() + b"more")
    assert "changed since" in str(existing_result(done.target, Upscale(source=done.source), now).fault)
    draw(done.target)
    assert "not written by Calotype" in str(existing_result(done.target, Upscale(source=done.source), now).fault)
    done.target.write_bytes(b"")
    assert existing_result(done.target, Upscale(source=done.source), now).fault
    done.target.unlink()
    assert existing_result(done.target, Upscale(source=done.source), now).fault is None
    done.target.mkdir()
    assert "is a folder" in str(existing_result(done.target, Upscale(source=done.source), now).fault)


def test_a_sidecar_holds_what_is_needed_and_no_path_of_this_machine(done):
    data = json.loads(sidecar_of(done.target).read_text("utf-8"))
    assert data["files"] == {"source": "../in/a.png", "result": "a.png", "result_sha256": sha256_of(done.target)}
    assert data["task"] == "upscale" and data["options"]["model"] == "auto"
    assert [model["name"] for model in data["models"]] == ["realesrgan-x4plus"]
    assert str(done.source.parent) not in sidecar_of(done.target).read_text()


def test_no_sidecar_means_none_and_takes_a_stale_one_away(done):
    save_result(made(done), done, Upscale(source=done.source), Album(sidecar=False, overwrite=True))
    assert not sidecar_of(done.target).exists()


def test_keeping_never_touches_the_source(done):
    with pytest.raises(CalotypeError, match="source itself"):
        save_result(made(done), Item(done.source, done.source), Upscale(source=done.source), Album(overwrite=True))


# again


@pytest.mark.parametrize(
    ("options", "is_done"),
    [
        ({}, True),
        ({"speed": "best"}, True),
        ({"speed": "quick"}, False),
        ({"model": "realesrgan-x4plus"}, True),
        ({"model": "photo-x2"}, False),
    ],
)
def test_auto_accepts_every_network_that_its_speed_may_choose(done, options, is_done):
    found = existing_result(done.target, Upscale(source=done.source, **options), lambda record: SHA_NOW)
    assert bool(found.stored) == is_done and (is_done or "other options" in str(found.fault))


def test_a_result_of_the_version_without_speed_is_done_already(done):
    path = sidecar_of(done.target)
    data = json.loads(path.read_text("utf-8"))
    del data["options"]["speed"]
    data["options"]["model"] = "realesrgan-x4plus"
    path.write_text(json.dumps(data), "utf-8")
    for options in ({}, {"model": "realesrgan-x4plus"}, {"speed": "best"}):
        assert existing_result(done.target, Upscale(source=done.source, **options), lambda record: SHA_NOW).stored
    quick = Upscale(source=done.source, speed="quick")
    assert existing_result(done.target, quick, lambda record: SHA_NOW).fault
    assert task_again(read_stored(path), done.source) == Upscale(source=done.source, model="realesrgan-x4plus")


def test_the_source_is_found_where_it_lies_now(done, folder):
    stored = read_stored(sidecar_of(done.target))
    assert find_source(stored, None).samefile(done.source)
    moved = done.source.rename(folder / "moved.png")
    with pytest.raises(CalotypeError, match=r"give source|with source"):
        find_source(stored, None)
    assert find_source(stored, moved).samefile(moved)
    moved.rename(folder / "out/source-copy.png")
    with pytest.raises(CalotypeError, match=r"give source|with source"):
        find_source(stored, moved)
    draw(done.source, seed=5)
    with pytest.raises(CalotypeError, match="not the recorded source any more"):
        find_source(stored, None)


@pytest.mark.parametrize("has_sidecar", [True, False])
def test_a_result_of_the_same_name_is_not_taken_for_its_source(done, folder, has_sidecar):
    moved = done.source.rename(folder / "moved.png")
    assert done.target.name == done.source.name
    if not has_sidecar:
        sidecar_of(done.target).unlink()
    stored = read_stored(sidecar_of(done.target) if has_sidecar else done.target)
    name = "in/a.png" if has_sidecar else "a.png"
    with pytest.raises(CalotypeError) as told:
        find_source(stored, None)
    assert str(told.value).replace(os.sep, "/") == f"the source {name} is missing; give its path with source"
    draw(done.source, seed=5)
    if has_sidecar:
        with pytest.raises(CalotypeError, match=r"in.a\.png is not the recorded source any more"):
            find_source(stored, None)
    copy = done.target.with_name("copy.png")
    copy.write_bytes(moved.read_bytes())
    copy.replace(done.target)
    assert find_source(stored, None).samefile(done.target)  # the source itself lies there


def test_the_recorded_task_comes_back(done):
    stored = read_stored(done.target)
    assert task_again(stored, done.source) == Upscale(source=done.source, auto_upscaler="realesrgan-x4plus")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"task": 1}', b"[" * 100_000, b'{"files": 3}', b"\xff\xfe", b'{"task": "x"}'],
)
def test_a_record_that_is_none_is_one_sentence(folder, content):
    path = folder / "x.json"
    path.write_bytes(content)
    with pytest.raises(CalotypeError, match="not a Calotype record"):
        read_stored(path)


@pytest.mark.parametrize(
    "change",
    [
        {"box": ["a", 1, 2, 3]},
        {"box": [1, 2, 3]},
        {"confidence": float("nan")},
        {"landmarks": [["x", 1]]},
        {"landmarks": [3]},
        {"why": 3},
        {"box": 3},
        {"eyes": 3},
        {"eyes": ["a"]},
        {"creases": [1]},
        {"identity": "a"},
        {"yaw": []},
        {"kept": None},
        {"clarity": "a"},
        {"softened": None},
    ],
)
def test_a_face_that_is_none_is_refused(folder, change):
    data = json.loads(Record("upscale", {}, "a.png", "00", (1, 1), MODELS, (FACE,)).as_json())
    data["faces"][0] |= change
    (folder / "x.json").write_text(json.dumps(data))
    with pytest.raises(CalotypeError, match="not a Calotype record"):
        read_stored(folder / "x.json")


KEYS = ["task", "options", "source_name", "source_sha256", "source_size", "models", "faces", "computed", "said"]
record_like = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | st.integers() | st.text("ab", max_size=3) | st.lists(st.none() | st.integers(), max_size=3)
        for name in (
            "task",
            "options",
            "source_name",
            "source_sha256",
            "source_size",
            "models",
            "faces",
            "computed",
            "said",
        )
    },
)


@settings(max_examples=100, deadline=None)
@given(record_like)
def test_whatever_stands_in_a_record_it_is_read_or_refused(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    good = json.loads(Record("upscale", {}, "a.png", "00", (1, 1), MODELS, (FACE,)).as_json())
    path.write_text(json.dumps(good | changes))
    try:
        stored = read_stored(path)
    except CalotypeError as fault:
        assert "\n" not in str(fault)
    else:
        assert isinstance(stored.record.options, dict)
        assert all(isinstance(model.sha256, str) for model in stored.record.models)


# comparison


def test_before_and_after_stand_side_by_side_at_the_same_size():
    before = Picture(np.full((20, 30, 3), 40, np.uint8))
    after = Picture(np.full((200, 300, 3), 200, np.uint8))
    sheet = np.asarray(side_by_side(before, after))
    assert sheet.shape[1] > 600 and sheet.shape[0] > 200
    assert (sheet[100, 100] == 40).all() and (sheet[100, -100] == 200).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 400, 3), (400, 5, 3)])
def test_comparisons_of_odd_shapes(shape):
    picture = Picture(np.full(shape, 9, np.uint8))
    assert side_by_side(picture, picture).size >= (2, 2)


def test_sixteen_bits_and_transparency_are_shown_on_white():
    pixels = np.full((4, 4, 1), 0x8080, np.uint16)
    alpha = np.zeros((4, 4), np.uint16)
    assert (np.asarray(shown(Picture(pixels), 9)) == 0x80).all()
    assert (np.asarray(shown(Picture(pixels, alpha), 9)) == 255).all()


@given(st.floats(-50, 150), st.floats(-50, 150), st.floats(0, 300), st.floats(0, 300), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_window_never_leaves_the_picture(x, y, width, height, scale):
    rows, columns = Window(x, y, width, height).clipped(100, 80, (scale, scale))
    assert np.zeros((100, 80))[rows, columns].size >= 1


@pytest.mark.parametrize("call", ["<lora:/etc/passwd:1>", "<lora:../../x.safetensors:1>", "<lora:C:\\x:1>"])
def test_parameters_in_anybodys_picture_name_no_file(call, folder):
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text(
        "parameters", f"a cat {call}\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Model: emoji"
    )
    Image.new("RGB", (8, 8)).save(folder / "a.png", pnginfo=told)
    reproduced = reproduction(folder / "a.png", {"home": folder / "home"})
    assert reproduced.task.prompt == "a cat" and reproduced.task.lora == ""
    assert [str(note).endswith("is not installed and left out") for note in reproduced.notes] == [True]


@pytest.mark.parametrize("call", ["<lo<lora:x:1>ra:/etc/passwd:1>", "<lora:/etc/passwd", "<lora::1>"])
def test_parameters_whose_loras_are_incomplete_are_refused(call, folder):
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("parameters", f"a {call}\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Model: emoji")
    Image.new("RGB", (8, 8)).save(folder / "a.png", pnginfo=told)
    with pytest.raises(CalotypeError, match="LoRA"):
        reproduction(folder / "a.png", {"home": folder / "home"})


def test_links_to_folders_are_followed_once(folder):
    draw(folder / "in/a.jpg")
    draw(folder / "elsewhere/deep/b.jpg")
    for name, target in {"link": "elsewhere", "same": "elsewhere", "loop": "in"}.items():
        (folder / "in" / name).symlink_to(folder / target)
    (folder / "elsewhere/out").symlink_to(folder / "out")  # where results go
    draw(folder / "out/c.jpg")
    assert sorted(names(plan(["in"], Album(out=folder / "out", recursive=True)))) == ["a.jpg", "b.jpg"]
    targets = [
        item.target.relative_to(folder / "out")
        for item in plan(["in"], Album(out=folder / "out", recursive=True)).items
    ]
    assert targets == [Path("a.jpg"), Path("link/deep/b.jpg")]
    assert sorted(names(plan(["in"], Album(out=folder / "out")))) == ["a.jpg"]
