"""What `--help` shows: every name whole, what it does beside it or on the line below, in the order of panels."""

from typing import Any

from typer.core import TyperCommand

WIDEST = 120  # columns; longer lines are tiring
NAMES = 34  # columns for names; what is behind longer ones goes to the next line


class Command(TyperCommand):
    """A command whose options are listed under the headings that flags have as panels."""

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
