"""A1111's line of parameters."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.dialects.infotext import format_infotext, from_novelai, parse_infotext, quoted

OLD = """a (red:1.2) apple, <lora:foo:0.8>
on a table
Negative prompt: blurry, bad
hands
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234, Size: 512x768, Model hash: fe4efff1e1, Model: sd-v1-4, \
Denoising strength: 0.7, Lora hashes: "foo: 0123456789ab, bar: ba9876543210", Version: v1.10.1"""


def test_an_old_picture_is_read():
    fields = parse_infotext(OLD)
    assert fields["Prompt"] == "a (red:1.2) apple, <lora:foo:0.8>\non a table"
    assert fields["Negative prompt"] == "blurry, bad\nhands"
    assert fields["Sampler"] == "DPM++ 2M Karras" and fields["Seed"] == "1234"
    assert (fields["Size-1"], fields["Size-2"]) == ("512", "768")
    assert fields["Lora hashes"] == "foo: 0123456789ab, bar: ba9876543210"
    assert (fields["Clip skip"], fields["RNG"], fields["Schedule type"]) == ("1", "GPU", "Automatic")


def test_a_last_line_with_two_pairs_is_prompt():
    assert parse_infotext("a cat\nlook: left, mood: sad")["Prompt"] == "a cat\nlook: left, mood: sad"
    assert "RNG" not in parse_infotext("a cat")


@pytest.mark.parametrize("value", ["a, b", "a: b", 'say "x"', "two\nlines", "中文, 苹果", "back\\slash, x"])
def test_values_that_would_break_the_line_are_quoted(value):
    fields = parse_infotext(format_infotext("p", "", {"Steps": 1, "Odd": value, "Seed": 2, "Size": "8x8"}))
    assert fields["Odd"] == value and fields["Seed"] == "2"


def test_plain_values_are_not_quoted():
    assert quoted("DPM++ 2M") == "DPM++ 2M" and quoted(7.5) == "7.5"


# A prompt whose own line says "Negative prompt:", or whose spaces hang at line ends, is lost in A1111's form as well.
PROMPTS = st.text(min_size=0, max_size=60).filter(
    lambda text: (
        "Negative prompt:" not in text
        and "\n".join(line.strip() for line in text.split("\n")).strip() == text
        and not set(text) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)


@given(PROMPTS, PROMPTS, PROMPTS.filter(bool))
def test_what_is_written_is_read(prompt, negative, value):
    fields = parse_infotext(
        format_infotext(prompt, negative, {"Steps": 20, "Sampler": "Euler a", "Model": value, "Seed": 5})
    )
    assert fields["Prompt"] == prompt and fields["Negative prompt"] == negative
    assert fields["Model"] == value and fields["Steps"] == "20" and fields["Seed"] == "5"


def test_novelai_is_converted():
    comment = json.dumps({"steps": 28, "sampler": "k_euler", "scale": 11, "seed": 3, "uc": "bad"})
    fields = parse_infotext(from_novelai("{{girl}} (x)", comment))
    assert fields["Prompt"] == r"(girl:1.103) \(x\)" and fields["Negative prompt"] == "bad"
    assert fields["Sampler"] == "Euler" and fields["CFG scale"] == "11"
    assert from_novelai("x", "no json") == "" and from_novelai("x", "[]") == ""


@pytest.mark.parametrize("text", ["a " * 40_000, 'ab:"' * 20_000, "a" * 80_000 + ":"])
def test_no_line_takes_long(text):
    begun = time.monotonic()
    parse_infotext(text)
    assert time.monotonic() - begun < 2
