"""What trainings say is worded for the page: without folders, commands and names of options that it has not."""

import pytest

from calotype.api import wording
from calotype.api.page_wording import PAGE, TEMPLATES
from calotype.errors import Message, named, plural
from tests.catalog import texts


def test_every_sentence_that_is_replaced_is_one_of_the_program():
    said = {text for text, path in texts() if path != "api/page_wording.py"}
    assert set(TEMPLATES) <= said
    assert not [text for text in TEMPLATES.values() if "{task:" in text or "folder" in text or "PHOTOS" in text]


@pytest.fixture
def language():
    yield wording.prefer
    wording.prefer("en")


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
