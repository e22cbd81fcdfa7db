"""Flags made from dataclass fields, nested ones too."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from calotype.cli.flags import flags, given_options, set_signature
from calotype.cli.help import described
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import option, read


@dataclass(frozen=True, kw_only=True)
class Control:
    """One more picture that steers."""

    TITLE = "What steers"

    image: Path = option(help="picture", is_path=True)
    weight: float = option(1.0, "how much it counts", min=0, max=2)
    control_mode: str = option("", "words")
    is_strict: bool = option(False, "without exception")


@dataclass(frozen=True, kw_only=True)
class Steered:
    """What is steered."""

    TITLE = "How it is steered"

    control: tuple[Control, ...] = option((), "a picture that steers; see {option:first}")
    first: Control | None = option(None, "one of them")
    names: tuple[str, ...] = option((), "names")
    steps: int = option(4, "steps", min=1, max=9)


def run(*words):
    """What the program is given, or its help."""
    found = []
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    command = set_signature(lambda **values: found.append(given_options(Steered, values)), *flags(Steered))
    app.command(cls=described(command))(command)
    done = CliRunner().invoke(app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return found[0] if found else done.output


def test_what_is_not_given_is_not_there():
    assert run() == {}


def test_nested_options_are_repeated_pairs():
    values = run(
        "--control", "image=a.png,weight=0.5", "--control", 'image="b, c.png",is-strict', "--first", "image=C:\\d"
    )
    assert read(Steered, values) == Steered(
        control=(Control(image=Path("a.png"), weight=0.5), Control(image=Path("b, c.png"), is_strict=True)),
        first=Control(image=Path("C:\\d")),
    )
    assert read(Steered, run("--names", "a,b", "--names", "c", "--steps", "3")) == Steered(names=("a,b", "c"), steps=3)
    assert run("--first", "image=a,is_strict=off,control-mode=x=y")["first"] == {
        **{"image": "a", "is_strict": False, "control_mode": "x=y"}
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--control", "a.png"], "--control.0 is such as image=PATH,weight=1, not 'a.png'"),
        (["--first", 'image="a'], "--first is such as image=PATH,weight=1"),
        (["--first", "image=a,is_strict=perhaps"], "--first is such as"),
        (["--control", "image=a", "--control", "weight=1"], "control.1.image must be given"),
        (["--control", "image=a,weight=3"], "--control.0.weight takes values from 0 up to 2, not 3"),
        (["--first", "picture=a"], "there is no option first.picture"),
    ],
)
def test_a_fault_within_is_one_sentence(words, sentence):
    with pytest.raises(CalotypeError) as caught:
        read(Steered, run(*words))
    assert sentence in WORDING.fill(caught.value)


def test_the_help_shows_what_a_nested_option_takes():
    text = " ".join(run("--help").split())
    assert "How it is steered: --control KEY=VALUE,... a picture that steers; see --first" in text
    assert "(image=PATH,weight=1; may be repeated)" in text and "(1 to 9; default 4)" in text
