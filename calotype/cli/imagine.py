"""`calotype imagine`: pictures from prompts."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import OUTPUT_FLAGS, argument, flag, flags, given_options, set_signature
from calotype.cli.show import reporter_for, show
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import Imagine, read_task
from calotype.tasks.output import DrawingOutput


def imagine(**values: Any) -> int:
    """Generate pictures from prompts.

    Pictures are written to the folder "out", or to -o; none overwrites another. Each contains its prompt and parameters
    as A1111 writes them, and the record from which `calotype again` reproduces it.
    """

    from calotype import runner
    from calotype.cli.fast_import import quick_import_hook
    from calotype.dialects.a1111 import tasks_from_file
    from calotype.engine import Engine

    settings, output = (
        Settings.gather(given_options(Settings, values)),
        read(DrawingOutput, given_options(DrawingOutput, values)),
    )
    options = {name: value for name, value in given_options(Imagine, values).items() if name != "prompt"}
    if values["from_file"]:
        if values["prompt"]:
            raise CalotypeError("give a prompt or {option:from_file}, not both")
        tasks = tuple(tasks_from_file(values["from_file"], options))
    else:
        tasks = (read_task("imagine", {**options, "prompt": values["prompt"] or ""}),)
    request = runner.Request(tasks, is_list=bool(values["from_file"]))
    engine = Engine(settings, quick_import_hook(tasks, settings))
    return show(runner.run(request, engine, output, wording=WORDING), reporter_for(values))


set_signature(
    imagine,
    argument("prompt", str | None, "prompt; may be omitted", "PROMPT", None),
    flag(
        "from_file",
        "generate each line of a text file; a line may be '--prompt \"...\" --steps 20', and # starts a comment",
        kind=Path | None,
    ),
    *flags(DrawingOutput, Imagine, Settings),
    *OUTPUT_FLAGS,
)
