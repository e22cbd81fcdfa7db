"""The grammar of prompts, against A1111's documented behaviour."""

import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.prompt import (
    BREAK,
    LoraRef,
    Vectors,
    apply_weights,
    chunks,
    composition,
    emphasis,
    extras,
    matrix,
    schedule,
)
from calotype.ops.prompt.chunks import LENGTH

SCHEDULES = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [b::3]", [(3, "a b"), (10, "a ")]),
    ("[a:b:0.5]", [(5, "a"), (10, "b")]),
    ("[a:10]", [(10, "")]),
    ("[a::10]", [(10, "a")]),
    ("[a:b:20]", [(10, "a")]),
    ("[a:b:0]", [(10, "b")]),
    ("[a:b:-3]", [(10, "b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [{b|d{:.5] c", [(5, "a  c"), (10, "a {b|d{ c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a:b]", [(10, "[a:b]")]),
    ("[x]", [(10, "[x]")]),
    (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
    ("(a:1.2)", [(10, "(a:1.2)")]),
]


@pytest.mark.parametrize(("prompt", "expected"), SCHEDULES)
def test_schedules(prompt, expected):
    assert schedule(prompt, 10) == expected


def test_turns_take_their_step():
    at = [text for _, text in schedule("[a|b|c]", 7)]
    assert at == ["a", "b", "c", "a", "b", "c", "a"]
    assert schedule("[fe|]male", 2) == [(1, "female"), (2, "male")]


def test_fractions_of_the_second_pass_run_from_one_to_two():
    assert schedule("a [b:.5] c", 10, first_pass=10) == [(10, "a b c")]
    assert schedule("a [b:1.5] c", 10, first_pass=10) == [(5, "a  c"), (10, "a b c")]
    assert schedule("a [b:13] c", 10, first_pass=10) == [(3, "a  c"), (10, "a b c")]


EMPHASES = [
    ("a", [("a", 1.0)]),
    ("(a)", [("a", 1.1)]),
    ("((a))", [("a", 1.21)]),
    ("[a]", [("a", 1 / 1.1)]),
    ("(a:1.3)", [("a", 1.3)]),
    ("(a:.5)", [("a", 0.5)]),
    ("(a: 1.3 )", [("a", 1.3)]),
    ("(a:-1)", [("a", -1.0)]),
    (r"\(a\)", [("(a)", 1.0)]),
    (r"\[a\]\\", [("[a]\\", 1.0)]),
    ("(a", [("a", 1.1)]),
    ("((a", [("a", 1.21)]),
    ("[a", [("a", 1 / 1.1)]),
    ("a)", [("a)", 1.0)]),
    ("a:1.3", [("a:1.3", 1.0)]),
    ("", [("", 1.0)]),
    ("a (b (c:2)) d", [("a ", 1.0), ("b ", 1.1), ("c", 2.2), (" d", 1.0)]),
    ("x BREAK y", [("x", 1.0), (BREAK, -1.0), ("y", 1.0)]),
    ("x break y", [("x break y", 1.0)]),
    ("(x BREAK y)", [("x", 1.1), (BREAK, -1.0), ("y", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            *[("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1)],
            *[("hill", 0.55), (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)],
        ],
    ),
]


@pytest.mark.parametrize(("prompt", "expected"), EMPHASES)
def test_emphasis(prompt, expected):
    found = emphasis(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


def test_emphasis_can_be_off():
    assert emphasis("(a:1.3) BREAK [b]", is_on=False) == [("(a:1.3)", 1.0), (BREAK, -1.0), ("[b]", 1.0)]


WORDS = st.text("ab ,()[]:|\\.5AND<>", max_size=40)


@given(WORDS)
@settings(max_examples=300)
def test_no_text_is_too_odd(text):
    assert schedule(text, 5)[-1][0] == 5
    assert [step for step, _ in schedule(text, 5)] == sorted({step for step, _ in schedule(text, 5)})
    assert emphasis(text) and composition(text)


@given(st.text("abc ,.", max_size=40))
def test_plain_words_stay_as_they_are(text):
    assert schedule(text, 9) == [(9, text)]
    assert emphasis(text) == [(text, 1.0)]
    assert composition(text)[0][1] == 1.0


@given(st.integers(0, 30), st.integers(0, 30))
def test_nested_weights_multiply(more, less):
    [(text, weight)] = emphasis("(" * more + "[" * less + "a" + "]" * less + ")" * more)
    assert text == "a" and weight == pytest.approx(1.1 ** (more - less))


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    "text", ["(" * 10000 + "a", "[" * 10000 + "a:b:3]" * 10000, "([" * 10000 + "]", "(a) " * 10000]
)
def test_ten_thousand_brackets_take_no_time(text):
    begun = time.process_time()
    schedule(text, 20)
    emphasis(text)
    assert time.process_time() - begun < 5


def test_composition_splits_with_weights():
    assert composition("a :1.2 AND b:0.8 AND c") == [("a", 1.2), (" b", 0.8), (" c", 1.0)]
    assert composition("sAND and AND\nx") == [("sAND and", 1.0), ("\nx", 1.0)]
    assert composition("a:-0.5") == [("a", -0.5)]


def test_extras_are_taken_out():
    text, loras, unknown = extras("x<lora:foo:0.8> y <lyco:b:te=.5:unet=1> <hypernet:z:1> <lora:c:0.1:0.2:4> <3 a>b")
    assert text == "x y    <3 a>b"
    assert loras == [LoraRef("foo", 0.8, 0.8), LoraRef("b", 0.5, 1.0), LoraRef("c", 0.1, 0.2)]
    assert unknown == ["<hypernet:z:1>"]
    assert extras("<lora:a:much>")[1:] == ([], ["<lora:a:much>"])
    assert [str(lora) for lora in loras] == ["<lora:foo:0.8>", "<lora:b:0.5:1>", "<lora:c:0.1:0.2>"]


def test_the_matrix_counts_in_binary():
    assert matrix("a|b|c") == ["a", "a, b", "a, c", "a, b, c"]
    assert matrix("plain") == ["plain"]
    assert matrix("x [a|b]|y") == ["x [a|b]", "x [a|b], y"]


# Chunks, with a tokenizer of one token a word; "," is 1.


def words(text):
    return [1 if word == "," else 2 + int(word[1:]) for word in re.findall(r"w\d+|,", text)]


def cut(text, learned=()):
    return chunks(emphasis(text), words, 1, learned)


def some(count, start=0):
    return " ".join(f"w{n}" for n in range(start, start + count))


def test_a_short_prompt_is_one_chunk():
    [chunk] = cut("w1 (w2:1.5)")
    assert chunk.tokens == [3, 4] and chunk.weights == [1.0, 1.5]
    assert len(cut("")) == 1


def test_75_words_fit_and_76_do_not():
    assert len(cut(some(75))) == 1
    assert [len(chunk.tokens) for chunk in cut(some(76))] == [75, 1]


def test_words_after_a_near_comma_move_on():
    found = cut(some(60) + " , " + some(20, 60))
    assert [len(chunk.tokens) for chunk in found] == [61, 20]
    found = cut(some(50) + " , " + some(30, 60))
    assert [len(chunk.tokens) for chunk in found] == [75, 6]


def test_break_ends_a_chunk():
    assert [chunk.tokens for chunk in cut("w0 BREAK w1")] == [[2], [3]]


def test_a_learned_word_takes_its_vectors_and_is_not_cut():
    word = Vectors("my", (3, 4), 8)
    [chunk] = cut("w0 (w1 w2:1.2) w1", [word])
    assert chunk.tokens == [2, *[0] * 8, 3] and chunk.vectors == [(1, "my")]
    assert chunk.weights == [1.0, *[1.2] * 8, 1.0]
    found = cut(some(70, 5) + " w1 w2", [word])
    assert [len(chunk.tokens) for chunk in found] == [70, 8] and found[1].vectors == [(0, "my")]


@given(st.lists(st.integers(0, 40), max_size=300), st.booleans())
@settings(deadline=None)
def test_chunks_lose_nothing(numbers, has_commas):
    text = (" , " if has_commas else " ").join(f"w{n}" for n in numbers)
    found = cut(text)
    assert [token for chunk in found for token in chunk.tokens] == words(text)
    assert all(len(chunk.tokens) <= LENGTH and len(chunk.tokens) == len(chunk.weights) for chunk in found)


def test_weights_keep_the_mean_in_the_original_way():
    states, weights = torch.rand(1, 77, 8) + 1, torch.ones(1, 77)
    weights[0, 3] = 3
    kept = apply_weights(states, weights, "original")
    assert kept.mean() == pytest.approx(float(states.mean()), rel=1e-5)
    assert torch.allclose(apply_weights(states, weights, "no-norm")[0, 3], states[0, 3] * 3)
    assert torch.equal(apply_weights(states, weights, "ignore"), states)


def test_the_original_way_keeps_the_mean_of_each_chunk():
    states, weights = torch.rand(2, 77, 8) + torch.tensor([1.0, 5.0])[:, None, None], torch.ones(2, 77)
    weights[0, 3] = 3
    kept = apply_weights(states, weights, "original")
    assert torch.allclose(kept.mean((1, 2)), states.mean((1, 2)), rtol=1e-5)
    assert torch.allclose(kept[1], states[1])


@pytest.mark.parametrize(
    "text", ["(a:" + "1" * 60_000, "(a:" + " " * 60_000, "a" + " " * 60_000 + "b", "[a:b:" + "1" * 60_000 + "x]"]
)
def test_no_text_takes_long(text):
    begun = time.monotonic()
    emphasis(text), schedule(text, 20), composition(text), matrix(text), extras(text)
    assert time.monotonic() - begun < 2
