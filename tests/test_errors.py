"""Sentences are data: filled, worded and translated at the door, whole on the other side of a process or of JSON."""

import gettext
import io
import json
import pickle
import struct
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.cli.wording import CLAUSES, TO_TYPE, WORDING
from calotype.errors import ACTIONS, PLAIN, CalotypeError, Message, PictureError, Remedy, Wording, named
from calotype.tasks.events import note

# A sentence and its values


def test_a_template_is_filled_with_its_values():
    assert str(Message("{path} has {count:,} of {path}", path=Path("a/b"), count=1234)) == "a/b has 1,234 of a/b"
    assert str(Message("no {name!r}", name="x")) == "no 'x'"
    assert str(Message("{{braces}}")) == "{braces}"


def test_a_text_is_taken_as_it_is():
    assert str(Message.of("{braces} and {}")) == "{braces} and {}"
    assert str(Message.of(OSError("disk {full}"))) == "disk {full}"
    message = Message("{a}", a=1)
    assert Message.of(message) is message


def test_messages_and_faults_stand_within_messages():
    reason = Message("{count} do not fit", count=3)
    fault = CalotypeError("{path} is damaged: {reason}", path="a.png", reason=reason)
    assert str(Message("left out: {fault}", fault=fault)) == "left out: a.png is damaged: 3 do not fit"
    assert str(Message(reason, count=4)) == "4 do not fit"


def test_equal_messages_have_the_same_template_and_values():
    assert Message("{a}", a=1) == Message("{a}", a=1) and hash(Message("{a}", a=1)) == hash(Message("{a}", a=1))
    assert Message("{a}", a=1) != Message("{a}", a=2) and Message("{a}", a=1) != Message("1")


def test_a_note_holds_a_message():
    assert note("{count} faces", count=2).message == Message("{count} faces", count=2)
    assert note(Message("{count} faces", count=2)).text == "2 faces"
    assert note(CalotypeError("{mask} is empty; see {option:mask}", mask="m.png")).text == "m.png is empty; see mask"


# Options, tasks, remedies


def test_each_door_words_the_options():
    fault = CalotypeError("{option:mask_blur} and {option:out} are for {task:train_lora}")
    assert str(fault) == "mask_blur and out are for train_lora"
    assert WORDING.fill(fault) == "--mask-blur and -o are for calotype train lora"
    assert fault.option == "mask_blur" and fault.message.options == ["mask_blur", "out"]


def test_an_error_may_be_about_an_option_that_only_a_value_names():
    fault = CalotypeError("{option} takes values from {least}", option="steps", least=1)
    assert (str(fault), WORDING.fill(fault)) == ("steps takes values from 1", "--steps takes values from 1")
    assert fault.option == "steps"
    by_value = CalotypeError("leave {option:{name}} out", name="size")
    assert WORDING.fill(by_value) == "leave --size out" and by_value.option == "size"
    assert CalotypeError("no flag at all").option == ""


def test_several_options_are_joined():
    fault = CalotypeError("give {names}, not both", names=named(["width", "height"]))
    assert WORDING.fill(fault) == "give --width and --height, not both"


def test_a_fault_within_a_fault_is_worded_by_the_door_too():
    within = CalotypeError("{name} is not at hand", name="x", remedy=Remedy("pull_model", "x"))
    fault = CalotypeError("{option:lora}: {fault}", fault=within)
    assert str(fault) == "lora: x is not at hand; fetch it"
    assert WORDING.fill(fault) == "--lora: x is not at hand; fetch it: calotype models pull x"


def test_a_remedy_stands_at_the_end_or_where_the_template_has_it():
    remedy = Remedy("pull_model", "gfpgan-1.4")
    end = CalotypeError("{name} is not at hand", name="gfpgan-1.4", remedy=remedy)
    middle = CalotypeError("{name} is not at hand; {remedy}, or take another", name="gfpgan-1.4", remedy=remedy)
    assert WORDING.fill(end) == "gfpgan-1.4 is not at hand; fetch it: calotype models pull gfpgan-1.4"
    assert WORDING.fill(middle).endswith("; fetch it: calotype models pull gfpgan-1.4, or take another")
    assert WORDING.fill(end, with_remedy=False) == "gfpgan-1.4 is not at hand", "the door shows a button"


def test_every_remedy_has_its_words_at_every_door():
    assert ACTIONS.keys() == TO_TYPE.keys() and CLAUSES.keys() <= ACTIONS.keys()
    for action in ACTIONS:
        remedy = Remedy(action, "a-model")
        assert PLAIN.remedy(remedy) and WORDING.command(remedy) in WORDING.remedy(remedy)


def test_what_is_to_be_typed_is_safe_in_a_shell():
    assert WORDING.command(Remedy("install_packages", "torch>=2.10 numpy")) == "pip install 'torch>=2.10' numpy"
    assert WORDING.command(Remedy("remove_model", "$(reboot)")) == "calotype models remove '$(reboot)'"


# JSON and processes

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda name: name not in ("option", "task", "remedy"))
plain_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
remedies = st.none() | st.builds(Remedy, st.sampled_from(sorted(ACTIONS)), texts)
worded = st.sampled_from(["", "{option:mask_blur}", "{option:out}", "{task:caption}"])


@st.composite
def messages(draw, values=plain_values) -> Message:
    """A template of any text around all of its values."""
    given_values = draw(st.dictionaries(names, values, max_size=3))
    template = draw(worded)
    for name in given_values:
        template += draw(texts).replace("{", "{{").replace("}", "}}") + f"{{{name}}}"
    return Message(template, **given_values)


def errors(values: Any) -> Any:
    return st.builds(
        lambda kind, message, option, remedy: kind(message, option=option, remedy=remedy),
        st.sampled_from([CalotypeError, PictureError]),
        messages(values),
        st.sampled_from(["", "mask"]),
        remedies,
    )


nested = st.recursive(plain_values, lambda values: messages(values) | errors(values), max_leaves=6)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@given(messages(nested))
def test_a_message_is_the_same_after_json(message):
    again = Message.from_data(through_json(message.as_data()))
    assert again == message and again.values.keys() == message.values.keys()
    assert WORDING.fill(again) == WORDING.fill(message)


@given(errors(nested))
def test_an_error_is_the_same_after_json_and_after_a_process(fault):
    for again in (CalotypeError.from_data(through_json(fault.as_data())), pickle.loads(pickle.dumps(fault))):
        assert type(again) is type(fault)
        assert WORDING.fill(again) == WORDING.fill(fault) and str(again) == str(fault)
        assert (again.option, again.remedy, again.message) == (fault.option, fault.remedy, fault.message)


def test_what_json_does_not_know_becomes_text():
    message = Message("{path}: {fault}", path=Path("a"), fault=OSError("gone"))
    assert message.as_data()["values"] == {"path": "a", "fault": "gone"}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"template": "{a}", "values": {}},
        {"template": "{a", "values": {"a": 1}},
        {"template": "{}", "values": {"a": 1}},
        {"template": "{a:d}", "values": {"a": "x"}},
        {"template": "{a.__class__}", "values": {"a": 1}},
        {"template": "{a:{a.__class__}}", "values": {"a": 1}},
        {"template": "{a}", "values": [1]},
        {"template": None, "values": {}},
        {"template": "{a}", "values": {"a": {"no": "message"}}},
    ],
)
def test_other_data_is_no_message(data):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Message.from_data(data)


def test_a_remedy_that_no_door_knows_is_refused():
    with pytest.raises(ValueError, match="reboot"):
        CalotypeError.from_data(CalotypeError("x").as_data() | {"remedy": ["reboot", ""]})


def raise_in_worker() -> None:
    within = CalotypeError("{path} is not at hand", path=Path("x"), remedy=Remedy("pull_model", "x"))
    raise CalotypeError("{option:lora}: {fault}", fault=within, remedy=Remedy("list_models"))


def test_an_error_crosses_a_process():
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        fault = pool.submit(raise_in_worker).exception()
    assert type(fault) is CalotypeError and fault.option == "lora" and fault.remedy == Remedy("list_models")
    assert WORDING.fill(fault) == (
        "--lora: x is not at hand; fetch it: calotype models pull x; calotype models list shows all"
    )


# Translation

GERMAN = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "{path} is damaged: {count:,} tensors are missing": "in {path} fehlen {count:,} Tensoren: beschädigt",
    "{fault}; see {option:mask} of {task:imagine}": "siehe {option:mask} von {task:imagine}: {fault}",
    "fetch it": "lade es",
}


def compiled(entries: Mapping[str, str]) -> io.BytesIO:
    """A catalog as msgfmt compiles it: two tables of lengths and offsets, then all texts, each with a NUL behind."""
    texts = [text.encode() for pair in sorted(entries.items()) for text in pair]
    start, tables = 28 + 8 * len(texts), [[], []]
    for n, text in enumerate(texts):
        tables[n % 2] += [len(text), start]
        start += len(text) + 1
    head = (0x950412DE, 0, len(entries), 28, 28 + 4 * len(texts), 0, 0)
    numbers = [*head, *tables[0], *tables[1]]
    return io.BytesIO(struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(text + b"\0" for text in texts))


class German(Wording):
    """A door with a catalog and labels of its own."""

    catalog = gettext.GNUTranslations(compiled(GERMAN))

    def option(self, name: str) -> str:
        return f"[{name}]"

    def translate(self, template: str) -> str:
        return self.catalog.gettext(template)


def test_a_catalog_translates_the_template_and_keeps_the_values():
    message = Message("{path} is damaged: {count:,} tensors are missing", path="a.png", count=1200)
    assert German().fill(message) == "in a.png fehlen 1,200 Tensoren: beschädigt"
    fault = CalotypeError(
        "{fault}; see {option:mask} of {task:imagine}", fault=message, remedy=Remedy("pull_model", "x")
    )
    assert German().fill(fault) == ("siehe [mask] von imagine: in a.png fehlen 1,200 Tensoren: beschädigt; lade es")
    assert German().fill(Message("not in the catalog: {x}", x=1)) == "not in the catalog: 1"
    assert str(message) == "a.png is damaged: 1,200 tensors are missing", "no door at hand"
