"""`calotype imagine`: pictures from words."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import TELL, argument, flag, flags, given, shape
from calotype.cli.show import reporter_for, show
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import Imagine, read_task
from calotype.tasks.output import DrawingOutput


def imagine(**values: Any) -> int:
    """Make pictures from words.

    Pictures go to the folder "out", or to what -o says; none takes the place of another. Each carries its prompt and
    parameters as A1111 writes them, and the record from which `calotype again` makes it once more.
    """

    from calotype import runner
    from calotype.cli.fast_import import imports_quickly
    from calotype.dialects.a1111 import tasks_from_file
    from calotype.engine import Engine

    settings, output = Settings.gather(given(Settings, values)), read(DrawingOutput, given(DrawingOutput, values))
    asked = {name: value for name, value in given(Imagine, values).items() if name != "prompt"}
    if values["from_file"]:
        if values["prompt"]:
            raise CalotypeError("give a prompt or {option:from_file}, not both")
        tasks = tuple(tasks_from_file(values["from_file"], asked))
    else:
        tasks = (read_task("imagine", {**asked, "prompt": values["prompt"] or ""}),)
    request = runner.Request(tasks, is_list=bool(values["from_file"]))
    engine = Engine(settings, imports_quickly(tasks, settings))
    return show(runner.run(request, engine, output, wording=WORDING), reporter_for(values))


shape(
    imagine,
    argument("prompt", str | None, "what to draw; may be left out", "PROMPT", None),
    flag(
        "from_file",
        "draw each line of a text file; a line may be '--prompt \"...\" --steps 20', and one with # is passed over",
        kind=Path | None,
    ),
    *flags(DrawingOutput, Imagine, Settings),
    *TELL,
)
