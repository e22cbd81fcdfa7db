"""Texts in the user's language: what the catalogs have, and which one is chosen."""

import io
import os
import re
import subprocess
import sys
from string import Formatter

import pytest

from calotype.errors import CalotypeError, Message, Wording, listed, named, plural, recognized
from calotype.languages import ENGLISH, NAMES, language_accepted, language_of, language_of_environment, translate
from calotype.options import groups, schema, title, visible
from calotype.tasks import TASKS

OTHERS = sorted(NAMES.keys() - {ENGLISH})
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def catalog():
    pytest.importorskip("babel", reason="babel is not installed")
    from tests import catalog

    return catalog


def placeholders(template: str) -> set[tuple[str, str]]:
    """Names and formats of a template: `{option:mask}` is another one than `{option:out}`."""
    return {(name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_has_a_translation(catalog, language):
    known = {message.id: message for message in catalog.read(language) if message.id}
    texts = {text for text, _ in catalog.texts() if not catalog.ONLY_VALUES.fullmatch(text)}
    how = "run `python -m tests.catalog`, then translate what `python -m tests.catalog -l` lists"
    assert not texts - known.keys(), how
    assert not known.keys() - texts, f"these texts are gone: {how}"
    assert not [text for text, message in known.items() if not message.string or message.fuzzy], how


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_placeholders_of_its_text(catalog, language):
    for message in catalog.read(language):
        assert placeholders(message.id) == placeholders(message.string) or not message.id, message.id


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_catalog_is_that_of_the_source(catalog, language):
    path = catalog.po_file(language)
    assert path.with_suffix(".mo").read_bytes() == catalog.compiled(catalog.read(language)), (
        "run `python -m tests.catalog`"
    )


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_are_punctuated_as_the_language_is(catalog, language):
    """Half-width punctuation after a Chinese character is a slip."""
    texts = [re.sub(r"<[^>]*>|左,上,右,下", "", m.string) for m in catalog.read(language) if m.id]
    assert not [text for text in texts if re.search(r"[\u4e00-\u9fff][,;:!?()]", text)]


@pytest.mark.parametrize("kind", TASKS)
def test_every_title_help_and_heading_is_translated(kind):
    chinese = Wording("zh")
    cls = TASKS[kind]
    for spec in visible(cls):
        assert translate(title(spec), "zh") != title(spec) or not re.search("[a-z]{4}", title(spec)), title(spec)
    facts = schema(cls, chinese)
    assert all(CHINESE.search(entry["description"]) for entry in facts["properties"].values())
    assert all(CHINESE.search(chinese.translate(heading)) for heading, _ in groups(cls) if heading != "LoRAs")
    assert CHINESE.search(facts["description"])


def test_what_the_extractor_finds(catalog):
    texts = {text for text, _ in catalog.texts()}
    assert {"{path} doesn't exist; check the name", "Mask blur", "fetch it", "calotype models pull {target}"} <= texts
    assert {"1 photo", "{count} photos", "Photos and captions", "Restore an old photo"} - texts == {
        "Photos and captions",
        "Restore an old photo",
    }
    assert {"there is no result {id} of this job", "Usage: ", "face {number}, before", "free memory"} <= texts


@pytest.mark.parametrize(
    "name, language",
    [
        *(("zh", "zh"), ("zh_CN.UTF-8", "zh"), ("zh-Hans", "zh"), ("zh_SG", "zh"), ("ZH-hans-CN", "zh")),
        *(("zh_TW", "zh"), ("zh-Hant-HK", "zh"), ("zh_CN.GB18030", "zh"), ("zh_CN@pinyin", "zh")),
        *(("en_US.UTF-8", "en"), ("C", "en"), ("POSIX", "en"), ("de_DE", "en"), ("", "en"), ("zha", "en")),
        ("../../etc", "en"),
    ],
)
def test_a_locale_has_a_language(name, language):
    assert language_of(name) == language


@pytest.mark.parametrize(
    "environ, language",
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "zh_CN.UTF-8", "CALOTYPE_LANG": "en"}, "en"),
        ({"LC_ALL": "C", "CALOTYPE_LANG": "zh"}, "zh"),
        ({"LC_ALL": "", "CALOTYPE_LANG": "", "LANG": "zh_CN"}, "zh"),
        ({}, "en"),
    ],
)
def test_the_environment_has_a_language(environ, language):
    assert language_of_environment(environ) == language


@pytest.mark.parametrize(
    "header, language",
    [
        *(("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,en;q=0.9,zh;q=0.8", "en"), ("fr,zh;q=0.3", "zh")),
        *(("en;q=0.5, zh ; q=0.6", "zh"), ("zh;q=0, fr", "en"), ("*", "en"), ("", "en"), ("zh;q=x,en", "zh")),
        *((",;,=q;", "en"), ("fr-CH, de;q=0.9", "en"), ("zh," * 100_000, "zh"), ("en;q=1.0,zh;q=1.000", "en")),
    ],
)
def test_a_header_has_a_language(header, language):
    assert language_accepted(header) == language


def test_messages_are_translated_with_what_stands_in_them():
    chinese = Wording("zh")
    inner = Message("there is no folder {folder}", folder="a b")
    fault = CalotypeError("{where}: {fault}", where="x.toml", fault=inner)
    assert chinese.fill(fault) == "x.toml：没有文件夹 a b"
    assert chinese.fill(plural(3, "1 photo", "{count} photos")) == "3 张照片"
    assert chinese.fill(listed(["a", "b", "c"])) == "a、b、c"
    assert chinese.fill(named(["mask", "out"])) == "mask 和 out"
    assert str(listed(["a", "b", "c"], "; ")) == "a; b; c" and str(listed([])) == ""
    assert chinese.fill("no text of ours") == "no text of ours" and chinese.fill(Message("")) == ""


def test_a_filled_in_text_is_recognized():
    templates = ("too small ({width} pixels wide)", "not asked for")
    assert recognized("too small (31 pixels wide)", templates) == Message(templates[0], width="31")
    assert recognized("not asked for", templates) == Message("not asked for")
    assert str(recognized("a {strange} text", templates)) == "a {strange} text"
    assert str(recognized("too small (" * 100_000, templates)) == "too small (" * 100_000


def run(*args: str, **environ: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "CALOTYPE"))}
    command = [sys.executable, "-m", "calotype", *args]
    return subprocess.run(command, capture_output=True, env={**inherited, "COLUMNS": "80", **environ}, timeout=60)


def test_the_program_speaks_the_language_of_its_locale():
    done = run("restore", "nothing.jpg", LANG="zh_CN.UTF-8", PYTHONUTF8="1")
    assert done.returncode == 2 and done.stderr.decode() == "calotype: nothing.jpg 不存在；请检查名称\n"


@pytest.mark.parametrize(
    "environ", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX"}]
)
def test_a_plain_locale_is_english(environ):
    done = run("restore", "nothing.jpg", **environ)
    assert done.returncode == 2 and done.stderr == b"calotype: nothing.jpg doesn't exist; check the name\n"


def test_a_terminal_that_cannot_show_chinese_gets_english():
    done = run("restore", "nothing.jpg", CALOTYPE_LANG="zh", PYTHONIOENCODING="ascii")
    assert done.stderr == b"calotype: nothing.jpg doesn't exist; check the name\n"
    done = run("restore", "nothing.jpg", CALOTYPE_LANG="zh", PYTHONIOENCODING="gbk")
    assert "不存在" in done.stderr.decode("gbk")


@pytest.fixture
def speaks(monkeypatch, capsys):
    """Runs a command in a language and returns what it prints."""
    from calotype.cli import main

    def speak(*args: str, language: str = "zh") -> str:
        monkeypatch.setenv("CALOTYPE_LANG", language)
        monkeypatch.setenv("COLUMNS", "80")
        main(args)
        return "".join(capsys.readouterr())

    return speak


@pytest.mark.parametrize("command", [["--help"], ["restore", "--help"], ["train", "lora", "--help"], ["models", "-h"]])
def test_help_is_translated_and_fits_the_terminal(speaks, command):
    from calotype.cli.help import columns

    text = speaks(*command)
    assert text.startswith("用法：calotype") and "显示此说明并退出。" in text and "选项：" in text
    assert not re.search(r"\b(Options|Arguments|Commands|Usage|default|required|may be)\b", text)
    assert max(map(columns, text.splitlines())) <= 80
    assert not re.search(r"(?m)^\s*[，。；：、）】]", text), "no line begins with a comma"
    english = speaks(*command, language="en")
    flags = re.compile(r"(?m)^  (?!-h|--help)(--?\S+|[a-z-]+(?=  ))")
    assert flags.findall(text) == flags.findall(english) and not CHINESE.search(english)


@pytest.mark.parametrize(
    "command, sentence",
    [
        (["restore"], "缺少参数“INPUT”；请看 `calotype restore --help`"),
        (["restoer", "x"], "没有命令“restoer”（您是否想用“restore”？）；请看"),
        (["restore", "x", "--foo"], "calotype restore 没有选项 --foo（您是否想用 --format？）；"),
        (["restore", "x", "--scale"], "选项“--scale”后面要给出一个值"),
        (["restore", "x", "--scale", "y"], "--scale 应为数字，而不是 'y'"),
        (["restore", "x", "--scale", "0"], "--scale 的值应在 0.01 到 64 之间，而不是 0"),
        (["imagine", "x", "--sampler", "eular"], "没有名为 'eular' 的采样器（您是否想用 Euler？）；可用的有 DDIM"),
        (
            ["models", "info", "gfpgam-1.4"],
            "没有名为 gfpgam-1.4 的模型（您是否想用 gfpgan-1.4？）；calotype models list 会显示全部",
        ),
    ],
)
def test_mistakes_are_explained_in_chinese(speaks, command, sentence):
    assert sentence in speaks(*command)


def test_a_stream_without_encoding_is_spoken_to(monkeypatch):
    from calotype.cli.wording import WORDING

    monkeypatch.setenv("CALOTYPE_LANG", "zh")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert WORDING.language == "zh"
