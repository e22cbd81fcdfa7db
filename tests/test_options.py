"""Options: names, types and ranges are checked once, at the door, and a wrong one is said in a sentence."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.errors import CalotypeError
from calotype.options import about, option, read, visible
from calotype.settings import Settings
from calotype.tasks import TASKS, Restore, Upscale, kind_of, options_of, read_task


@dataclass(frozen=True, kw_only=True)
class Wish:
    place: Path = option(help="where")
    size: float = option(2.0, "how large", least=0.5, most=4)
    count: int = option(1, "how many", least=0)
    colour: str = option("red", "which", choices=("red", "blue"))
    is_fine: bool = option(False, "whether")
    page: Path | None = option(None, "which page")


def test_defaults_stand_in_the_dataclass_alone():
    assert read(Wish, {"place": "x"}) == Wish(place=Path("x"))


@pytest.mark.parametrize(
    "data, words",
    [
        ({"place": "x", "sise": 1}, "no option sise, did you mean size?"),
        ({}, "place must be given"),
        ({"place": "x", "size": "large"}, "size takes a value of type float, not 'large'"),
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
        if rules.least is not None:
            assert spec.default >= rules.least
        if rules.most is not None:
            assert spec.default <= rules.most


def test_a_task_survives_being_written_down():
    task = Restore(source=Path("a.jpg"), scale=3.0, faces="1,3")
    assert read_task("restore", {**options_of(task), "source": "a.jpg"}) == task
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
