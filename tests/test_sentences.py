"""Every file of the program is read: outside the command line nobody names a flag or a command to type, and every
sentence is a whole template with named values, as a catalog can translate it."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import typer

from calotype.cli import app
from calotype.cli.wording import COMMANDS, WORDING
from calotype.options import about, visible
from calotype.settings import Settings
from calotype.tasks import TASKS
from tests.sentences import calls, literal_texts, name_of, placeholders, sources, values_of

DOOR = "cli/"
DIALECTS = ("training/configs/", "training/prompts.py")  # these read and write other programs' flags
ERRORS = ("CalotypeError", "PictureError")
MAKERS = (*ERRORS, "Message", "note", "plural")
DEFINED = ("errors.py", "tasks/events.py")  # where those are defined
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*|(?<!\S)-o(?![\w-])")
SHEET = re.compile(r"\{[^{}]*;[^{}]*\}")  # a style sheet or a script: no placeholder has a semicolon
FRAGMENTS = re.compile(r"what|why|told|.*_[0-9]")  # names of values that say nothing to a translator
PLENTY = {"plural": {"count"}}  # what a maker gives by itself
ABOUT = {"option", "remedy"}  # keywords of errors that say something about the sentence
SENTENCE = re.compile(rf"\b({'|'.join(ERRORS)}|Message)\b")


@cache
def command_line() -> tuple[frozenset[str], frozenset[str]]:
    """All flags, and the first words of all commands."""
    top = typer.main.get_command(app())

    def below(command: Any) -> Iterator[str]:
        for param in command.params:
            yield from (*param.opts, *param.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            yield from below(inner)

    return frozenset(below(top)), frozenset(top.commands)


def literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings, and the fixed parts of f-strings; no docstrings, style sheets and scripts."""
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    left_out = {id(node) for node in statements}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out
        if is_text and not SHEET.search(node.value):
            yield node


def typed_words(tree: ast.Module, is_dialect: bool = False) -> Iterator[tuple[int, str]]:
    """Flags and commands that the strings of a file name, with their lines."""
    flags, commands = command_line()
    command = re.compile(rf"\bcalotype (?:{'|'.join(commands)})\b|\bpip install\b")
    for node in literals(tree):
        hits = command.findall(node.value)
        if not is_dialect:  # sd-scripts' prompts have flags of one and two letters
            hits += [hit for hit in FLAG.findall(node.value) if hit == "-o" or hit in flags or len(hit) > 4]
        yield from ((node.lineno, hit) for hit in hits)


def test_no_sentence_outside_the_command_line_names_a_flag_or_a_command():
    found = [
        f"calotype/{path}:{line} names {hit}"
        for path, tree in sources().items()
        if not path.startswith(DOOR)
        for line, hit in typed_words(tree, path.startswith(DIALECTS))
    ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "code, hits",
    [
        ("x = 'give --mask-blur or another -o'", ["--mask-blur", "-o"]),
        ("x = f'no {y}: calotype models pull {y}'", ["calotype models"]),
        ("f('run pip install x')", ["pip install"]),
        ("x = 'of --x and --to; a cat --n ugly --ss heun'", ["--x", "--to"]),
        ("'give --mask'", []),
        ("x = 'a { color: var(--mask); }'", []),
        ("x = 'a twenty-one -- or a-o, of calotype models-to-be'", ["calotype models"]),
        ("x = 'give {option:mask}, as {task:caption} says'", []),
    ],
)
def test_what_is_typed_is_found(code, hits):
    assert [hit for _, hit in typed_words(ast.parse(code))] == hits


def faults(call: ast.Call, tree: ast.Module, scope: ast.AST, names: frozenset[str]) -> Iterator[str]:
    """What is wrong with a call that makes a sentence; `names` are those of messages."""
    maker = name_of(call)
    values = {word.arg for word in call.keywords if word.arg}
    spread = {key for word in call.keywords if not word.arg for key in keys_of(word.value, scope, tree)}
    texts = call.args[1:] if maker == "plural" else call.args[:1] or [None]
    templates = [template for text in texts for template in literal_texts(text, scope, tree)]
    if None not in templates:
        yield from faults_of_templates(templates, values, spread | PLENTY.get(maker, set()), maker)
    elif not all(is_message(text, names) for text in texts):
        code = ", ".join(ast.unparse(text) for text in texts if text)
        yield f"its template is made as it runs: {code[:80]}"


def keys_of(node: ast.expr, *scopes: ast.AST) -> Iterator[str]:
    """The names that `**values` gives, where it is a dict written out nearby."""
    values = values_of(node, *scopes)[0] if isinstance(node, ast.Name) else [node]
    for value in values:
        if isinstance(value, ast.Dict):
            yield from (key.value for key in value.keys if isinstance(key, ast.Constant))


def faults_of_templates(templates: Sequence[str], values: set[str], spread: set[str], maker: str) -> Iterator[str]:
    """`values` must all have a place in one of the templates; those of `spread` may have none."""
    about = ABOUT & values if maker in ERRORS else set()
    used = set(about)
    for template in templates:
        try:
            fields = list(placeholders(template))
        except ValueError as fault:
            yield f"{template!r} is no template: {fault}"
            return
        used |= {name for name, _ in fields}
        for name, spec in fields:
            if name in ("option", "task", "remedy"):
                yield from faults_of_reserved(name, spec, about)
            elif not name.isidentifier() or name not in values | spread:
                yield f"{{{name}}} is not given by name"
            elif FRAGMENTS.fullmatch(name):
                yield f"{{{name}}} says nothing to a translator"
    yield from (f"{name} has no place in it" for name in sorted(values - used))


def faults_of_reserved(name: str, spec: str, about: set[str]) -> Iterator[str]:
    flags, _ = command_line()
    if not spec and name not in about:
        yield f"{{{name}}} is not said"
    elif name == "option" and spec and "{" not in spec and WORDING.option(spec) not in {*flags, "-o"}:
        yield f"there is no option {spec}"
    elif name == "task" and "{" not in spec and spec not in COMMANDS:
        yield f"there is no task {spec}"


def is_sentence(annotation: ast.expr | None) -> bool:
    """Whether an annotation is of messages or errors, one or several, and of no plain text."""
    text = ast.unparse(annotation) if annotation else ""
    return bool(SENTENCE.search(text)) and not re.search(r"\bstr \||\| str\b", text)


def is_message(node: ast.expr | None, names: frozenset[str]) -> bool:
    """Whether an expression is a message, or several, given the names of those that are."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="Message"), attr="of")):
            return True
        case ast.Call(func=ast.Attribute(attr="fromkeys") | ast.Name(id="list" | "tuple"), args=[items]):
            return is_message(items, names)
        case ast.Call(func=inner) | ast.Subscript(value=inner) | ast.Starred(value=inner):
            return is_message(inner, names)
        case ast.Name(id=name):
            return name in names
        case ast.Attribute(attr=name):
            return name in names or f".{name}" in names
        case ast.IfExp(body=first, orelse=second) | ast.BinOp(left=first, op=ast.Add(), right=second):
            return is_message(first, names) and is_message(second, names)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Dict(values=items):
            return bool(items) and all(is_message(item, names) for item in items)
        case ast.ListComp(elt=item) | ast.GeneratorExp(elt=item):
            return is_message(item, names)
    return False


@cache
def shared() -> frozenset[str]:
    """Functions that return messages, constants and .fields that are some, in any file."""
    found = {"Message", *ERRORS, ".help"}  # an option's help is a template
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and is_sentence(node.returns):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and is_sentence(node.annotation):
                found.add("." + (node.target.id if isinstance(node.target, ast.Name) else node.target.attr))
    constants = [node for tree in sources().values() for node in tree.body if isinstance(node, ast.Assign)]
    for node in constants:
        if is_message(node.value, frozenset(found)):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


@cache
def bound(tree: ast.Module) -> frozenset[str]:
    """Names that stand for messages or errors somewhere in a file: arguments, results, faults that were caught."""
    before, found = frozenset(), shared()
    while found != before:
        before, found = found, found | {name for node in ast.walk(tree) for name in bound_by(node, found)}
    return found


def bound_by(node: ast.AST, names: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.arg) and is_sentence(node.annotation):
        yield node.arg
    elif isinstance(node, ast.ExceptHandler) and node.name and is_sentence(node.type):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and is_sentence(node.annotation):
        yield from (name.id for name in ast.walk(node.target) if isinstance(name, ast.Name))
    elif isinstance(node, ast.Assign) and is_message(node.value, names):
        yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
    elif isinstance(node, (ast.For, ast.comprehension)) and is_message(node.iter, names):
        yield from (name.id for name in ast.walk(node.target) if isinstance(name, ast.Name))


def test_every_help_of_an_option_is_a_template():
    found = [
        f"{cls.__name__}.{spec.name}: {fault}"
        for cls in (*TASKS.values(), Settings)
        for spec in visible(cls)
        for fault in faults_of_templates([about(spec).help], set(), set(), "")
    ]
    assert not found, "\n".join(["", *sorted(set(found))])


def test_every_sentence_is_a_whole_template_with_named_values():
    found = [
        f"calotype/{path}:{call.lineno} {fault}"
        for path, tree in sources().items()
        if path not in DEFINED
        for call, scope in calls(tree, MAKERS)
        for fault in faults(call, tree, scope, bound(tree))
    ]
    assert not found, "\n".join(["", *sorted(found)])


@pytest.mark.parametrize(
    "code, fault",
    [
        ("CalotypeError('{path} is a folder', path=path)", None),
        ("CalotypeError('{option} takes {least:{width}}', option=name, least=1, width=2)", None),
        ("CalotypeError('give {option:{name}} and {option:out} to {task:caption}', name='x')", None),
        ("CalotypeError('fetch x; {remedy}, or take y', remedy=remedy)", None),
        ("CalotypeError('a fault', option='mask', remedy=remedy)", None),
        ("CalotypeError(reason if x else Message('no'))", None),
        ("a = '{x}'\ndef f():\n  b = 'no'\n  note(b if x else a, x=1, y=1)", "y has no place in it"),
        ("T = {1: 'no {x}', 2: 'no {y}'}\ndef f():\n  a = T[n]\n  note(a, x=1)", "{y} is not given by name"),
        ("a = 'no'\na = a or 'yes'\nnote(a)", "its template is made as it runs"),
        ("a = 'no'\ndef f(a):\n  note(a)", "its template is made as it runs"),
        ("plural(n, 'a photo', '{count} photos of {x}', x=x)", None),
        ("V = {'x': 1}\nMessage('no {x}', **V)", None),
        ("Message(T.get(n, 'no {x}'), x=1)\nT = {1: 'no'}", None),
        ("plural(n, 'a photo', '{count} photos', x=x)", "x has no place in it"),
        ("note(f'{path} is a folder')", "its template is made as it runs"),
        ("Message('a' + b)", "its template is made as it runs"),
        ("CalotypeError(text)", "its template is made as it runs: text"),
        ("Message()", "its template is made as it runs"),
        ("Message('{path} is a folder')", "{path} is not given by name"),
        ("Message('{}', path=path)", "{} is not given by name"),
        ("Message('{path.name}', path=path)", "{path.name} is not given by name"),
        ("Message('a folder', path=path)", "path has no place in it"),
        ("Message('{path}', **values)", "{path} is not given by name"),
        ("Message('{path', path=path)", "is no template"),
        ("Message('{option} is wrong', option='mask')", "{option} is not said"),
        ("CalotypeError('{remedy}')", "{remedy} is not said"),
        ("CalotypeError('give {option:no_such}')", "there is no option no_such"),
        ("CalotypeError('see {task:no_such}')", "there is no task no_such"),
        ("CalotypeError('{path} {what}', path=path, what=what)", "{what} says nothing to a translator"),
        ("CalotypeError('{size} of {size_2}', size=1, size_2=2)", "{size_2} says nothing to a translator"),
    ],
)
def test_what_is_no_template_is_found(code, fault):
    tree, names = ast.parse(code), frozenset({"reason", "Message"})
    found = [text for call, scope in calls(tree, MAKERS) for text in faults(call, tree, scope, names)]
    assert (fault in found[0]) if fault else not found
