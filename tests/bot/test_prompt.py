"""Midjourney's grammar, read as options of a task."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.bot.prompt import MAX_PROMPTS, ModelRow, permutations, read_prompts, size_of, weighted, without_repeat
from calotype.errors import CalotypeError
from calotype.tasks import read_task
from calotype.tasks.prompts import composition

ROWS = {"v 6": ModelRow("small", 256, 10), "niji": ModelRow("emoji", 256, 20, "noto")}
WORDS = st.text("abcdefg ", min_size=1, max_size=20).filter(str.strip)


def read(text, **more):
    (prompt,) = read_prompts(text, ROWS, **more)
    return prompt


def task(text):
    return {name: value for name, value in read(text).task.items() if name not in ("prompt", "count")}


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ("--ar 3:2", {"size": "640x448"}),
        ("--aspect 1:1", {}),
        ("—seed 7", {"seed": 7}),
        ("--seed 4294967295", {"seed": 4294967295}),
        ("--no text, frame --no dog", {"negative": "text, frame, dog"}),
        ("--c 30", {"variation": 0.3}),
        ("--stylize 0", {"guidance": 10}),
        ("--s 100", {"guidance": 7}),
        ("--s 1000", {"guidance": 3}),
        ("--weird 1500", {"rescale": 0.5}),
        ("--tile", {"tiling": True}),
        ("--stop 50", {"steps": 10}),
        ("--q .5", {"steps": 10}),
        ("--q 4", {"steps": 80}),
        ("--draft", {"steps": 8}),
        ("--v 6 --q 2", {"model": "small", "steps": 20}),
        ("--ar 2:1 --v 6", {"model": "small", "size": "352x192"}),
        ("--raw", {}),
    ],
)
def test_each_parameter_is_an_option_of_the_task(parameters, options):
    assert task(f"a fox {parameters}") == options
    read_task("imagine", dict(read(f"a fox {parameters}").task))


def test_a_row_of_the_table_adds_its_style():
    assert read("red fox --niji").task["prompt"] == "red fox, noto"
    assert read("red fox", usual=ROWS["niji"]).task["model"] == "emoji"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fox --stilize 3", "did you mean stylize"),
        ("fox --ar 3x2", "--ar is such as 3:2"),
        ("fox --ar 90:1", "up to 8:1"),
        ("fox --seed -1", "whole number from 0"),
        ("fox --chaos 101", "up to 100, not '101'"),
        ("fox --chaos nan", "number from 0"),
        ("fox --tile red", "--tile takes no value"),
        ("fox --seed 1 --seed 2", "twice"),
        ("fox --v 6 --niji", "give one of them"),
        ("fox --v 9", "--niji, --v 6"),
        ("--tile", "no words"),
        ("a::-1", "make the sum positive"),
        ("::2 a", "no words before"),
        ("{a, b", "not closed"),
        ("a}", "no opening one"),
        ("{" * 1000, "up to 8 deep"),
        ("{a, " * 1000 + "}" * 1000, "up to 8 deep"),
        ("{a,b,c,d,e,f,g}" * 2, "write fewer"),
        ("fox --repeat 41", "up to 40"),
        ("{a, b} --repeat 30", "60 prompts"),
        ("x" * 6001, "6,000 characters"),
    ],
)
def test_what_cannot_be_read_is_named(text, part):
    with pytest.raises(CalotypeError) as fault:
        read_prompts(text, ROWS)
    assert part in str(fault.value)


def test_what_calotype_does_otherwise_is_said():
    prompt = read("fox --stylize 250 --chaos 10 --sref 12 --iw 2 --repeat 3")
    assert [str(note) for note in prompt.notes] == [
        "--stylize 250 is a guidance scale of 6.3",
        "--chaos 10 mixes 10 % of another seed's noise in",
        "--sref has no effect here",
    ]
    assert (prompt.image_weight, prompt.repeat) == (2, 3)
    assert prompt.text == "fox --stylize 250 --chaos 10 --sref 12 --iw 2"


def test_weights_are_sub_prompts_in_proportion():
    assert weighted("hot:: dog::2") == "hot :0.3333 AND dog :0.6667"
    assert weighted("tulips::2 red::-.5") == "tulips :1.3333 AND red :-0.3333"
    assert weighted("[fog::10] hill") == "[fog::10] hill"
    assert weighted("plain: words") == "plain: words"


@given(st.lists(st.tuples(WORDS, st.integers(1, 40)), min_size=2, max_size=5))
def test_weights_keep_words_and_proportions(parts):
    found = composition(weighted(" ".join(f"{words}::{weight / 4:g}" for words, weight in parts)))
    total = sum(weight for _, weight in parts)
    assert [words.strip() for words, _ in found] == [words.strip() for words, _ in parts]
    assert all(abs(got - weight / total) < 1e-3 for (_, got), (_, weight) in zip(found, parts, strict=True))


def test_permutations_nest_and_have_escapes():
    assert permutations("{red, blue} apple") == ["red apple", "blue apple"]
    assert permutations("a {b, c {d, e}} f") == ["a b f", "a c d f", "a c e f"]
    assert permutations(r"\{a\} {b\, c, d}") == ["{a} b, c", "{a} d"]
    assert permutations("a {, b}") == ["a", "a b"]
    assert permutations("{" * 8 + "a, b" + "}" * 8) == ["a", "b"]
    assert [prompt.task.get("size") for prompt in read_prompts("fox --ar {1:1, 2:1}", ROWS)] == [None, "704x384"]


@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3, unique=True), max_size=3))
def test_permutations_are_the_product_of_their_alternatives(groups):
    expected = [" ".join(words) for words in itertools.product(*groups)]
    assert permutations(" ".join(f"{{{', '.join(group)}}}" for group in groups)) == expected


@given(st.text(r"ab{},\:- 1.", max_size=60))
def test_any_text_is_read_or_refused_in_a_sentence(text):
    try:
        prompts = read_prompts(text, ROWS)
    except CalotypeError as fault:
        assert str(fault)
    else:
        assert 1 <= sum(prompt.repeat for prompt in prompts) <= MAX_PROMPTS
        for prompt in prompts:
            read_task("imagine", dict(prompt.task))


@given(WORDS, st.integers(1, 16), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_a_prompt_without_repeat_means_the_same(words, width, height, seed):
    ratio = f" --ar {width}:{height}" if max(width, height) <= 8 * min(width, height) else ""
    text = f"{words.strip()}{ratio} --repeat 3 --seed {seed}"
    assert read(without_repeat(text)).task == read(text).task


@given(st.fractions(1 / 8, 8, max_denominator=99), st.sampled_from((256, 512, 1024)))
def test_sizes_keep_the_area_within_a_third(ratio, side):
    width, height = map(int, size_of(ratio, side).split("x"))
    assert width % 32 == height % 32 == 0
    assert 2 / 3 < width * height / side**2 < 3 / 2
