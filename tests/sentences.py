"""Reads the program's files: the calls that make sentences, and the texts that an expression may be."""

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import calotype

ROOT = Path(calotype.__file__).parent


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax trees of all files, by their paths in the package."""
    files = sorted(ROOT.rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


def calls(tree: ast.Module, functions: Collection[str]) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Every call of one of these functions, and the function that it stands in, or the module."""
    home = {}
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))):  # outer ones first
        home |= dict.fromkeys(ast.walk(scope), scope)
    for node, scope in home.items():
        if isinstance(node, ast.Call) and name_of(node) in functions:
            yield node, scope


def name_of(call: ast.Call) -> str:
    """The name of the function that is called; of methods only `translate`: others of these names are other things."""
    method = getattr(call.func, "attr", "")
    return method if method == "translate" else getattr(call.func, "id", "")


def literal_texts(node: ast.expr | None, *scopes: ast.AST) -> Iterator[str | None]:
    """The texts that an expression may be, directly, by a name in these scopes or in a table; None for any other."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=first, orelse=second):
            yield from (*literal_texts(first, *scopes), *literal_texts(second, *scopes))
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, default]):
            yield from (*literal_texts(table, *scopes), *literal_texts(default, *scopes))
        case ast.Call(func=ast.Attribute(attr="fromkeys"), args=[_, default]):
            yield from literal_texts(default, *scopes)
        case ast.Dict(values=items) | ast.Tuple(elts=items) | ast.List(elts=items):
            for item in items:
                yield from literal_texts(item, *scopes)
        case ast.Subscript(value=table):
            yield from literal_texts(table, *scopes)
        case ast.Name() | ast.Attribute(value=ast.Name()):
            values, homes = values_of(node, *scopes)
            for value in values or [None]:
                yield from literal_texts(value, *homes)
        case _:
            yield None


def values_of(node: ast.expr, *scopes: ast.AST) -> tuple[list[ast.expr | None], tuple[ast.AST, ...]]:
    """What a name is bound to, None for an argument's value; and the scopes from there on: a function, its module, or
    another module, from which the name or its module is imported."""
    module = node.value.id if isinstance(node, ast.Attribute) else ""
    name = node.attr if module else node.id
    for n, scope in () if module else enumerate(scopes):
        nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
        bound_here = [value for node in nodes for value in bindings(node, name)]
        if bound_here:
            return bound_here, scopes[n:]
    for node in ast.walk(scopes[-1]):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            path = f"{node.module}.{alias.name}" if module else node.module
            other = sources().get("/".join(path.split(".")[1:]) + ".py")
            if other and alias.name == (module or name):
                return values_of(ast.Name(name), other)
    return [], scopes


def bindings(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """What a statement or an argument binds a name to; None where that is not said, or by the name itself."""
    if isinstance(node, ast.arg) and node.arg == name:
        yield None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    if any(isinstance(target, ast.Name) and target.id == name for target in targets):
        is_own = any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.value or node))
        yield None if is_own else node.value


def placeholders(template: str) -> Iterator[tuple[str, str]]:
    """Names and format specifications, those within specifications too."""
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            yield name, spec or ""
            yield from placeholders(spec or "")
