"""Options: names, types and ranges are checked once, at the door, and a wrong one is said in a sentence."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import about, as_data, default, groups, option, owner, read, schema, title, visible
from calotype.settings import Settings
from calotype.tasks import TASKS, MergeLora, Restore, Upscale, kind_of, options_of, read_task
from calotype.tasks.output import Album, DrawingOutput


@dataclass(frozen=True, kw_only=True)
class Wish:
    place: Path = option(help="where")
    size: float = option(2.0, "how large", min=0.5, max=4)
    count: int = option(1, "how many", min=0, max=9)
    colour: str = option("red", "which", choices=("red", "blue"))
    is_fine: bool = option(False, "whether")
    page: Path | None = option(None, "which page")


@dataclass(frozen=True, kw_only=True)
class Control:
    """One more picture that steers."""

    TITLE = "What steers"

    image: Path = option(help="picture", is_path=True)
    weight: float = option(1.0, "how much it counts", min=0, max=2)
    is_strict: bool = option(False, "without {option:weight}")

    def __post_init__(self):
        if self.is_strict and self.weight != 1:
            raise CalotypeError("{option:is_strict} goes without {option:weight}")


@dataclass(frozen=True, kw_only=True)
class Steered:
    """What is steered."""

    TITLE = "How it is steered"

    control: tuple[Control, ...] = option((), "pictures that steer")
    words: tuple[str, ...] = option((), "words", choices=("a", "b"), max_items=3)
    sizes: tuple[int, ...] | None = option(None, "sizes", min=1, max=9)
    base: Control | None = option(None, "the first of them")
    mask_blur: int = option(4, "pixels of {option:base}'s edge", min=0, max=8)
    place: int = option(0, "where", min=0, max=3, is_hidden=True)


def test_defaults_stand_in_the_dataclass_alone():
    assert read(Wish, {"place": "x"}) == Wish(place=Path("x"))


@pytest.mark.parametrize(
    "data, words",
    [
        ({"place": "x", "sise": 1}, "no option sise, did you mean size?"),
        ({}, "place must be given"),
        ({"place": "x", "size": "large"}, "size takes a number, not 'large'"),
        ({"place": "x", "size": 5}, "from 0.5 up to 4"),
        ({"place": "x", "size": float("nan")}, "from 0.5 up to 4"),
        ({"place": "x", "size": True}, "size takes"),
        ({"place": "x", "count": 1.5}, "count takes"),
        ({"place": "x", "count": -1}, "from 0"),
        ({"place": "x", "count": float("inf")}, "count takes"),
        ({"place": "x", "colour": "blu"}, "did you mean blue?"),
        ({"place": "x", "is_fine": "maybe"}, "is_fine takes"),
    ],
)
def test_a_wrong_option_is_one_sentence(data, words):
    with pytest.raises(CalotypeError) as caught:
        read(Wish, data)
    assert words in str(caught.value) and "\n" not in str(caught.value)


MONSTROUS = (
    10**5000,
    -(10**400),
    "9" * 10**6,
    b"x",
    [1] * 10**5,
    {"a": 1},
    "a\nb",
    "\ud800",
    object,
    ("a",),
    (10**5000,),
)


@pytest.mark.parametrize("name", ["size", "count", "colour", "is_fine"])
@pytest.mark.parametrize("value", MONSTROUS, ids=range(len(MONSTROUS)))
def test_a_monstrous_value_is_one_short_sentence(name, value):
    with pytest.raises(CalotypeError) as caught:
        read(Wish, {"place": "x", name: value})
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("name", ["x" * 10**6, *MONSTROUS[:3], *MONSTROUS[6:]], ids=range(9))
def test_a_monstrous_name_is_one_short_sentence(name):
    for refused in (lambda: read(Wish, {"place": "x", name: 1}), lambda: read_task(name, {})):
        with pytest.raises(CalotypeError, match="there is no") as caught:
            refused()
        assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)
        str(caught.value).encode("utf-8")


def test_nested_options_are_read_and_written_down():
    data = {
        "control": [{"image": "a.png", "weight": "0.5"}, {"image": "b.png", "is_strict": True}],
        "words": ["a", "b", "a"],
        "sizes": ["3", 4],
        "base": {"image": "c.png"},
    }
    task = read(Steered, data)
    assert task.control == (Control(image=Path("a.png"), weight=0.5), Control(image=Path("b.png"), is_strict=True))
    assert (task.words, task.sizes, task.base) == (("a", "b", "a"), (3, 4), Control(image=Path("c.png")))
    assert read(Steered, json.loads(json.dumps(as_data(task)))) == task
    assert read(Steered, {spec.name: getattr(task, spec.name) for spec in dataclasses.fields(task)}) == task
    assert read(Steered, {}) == Steered() and read(Steered, as_data(Steered())) == Steered()


@pytest.mark.parametrize(
    ("data", "option", "words"),
    [
        (
            {"control": [{"image": "a", "weight": 3}]},
            "control.0.weight",
            "control.0.weight takes values from 0 up to 2",
        ),
        ({"control": [{"image": "a"}, {"image": "b", "weight": "x"}]}, "control.1.weight", "takes a number, not 'x'"),
        ({"control": [{"weight": 1}]}, "", "control.0.image must be given"),
        ({"control": [{"image": "a", "wieght": 1}]}, "", "no option control.0.wieght, did you mean weight?"),
        ({"control": {"image": "a"}}, "control", "control takes a list, not {'image': 'a'}"),
        ({"control": ["a"]}, "control.0", "control.0 takes options by their names, not 'a'"),
        ({"base": 3}, "base", "takes options by their names, not 3"),
        ({"base": {"image": "a", "weight": 2, "is_strict": True}}, "base.is_strict", "base: is_strict goes without"),
        ({"words": "ab"}, "words", "words takes a list, not 'ab'"),
        ({"words": ["c"]}, "words.0", "words.0 is one of a, b, not 'c'"),
        ({"sizes": [1, 10]}, "sizes.1", "sizes.1 takes values from 1 up to 9, not 10"),
    ],
)
def test_a_fault_within_names_its_path(data, option, words):
    with pytest.raises(CalotypeError) as caught:
        read(Steered, data)
    assert words in str(caught.value) and caught.value.option == option


def test_the_schema_says_what_read_takes():
    told = schema(Steered, WORDING)
    json.dumps(told)
    control = {"$ref": "#/$defs/Control"}
    properties = told["properties"]
    assert list(properties) == ["control", "words", "sizes", "base", "mask_blur"] and told["required"] == []
    assert properties["control"] == {
        **{"type": "array", "items": control, "maxItems": 64, "default": []},
        **{"title": "Control", "description": "pictures that steer", "x-group": "How it is steered"},
    }
    assert properties["base"]["anyOf"] == [control, {"type": "null"}] and properties["base"]["default"] is None
    assert (
        properties["words"]["items"] == {"type": "string", "enum": ["a", "b"]} and properties["words"]["maxItems"] == 3
    )
    assert properties["sizes"]["type"] == ["array", "null"]
    assert properties["sizes"]["items"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert properties["mask_blur"] == {
        **{"type": "integer", "minimum": 0, "maximum": 8, "default": 4},
        **{"title": "Mask blur", "description": "pixels of --base's edge", "x-group": "How it is steered"},
    }
    assert told["$defs"]["Control"]["required"] == ["image"]
    assert told["$defs"]["Control"]["properties"]["image"]["x-file"] is True
    assert told["$defs"]["Control"]["properties"]["weight"]["x-group"] == "What steers"


@pytest.mark.parametrize("cls", [*TASKS.values(), Settings, Album, DrawingOutput])
def test_every_option_is_in_the_schema_with_its_default(cls):
    told = schema(cls)
    json.dumps(told)
    assert told["properties"].keys() == {spec.name for spec in visible(cls)}
    must = {name for name in told["properties"] if "default" not in told["properties"][name]}
    assert must == set(told["required"])
    for spec in visible(cls):
        shape, value = told["properties"][spec.name], default(spec)
        assert (
            shape["title"] and shape["x-group"] == owner(cls, spec.name).TITLE and "{option" not in shape["description"]
        )
        if value is None or value is dataclasses.MISSING:
            assert value is dataclasses.MISSING or "null" in shape["type"]
        else:
            kinds = {bool: "boolean", int: "integer", float: "number", tuple: "array"}
            assert kinds.get(type(value), "string") in shape["type"]


@pytest.mark.parametrize("cls", [*TASKS.values(), Settings, Album, DrawingOutput])
def test_groups_hold_every_option_once_under_a_title(cls):
    held = [spec.name for _, specs in groups(cls) for spec in specs]
    assert sorted(held) == sorted(spec.name for spec in visible(cls))
    assert all(text and text != "Options" for text, _ in groups(cls))
    assert not any("_" in title(spec) or title(spec)[0].islower() for spec in visible(cls))


@pytest.mark.parametrize("cls", [*TASKS.values(), Settings, Album, DrawingOutput, Control, Steered])
def test_every_number_has_a_least_and_a_most(cls):
    for spec in dataclasses.fields(cls):
        if spec.type in (int, float, int | None, float | None, tuple[int, ...], tuple[float, ...]):
            assert about(spec).min is not None and about(spec).max is not None, spec.name


def test_an_optional_path_may_be_given_or_not():
    assert read(Wish, {"place": "x", "page": None}).page is None
    assert read(Wish, {"place": "x", "page": "a.html"}).page == Path("a.html")


@given(st.floats(0.5, 4) | st.integers(1, 4))
def test_numbers_in_range_pass(size):
    assert read(Wish, {"place": "x", "size": size}).size == size
    assert read(Wish, {"place": "x", "size": str(size)}).size == size


words = st.text("ab01.,-=é", max_size=6)
junk = st.none() | st.booleans() | st.integers() | st.floats() | words | st.lists(st.integers(), max_size=2)
names = sorted({spec.name for cls in TASKS.values() for spec in visible(cls)})


@given(st.sampled_from(sorted(TASKS)), st.dictionaries(st.sampled_from(names), junk, max_size=4))
def test_whatever_comes_in_is_a_task_or_a_sentence(kind, values):
    try:
        task = read_task(kind, {"source": "photo.jpg", **values})
    except CalotypeError as fault:
        assert "\n" not in str(fault)
    else:
        assert kind_of(task) == kind


@pytest.mark.parametrize("cls", [*TASKS.values(), Settings])
def test_every_option_has_a_help_and_lies_in_its_own_limits(cls):
    for spec in visible(cls):
        rules = about(spec)
        assert rules.help
        if rules.choices:
            assert spec.default in rules.choices
        if spec.default is None:
            continue
        if rules.min is not None:
            assert spec.default >= rules.min
        if rules.max is not None:
            assert spec.default <= rules.max


def test_a_task_survives_being_written_down():
    task = Restore(source=Path("a.jpg"), scale=3.0, faces="1,3")
    assert read_task("restore", {**options_of(task), "source": "a.jpg"}) == task
    merged = MergeLora(loras=("a:0.5", "b"), out=Path("c"))
    assert read_task("merge_lora", json.loads(json.dumps(options_of(merged)))) == merged
    assert "source" not in options_of(Upscale(source=Path("b.png")))


def test_settings_come_from_the_environment_and_then_from_the_door():
    environ = {"CALOTYPE_HOME": "/somewhere", "CALOTYPE_THREADS": "3", "CALOTYPE_OFFLINE": "1"}
    settings = Settings.gather({"threads": "5", "device": None}, environ)
    assert (settings.home, settings.threads, settings.offline, settings.device) == (
        Path("/somewhere"),
        5,
        True,
        "auto",
    )


def test_a_home_in_the_home_folder_is_found():
    assert "~" not in str(Settings.gather({}, {}).home)


def test_a_wrong_environment_is_a_sentence():
    with pytest.raises(CalotypeError, match="threads takes"):
        Settings.gather({}, {"CALOTYPE_THREADS": "many"})


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind.startswith("train_")])
@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", " ", "..", "a\0", "a:b", "x" * 300])
def test_no_trainer_takes_a_name_that_leads_out_of_its_folder(kind, name):
    with pytest.raises(CalotypeError, match="output_name is") as caught:
        read_task(kind, {"photos": "x", "output_name": name})
    assert "\n" not in str(caught.value)
    assert read_task(kind, {"photos": "x", "output_name": "grandma's 70th, ü.v2"}).output_name


def test_network_args_stand_in_the_options_of_their_own_names():
    task = read_task("train_lora", {"photos": "x", "conv_dim": 2, "network_args": "conv_dim=4 dropout=0.1 algo=loha"})
    assert (task.conv_dim, task.conv_alpha, task.network_dropout, task.algo) == (4, 1.0, 0.1, "loha")
    assert read_task("train_lora", options_of(task)) == task == dataclasses.replace(task)
    with pytest.raises(CalotypeError, match="network_args sets conv_dim to 4"):
        dataclasses.replace(task, conv_dim=2)
    with pytest.raises(CalotypeError, match="has no argument conv=1"):
        read_task("train_lora", {"photos": "x", "network_args": "conv=1"})


@pytest.mark.parametrize("kind", ["train_lora", "train_diffusion", "caption"])
@pytest.mark.parametrize("ending", ["", ".", "..", "../x", "/x", "a\\b", "a\0"])
def test_no_ending_of_captions_leads_elsewhere(kind, ending):
    with pytest.raises(CalotypeError, match=r"caption_extension is such as \.txt"):
        read_task(kind, {"photos": "x", "caption_extension": ending})
