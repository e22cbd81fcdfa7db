"""Words to tokens: CLIP's own, and those of a diffusers folder."""

import html
import json
import random

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.checkpoints.tokenizer import clip_tokenizer, tokenizer_in, trained_tokenizer
from calotype.errors import CalotypeError

TEXTS = [
    "a photo of a cat, déjà vu",
    "猫 在 桌子上",
    "東京タワー、夜 — ネオン",
    "한국어 Русский Ελληνικά עברית العربية हिन्दी",
    "😀👍🏽 👨\u200d👩\u200d👧 🇩🇪",
    "don't  can't I'll WE'RE I'd've '' 'n'",
    "123 4.5 (x:1.2) 1girl 8k f/1.8 ٣٤ ²½Ⅷ",
    "é e\u0301 Å \u212b",
    "ﬁ ＡＢＣ İstanbul ẞ ß ſ",
    "",
    " ",
    "\n\t a\r\nb\u00a0c\u3000d\u200be",
    "<|endoftext|> a <|startoftext|>b <|ENDOFTEXT|> <|x|>",
    "&amp; <b> _under_score_ ((best quality)) [a|b] \\(esc\\)",
    "supercalifragilisticexpialidocious " * 30,
    "!!!??? ... --- ,,, \x00\x7f \ufffd \ud7ff",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CLIP's vocabulary as a diffusers folder has it: vocab.json and merges.txt."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = json.loads(clip_tokenizer().inner.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def expected(theirs):
    """Token ids by transformers' tokenizer of a text cleaned as OpenAI's original tokenizer cleans it."""

    def encode(text):
        cleaned = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        return theirs(cleaned, add_special_tokens=False).input_ids

    return encode


@pytest.mark.many(plain=5)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_tokenized_as_by_the_original_tokenizer(text, folder, expected):
    assert clip_tokenizer().encode(text) == expected(text) == tokenizer_in(folder).encode(text)


def test_two_thousand_texts_of_typical_characters_are_tokenized_as_by_the_original(expected):
    """Full-width, curly, emoji, Chinese, Japanese and Korean characters, HTML entities and mojibake, mixed."""
    characters = (
        "abcXYZ019 ,.:()[]{}|&;'\"<>_-\n\tａｂｃＡＺ０９（）：，！？；［］｛｝“”‘’«»、。「」…—–～•·×½ﬁﬂﬀæßéÅñ"
        "猫犬女孩美しいひらがなカタカナｶﾀｶﾅ한국어가나다😀👍🏽👨\u200d👩❤️🇩🇪\u3000\u00a0\u200b\ufeff\x1b\x07\u0301"
    )
    chunks = [
        *characters,
        "&amp;",
        "&lt;",
        "&#39;",
        "&amp;quot;",
        "Ã©",
        "â€™",
        "ä½ å¥½",
        "1girl",
        "masterpiece",
        "\x1b[31m",
    ]
    rng, ours = random.Random(0), clip_tokenizer()
    for _ in range(2000):
        text = "".join(rng.choices(chunks, k=rng.randint(1, 24)))
        assert ours.encode(text) == expected(text), ascii(text)


def test_any_text_is_tokenized_as_by_the_original(expected):
    ours = clip_tokenizer()

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40))
    def check(text):
        assert ours.encode(text) == expected(text)

    check()


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("1girl，smile", "1girl,smile"),
        ("（ｍａｓｔｅｒ：1.2）", "(master:1.2)"),
        ("a “quoted” word", 'a "quoted" word'),
        ("ﬁne", "fine"),
        ("black &amp; white", "black & white"),
    ],
)
def test_typographic_forms_have_the_tokens_of_the_plain_ones(typed, plain):
    assert clip_tokenizer().encode(typed) == clip_tokenizer().encode(plain)


def test_a_vocabulary_trained_here_reads_texts_as_they_are():
    """It was trained on texts that nothing had changed."""
    own = trained_tokenizer(["猫，狗 ，（a） ｂ"] * 9, 300)
    assert own.encode("猫，狗") != own.encode("猫,狗")


def test_the_vocabulary_is_clips():
    """Numbers that are known of CLIP, without begin and end, and however long the text is."""
    ours = clip_tokenizer()
    assert ours.inner.get_vocab_size() == 49408
    assert ours.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert ours.encode("a photo of a cat " * 100) == [320, 1125, 539, 320, 2368] * 100
    assert (ours.bos, ours.eos, ours.pad, ours.comma) == (49406, 49407, 49407, 267)
    assert ours.encode(",") == [ours.comma]
    padding = clip_tokenizer(pads_with_end=False).pad
    assert padding == 0 and ours.inner.id_to_token(padding) == "!"


@pytest.mark.parametrize("told", ["!", {"content": "!", "lstrip": False}])
def test_a_folder_says_with_what_it_pads(folder, tmp_path, told):
    assert tokenizer_in(folder).pad == 49407
    clip_tokenizer().inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": told}), "utf-8")
    found = tokenizer_in(tmp_path)
    assert found.pad == 0 and found.encode("a cat") == clip_tokenizer().encode("a cat")


def test_a_folder_whose_tokenizer_was_saved_cutting_and_padding_does_neither(theirs, tmp_path):
    theirs(["a cat"], padding="max_length", truncation=True, max_length=7)
    theirs.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert told["truncation"] and told["padding"]
    found = tokenizer_in(tmp_path)
    assert found.encode("a cat") == [320, 2368] and len(found.encode("a cat " * 50)) == 100


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    with pytest.raises(CalotypeError, match="no tokenizer"):
        tokenizer_in(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CalotypeError, match="damaged"):
        tokenizer_in(tmp_path)


def test_transformers_is_not_needed_to_cut_words():
    import subprocess
    import sys

    code = (
        "import sys; from calotype.checkpoints.tokenizer import clip_tokenizer as c; "
        "c().encode('a'); print('transformers' in sys.modules, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("vocabulary", "config"),
    [("[]", "{}"), ('{"a": "b"}', "{}"), ('{"a": 0}', "{}"), (None, "[]"), (None, '{"pad_token": 5}'), (None, "{")],
)
def test_a_damaged_folder_is_told(folder, tmp_path, vocabulary, config):
    (tmp_path / "vocab.json").write_text(vocabulary or (folder / "vocab.json").read_text("utf-8"), "utf-8")
    (tmp_path / "merges.txt").write_bytes((folder / "merges.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(config, "utf-8")
    with pytest.raises(CalotypeError):
        tokenizer_in(tmp_path)
