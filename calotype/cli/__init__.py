"""The command line: builds a request from flags, hands it to the runner, shows the events. No command imports torch
before it has something to compute."""

import contextlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from calotype import __version__
from calotype.cli import bench, imagine, look, lora, models, pictures, threads, train
from calotype.cli.help import WIDEST, Command
from calotype.cli.show import ALL_DONE, INTERRUPTED, SOME_FAILED, USAGE, complain, print_json
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, PictureError
from calotype.options import nearest

EITHER_WAY = {"token_normalize_func": lambda name: name.replace("_", "-")}  # --max_train_epochs, as in sd-scripts
COMMANDS = (pictures.restore, pictures.upscale, imagine.imagine, pictures.again, look.info, look.doctor)
GROUPS = {
    "train": (train.HELP, train.COMMANDS),
    "lora": (lora.HELP, lora.COMMANDS),
    "models": (models.HELP, models.COMMANDS),
    "bench": (bench.HELP, bench.COMMANDS),
}


def app() -> typer.Typer:
    """The whole command line. Made when called, so that importing this module does nothing."""
    made = _group(
        "Restores and enlarges photos, and makes pictures from words, on this computer. Nothing leaves it.",
        COMMANDS,
        invoke_without_command=True,
    )
    made.callback()(_top)
    for name, (help, commands) in GROUPS.items():
        made.add_typer(_group(help, commands), name=name, short_help=help)
    return made


def _group(help: str, commands: Sequence[Any], **more: Any) -> typer.Typer:
    how = {
        "no_args_is_help": True,
        "add_completion": False,
        "rich_markup_mode": None,  # its tables cut names of options short in a terminal of 80 columns
        "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
    }
    made = typer.Typer(help=help, **how, **more)
    for command in commands:
        name = command.__name__.rstrip("_").replace("_", "-")
        in_short = inspect.getdoc(command).splitlines()[0]  # typer's own is cut
        made.command(name, cls=Command, context_settings=EITHER_WAY, short_help=in_short)(command)
    return made


def _top(
    version: bool = typer.Option(False, "--version", help="print the version and end", show_default=False),
) -> None:
    """Restores and enlarges photos, and makes pictures from words, on this computer. Nothing leaves it."""
    if version:
        print(f"calotype {__version__}")
        raise typer.Exit


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["train"]:
        args = train.joined(args)
    threads.rest()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show is no reason to fail
    try:
        return typer.main.get_command(app()).main(args, prog_name="calotype", standalone_mode=False) or ALL_DONE
    except CalotypeError as fault:
        return _refused(WORDING.fill(fault), args, SOME_FAILED if isinstance(fault, PictureError) else USAGE)
    except TyperException as fault:
        if not args or type(fault).__name__ == "NoArgsIsHelpError":
            print(fault.format_message())
            return USAGE
        return _refused(_sentence(fault), args)
    except KeyboardInterrupt:  # while the commands are put together
        return INTERRUPTED


def enter() -> None:
    """The program in a process of its own, where imports may take short cuts, and the end need not be tidy: to take
    torch apart takes most of a second and helps nobody."""
    threads.OWN_PROCESS.append(True)
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(status)


def _refused(sentence: str, args: Sequence[str], status: int = USAGE) -> int:
    if "--json" in args:
        print_json({"event": "error", "text": sentence})
    complain(sentence)
    return status


def _sentence(fault: TyperException) -> str:
    """typer's usage errors in our words, with the nearest name that exists."""
    context = getattr(fault, "ctx", None)
    where = context.command_path if context else "calotype"
    unknown = getattr(fault, "option_name", None)
    if unknown and type(fault).__name__ == "NoSuchOption":
        names = [name for param in context.command.params for name in param.opts + param.secondary_opts]
        return f"{where} has no option {unknown}{nearest(unknown, names)}; `{where} --help` lists them"
    text = fault.format_message().strip().rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; `{where} --help` tells more"
