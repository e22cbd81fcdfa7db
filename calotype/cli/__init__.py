"""The command line: builds a request from flags, passes it to the runner, shows the events. torch is imported only when
a command computes something."""

import inspect
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from calotype import __version__
from calotype.cli import (
    bench,
    bot,
    imagine,
    look,
    lora,
    mcp,
    models,
    pictures,
    serve,
    streams,
    threads,
    train,
    users,
    worker,
)
from calotype.cli.flags import flag, set_signature, texts
from calotype.cli.help import WIDEST, Group, described, paragraphs
from calotype.cli.show import ALL_DONE, INTERRUPTED, PARTLY_FAILED, USAGE, print_error, print_json
from calotype.cli.wording import WORDING, CommandLine
from calotype.errors import CalotypeError, Message, PictureError, Wording, reason_of, recognized
from calotype.options import nearest

CONTEXT_SETTINGS = {
    "token_normalize_func": lambda name: name.replace("_", "-")
}  # accepts --max_train_epochs, as in sd-scripts
COMMANDS = (
    pictures.restore,
    pictures.upscale,
    pictures.examine,
    pictures.split,
    pictures.colour,
    imagine.imagine,
    pictures.again,
    pictures.faces,
    look.info,
    look.doctor,
    serve.serve,
    mcp.mcp,
    bot.bot,
    worker.worker,
)
HELP = "Restores and upscales photos, and generates pictures from prompts, on this computer. Nothing leaves it."
USAGE_ERRORS = (
    "missing argument '{name}'",
    "no such command '{name}'. Did you mean '{nearest}'?",
    "no such command '{name}'",
    "option '{name}' requires an argument",
    "option '{name}' does not take a value",
    "got unexpected extra argument(s) ({names})",
    "invalid value for '{name}': Input should be a valid integer, unable to parse string as an integer",
    "invalid value for '{name}': Input should be greater than or equal to {least}",
    "invalid value for '{name}': {reason}",
)  # typer's own sentences
GROUPS = {
    "train": (train.HELP, train.COMMANDS),
    "lora": (lora.HELP, lora.COMMANDS),
    "models": (models.HELP, models.COMMANDS),
    "users": (users.HELP, users.COMMANDS),
    "bench": (bench.HELP, bench.COMMANDS),
}


def app() -> typer.Typer:
    """The typer app in the user's language; created on call, so that importing this module has no effect."""
    wording = CommandLine(WORDING.language)
    group = {"texts": texts(_print_version)}
    language = wording.translate("Language: CALOTYPE_LANG=en or CALOTYPE_LANG=zh, else as this computer's.")
    cls = type("Group", (Group,), group)
    root = _group(HELP, COMMANDS, wording, cls, invoke_without_command=True, epilog=language)
    root.callback(help=wording.translate(HELP))(_print_version)
    for name, (help, commands) in GROUPS.items():
        root.add_typer(_group(help, commands, wording), name=name, short_help=wording.translate(help))
    return root


def _group(
    help: str, commands: Sequence[Any], wording: Wording, cls: type[Group] = Group, **kwargs: Any
) -> typer.Typer:
    settings = {
        "no_args_is_help": True,
        "add_completion": False,
        "rich_markup_mode": None,  # its tables truncate option names in a terminal of 80 columns
        "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
    }
    group = typer.Typer(help=wording.translate(help), cls=cls, **settings, **kwargs)
    for command in commands:
        name = command.__name__.rstrip("_").replace("_", "-")
        lines = [wording.translate(text) for text in paragraphs(inspect.getdoc(command))]
        shown = {"short_help": lines[0], "help": "\n\n".join(lines)}  # typer's own short one is truncated
        group.command(name, cls=described(command), context_settings=CONTEXT_SETTINGS, **shown)(command)
    return group


def _print_version(version: bool) -> None:
    if version:
        print(f"calotype {__version__}")
        raise typer.Exit


set_signature(_print_version, flag("version", "print the version and exit"))


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0 success, 1 some pictures failed, 2 usage error, 130 interrupted."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["train"]:
        args = train.join_values(args)
    threads.rest()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal can't show
    try:
        return typer.main.get_command(app()).main(args, prog_name="calotype", standalone_mode=False) or ALL_DONE
    except CalotypeError as fault:
        return _print_failure(WORDING.fill(fault), args, PARTLY_FAILED if isinstance(fault, PictureError) else USAGE)
    except TyperException as fault:
        if not args or type(fault).__name__ == "NoArgsIsHelpError":
            print(fault.format_message())
            return USAGE
        return _print_failure(_usage_message(fault), args)
    except KeyboardInterrupt:  # while the app is created
        return INTERRUPTED


def enter() -> None:
    """Entry point of the program in its own process, where quick imports are safe. Exits without interpreter shutdown:
    freeing torch takes almost a second."""
    threads.OWN_PROCESS.append(True)
    streams.open_streams()
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends in any case
    if fault := streams.flush_streams():
        print_error(WORDING.fill(Message("the output cannot be written completely: {reason}", reason=reason_of(fault))))
        status = status or PARTLY_FAILED
    os._exit(status)


def _print_failure(sentence: str, args: Sequence[str], status: int = USAGE) -> int:
    if "--json" in args:
        print_json({"event": "error", "text": sentence})
    print_error(sentence)
    return status


def _usage_message(fault: TyperException) -> str:
    """typer's usage error as one sentence, with the nearest existing name."""
    context = getattr(fault, "ctx", None)
    where = context.command_path if context else "calotype"
    unknown = getattr(fault, "option_name", None)
    if unknown and type(fault).__name__ == "NoSuchOption":
        names = [name for param in context.command.params for name in param.opts + param.secondary_opts]
        template = "{command} has no option {name}{hint}; `{command} --help` lists them"
        return WORDING.fill(Message(template, command=where, name=unknown, hint=nearest(unknown, names)))
    text = fault.format_message().strip().rstrip(".")
    cause = recognized(f"{text[:1].lower()}{text[1:]}", USAGE_ERRORS)
    return WORDING.fill(Message("{cause}; see `{command} --help`", cause=cause, command=where))
