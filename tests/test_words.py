"""Names defined in the package use the field's words; retired words are refused, except for the names in ALLOWED."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import calotype

ROOT = Path(calotype.__file__).parent
WORDS = """
    told tell said seen saw made forger forge forged forgery expert war fought foretold rival rivals lesson lessons
    course courses detour detours glance glances learnt dice chance noised share shares wanted answer answers hole holes
    wear worn bake baked unsaid unwanted shelf watch watched diary gallery strangers paper one other others some way
    ways thing things most least piece pieces spread signal signals apart away unlikeness likeness regular held
"""
RETIRED = frozenset(WORDS.split())
ALLOWED = {  # (file, qualified name): reason
    ("tasks/diffusion.py", "CaptionedOptions.held_out"): "the option --held-out",
    ("tasks/diffusion.py", "DiffusionTrainingOptions.vae_share"): "the option --vae-share",
    ("tasks/diffusion.py", "DiffusionTrainingOptions.adversarial_share"): "the option --adversarial-share",
    ("tasks/enhancing.py", "TrainRestorer.held_back"): "the option --held-back",
    ("tasks/enhancing.py", "TrainRestorer.pieces"): "the option --pieces",
    ("tasks/enhancing.py", "TrainRestorer.worn"): "the option --worn",
    ("tasks/training.py", "DatasetOptions.regular"): "the option --regular",
    ("tasks/training_gan.py", "GanTrainingOptions.penalty_share"): "the option --penalty-share",
    ("tasks/pictures.py", "Restore.min_likeness"): "the option --min-likeness",
    ("training/enhance/evaluate.py", "Row.way"): "a key of the file of figures",
    ("models/gan.py", "BottleneckBlock.__init__.spread"): "a key of weight files",
}
EVERY_KIND = """
import numpy as told
from os import path as tell
from signal import SIGINT
import signal
class Lesson:
    seen: int = 0
    def saw(self, made, /, forge, *rivals, detour, **glances): ...
    async def ExpertWar(self): self.dice.chance = 1
def plain(): return [held for held in ()], {wanted: 1 for wanted in ()}, lambda answer: answer
for hole, (worn, *baked) in (): pass
with open("x") as shelf: pass
try: pass
except OSError as fault_watched: pass
if (gallery := 1): del paper
match x:
    case {"a": ones, **other}: pass
    case [*some] | Point() as way: pass
HTMLThing, getMost, LEAST_2 = 1, 2, 3
piece += 1
spread: float
def outer():
    global apart
    apart = 1
f(unsaid=1); x.learnt; noised; "strangers"; shared = once = another = regularization = weigh = 1
"""

REFUSED = """
    told tell Lesson seen saw made forge rivals detour glances ExpertWar chance held wanted answer hole worn baked shelf
    fault_watched gallery paper other some way HTMLThing getMost LEAST_2 piece spread apart
"""


def components(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def definitions(node: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Line and qualified name of everything that is given a name: functions, classes, arguments, assigned names and
    attributes, targets of loops, comprehensions, `with`, `except`, `import ... as`, `match` and `:=`."""
    for child in ast.iter_child_nodes(node):
        inner = scope
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield child.lineno, ".".join((*scope, name))
                inner = (*scope, name)
            case (
                ast.arg(arg=str(name))
                | ast.Name(id=name, ctx=ast.Store() | ast.Del())
                | ast.Attribute(attr=name, ctx=ast.Store() | ast.Del())
                | ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.MatchMapping(rest=str(name))
            ):
                yield child.lineno, ".".join((*scope, name))
            case ast.alias(asname=str(name)):
                yield child.lineno, ".".join((*scope, name))
        yield from definitions(child, inner)


def refused(source: str) -> Iterator[tuple[int, str]]:
    """Line and qualified name of every definition with a retired word."""
    for line, name in definitions(ast.parse(source)):
        if components(name.rpartition(".")[2]) & RETIRED:
            yield line, name


def test_every_kind_of_definition_is_refused():
    found = {name.rpartition(".")[2] for _, name in refused(EVERY_KIND)}
    assert found == set(REFUSED.split())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GANRun", {"gan", "run"}),
        ("_told_of", {"told", "of"}),
        ("MAX_2D_Size", {"max", "d", "size"}),
        ("sha256", {"sha"}),
        ("IsLeast", {"is", "least"}),
    ],
)
def test_a_name_is_split_into_its_words(name, words):
    assert components(name) == words


def test_names_use_the_fields_words():
    found, used = [], set()
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        names = [(0, file)] if components(file.removesuffix(".py")) & RETIRED else []
        for line, name in [*names, *refused(path.read_text("utf-8"))]:
            if (file, name) in ALLOWED:
                used.add((file, name))
            else:
                found.append(f"{file}:{line} {name}")
    assert found == [], "rename these: words that someone who knows PyTorch and diffusers would search for"
    assert used == ALLOWED.keys(), "exceptions that are not needed any more"
