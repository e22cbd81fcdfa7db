"""Captions: any editor's, and kohya's order of changes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.errors import CalotypeError
from calotype.training.data.captions import CaptionConfig, process_caption, read_caption, split_tags


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_every_editors_text_is_read(tmp_path, encoding):
    path = tmp_path / "猫.txt"
    path.write_bytes("\n一只猫, 坐着\nsecond line\n".encode(encoding))
    assert read_caption(path) == "一只猫, 坐着"


@pytest.mark.parametrize("data", [b"\xff\xff\x00\x81", bytes(range(256)), b"a\0b"])
def test_what_is_no_text_is_named(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(CalotypeError, match=r"a\.txt is no text"):
        read_caption(tmp_path / "a.txt")


def test_an_empty_file_is_an_empty_caption(tmp_path):
    (tmp_path / "a.txt").write_text("\n \n")
    assert read_caption(tmp_path / "a.txt") == ""


TAGS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8)


@given(TAGS, st.integers(0, 9), st.integers())
def test_shuffling_keeps_all_tags_and_the_first_in_place(tags, keep, seed):
    caption = ", ".join(tags)
    found = process_caption(caption, CaptionConfig(shuffle=True, keep_tokens=keep), random.Random(seed)).split(", ")
    assert sorted(found) == sorted(tags) and found[:keep] == tags[:keep]


@given(TAGS, st.integers())
def test_without_ways_nothing_changes(tags, seed):
    caption = ",".join(tags)
    assert process_caption(caption, CaptionConfig(), random.Random(seed)) == caption
    assert not CaptionConfig().changes and CaptionConfig(dropout=0.1).changes


def test_dropout_is_as_often_as_told():
    dice, ways = random.Random(0), CaptionConfig(dropout=0.25)
    assert 200 < sum(process_caption("a, b", ways, dice) == "" for _ in range(1000)) < 300
    dice, ways = random.Random(0), CaptionConfig(tag_dropout=0.5, keep_tokens=1)
    found = [process_caption("me, a, b, c", ways, dice) for _ in range(500)]
    assert all(text.startswith("me") for text in found)
    assert 1.3 < sum(len(text.split(", ")) - 1 for text in found) / 500 < 1.7


def test_all_lines_are_read_where_one_is_to_be_chosen(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    assert read_caption(tmp_path / "a.txt", all_lines=True) == "one\ntwo"


def test_wildcards_choose_and_doubled_braces_stay():
    dice, ways = random.Random(0), CaptionConfig(has_wildcards=True)
    found = {process_caption("a {red|blue} cat\n{{b}}", ways, dice) for _ in range(100)}
    assert found == {"a red cat", "a blue cat", "{b}"} and ways.changes


def test_words_are_put_around_and_every_nth_epoch_goes_without():
    ways = CaptionConfig(prefix="zkz,", suffix=", photo", every_n_epochs=3)
    found = [process_caption("cat", ways, random.Random(0), epoch) for epoch in range(1, 7)]
    assert found == ["zkz, cat , photo", "zkz, cat , photo", ""] * 2


def test_separators_say_what_stays_and_what_stays_together():
    ways = CaptionConfig(shuffle=True, keep_separator="|||", secondary_separator=";", tag_dropout=0.3)
    found = [process_caption("me, you ||| a, b;c, d ||| end", ways, random.Random(n)) for n in range(200)]
    assert all(text.startswith("me, you") and text.endswith("end") and "|" not in text for text in found)
    assert any("b,c" in text for text in found) and all(("b" in text) == ("b,c" in text) for text in found)
    assert len({text.split(", ")[2] for text in found}) > 2


@pytest.mark.parametrize("comma", [",", "，", "、"])
def test_tags_stand_apart_by_any_comma(comma):
    caption = comma.join(["1girl", "红色 帽子", "outdoors"])
    assert split_tags(caption) == ["1girl", "红色 帽子", "outdoors"]
    shuffled = {process_caption(caption, CaptionConfig(shuffle=True), random.Random(n)) for n in range(20)}
    assert len(shuffled) > 1 and all(sorted(split_tags(text)) == sorted(split_tags(caption)) for text in shuffled)
    assert split_tags("a，b、c", separator="、") == ["a，b", "c"]  # another separator is what it is
