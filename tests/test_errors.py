"""Sentences are data: filled, worded and translated at the door, whole on the other side of a process or of JSON.

The last part reads every file of the program: outside the command line nobody names a flag or a command to type, and
every sentence is a whole template with named values.
"""

import ast
import gettext
import io
import json
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

import calotype
from calotype.cli import app
from calotype.cli.wording import CLAUSES, COMMANDS, TO_TYPE, WORDING
from calotype.errors import ACTIONS, PLAIN, CalotypeError, Message, PictureError, Remedy, Wording, named
from calotype.options import about, visible
from calotype.settings import Settings
from calotype.tasks import TASKS
from calotype.tasks.events import note

ROOT = Path(calotype.__file__).parent


# A sentence and its values


def test_a_template_is_filled_with_its_values():
    assert str(Message("{path} has {count:,} of {path}", path=Path("a/b"), count=1234)) == "a/b has 1,234 of a/b"
    assert str(Message("no {name!r}", name="x")) == "no 'x'"
    assert str(Message("{{braces}}")) == "{braces}"


def test_a_text_is_taken_as_it_is():
    assert str(Message.of("{braces} and {}")) == "{braces} and {}"
    assert str(Message.of(OSError("disk {full}"))) == "disk {full}"
    message = Message("{a}", a=1)
    assert Message.of(message) is message


def test_messages_and_faults_stand_within_messages():
    reason = Message("{count} do not fit", count=3)
    fault = CalotypeError("{path} is damaged: {reason}", path="a.png", reason=reason)
    assert str(Message("left out: {fault}", fault=fault)) == "left out: a.png is damaged: 3 do not fit"
    assert str(Message(reason, count=4)) == "4 do not fit"


def test_equal_messages_have_the_same_template_and_values():
    assert Message("{a}", a=1) == Message("{a}", a=1) and hash(Message("{a}", a=1)) == hash(Message("{a}", a=1))
    assert Message("{a}", a=1) != Message("{a}", a=2) and Message("{a}", a=1) != Message("1")


def test_a_note_holds_a_message():
    assert note("{count} faces", count=2).message == Message("{count} faces", count=2)
    assert note(Message("{count} faces", count=2)).text == "2 faces"
    assert note(CalotypeError("{mask} is empty; see {option:mask}", mask="m.png")).text == "m.png is empty; see mask"


# Options, tasks, remedies


def test_each_door_words_the_options():
    fault = CalotypeError("{option:mask_blur} and {option:out} are for {task:train_lora}")
    assert str(fault) == "mask_blur and out are for train_lora"
    assert WORDING.fill(fault) == "--mask-blur and -o are for calotype train lora"
    assert fault.option == "mask_blur" and fault.message.options == ["mask_blur", "out"]


def test_an_error_may_be_about_an_option_that_only_a_value_names():
    fault = CalotypeError("{option} takes values from {least}", option="steps", least=1)
    assert (str(fault), WORDING.fill(fault)) == ("steps takes values from 1", "--steps takes values from 1")
    assert fault.option == "steps"
    by_value = CalotypeError("leave {option:{name}} out", name="size")
    assert WORDING.fill(by_value) == "leave --size out" and by_value.option == "size"
    assert CalotypeError("no flag at all").option == ""


def test_several_options_are_joined():
    fault = CalotypeError("give {names}, not both", names=named(["width", "height"]))
    assert WORDING.fill(fault) == "give --width and --height, not both"


def test_a_fault_within_a_fault_is_worded_by_the_door_too():
    within = CalotypeError("{name} is not at hand", name="x", remedy=Remedy("pull_model", "x"))
    fault = CalotypeError("{option:lora}: {fault}", fault=within)
    assert str(fault) == "lora: x is not at hand; fetch it"
    assert WORDING.fill(fault) == "--lora: x is not at hand; fetch it: calotype models pull x"


def test_a_remedy_stands_at_the_end_or_where_the_template_has_it():
    remedy = Remedy("pull_model", "gfpgan-1.4")
    end = CalotypeError("{name} is not at hand", name="gfpgan-1.4", remedy=remedy)
    middle = CalotypeError("{name} is not at hand; {remedy}, or take another", name="gfpgan-1.4", remedy=remedy)
    assert WORDING.fill(end) == "gfpgan-1.4 is not at hand; fetch it: calotype models pull gfpgan-1.4"
    assert WORDING.fill(middle).endswith("; fetch it: calotype models pull gfpgan-1.4, or take another")
    assert WORDING.fill(end, with_remedy=False) == "gfpgan-1.4 is not at hand", "the door shows a button"


def test_every_remedy_has_its_words_at_every_door():
    assert ACTIONS.keys() == TO_TYPE.keys() and CLAUSES.keys() <= ACTIONS.keys()
    for action in ACTIONS:
        remedy = Remedy(action, "a-model")
        assert PLAIN.remedy(remedy) and WORDING.command(remedy) in WORDING.remedy(remedy)


def test_what_is_to_be_typed_is_safe_in_a_shell():
    assert WORDING.command(Remedy("install_packages", "torch>=2.10 numpy")) == "pip install 'torch>=2.10' numpy"
    assert WORDING.command(Remedy("remove_model", "$(reboot)")) == "calotype models remove '$(reboot)'"


# JSON and processes

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda name: name not in ("option", "task", "remedy"))
plain_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
remedies = st.none() | st.builds(Remedy, st.sampled_from(sorted(ACTIONS)), texts)
worded = st.sampled_from(["", "{option:mask_blur}", "{option:out}", "{task:caption}"])


@st.composite
def messages(draw, values=plain_values) -> Message:
    """A template of any text around all of its values."""
    given_values = draw(st.dictionaries(names, values, max_size=3))
    template = draw(worded)
    for name in given_values:
        template += draw(texts).replace("{", "{{").replace("}", "}}") + f"{{{name}}}"
    return Message(template, **given_values)


def errors(values: Any) -> Any:
    return st.builds(
        lambda kind, message, option, remedy: kind(message, option=option, remedy=remedy),
        st.sampled_from([CalotypeError, PictureError]),
        messages(values),
        st.sampled_from(["", "mask"]),
        remedies,
    )


nested = st.recursive(plain_values, lambda values: messages(values) | errors(values), max_leaves=6)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@given(messages(nested))
def test_a_message_is_the_same_after_json(message):
    again = Message.from_data(through_json(message.as_data()))
    assert again == message and again.values.keys() == message.values.keys()
    assert WORDING.fill(again) == WORDING.fill(message)


@given(errors(nested))
def test_an_error_is_the_same_after_json_and_after_a_process(fault):
    for again in (CalotypeError.from_data(through_json(fault.as_data())), pickle.loads(pickle.dumps(fault))):
        assert type(again) is type(fault)
        assert WORDING.fill(again) == WORDING.fill(fault) and str(again) == str(fault)
        assert (again.option, again.remedy, again.message) == (fault.option, fault.remedy, fault.message)


def test_what_json_does_not_know_becomes_text():
    message = Message("{path}: {fault}", path=Path("a"), fault=OSError("gone"))
    assert message.as_data()["values"] == {"path": "a", "fault": "gone"}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"template": "{a}", "values": {}},
        {"template": "{a", "values": {"a": 1}},
        {"template": "{}", "values": {"a": 1}},
        {"template": "{a:d}", "values": {"a": "x"}},
        {"template": "{a.__class__}", "values": {"a": 1}},
        {"template": "{a:{a.__class__}}", "values": {"a": 1}},
        {"template": "{a}", "values": [1]},
        {"template": None, "values": {}},
        {"template": "{a}", "values": {"a": {"no": "message"}}},
    ],
)
def test_other_data_is_no_message(data):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Message.from_data(data)


def test_a_remedy_that_no_door_knows_is_refused():
    with pytest.raises(ValueError, match="reboot"):
        CalotypeError.from_data(CalotypeError("x").as_data() | {"remedy": ["reboot", ""]})


def raise_in_worker() -> None:
    within = CalotypeError("{path} is not at hand", path=Path("x"), remedy=Remedy("pull_model", "x"))
    raise CalotypeError("{option:lora}: {fault}", fault=within, remedy=Remedy("list_models"))


def test_an_error_crosses_a_process():
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        fault = pool.submit(raise_in_worker).exception()
    assert type(fault) is CalotypeError and fault.option == "lora" and fault.remedy == Remedy("list_models")
    assert WORDING.fill(fault) == (
        "--lora: x is not at hand; fetch it: calotype models pull x; calotype models list shows all"
    )


# Translation

GERMAN = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "{path} is damaged: {count:,} tensors are missing": "in {path} fehlen {count:,} Tensoren: beschädigt",
    "{fault}; see {option:mask} of {task:imagine}": "siehe {option:mask} von {task:imagine}: {fault}",
    "fetch it": "lade es",
}


def compiled(entries: Mapping[str, str]) -> io.BytesIO:
    """A catalog as msgfmt compiles it: two tables of lengths and offsets, then all texts, each with a NUL behind."""
    texts = [text.encode() for pair in sorted(entries.items()) for text in pair]
    start, tables = 28 + 8 * len(texts), [[], []]
    for n, text in enumerate(texts):
        tables[n % 2] += [len(text), start]
        start += len(text) + 1
    head = (0x950412DE, 0, len(entries), 28, 28 + 4 * len(texts), 0, 0)
    numbers = [*head, *tables[0], *tables[1]]
    return io.BytesIO(struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(text + b"\0" for text in texts))


class German(Wording):
    """A door with a catalog and labels of its own."""

    catalog = gettext.GNUTranslations(compiled(GERMAN))

    def option(self, name: str) -> str:
        return f"[{name}]"

    def translate(self, template: str) -> str:
        return self.catalog.gettext(template)


def test_a_catalog_translates_the_template_and_keeps_the_values():
    message = Message("{path} is damaged: {count:,} tensors are missing", path="a.png", count=1200)
    assert German().fill(message) == "in a.png fehlen 1,200 Tensoren: beschädigt"
    fault = CalotypeError(
        "{fault}; see {option:mask} of {task:imagine}", fault=message, remedy=Remedy("pull_model", "x")
    )
    assert German().fill(fault) == ("siehe [mask] von imagine: in a.png fehlen 1,200 Tensoren: beschädigt; lade es")
    assert German().fill(Message("not in the catalog: {x}", x=1)) == "not in the catalog: 1"
    assert str(message) == "a.png is damaged: 1,200 tensors are missing", "no door at hand"


# Every file of the program

DOOR = "cli/"
DIALECTS = ("training/configs/", "training/prompts.py")  # these read and write other programs' flags
ERRORS = ("CalotypeError", "PictureError")
MAKERS = (*ERRORS, "Message", "note", "plural")
DEFINED = ("errors.py", "tasks/events.py")  # where those are defined
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*|(?<!\S)-o(?![\w-])")
SHEET = re.compile(r"\{[^{}]*;[^{}]*\}")  # a style sheet or a script: no placeholder has a semicolon
FRAGMENTS = re.compile(r"what|why|told|.*_[0-9]")  # names of values that say nothing to a translator
ABOUT = {"option", "remedy"}  # keywords of errors that say something about the sentence
SENTENCE = re.compile(rf"\b({'|'.join(ERRORS)}|Message)\b")


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax trees of all files, by their paths in the package."""
    files = sorted(ROOT.rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


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


def sentences(tree: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Every call that makes a sentence, and the function that it stands in, or the module."""
    home = {}
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))):  # outer ones first
        home |= dict.fromkeys(ast.walk(scope), scope)
    for node, scope in home.items():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
            yield node, scope


def faults(call: ast.Call, tree: ast.Module, scope: ast.AST, names: frozenset[str]) -> Iterator[str]:
    """What is wrong with a call that makes a sentence; `names` are those of messages."""
    values = {keyword.arg for keyword in call.keywords}
    if call.func.id == "plural":  # the count, the sentence of one and that of several
        texts, values = call.args[1:], values | {"count"}
    else:
        texts = call.args[:1] or [None]
    for text in texts:
        templates = list(literal_texts(text, scope, tree))
        if None not in templates:
            for template in templates:
                yield from faults_of_template(template, values, call.func.id)
        elif not is_message(text, names):
            yield f"its template is made as it runs: {ast.unparse(text)[:80] if text else 'nothing'}"


def literal_texts(node: ast.expr | None, *scopes: ast.AST) -> Iterator[str | None]:
    """The texts that an expression may be, directly, by a name in these scopes or in a table; None for any other."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=first, orelse=second):
            yield from (*literal_texts(first, *scopes), *literal_texts(second, *scopes))
        case ast.Subscript(value=ast.Name() as table):
            yield from literal_texts(table, *scopes)
        case ast.Dict(values=items):
            for item in items:
                yield from literal_texts(item, *scopes)
        case ast.Name(id=name) if values := next(filter(None, (values_of(name, scope) for scope in scopes)), None):
            for value in values:
                yield from literal_texts(value)
        case _:
            yield None


def values_of(name: str, scope: ast.AST) -> list[ast.expr | None]:
    """What a name is bound to in a function, or in a module outside of functions; None for an argument's value."""
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    found = []
    for node in nodes:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            found.append(node.value)
        elif isinstance(node, ast.arg) and node.arg == name:
            found.append(None)
    return found


def faults_of_template(template: str, values: set[str | None], maker: str) -> Iterator[str]:
    try:
        fields = list(placeholders(template))
    except ValueError as fault:
        yield f"{template!r} is no template: {fault}"
        return
    about = ABOUT & values if maker in ERRORS else set()
    for name, spec in fields:
        if name in ("option", "task", "remedy"):
            yield from faults_of_reserved(name, spec, about)
        elif not name.isidentifier() or name not in values:
            yield f"{{{name}}} is not given by name"
        elif FRAGMENTS.fullmatch(name):
            yield f"{{{name}}} says nothing to a translator"
    unused = values - {name for name, _ in fields} - about - ({"count"} if maker == "plural" else set())
    yield from (f"{name or 'what ** gives'} has no place in it" for name in sorted(unused, key=str))


def faults_of_reserved(name: str, spec: str, about: set[str]) -> Iterator[str]:
    flags, _ = command_line()
    if not spec and name not in about:
        yield f"{{{name}}} is not said"
    elif name == "option" and spec and "{" not in spec and WORDING.option(spec) not in {*flags, "-o"}:
        yield f"there is no option {spec}"
    elif name == "task" and "{" not in spec and spec not in COMMANDS:
        yield f"there is no task {spec}"


def placeholders(template: str) -> Iterator[tuple[str, str]]:
    """Names and format specifications, those within specifications too."""
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            yield name, spec or ""
            yield from placeholders(spec or "")


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
        for fault in faults_of_template(about(spec).help, set(), "")
    ]
    assert not found, "\n".join(["", *sorted(set(found))])


def test_every_sentence_is_a_whole_template_with_named_values():
    found = [
        f"calotype/{path}:{call.lineno} {fault}"
        for path, tree in sources().items()
        if path not in DEFINED
        for call, scope in sentences(tree)
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
        ("a = '{x}'\ndef f():\n  b = 'no'\n  note(b if x else a, x=1)", "x has no place in it"),
        ("T = {1: 'no {x}', 2: 'no {y}'}\ndef f():\n  note(T[n], x=1, y=2)", "y has no place in it"),
        ("a = 'no'\ndef f(a):\n  note(a)", "its template is made as it runs"),
        ("plural(n, '1 photo of {x}', '{count} photos of {x}', x=x)", None),
        ("plural(n, 'a photo', '{count} photos of {x}', x=x)", "x has no place in it"),
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
    found = [text for call, scope in sentences(tree) for text in faults(call, tree, scope, names)]
    assert (fault in found[0]) if fault else not found
