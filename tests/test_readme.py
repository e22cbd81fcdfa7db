"""What the READMEs and guides say is so: commands are taken, options and models exist, links lead somewhere, the tree
is the tree."""

import re
import tomllib

import pytest
import typer

from calotype import cli
from calotype.bot.prompt import FLAG_READERS, NO_EFFECT, READERS, SHORT
from calotype.checkpoints.store import CATALOG, ENDINGS, known_name
from calotype.options import about, visible
from calotype.samplers import sampler_named
from tests.pages import PAGES, PAIRS, READMES, ROOT, SETTINGS_FILES, anchors, commands, links, options, text, words

OTHERS = ("docs/architecture.md", "docs/events.md", "docs/metadata.md", "docs/samplers.md", "CONTRIBUTING.md")
OWN = {"grandma", "ink", "ultrasharp"}  # names of LoRAs and networks that the guides put on the list
MADE = {"out/diffusion"}  # a folder that the guides train


class ReachedError(Exception):
    """A command came as far as the runner, with this request."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The settings files that commands read, and a runner that runs nothing."""
    for name, content in SETTINGS_FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))

    def run(request, *_, **__):
        raise ReachedError(request)

    monkeypatch.setattr("calotype.runner.run", run)
    return tmp_path


def command_of(line):
    """The command that a line calls, and its arguments."""
    command, arguments = typer.main.get_command(cli.app()), words(line)
    while arguments and hasattr(command, "commands"):
        assert arguments[0] in command.commands, line
        command = command.commands[arguments.pop(0)]
    return command, arguments


def all_options():
    """Of all commands."""
    waiting, found = [typer.main.get_command(cli.app())], set()
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return found


@pytest.mark.many(plain=8)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_the_program_takes(page, folder):
    found = commands(page)
    assert len(found) >= 9  # fewer than on any page: they are no longer found
    for line in found:
        command, arguments = command_of(line)
        if not arguments or arguments == ["--help"]:  # a command that is named
            continue
        command.make_context("calotype", list(arguments))  # raises for an unknown option or a missing argument
        if (
            words(line)[0] in ("restore", "upscale", "split", "colour", "imagine", "train")
            or words(line)[:2] in MERGING
        ):
            with pytest.raises(ReachedError) as reached:
                assert cli.main(words(line)) == 0, line
            for task in reached.value.args[0].tasks:
                check_names(task, line)


MERGING = [["lora", name] for name in ("merge", "resize", "extract", "convert")]


def check_names(task, line):
    """Models and samplers that a task names are known, or files."""
    for spec in visible(type(task)):
        value, rules = getattr(task, spec.name), about(spec)
        if not value or not isinstance(value, str) or not rules.names or rules.names == "style":
            continue
        names = rules.parsed(value) if rules.parsed else [value]
        for name in (str(getattr(entry, "name", entry)) for entry in names):
            is_known = name in rules.words or known_name(name) in CATALOG or name in OWN | MADE
            assert is_known or name.endswith(ENDINGS), (line, spec.name, name)
    if sampler := getattr(task, "sampler", "auto").replace("auto", ""):
        assert sampler_named(sampler), line


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_show_the_same_commands_in_the_same_order(english, chinese):
    assert commands(english) == commands(chinese)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_name_the_same_options(english, chinese):
    assert options(english) == options(chinese)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_show_the_same_sections_pictures_and_rows(english, chinese):
    for pattern in (r"^#+ ", r"!\[", r"^\|", r"^- ", r"^```"):
        assert len(re.findall(pattern, text(english), re.M)) == len(re.findall(pattern, text(chinese), re.M)), pattern


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_exists(page):
    known = {name.replace("_", "-") for name in all_options()} | {"--help", "--version"}
    known |= {f"--{name}" for name in (*READERS, *FLAG_READERS, *NO_EFFECT, *SHORT)}  # of prompts on Discord
    assert options(page) <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_extra_that_is_named_exists(page):
    known = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    named = {name for extras in re.findall(r"'\.\[([\w,]+)\]'", text(page)) for name in extras.split(",")}
    assert named <= known.keys()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link
    assert (ROOT / "examples" / "collins.jpg").exists()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_those_of_its_own_language(page):
    """Where there is one."""
    is_chinese = page.endswith(".zh-CN.md")
    [other] = [pair[not is_chinese] for pair in PAIRS if page in pair]
    targets = {((ROOT / page).parent / link.partition("#")[0]).resolve() for link in links(page)}
    for pair in PAIRS:
        foreign = pair[not is_chinese]
        assert foreign == other or ROOT / foreign not in targets, foreign


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_leads_to_every_guide_and_page_of_docs(readme):
    index = READMES.index(readme)
    pages = {pair[index] for pair in PAIRS[1:]} | set(OTHERS)
    assert pages <= {link.partition("#")[0] for link in links(readme)}
    english = {path.name for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(".zh-CN.md")}
    assert english == {path.removeprefix("docs/") for path, _ in PAIRS[1:]} | {
        "architecture.md",
        "events.md",
        "metadata.md",
        "samplers.md",
    }


@pytest.mark.parametrize(("draw", "networks"), list(zip(PAIRS[2], PAIRS[4], strict=True)))
def test_the_generator_that_is_drawn_from_is_one_that_was_trained(draw, networks):
    trained = {words(line)[-1] for line in commands(networks) if "train gan" in line and words(line)[-2] == "-o"}
    drawn = [words(line) for line in commands(draw) if "--truncation" in line or "--interpolate" in line]
    assert {line[line.index("--model") + 1] for line in drawn} <= trained and drawn


@pytest.mark.parametrize("index", [0, 1])
def test_every_model_of_the_catalog_stands_in_a_table_with_its_licence_and_no_other(index):
    """What ships in the README, what can be fetched in the guide."""
    named = {}
    for page, ships in ((READMES[index], True), (PAIRS[5][index], False)):
        table = text(page)[text(page).index("| `realesrgan-x") :]
        rows = [row.split("|")[1:4] for row in table.split("\n\n")[0].splitlines() if row.startswith("| `")]
        for names, _, licence in rows:
            for name in re.findall(r"`([^`]+)`", names):
                named[name] = ships
                assert re.search(r"[\w.-]+", licence, re.A)[0] in CATALOG[name].licence, name
    named |= {"realesr-animevideov3-x2": True, "realesr-animevideov3-x3": True}
    assert named == {name: entry.ships for name, entry in CATALOG.items()}


def test_both_readmes_have_the_same_two_commands():
    blocks = [re.findall(r"^```sh\n(.+?)\n```", text(name), re.S | re.M) for name in READMES]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 2


@pytest.mark.parametrize("readme", READMES)
def test_the_tree_is_the_tree(readme):
    tree = text(readme).split("```\ncalotype/\n")[1].split("```")[0]
    lines = [line.split(maxsplit=1) for line in tree.splitlines() if line.strip()]
    assert all(len(line) == 2 for line in lines)
    shown = [line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")]
    package = ROOT / "calotype"
    there = {path.name for path in package.iterdir() if path.name not in ("__init__.py", "__main__.py", "__pycache__")}
    assert set(shown) == there and len(shown) == len(there)


def test_both_trees_have_the_same_order():
    trees = [
        re.findall(r"^ *([\w./]+) +\S", text(name).split("```\ncalotype/\n")[1].split("```")[0], re.M)
        for name in READMES
    ]
    assert trees[0] == trees[1]


def test_the_table_of_samplers_is_the_programs():
    from calotype.samplers import MISSING, SAMPLERS, SCHEDULES

    table = text("docs/samplers.md")
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| ")}
    for name, sampler in SAMPLERS.items():
        assert f"`{sampler.scheduler}`" in rows[name] and f"| {sampler.automatic} |" in rows[name]
    for name, nearest in MISSING.items():
        assert rows[name] == f"| {name} | {nearest} |"
    assert f"Schedules: {', '.join(SCHEDULES)}." in table


def test_the_pairs_are_those_of_their_recipe_and_load_quickly():
    from recipes.example.pairs import PAIRS, SHOWN

    assert commands("docs/examples.md") == [pair.command for pair in PAIRS.values()]
    shown = {path.stem: path.stat().st_size for path in SHOWN.glob("*.jpg")}
    assert shown.keys() == PAIRS.keys() and max(shown.values()) < 200_000
    pictures = [link for link in links("docs/examples.md") if link.endswith(".jpg")]
    assert pictures == [f"examples/{name}.jpg" for name in PAIRS]
