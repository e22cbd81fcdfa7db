"""The layout of `--help`: option names are never truncated, with the help beside or below them, grouped by panel."""

from typing import Any

from typer.core import TyperCommand

WIDEST = 120  # columns of a line
NAMES = 34  # columns for names; the help of longer ones starts on the next line


class Command(TyperCommand):
    """A command whose options are listed under their panels as headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_argument = param.param_type_name == "argument"
                panel = "Arguments" if is_argument else getattr(param, "rich_help_panel", None) or "Options"
                sections.setdefault(panel, []).append(record)
        for panel, records in sections.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=NAMES)
