"""Texts that Discord takes: at most 2,000 characters, nothing of their Markdown cut."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.bot import wording
from calotype.bot.wording import MAX_PROMPT, MAX_TEXT, TEMPLATES, WORDINGS, escaped, listed, shortened
from calotype.tasks import TASKS

MARKDOWN = st.lists(
    st.sampled_from(
        ("fox ", "**", "`a b`", "[red fox](https://example.org/a_b)", "<@1234567890>", "\\*", "狐狸", "👩‍🚀", "\n")
    ),
    max_size=60,
).map("".join)
UNITS = "utf-16-le"


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_job_has_a_title_in_each_language(kind):
    english, chinese = WORDINGS["en"].title(kind), WORDINGS["zh"].title(kind)
    assert english == TEMPLATES[kind] != kind
    assert chinese != english and not re.search("[a-z]{2}", chinese)


@given(MARKDOWN, st.integers(40, 120))
def test_a_text_is_shortened_to_the_limit_and_its_markdown_stays_whole(text, limit):
    short = shortened(text, limit)
    assert len(short.encode(UNITS)) // 2 <= limit
    if len(text.encode(UNITS)) // 2 <= limit:
        assert short == text
        return
    kept = short.removesuffix("**") if short.endswith("…**") else short
    assert text.startswith(kept.removesuffix("…")) and kept.endswith("…")
    assert short.count("**") % 2 == 0 and short.count("`") % 2 == 0
    assert short.count("[") == short.count(")") and short.count("<") == short.count(">")
    assert not re.search(r"\\…|\u200d…", short)


def test_few_files_send_and_they_shorten_what_they_send():
    senders = {"send", "edit", "send_message", "edit_message", "edit_original_response"}
    folder = Path(wording.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
        sent = {node.func.attr for node in calls if node.func.attr in senders}
        if path.name in ("client.py", "delivery.py", "guests.py"):
            assert sent and "shortened(" in path.read_text("utf-8")
        elif path.name != "demo.py":  # it prints
            assert not sent, f"{path.name} is to call Bot.say"


def test_words_stay_whole_and_text_without_spaces_is_cut_where_it_must_be():
    assert shortened("red fox and hounds", 15) == "red fox and…"
    assert shortened("狐" * 50, 20) == "狐" * 17 + "…"
    assert shortened("**red fox and hounds**", 17) == "**red fox and…**"


@pytest.mark.parametrize("text", ["*" * 3000, "fox " * 900, "狐" * 5000, "🦊" * 2000, "[](" * 1000])
def test_an_escaped_prompt_keeps_its_limit_and_shows_no_markdown(text):
    short = escaped(text)
    assert len(short.encode(UNITS)) // 2 <= MAX_PROMPT and len(short) > MAX_PROMPT // 3
    assert re.sub(r"\\.", "", short).strip("[ 狐🦊foxes…") == ""


def test_a_list_that_is_too_long_says_how_many_lines_there_are_besides():
    lines = [f"[fox {n}](https://example.org/{'x' * 150}) – waits" for n in range(15)]
    text = listed(lines, "en")
    *kept, last = text.splitlines()
    assert len(text) <= MAX_TEXT and kept == lines[: len(kept)]
    assert last == f"and {len(lines) - len(kept)} more" and len(kept) > 8
    assert listed(lines[:2], "en") == "\n".join(lines[:2])
