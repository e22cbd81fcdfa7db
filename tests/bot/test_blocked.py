"""Blocked words are found however they are spelled, and nothing else is."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.bot.blocked import check_words
from calotype.bot.prompt import read_prompts
from calotype.bot.settings import ROWS, BotSettings
from calotype.errors import CalotypeError

WORDS = "# of the house\nnaked\nred fox\nкот\n裸体\ncafé\n"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text(WORDS, "utf-8")
    return path


def is_refused(prompt, path):
    """Whether one of the prompts of a command has a blocked word."""
    for found in read_prompts(prompt, ROWS):
        try:
            check_words(found.task["prompt"], path)
        except CalotypeError:
            return True
    return False


@pytest.mark.parametrize(
    "prompt",
    [
        *("a naked man", "NAKED", "ｎａｋｅｄ", "naked.", "(naked)", "((naked:1.3))", "[naked]", "sky, naked"),
        *("naked_man", "a naked_man"),
        *("{na,x}{ked}", "{n}aked", "a {b, c {d, naked}}", "n{a}k{e}d"),
        *("(na:1)ked", "na(ked:1.2)", "[na]ked", "na\\ked", "na<lora:x:1>ked", "[na|x]ked", "[x:naked:0.9]"),
        *("[na:10]ked", "[na::10]ked"),
        *("na_ked", "na-ked", "n.a.k.e.d", "n a k e d", "n_a_k_e_d", "na*ked", "na🍆ked"),
        *("na\u200bked", "na\u2060ked", "n\u00adaked", "na\u3164ked", "na\ufe0fked", "\u202enaked"),
        *("nаked", "nakеd", "ｎаkеd", "náked", "n̶a̶k̶e̶d̶", "ɴᴀᴋᴇᴅ", "🅽🅰🅺🅴🅳", "𝓃𝒶𝓀𝑒𝒹", "n4k3d", "n@ked", "ηaked"),
        *("naked::2 sky::1", "sky::1 naked", "sky AND naked"),
        *("red  fox", "red_fox", "red-fox", "red (fox:1.2)", "red {fox, cat}", "Red Fox"),
        *("чёрный кот", "裸体", "很裸体的", "裸 体", "裸_体", "裸\u200b体", "(裸:1.2)体", "裸.体", "cafe", "CAFÉ"),
    ],
)
def test_a_blocked_word_is_found_in_disguise(words, prompt):
    assert is_refused(prompt, words)


@pytest.mark.parametrize(
    "prompt",
    [
        *("a man --no naked", "a man --no {naked, nude}", "man::2 naked::-.5", "snaked", "nakedness", "red, blue fox"),
        *("redfox", "котик", "裸", "体裸", "of the house", "a fox in red", "na ked", "cafeteria", "{na, ked} x"),
    ],
)
def test_what_only_looks_like_one_is_not_refused(words, prompt):
    assert not is_refused(prompt, words)


def test_the_refusal_names_the_word_as_the_list_has_it_and_how_to_appeal(words):
    with pytest.raises(CalotypeError, match="the word café is not allowed here; if that is a mistake, ask @maria"):
        check_words("a cafe", words, "@maria")
    with pytest.raises(CalotypeError, match="ask the owner of the bot"):
        check_words("a cafe", words)


LETTERS = {"n": "nɴｎ𝓃", "a": "aаáᴀ@4", "k": "kкᴋ𝐤", "e": "eеéᴇ3", "d": "dԁᴅｄ"}
JOINTS = st.sampled_from(("", "\u200b", "_", "-", ".", "\u00ad", "\ufeff", "\\", "*"))
AROUND = st.text("uvxyz ,", max_size=8)


@given(AROUND, AROUND, st.data())
def test_any_mixture_of_disguises_is_found(words, before, after, data):
    spelled = "".join(data.draw(st.sampled_from(LETTERS[letter])) + data.draw(JOINTS) for letter in "naked")
    weight = data.draw(st.sampled_from(("{}", "({}:1.2)", "[{}]", "{{{}, sky}}", "[sky:{}:0.5]", "[{}|sky]")))
    assert is_refused(f"{before} {weight.format(spelled)} {after}", words)


@given(st.lists(st.from_regex(r"[b-jl-z]{1,9}", fullmatch=True), min_size=1, max_size=8), st.sampled_from(" _,-"))
def test_words_without_the_letters_of_one_are_never_refused(words, found, joint):
    assert not is_refused(joint.join(found), words) or re.search("red.?fox", unicodedata.normalize("NFKC", str(found)))


@given(st.text(max_size=80))
def test_any_text_is_checked_without_an_error(words, text):
    try:
        check_words(text, words)
    except CalotypeError as fault:
        assert "is not allowed here" in str(fault)


def test_a_long_prompt_is_checked_quickly(words):
    check_words("[a|b|c] " * 700 + "(" * 400, words)


def test_buttons_and_permutations_are_checked_too(play, studio, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text(WORDS, "utf-8")
    studio.settings = BotSettings(account_days=0, member_days=0, blocked_words=words)

    async def scene(evening):
        ann = evening.person("ann")
        refused = await ann.slash(evening.channel, "imagine", prompt="{blue fox, na_ked man}")
        assert "the word naked is not allowed here" in refused.response.content
        assert studio.service.store.find() == []
        await ann.slash(evening.channel, "imagine", prompt="blue fox --no naked")
        await evening.work()
        words.write_text(WORDS + "blue\n", "utf-8")
        again = await ann.click(evening.messages[0], label="V1")
        assert "the word blue is not allowed here" in again.followups[0].content
        assert len(studio.service.store.find()) == 1

    play(scene)
