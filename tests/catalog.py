"""The catalog of texts: extracted from the program's files, written as .po for translators and .mo for the program.

python -m tests.catalog        adds new texts to every catalog, removes those that are gone, and compiles it
python -m tests.catalog -l     lists the texts that have no translation
"""

import argparse
import ast
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from calotype.cli.help import paragraphs
from calotype.languages import ENGLISH, FOLDER, NAMES
from calotype.options import title_of
from tests.sentences import ROOT, calls, literal_texts, name_of, sources

MAKERS = {"Message": (0,), "note": (0,), "plural": (1, 2), "Refusal": (1,)}  # where in their arguments texts stand
MAKERS |= {"Progress": (2,), "Drawing": (2,), "Learning": (2,), "Finding": (0,)}  # words, which interfaces translate
MAKERS |= {"flag": (1,), "argument": (2,), "translate": (0,), "_": (0,), "table": (0, 1), "Entry": (2, 3)}
MAKERS |= {"OpenLimiter": (1,)}
KEYWORDS = ("panel", "what")  # of these calls
CONSTANTS = ("TITLE", "HELP", "WORDS", "USAGE_ERRORS", "REASONS", "TEMPLATES")  # texts themselves
ONLY_VALUES = re.compile(r"(\{[^{}]*\}|\s)*")
NOTE = re.compile(r"(its|the|some|BMP|a|of) [^{]*$")  # as notes about pictures begin
TAG = re.compile(r'\b_\(\s*("(?:[^"\\\n]|\\.)*")')  # of a template or a script: _("{count} photos", ...)


def errors() -> set[str]:
    """CalotypeError and all classes derived from it."""
    classes = [node for tree in sources().values() for node in tree.body if isinstance(node, ast.ClassDef)]
    found: set[str] = {"CalotypeError"}
    while more := {c.name for c in classes if {ast.unparse(base) for base in c.bases} & found} - found:
        found |= more
    return found


def texts() -> Iterator[tuple[str, str]]:
    """Every text that a user may read, and the file that it stands in; some more than once."""
    makers = dict.fromkeys(errors(), (0,)) | MAKERS
    for path, tree in sources().items():
        for text in (*texts_of_calls(tree, makers), *texts_of_classes(tree), *texts_of_commands(tree)):
            yield text, path
        if path.startswith("picture/codecs/") or path == "picture/metadata/exif.py":
            yield from ((text, path) for text in texts_of_calls(tree, {"ValueError": (0,)}))  # why a file is damaged
        if path.startswith("picture/"):
            yield from ((text, path) for text in notes_of_pictures(tree))
    for page in sorted((*ROOT.glob("templates/*.html"), *ROOT.glob("web/**/*.js"))):
        for text in TAG.findall(page.read_text("utf-8")):
            yield json.loads(text), page.relative_to(ROOT).as_posix()


def texts_of_calls(tree: ast.Module, makers: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for call, scope in calls(tree, makers):
        args = [call.args[n] for n in makers[name_of(call)] if n < len(call.args) and not is_spread(call.args[: n + 1])]
        args += [word.value for word in call.keywords if word.arg in KEYWORDS]
        for arg in args:
            yield from (text for text in literal_texts(arg, scope, tree) if text)


def is_spread(args: list[ast.expr]) -> bool:
    return any(isinstance(arg, ast.Starred) for arg in args)


def texts_of_classes(tree: ast.Module) -> Iterator[str]:
    """Titles and help of options, the headings above them, and what their classes are."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign)) and target_of(node) in CONSTANTS:
            yield from (text for text in literal_texts(node.value, tree) if text)
        if not isinstance(node, ast.ClassDef):
            continue
        fields = [stated for stated in node.body if isinstance(stated, ast.AnnAssign)]
        if any(is_call_of(field.value, "option", "same_as") for field in fields):
            yield (ast.get_docstring(node) or "").partition("\n")[0]
        for field in fields:
            if is_call_of(field.value, "option"):
                yield from texts_of_option(field.target.id, field.value, tree)


def target_of(node: ast.Assign | ast.AugAssign) -> str:
    return ast.unparse(node.target if isinstance(node, ast.AugAssign) else node.targets[0])


def is_call_of(node: ast.expr | None, *names: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in names


def texts_of_option(name: str, call: ast.Call, tree: ast.Module) -> Iterator[str]:
    words = {word.arg: word.value for word in call.keywords}
    if "is_hidden" in words:
        return
    help = call.args[1] if len(call.args) > 1 else words.get("help")
    yield from (text for text in literal_texts(help, tree) if text)
    yield from literal_texts(words["title"], tree) if "title" in words else [title_of(name)]


def texts_of_commands(tree: ast.Module) -> Iterator[str]:
    """The descriptions of commands, paragraph by paragraph: docstrings of functions whose signature is set."""
    names = {ast.unparse(call.args[0]) for call, _ in calls(tree, ("set_signature",))}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            yield from paragraphs(inspect.cleandoc(ast.get_docstring(node) or ""))


def notes_of_pictures(tree: ast.Module) -> Iterator[str]:
    """Texts that are appended or assigned to `notes`, or stand in a constant X_NOTE: sentences without values."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="notes"), attr="append"), args=[value]):
                pass
            case ast.Assign(targets=[target], value=value) | ast.AugAssign(target=target, value=value):
                if not re.search(r"(notes|_NOTE)\b", ast.unparse(target)):
                    continue
            case ast.keyword(arg="notes", value=value) | ast.Return(value=value):
                pass
            case _:
                continue
        for part in ast.walk(value or node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and NOTE.match(part.value):
                yield part.value


def extracted() -> Catalog:
    catalog = Catalog()
    for text, path in texts():
        if not ONLY_VALUES.fullmatch(text):
            catalog.add(text, locations=[(f"calotype/{path}", 0)])
    return catalog


def po_file(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / "calotype.po"


def read(language: str) -> Catalog:
    with po_file(language).open("rb") as file:
        return read_po(file, abort_invalid=True)


def compiled(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def write(catalog: Catalog, path: Path) -> None:
    catalog.msgid_bugs_address = catalog.last_translator = catalog.language_team = ""
    catalog.revision_date = catalog.creation_date
    with path.open("wb") as file:
        write_po(file, catalog, width=119, sort_by_file=True, ignore_obsolete=True, include_lineno=False)
    path.with_suffix(".mo").write_bytes(compiled(catalog))


def update(language: str) -> Catalog:
    """The catalog of a language with the program's texts of today."""
    catalog = read(language)
    catalog.update(extracted(), no_fuzzy_matching=True, update_creation_date=False)
    return catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-l", "--list", action="store_true")
    is_list = parser.parse_args().list
    for language in NAMES.keys() - {ENGLISH}:
        catalog = update(language)
        missing = [message.id for message in catalog if message.id and not message.string]
        if is_list:
            print(*map(repr, missing), sep="\n")
        else:
            write(catalog, po_file(language))
            print(f"{language}: {len(catalog)} texts, {len(missing)} without a translation")


if __name__ == "__main__":
    main()
