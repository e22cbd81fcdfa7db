"""Requests from strangers: whatever is sent is a task that names nothing outside the store, or one sentence."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calotype.errors import CalotypeError
from calotype.options import about, as_data, default, entry_kind, option, required_kind
from calotype.samplers import LATENT
from calotype.tasks import TASKS, read_task
from calotype.tasks.guard import UNKNOWN, read_request
from calotype.tasks.limits import Limits, work_of
from calotype.tasks.optimizers import KNOWN
from calotype.tasks.prompts import called_loras, extras
from calotype.tasks.sheets import cells

STORE = {
    "diffusion": ["emoji", "sd-1.5", "my model"],
    "upscale": ["realesrgan-x4plus"],
    "faces": ["faces-v2", "gfpgan-1.4"],
    "repair": ["marks"],
    "inpaint": ["big-lama"],
    "vae": ["sd-vae-ft-mse"],
    "lora": ["mine", "girl (v2)"],
    "style": ["oil"],
}
PLACE = Path("/nowhere/upload")
FILES = {
    "restore": {"source": PLACE},
    "upscale": {"source": PLACE},
    "split": {"source": PLACE},
    "colour": {"source": PLACE, "hints": PLACE, "reference": PLACE},
    "imagine": {},
    "find_faces": {"source": PLACE, "out": PLACE},
    "caption": {"photos": PLACE},
    **{f"{verb}_lora": {"out": PLACE} for verb in ("merge", "resize", "extract", "convert")},
    **{f"train_{kind}": {"photos": PLACE} for kind in ("lora", "diffusion", "gan", "upscaler", "restorer", "repairer")},
}
NEEDED = {
    "merge_lora": {"loras": ["mine:0.5"]},
    "resize_lora": {"lora": "mine", "rank": 4},
    "convert_lora": {"lora": "mine"},
    "extract_lora": {"tuned": "sd-1.5", "base": "emoji"},
}
OUTSIDE = (
    *("/etc/passwd", "../../etc/passwd", "..\\..\\windows\\win.ini", "~/.ssh/id_rsa", "~root", ".", "..", "/", "\\"),
    *("C:\\secret.safetensors", "C:secret", "\\\\host\\share\\x", "//host/share/x", "\\\\?\\C:\\x", "\\\\.\\pipe\\x"),
    *("file:///etc/passwd", "http://host/x", "CON", "NUL.safetensors", "com1", "/dev/zero", "/proc/self/mem"),
    *("a\0b", "mine\0", "\ud800", "mine\n", " mine", "mine/../mine", "./mine", "emoji/", "EMOJI", "$HOME/x", "%PATH%"),
    *("antigravity.fly", "os.system", "x" * 10**7, "/" * 10**5, "<lora:/etc/passwd:1>", "{0.__class__}", "%s", "*"),
    *("lora=/etc/passwd", "model=/etc/passwd", "prompt=a,b", "[" * 10**4, "|" * 10**4, "1-9999,1-9999", "nan", "-1"),
    *("9" * 5000, "1e999", "0x10", "--flag", ";reboot", "`id`", "", " ", "none", "auto", "<lora:mine:1>", "emoji"),
)
ODD = (10**5000, -(10**400), 10**30, 2**63, -1, 0, 1.5, float("nan"), float("inf"), True, None, [], {}, ["/etc/passwd"])
ODD += ({"a": {"b": 1}}, [["x"] * 1000] * 100, ["x"] * 10**5, [None], [{}], {"image": "/etc/passwd"}, b"x", object())

EVENTS: list[tuple] = []
WATCHED = ("open", "import", "os.", "subprocess", "socket", "shutil", "glob", "pathlib", "tempfile", "urllib")
IS_ON: list[bool] = []


def heard(event, args):
    if IS_ON and event.startswith(WATCHED):
        EVENTS.append((event, args))


sys.addaudithook(heard)


def looked(*args, **more):
    EVENTS.append(("looked", args))  # which Python does not report
    raise FileNotFoundError


def asked(kind, data, **more):
    """The task or None; fails where a file is opened, a folder looked into, a module imported, or the fault is none."""
    how = {"names": STORE, "files": FILES[kind], **more}
    EVENTS.clear()
    IS_ON.append(True)
    try:
        with mock.patch("os.stat", looked), mock.patch("os.lstat", looked), mock.patch("os.path.expanduser", looked):
            task = read_task(kind, data, trusted=False, **how)
    except CalotypeError as fault:
        task, sentence = None, str(fault)
        assert "\n" not in sentence and len(sentence) < 2000
        sentence.encode("utf-8")
    finally:
        IS_ON.clear()
    assert not EVENTS
    return task


def named_in(task):
    """Every name in a task by its kind in the store, told again from the values and without the guard."""
    parts = [task, *(cell.task for cell in cells(task))] if hasattr(task, "matrix") else [task]
    for part in parts:
        values = {spec.name: getattr(part, spec.name) for spec in dataclasses.fields(part)}
        for name, kind in (
            ("model", None),
            ("vae", "vae"),
            ("upscaler", "upscale"),
            ("face_model", "faces"),
            ("auto_face_model", "faces"),
            ("auto_upscaler", "upscale"),
            ("repair_model", "repair"),
            ("inpaint_model", "inpaint"),
        ):
            if values.get(name) not in (None, "", "none", "auto"):
                where = {
                    "upscale": "upscale",
                    "train_upscaler": "upscale",
                    "train_restorer": "faces",
                    "train_repairer": "repair",
                }
                yield kind or where.get(kind_of(task), "diffusion"), values[name]
        for name in ("tuned", "base", "into"):
            if values.get(name):
                yield "diffusion", values[name]
        for text in (values.get("prompt"), values.get("negative")):
            yield from (("lora", lora.name) for lora in extras(text or "")[1])
            assert "<lora:" not in extras(text or "")[0].lower()
        loras = [*(values.get("loras") or ()), *(values.get("lora") or "").split(",")]
        yield from (("lora", text.partition(":")[0].strip()) for text in loras if text.strip())
        yield from (("style", text.strip()) for text in (values.get("style") or "").split(",") if text.strip())
        yield from (("faces", text.strip()) for text in (values.get("beside") or "").split(",") if text.strip())
        if values.get("enlarge"):
            yield "upscale", values["enlarge"]
        if values.get("hires_upscaler", "").lower() not in ("", "lanczos", *LATENT):
            yield "upscale", values["hires_upscaler"]
        if "optimizer_type" in values:
            assert values["optimizer_type"].lower() in map(str.lower, KNOWN)


def kind_of(task):
    return next(kind for kind, cls in TASKS.items() if cls is type(task))


def check(task, files):
    """Nothing in it lies outside the store, and every file is the door's own or the default."""
    shipped = {"diffusion": "emoji", "upscale": "realesrgan-x4plus"}
    for kind, name in named_in(task):
        assert name in STORE[kind] or name == shipped.get(kind), (kind, name)
    for spec in dataclasses.fields(task):
        if about(spec).is_path and spec.name not in files:
            assert getattr(task, spec.name) == default(spec)


TEXTS = [(k, s.name) for k, cls in TASKS.items() for s in dataclasses.fields(cls) if s.type in (str, tuple[str, ...])]
PATHS = [(k, s.name) for k, cls in TASKS.items() for s in dataclasses.fields(cls) if about(s).is_path]


def test_a_picture_of_what_is_invented_counts_as_more_work():
    plain, asked = (
        read_request(TASKS["restore"], {"has_uncertainty": is_asked}, files={"source": Path("a.png")})
        for is_asked in (False, True)
    )
    assert work_of(asked, [asked], 3) == 2 * work_of(plain, [plain], 3)


def test_every_option_says_what_a_door_needs_to_know():
    for cls in TASKS.values():
        for spec in dataclasses.fields(cls):
            kind = required_kind(spec.type)
            is_path = Path in (kind, entry_kind(kind))
            assert "about" in spec.metadata and (about(spec).is_path or not is_path)
            assert not about(spec).names or about(spec).names in UNKNOWN


def test_every_option_that_names_a_model_is_known_as_such():
    marked = {(cls.__name__, s.name) for cls in TASKS.values() for s in dataclasses.fields(cls) if about(s).names}
    named = (
        "model",
        "vae",
        "lora",
        "loras",
        "upscaler",
        "face_model",
        "auto_face_model",
        "hires_upscaler",
        "style",
        "tuned",
        "base",
        "into",
    )
    named += (
        "prompt",
        "negative",
        "beside",
        "enlarge",
        "optimizer_type",
        "auto_face_model",
        "auto_upscaler",
        "repair_model",
        "inpaint_model",
        "teacher",
    )
    all_ = {(cls.__name__, s.name) for cls in TASKS.values() for s in dataclasses.fields(cls) if s.name in named}
    assert marked == all_


@pytest.mark.parametrize("kind", TASKS)
def test_a_request_that_is_fine_passes(kind):
    task = asked(kind, NEEDED.get(kind, {}))
    assert type(task) is TASKS[kind]
    check(task, FILES[kind])
    sent = {name: value for name, value in json.loads(json.dumps(as_data(task))).items() if name not in FILES[kind]}
    assert asked(kind, sent) == task == read_task(kind, as_data(task))


@pytest.mark.parametrize(("kind", "name"), PATHS)
def test_no_file_comes_from_a_request(kind, name):
    for value in ("/etc/passwd", "out", ".", ["/etc/passwd"], {"x": 1}, 3):
        data = {**NEEDED.get(kind, {}), name: value}
        if value != as_data(default(next(s for s in dataclasses.fields(TASKS[kind]) if s.name == name))):
            assert asked(kind, data) is None


@pytest.mark.many(plain=24)
@pytest.mark.parametrize(("kind", "name"), TEXTS)
def test_a_text_names_nothing_outside_the_store(kind, name):
    is_many = entry_kind(next(s.type for s in dataclasses.fields(TASKS[kind]) if s.name == name)) is not None
    for text in (*OUTSIDE, *ODD):
        for value in (text, [text], ["mine", text]) if is_many else (text,):
            task = asked(kind, {**NEEDED.get(kind, {}), name: value})
            if task is not None:
                check(task, FILES[kind])


junk = st.sampled_from(OUTSIDE + ODD) | st.text(max_size=30) | st.integers() | st.floats() | st.booleans()
words = st.sampled_from(
    ["emoji", "mine", "oil", "faces-v2", "realesrgan-x4plus", "none", "lanczos", "AdamW", "512", "a|b"]
)
calls = st.lists(
    st.sampled_from(
        ["<lora:", "mine", "/etc/passwd", ":1>", ":te=1", ">", "<", "lora:", "<LYCO:", "AND", "|", "[", ",", " "]
    ),
    max_size=8,
).map("".join)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_sent_is_a_task_of_the_store_or_a_sentence(data):
    kind = data.draw(st.sampled_from(sorted(TASKS)))
    names = [spec.name for spec in dataclasses.fields(TASKS[kind])]
    values = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), junk | words | calls, max_size=5))
    task = asked(kind, {**NEEDED.get(kind, {}), **values})
    if task is not None:
        check(task, FILES[kind])


axes = st.builds(
    "{}={}".format,
    st.sampled_from(
        ["model", "checkpoint", "lora", "prompt", "sr", "vae", "style", "hires_upscaler", "steps", "init", "x"]
    ),
    st.lists(words | calls | st.sampled_from(OUTSIDE[:30]), min_size=1, max_size=3).map(",".join),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(prompt=calls, negative=calls, x=axes | st.just(""), y=axes | st.just(""), matrix=st.booleans(), lora=calls)
def test_no_prompt_and_no_axis_reaches_a_file(prompt, negative, x, y, matrix, lora):
    sent = {"prompt": prompt, "negative": negative, "x": x, "y": y, "matrix": matrix, "lora": lora, "size": "64"}
    task = asked("imagine", {name: value for name, value in sent.items() if value})
    if task is not None:
        check(task, {})


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("imagine", {"model": "/etc/passwd"}, "no model is named '/etc/passwd'"),
        ("imagine", {"model": "sd-1.6"}, "no model is named sd-1.6, did you mean sd-1.5?; the list of models"),
        ("imagine", {"prompt": "a <lora:/etc/passwd:1>"}, "no LoRA is named '/etc/passwd'"),
        ("imagine", {"negative": "a <LYCO:../x:1>"}, "no LoRA is named '../x'"),
        ("imagine", {"prompt": "a <lora:/etc/passwd:1:1:"}, "a LoRA in a prompt is written <lora:name:0.8>, not"),
        ("imagine", {"prompt": "<lo<lora:mine:1>ra:/etc/passwd:1>"}, "a LoRA in a prompt is written"),
        ("imagine", {"prompt": "<lora:/etc/passwd:much>"}, "a LoRA in a prompt is written"),
        ("imagine", {"lora": "mine:0.8, ../x:1"}, "no LoRA is named '../x'"),
        ("imagine", {"style": "oil, ../x"}, "no style is named '../x'"),
        ("imagine", {"hires": 2, "hires_upscaler": "/x.pth"}, "no super-resolution network is named '/x.pth'"),
        ("imagine", {"x": "model=emoji,/etc/passwd"}, "no model is named '/etc/passwd'"),
        ("imagine", {"y": "checkpoint=/etc/passwd"}, "no model is named '/etc/passwd'"),
        ("imagine", {"x": "lora=mine,/x"}, "no LoRA is named '/x'"),
        ("imagine", {"prompt": "A lora:/x:1>", "x": "prompt=A,<"}, "a LoRA in a prompt is written"),
        ("imagine", {"prompt": "A", "x": '"sr=A,<lora:/x:1>"'}, "a picture has no option"),
        ("imagine", {"prompt": "A", "x": "sr=A,<lora:/x:1>"}, "no LoRA is named '/x'"),
        ("imagine", {"x": "init=/etc/passwd"}, "a picture has no option"),
        ("imagine", {"init": "/etc/passwd"}, "init is a file or folder, which a request may not name"),
        ("imagine", {"prompt": "a\0b"}, r"prompt contains '\x00'"),
        ("imagine", {"prompt": "\ud800"}, r"prompt contains '\ud800'"),
        ("imagine", {"prompt": "x" * 20_001}, "prompt takes up to 20,000 characters"),
        ("imagine", {"prompt": {"a": 1}}, "prompt is a text, not {'a': 1}"),
        ("imagine", {"prompt": None}, "prompt is a text, not None"),
        ("restore", {"upscaler": "weights/x.pth"}, "no super-resolution network is named 'weights/x.pth'"),
        ("restore", {"face_model": "~"}, "no face restoration network is named '~'"),
        ("restore", {"auto_face_model": "/etc/passwd"}, "no face restoration network is named '/etc/passwd'"),
        ("merge_lora", {"loras": ["mine:0.5", "/x:1"]}, "no LoRA is named '/x'"),
        ("merge_lora", {"loras": ["mine"] * 65}, "loras takes up to 64 entries"),
        ("merge_lora", {"loras": ["mine"], "into": "/x"}, "no model is named '/x'"),
        ("merge_lora", {"loras": ["mine"], "out": "/etc/x.safetensors"}, "out is a file or folder"),
        ("train_lora", {"optimizer_type": "antigravity.fly"}, "no optimizer is named antigravity.fly"),
        ("train_lora", {"optimizer_type": "torch.optim.AdamW"}, "no optimizer is named torch.optim.AdamW"),
        ("train_lora", {"sample_prompts": "/etc/passwd.txt"}, "sample_prompts is a file or folder"),
        ("train_lora", {"caption_extension": "./../x"}, "caption_extension is such as .txt"),
        ("train_lora", {"output_name": "../x"}, "output_name is a file name without folder"),
        ("train_restorer", {"beside": "faces-v2,/x", "evaluate": True, "model": "faces-v2"}, "named '/x'"),
        ("caption", {"tagger": "/x"}, "tagger is a file or folder"),
        ([], {}, "there is no task"),
        ("imagine", ["x"], "options are given by their names"),
    ],
)
def test_what_is_refused_is_said(kind, data, words):
    with pytest.raises(CalotypeError) as caught:
        read_task(kind, data, trusted=False, names=STORE, files=FILES.get(kind, {}) if isinstance(kind, str) else {})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("imagine", {"size": "8192"}, "67.1 megapixels is too large for a request, which takes up to 16.8"),
        ("imagine", {"size": "2048", "hires": 4}, "megapixels is too large"),
        ("imagine", {"size": "1024", "count": 300}, "315 megapixels in total, and a request takes up to 268"),
        ("imagine", {"size": "1024", "count": 200, "steps": 100}, "times the work allowed in a request"),
        ("imagine", {"size": "16", "count": 10_000, "steps": 1000}, "times the work allowed in a request"),
        ("imagine", {"prompt": " AND ".join("ab" * 999), "size": "512", "count": 9}, "times the work"),
        ("imagine", {"x": "steps=1-1000", "y": "seed=1-1000"}, "the grid has too many pictures"),
        ("imagine", {"x": "steps=1-1000", "y": "steps=1-1000", "size": "64"}, "the grid has too many pictures"),
        ("imagine", {"prompt": "|".join("ab" * 1000), "matrix": True}, "the grid has too many pictures"),
        ("imagine", {"prompt": "a" * 20_000, "x": f"prompt=a,{'b' * 3000}"}, "a prompt of more than 20,000 characters"),
        ("imagine", {"prompt": "a" * 20_000, "x": f"prompt=,{'b' * 3000}"}, "a prompt of more than 20,000 characters"),
        ("upscale", {"scale": 17}, "scale goes up to 16 in a request"),
        ("restore", {"scale": 64}, "scale goes up to 16 in a request"),
        ("train_lora", {"max_train_epochs": 1001}, "max_train_epochs goes up to 1000"),
        ("train_lora", {"network_dim": 513}, "network_dim goes up to 512"),
        ("train_lora", {"network_args": "conv_dim=1024"}, "conv_dim goes up to 512"),
        ("train_lora", {"train_batch_size": 65}, "one step is 1.02 times the work allowed in a request"),
        ("train_lora", {"max_train_steps": 10_000_000}, "times the work allowed in a request"),
        ("train_lora", {"max_train_steps": 10_000, "sample_every_n_steps": 1}, "times the work"),
        ("train_lora", {"max_train_steps": 10_000, "save_every_n_steps": 1}, "saves 10,000 files"),
        ("train_gan", {"resolution": 512, "max_train_steps": 10**6}, "times the work"),
        ("train_gan", {"capacity": 8}, "million parameters"),
        ("train_diffusion", {"minutes": 1441}, "minutes goes up to 1440"),
        ("train_diffusion", {"unet_channels": "4096,4096"}, "million parameters"),
        ("train_diffusion", {"max_train_steps": 10_000_000}, "times the work"),
        ("train_upscaler", {"gan_steps": 10_000_000}, "times the work"),
        ("train_upscaler", {"model": "none", "num_feat": 512, "num_block": 128}, "million parameters"),
        ("train_upscaler", {"batch_size": 1024, "gt_size": 1024}, "one step is 16.00 times"),
        ("train_restorer", {"channels": "4096,4096", "blocks": "4096,4096"}, "million parameters"),
        ("resize_lora", {"lora": "mine", "rank": 4096}, "rank goes up to 512"),
    ],
)
def test_work_beyond_the_limits_is_refused_at_once(kind, data, words):
    with pytest.raises(CalotypeError) as caught:
        read_task(kind, data, trusted=False, names=STORE, files=FILES[kind])
    assert words in str(caught.value)
    wide = Limits(**{spec.name: 10**30 for spec in dataclasses.fields(Limits) if spec.name not in ("cells", "photos")})
    if "grid" not in words and "characters" not in words:
        assert read_task(kind, data, trusted=False, names=STORE, files=FILES[kind], limits=wide)


@pytest.mark.parametrize("option", ["dataset_config", "in_json"])
def test_files_that_name_other_files_are_not_even_uploaded(option):
    with pytest.raises(CalotypeError, match=f"{option} does not take a file"):
        read_task("train_lora", {}, trusted=False, names=STORE, files={"photos": PLACE, option: PLACE})
    with pytest.raises(CalotypeError, match=f"{option} is a file or folder, which a request may not name"):
        read_task("train_lora", {option: str(PLACE)}, trusted=False, names=STORE, files=FILES["train_lora"])


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("imagine", {"prompt": "a [b:c:.5] <lora:girl (v2):0.5> AND d", "size": "1024", "steps": 50, "count": 16}),
        ("imagine", {"x": "model=emoji,sd-1.5", "y": "steps=10-50 (+10)", "lora": "mine:0.8", "style": "oil"}),
        ("imagine", {"prompt": "a|b|c", "matrix": True, "hires": 2, "hires_upscaler": "Latent (nearest)"}),
        (
            "train_lora",
            {"model": "sd-1.5", "resolution": "512", "network_args": "conv_dim=4", "optimizer_type": "adamw8bit"},
        ),
        ("train_gan", {"resolution": 512}),
        ("train_restorer", {"enlarge": "realesrgan-x4plus"}),
        ("restore", {"face_model": "none", "upscaler": "none", "scale": 4, "strength": 0.8}),
        ("caption", {"trigger": "ohwx 人", "exclude_tags": "a,b"}),
    ],
)
def test_what_people_ask_for_passes(kind, data):
    task = asked(kind, {**NEEDED.get(kind, {}), **data})
    assert type(task) is TASKS[kind]
    check(task, FILES[kind])


def test_a_margin_is_work_too():
    with pytest.raises(CalotypeError, match="megapixels is too large"):
        read_task("imagine", {"outpaint": "99999"}, trusted=False, files={"init": PLACE})


def test_the_names_may_be_asked_for_by_kind():
    kinds = []

    def names(kind):
        kinds.append(kind)
        return STORE.get(kind, [])

    data = {"prompt": "<lora:mine:1> <lora:girl (v2):1>", "model": "sd-1.5"}
    assert read_task("imagine", data, trusted=False, names=names).model == "sd-1.5"
    assert sorted(kinds) == ["diffusion", "lora"]
    with pytest.raises(CalotypeError, match="no LoRA is named mine"):
        read_task("imagine", data, trusted=False)


def test_the_store_gives_the_names(settings):
    from calotype.checkpoints.store import ModelStore

    task = read_task(
        "restore", {"face_model": "faces-v2"}, trusted=False, names=ModelStore(settings).names, files=FILES["restore"]
    )
    assert task.face_model == "faces-v2" and task.source == PLACE


def test_the_trusted_are_as_before():
    assert read_task("upscale", {"source": "/etc/passwd", "model": "/x.pth"}).model == "/x.pth"
    assert read_task("imagine", {"prompt": "x" * 10**5 + "<lora:/x:1>"}).prompt
    assert read_task("imagine", {"count": 10_000, "steps": 1000, "size": "16384"})
    assert read_task("upscale", {}, files={"source": PLACE}).source == PLACE


@dataclass(frozen=True, kw_only=True)
class Control:
    image: Path = option(help="picture", is_path=True)
    model: str = option("none", "network", names="diffusion", words=("none",))
    notes: tuple[str, ...] = option((), "notes", max_length=5)


@dataclass(frozen=True, kw_only=True)
class Steered:
    control: tuple[Control, ...] = option((), "pictures that steer", max_items=2)
    base: Control | None = option(None, "the first of them")
    pictures: tuple[Path, ...] = option((), "pictures", is_path=True)
    ours: str = ""  # nothing that anybody may send


def steered(data, **files):
    files = {name.replace("__", "."): file for name, file in files.items()}
    return read_request(Steered, data, STORE, files)


def test_files_come_to_their_places_however_deep():
    sent = {"control": [{"model": "emoji"}, {"notes": ["a"]}], "base": {}}
    task = steered(sent, control__0__image=PLACE, control__1__image=PLACE / "b", base__image=PLACE, pictures=[PLACE])
    assert [one.image for one in task.control] == [PLACE, PLACE / "b"] and task.base.image == PLACE
    assert task.pictures == (PLACE,) and "image" not in sent["base"]


@pytest.mark.parametrize(
    ("data", "files", "words"),
    [
        ({"control": [{"image": "/x"}]}, {}, "control.0.image is a file or folder"),
        ({"base": {"image": "/x"}}, {}, "base.image is a file or folder"),
        ({"pictures": ["/x"]}, {}, "pictures is a file or folder"),
        ({"control": [{"model": "/x"}]}, {"control__0__image": PLACE}, "no model is named '/x'"),
        ({"control": [{"notes": ["abcdef"]}]}, {}, "control.0.notes.0 takes up to 5 characters"),
        ({"control": [{}] * 3}, {}, "control takes up to 2 entries"),
        ({"control": [{}]}, {"control__1__image": PLACE}, "there is no option control.1.image"),
        ({"control": "x"}, {"control__0__image": PLACE}, "there is no option control.0.image"),
        ({}, {"control__image": PLACE}, "there is no option control.image"),
        ({}, {"base__model": PLACE}, "base.model does not take a file"),
        ({}, {"other": PLACE}, "there is no option other"),
        ({}, {"ours": PLACE}, "there is no option ours"),
        ({"ours": "x"}, {}, "there is no option ours"),
        ({"control": [{}]}, {}, "control.0.image must be given"),
    ],
)
def test_a_fault_within_names_its_place(data, files, words):
    with pytest.raises(CalotypeError) as caught:
        steered(data, **files)
    assert words in str(caught.value)


def test_names_are_told_from_prompts_as_they_are_read():
    assert called_loras("a <lora:x:1> <lyco: y :te=.5> <hypernet:z:1> <3") == ["x", "y"]
    assert called_loras("") == []


@pytest.mark.skipif(os.name == "nt", reason="names of devices are refused there")
def test_a_device_of_windows_is_a_name_elsewhere():
    assert asked("train_lora", {"output_name": "NUL"}).output_name == "NUL"
