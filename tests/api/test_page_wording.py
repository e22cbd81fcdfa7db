"""What trainings say is worded for the page: without folders, commands and names of options that it has not."""

import pytest

from calotype.api import wording
from calotype.api.page_wording import PAGE, TEMPLATES
from calotype.errors import CalotypeError, Message, PictureError, named, plural
from tests.api.conftest import submit
from tests.catalog import texts


def test_every_sentence_that_is_replaced_is_one_of_the_program():
    said = {text for text, path in texts() if path != "api/page_wording.py"}
    assert set(TEMPLATES) <= said
    assert not [text for text in TEMPLATES.values() if "{task:" in text or "folder" in text or "PHOTOS" in text]


@pytest.fixture
def language():
    yield lambda code: wording.prefer(code, "")
    wording.prefer("en", "")


def test_options_are_named_by_their_titles(language):
    message = Message("Give {setting} 1e-4", setting=named(["text_encoder_lr"]))
    assert PAGE.fill(message) == "Give “Text encoder learning rate” 1e-4"
    language("zh")
    assert "text_encoder_lr" not in PAGE.fill(message) and "“" in PAGE.fill(message)


def test_a_photo_without_a_caption_is_said_without_a_folder(language):
    message = Message(
        "{photos} no caption file ({names}), so the caption is {caption}; write what they show, or run "
        "`{task:caption} PHOTOS`",
        caption=Message("the folder's name"),
        photos=plural(1, "1 photo has", "{count} photos have"),
        names="a.png",
    )
    assert PAGE.fill(message) == (
        "1 photo has no caption (a.png); write beside them what they show, so that words of a prompt call it"
    )
    language("zh")
    assert "文件夹" not in PAGE.fill(message) and "a.png" in PAGE.fill(message)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, "give damaged_file to"),
        ({"Calotype-Options": "titles"}, "give “Read a damaged file” to"),
        ({"Calotype-Options": "titles", "Accept-Language": "zh"}, "“读取损坏的文件”"),
    ],
)
def test_a_refused_job_names_options_as_the_request_wants_them(client, store, headers, named):
    fault = PictureError(
        "{name} is damaged or cut off ({cause}); try another copy of it, or give {option:damaged_file} to use what "
        "is left of it",
        name="photo.jpg",
        cause="it ends too soon",
    )
    job = submit(client)
    store.fail(store.claim("worker"), fault, 1.0)
    error = client.get(f"/jobs/{job}", headers=headers).json()["error"]
    assert named in error["detail"] and error["option"] == "damaged_file"


def test_a_refused_order_names_options_as_the_request_wants_them(client):
    order = {"kind": "imagine", "task": {"prompt": "a fox", "steps": 0}}
    answers = [client.post("/jobs", json=order, headers={"Calotype-Options": wanted}) for wanted in ("", "titles")]
    assert [answer.json()["detail"].split(" takes")[0] for answer in answers] == ["steps", "“Steps”"]


def test_titles_are_those_of_the_tasks_own_form(client, store, language):
    order = {"kind": "imagine", "task": {"strength": 5}}
    answer = client.post("/jobs", json=order, headers={"Calotype-Options": "titles imagine"}).json()
    assert answer["detail"].startswith("“Denoising strength” takes values") and answer["option"] == "strength"
    wording.prefer("en", "titles restore")
    assert wording.WORDING.option("strength") == "“Strength”"
    job = submit(client)
    store.fail(store.claim("worker"), CalotypeError("give another {option:strength}"), 1.0)
    error = client.get(f"/jobs/{job}", headers={"Calotype-Options": "titles restore"}).json()["error"]
    assert error["detail"] == "give another “Denoising strength”"  # it is a job that imagines


def test_headers_of_no_task_leave_nothing_behind(language):
    """A client may send any number of them."""
    wording.prefer("en", "titles")
    wording.WORDING.option("steps")
    known = wording._titles.cache_info().currsize
    for n in range(50):
        wording.prefer("en", f"titles nothing-{n}")
        assert wording.WORDING.option("steps") == "“Steps”"
    assert wording._titles.cache_info().currsize == known


def test_openai_s_clients_read_names_whatever_they_prefer(language):
    wording.prefer("zh", "titles")
    assert wording.OPENAI.option("steps") == "steps"
