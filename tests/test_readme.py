"""What the READMEs say is so: commands parse, models exist, the tree is the tree."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from calotype.checkpoints.store import CATALOG
from calotype.cli import app

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")


def text(name):
    return (ROOT / name).read_text("utf-8")


def commands(name):
    """Every `calotype ...` that stands as code in a README."""
    shown = re.findall(r"`(calotype [^`]+)`", text(name))
    blocks = re.findall(r"\.venv/bin/(calotype [^\n]+)", text(name))
    return [line for line in shown + blocks if "COMMAND" not in line and "NAME" not in line and "FILE" not in line]


@pytest.mark.parametrize("name", READMES)
def test_every_command_is_one_that_the_program_takes(name):
    found = commands(name)
    assert len(found) > 10
    for line in found:
        words = shlex.split(line)[1:]
        command = typer.main.get_command(app())
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        command.make_context("calotype", words)  # raises for an unknown option or a missing argument


@pytest.mark.parametrize("name", READMES)
def test_the_forger_that_is_drawn_from_is_one_that_was_trained(name):
    lines = [shlex.split(line) for line in commands(name)]
    made = {words[-1] for words in lines if words[1:3] == ["train", "gan"] and words[-2] == "-o"}
    [drawn] = [words for words in lines if words[1] == "imagine" and "--truncation" in words]
    assert drawn[drawn.index("--model") + 1] in made


@pytest.mark.parametrize("name", READMES)
def test_every_model_of_the_catalog_stands_in_the_table_and_no_other(name):
    section = text(name)[text(name).index("| `realesrgan-x4plus`") :]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    named = {model for row in rows for model in re.findall(r"`([^`]+)`", row)}
    assert named | {"realesr-animevideov3-x2", "realesr-animevideov3-x3"} == set(CATALOG)


def test_both_readmes_have_the_same_two_commands_and_examples():
    assert commands(READMES[0])[:12] == commands(READMES[1])[:12]
    blocks = [re.findall(r"```sh\n(.+?)\n```", text(name), re.S) for name in READMES]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 2


def test_the_tree_is_the_tree():
    tree = text("README.md").split("```\ncalotype/\n")[1].split("```")[0]
    shown = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    package = ROOT / "calotype"
    there = {path.name for path in package.iterdir() if path.name not in ("__init__.py", "__main__.py", "__pycache__")}
    assert shown == there


def test_pictures_and_files_that_are_named_are_there():
    for name in READMES:
        for target in re.findall(r"\]\(([^):]+)\)", text(name)):
            assert (ROOT / target).exists(), target
        assert (ROOT / "examples" / "collins.jpg").exists()


def test_the_table_of_samplers_is_the_programs():
    from calotype.samplers import MISSING, SAMPLERS, SCHEDULES

    table = text("docs/samplers.md")
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| ")}
    for name, sampler in SAMPLERS.items():
        assert f"`{sampler.scheduler}`" in rows[name] and f"| {sampler.automatic} |" in rows[name]
    for name, nearest in MISSING.items():
        assert rows[name] == f"| {name} | {nearest} |"
    assert f"Schedules: {', '.join(SCHEDULES)}." in table
