"""Prompts of sample pictures in sd-scripts' forms."""

import json

import pytest

from calotype.cli.wording import WORDING
from calotype.dialects.sd_scripts.prompts import Prompt, prompts_from_captions, read_prompts
from calotype.errors import CalotypeError

LINES = """# a comment
a cat, (big:1.2) --n ugly, low quality --w 512 --h 768 --d 42 --l 7.5 --s 28 --ss euler_a

一张照片 -- not an option --d 7
"""
WANTED = [
    Prompt("a cat, (big:1.2)", "ugly, low quality", 512, 768, 42, 7.5, 28, "Euler a"),
    Prompt("一张照片 -- not an option", seed=7),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_file_with_a_prompt_a_line(tmp_path, encoding):
    path = tmp_path / "提示.txt"
    path.write_text(LINES, encoding)
    assert read_prompts(str(path)) == (WANTED, [])


def test_prompts_themselves():
    assert read_prompts("a cat --d 1; a dog")[0] == [Prompt("a cat", seed=1), Prompt("a dog")]
    assert read_prompts(LINES)[0] == WANTED
    assert read_prompts("--n ugly")[0] == [Prompt("", "ugly")]


def test_toml_and_json(tmp_path):
    told = {"prompt": "a cat", "negative_prompt": "ugly", "width": 512, "scale": 7.5, "sample_steps": 28}
    wanted = [Prompt("a cat", "ugly", 512, scale=7.5, steps=28)]
    (tmp_path / "p.json").write_text(json.dumps([told]))
    assert read_prompts(str(tmp_path / "p.json"))[0] == wanted
    rows = "\n".join(f"{key} = {json.dumps(value)}" for key, value in told.items() if key != "width")
    (tmp_path / "p.toml").write_text(f"[prompt]\nwidth = 512\n[[prompt.subset]]\n{rows}\n")
    assert read_prompts(str(tmp_path / "p.toml"))[0] == wanted


def test_what_belongs_to_other_models_is_said():
    found, notes = read_prompts("a cat --am 0.5 --cn x.png --d 3")
    assert found == [Prompt("a cat", seed=3)]
    assert list(map(WORDING.fill, notes)) == ["--sample-prompts: --am, --cn is not supported and ignored"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("none.txt", "none.txt cannot be read"),
        ("a cat --w x", "--w takes a number from 16 to 8192, not 'x'"),
        ("a cat --w 0", "--w takes a number"),
        ("a cat --zz 3", "no option --zz; there are --n"),
        ("a cat --ss Eulr", "no sampler is named 'Eulr'"),
        (" ; \n", "has no prompt"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, monkeypatch, text, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalotypeError, match=word):
        read_prompts(text)


@pytest.mark.parametrize("content", ["[1]", '{"prompt": 1}', "[[[", "x = ["])
@pytest.mark.parametrize("ending", ["toml", "json"])
def test_a_file_of_another_form_is_said(tmp_path, content, ending):
    path = tmp_path / f"p.{ending}"
    path.write_text(content)
    with pytest.raises(CalotypeError, match=rf"p\.{ending} is not in sd-scripts"):
        read_prompts(str(path))


def test_captions_are_evenly_spread():
    assert [prompt.prompt for prompt in prompts_from_captions(list("aabbccddeeff"))] == ["a", "b", "d", "e"]
    assert prompts_from_captions(["", ""]) == [Prompt("", is_plain=True)]
