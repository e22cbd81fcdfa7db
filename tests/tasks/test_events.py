"""Events cross a process as JSON and lose nothing; docs/events.md lists the fields that they have."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, Message, PictureError, Remedy
from calotype.tasks import events
from calotype.tasks.events import (
    Compared,
    Failed,
    Finished,
    ItemStarted,
    Learning,
    Note,
    Preview,
    Progress,
    Saved,
    Skipped,
    Started,
    as_data,
    as_line,
    from_data,
    note,
)

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
SENTENCES = st.builds(lambda name: Message("{name} is large; give {option:out}", name=name), TEXT)
FAULTS = st.builds(lambda path: PictureError("{path} is cut", path=path, remedy=Remedy("pull_model", "x")), TEXT)
SECONDS = st.none() | st.floats(0, 1e6)
EVENTS = st.one_of(
    st.builds(Started, st.integers(0, 9), TEXT),
    st.builds(ItemStarted, TEXT, TEXT),
    st.builds(Progress, st.integers(0, 9), st.integers(0, 9), TEXT, SECONDS, source=TEXT),
    st.builds(
        Learning, st.integers(0, 9), st.integers(0, 9), TEXT, SECONDS, SECONDS, SECONDS, st.integers(), source=TEXT
    ),
    st.builds(Preview, TEXT, st.binary(max_size=50), step=st.none() | st.integers(0, 9)),
    st.builds(Note, SENTENCES, st.none() | TEXT),
    st.builds(Saved, TEXT, TEXT, st.dictionaries(TEXT, st.integers() | TEXT)),
    st.builds(Skipped, TEXT, TEXT, SENTENCES),
    st.builds(Failed, TEXT, SENTENCES | FAULTS),
    st.builds(Compared, TEXT, TEXT, st.booleans(), SENTENCES),
)


def text_of(event) -> str:
    """What a fault says, since faults are no data that could be equal."""
    return str(getattr(event, "cause", ""))


@given(EVENTS)
def test_an_event_crosses_a_process_as_json(event):
    there = from_data(json.loads(json.dumps(as_data(event))))
    if isinstance(event, Failed):
        assert (there.source, text_of(there), type(there.cause)) == (event.source, text_of(event), type(event.cause))
    else:
        assert there == event


@given(st.lists(st.builds(Failed, TEXT, SENTENCES), max_size=3))
def test_the_last_event_keeps_its_failures(failures):
    event = Finished(3, 1, 0, tuple(failures), 1.5, False, None, True)
    assert from_data(json.loads(json.dumps(as_data(event)))) == event


def test_a_failure_knows_whether_its_sentence_names_the_source_and_not_another_file():
    def names(source, path):
        failed = Failed(source, PictureError("not done: {why}", why=PictureError("{path} is cut off", path=path)))
        return failed.names_source, failed.names_file

    assert names("in/1.jpg", "in/1.jpg") == (True, True)
    assert names("in/1.jpg", "1.jpg") == (False, True)
    assert names("in/1.jpg", "in/11.jpg") == names("1.jpg", "in/11.jpg") == names("1.jpg", "1.jpg.json") == (False,) * 2
    assert names("in/a\nb.jpg", "a\\nb.jpg") == (False, True), "as it is shown"


def test_a_fault_keeps_its_option_and_its_remedy():
    fault = CalotypeError(
        "{model} is not at hand", model="gfpgan-1.4", option="model", remedy=Remedy("pull_model", "x")
    )
    there = from_data(json.loads(json.dumps(as_data(Failed("a", fault))))).cause
    assert (there.option, there.remedy, str(there)) == ("model", Remedy("pull_model", "x"), str(fault))


def test_no_event_can_be_changed():
    for cls in (*events.KINDS.values(), events.Drawing):
        assert cls.__dataclass_params__.frozen, cls


@given(EVENTS)
def test_a_line_for_machines_is_flat_and_worded(event):
    line = as_line(event, WORDING)
    assert json.dumps(line) and "{option" not in json.dumps(line)
    assert line["event"] == {"learning": "progress"}.get(events.NAMES[type(event)], events.NAMES[type(event)])


def test_a_note_words_its_options_for_the_door():
    assert as_line(note("give {option:max_train_steps}", x=1), WORDING)["text"] == "give --max-train-steps"


def test_a_text_from_outside_is_no_template():
    assert note(Message.of("{broken")).text == "{broken"
    assert note(OSError("{broken")).text == "{broken"


def sections() -> dict[str, set[str]]:
    """Fields by kind of event, out of docs/events.md."""
    page = (Path(__file__).parents[2] / "docs/events.md").read_text("utf-8")
    found = {}
    for name, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S):
        rows = re.findall(r"^\| ([\w, ]+) \|", body, re.M)
        found[name] = {field.strip() for row in rows for field in row.split(",")} - {"field"}
    return found


EXAMPLES = {
    "begin": Started(1, "out"),
    "picture": ItemStarted("a", "b"),
    "progress": Learning(1, 2, "steps"),
    "preview": Preview("a", b""),
    "said": Note(Message("x")),
    "skipped": Skipped("a", "b", Message("x")),
    "failed": Failed("a", Message("x")),
    "compared": Compared("a", "b", True, Message("x")),
    "summary": Finished(1, 1, 0, (), 1.0, False, is_drawn=True),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_page_lists_the_fields_of_each_event(kind):
    assert sections()[kind] == set(as_line(EXAMPLES[kind])) - {"event"}


def test_the_page_lists_every_kind():
    assert sections().keys() >= events.KINDS.keys() - {"learning"}
    assert {spec.name for spec in dataclasses.fields(Saved)} - {"facts"} <= sections()["done"]
