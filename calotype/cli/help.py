"""The layout of `--help`: option names are never truncated, with the help beside or below them, grouped by panel.

It is in the language of the user; where a text has wide characters, lines are broken between these.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from calotype.cli.flags import Text, texts
from calotype.cli.wording import WORDING

WIDEST = 120  # columns of a line
NAMES = 34  # columns for names; the help of longer ones starts on the next line
WIDE = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
LIST = re.compile(r"<list\[(\w+)\]>")  # typer's name of what may be given several times
FRAGMENT = re.compile(
    rf"\s+|[（《“‘]*(?:[{WIDE}]|[^\s{WIDE}“‘]+)[，。；：！？、）》”’】]*"
)  # no line begins with a comma


def described(function: Callable) -> type["Command"]:
    """The class of a command, for typer."""
    return type("Command", (Command,), {"texts": texts(function)})


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring, each as one line: as the catalog has them."""
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def is_wide(text: str) -> bool:
    return bool(re.search(f"[{WIDE}]", text))


def columns(text: str) -> int:
    """The columns of a terminal that a text takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text with wide characters."""
    lines = [""]
    for fragment in FRAGMENT.findall(text):
        if lines[-1] and columns(lines[-1] + fragment.rstrip()) > width:
            lines.append("")
        lines[-1] += fragment if lines[-1] else fragment.lstrip()
    return [line.rstrip() for line in lines if line.strip()]


class Formatter(typer.Context.formatter_class):
    """The formatter of help texts, in the user's language."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, WORDING.translate("Usage: "))

    def write_heading(self, heading: str) -> None:
        self.write(" " * self.current_indent + WORDING.translate("{heading}:").format(heading=heading) + "\n")

    def write_text(self, text: str) -> None:
        if not is_wide(text):
            super().write_text(text)
            return
        blocks = [wrapped(paragraph, self.width - self.current_indent) for paragraph in paragraphs(text)]
        indent = " " * self.current_indent
        self.write("\n\n".join("\n".join(indent + line for line in block) for block in blocks) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if not any(map(is_wide, (text for row in rows for text in row))):
            super().write_dl(rows, col_max, col_spacing)
            return
        start = self.current_indent + min(max(columns(name) for name, _ in rows), col_max) + col_spacing
        for name, text in rows:
            lines = wrapped(text, max(self.width - start, 10)) or [""]
            name = " " * self.current_indent + name
            gap = " " * (start - columns(name))
            lines = [name + gap + lines[0], *lines[1:]] if gap else [name, *lines]
            self.write(("\n" + " " * start).join(lines).rstrip() + "\n")


class Context(typer.Context):
    formatter_class = Formatter


class _Layout:
    """Options listed under their panels as headings; what typer itself writes, in the user's language."""

    context_class = Context
    texts: Mapping[str, Text] = {}

    def get_help_option(self, ctx: Any) -> Any:
        found = super().get_help_option(ctx)
        if found:
            found.help = WORDING.translate("Show this message and exit.")
        return found

    def write_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                name, extra = record  # typer's help is empty, but for the one of --help
                name = LIST.sub(lambda found: f"<{found[1].lower()}>...", name)
                text = self.texts.get(param.name)
                is_argument = param.param_type_name == "argument"
                panel = "Arguments" if is_argument else text.panel if text and text.panel else "Options"
                extra = f"  {extra}" if text and extra else extra
                extra = extra.replace("  [required]", WORDING.translate("  [required]"))
                sections.setdefault(panel, []).append((name, (text.worded() if text else "") + extra))
        for panel, records in sections.items():
            with formatter.section(WORDING.translate(panel)):
                formatter.write_dl(records, col_max=NAMES)


class Command(_Layout, TyperCommand):
    """A command whose class has the texts of its parameters: `described(function)` makes it."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.write_options(ctx, formatter)


class Group(_Layout, TyperGroup):
    """A group of commands, listed below its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.write_options(ctx, formatter)
        rows = [(name, self.commands[name].short_help or "") for name in self.list_commands(ctx)]
        with formatter.section(WORDING.translate("Commands")):
            formatter.write_dl(rows)
