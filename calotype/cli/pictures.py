"""`calotype restore`, `upscale` and `again`."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import TELL, argument, flag, flags, given, shape
from calotype.cli.show import reporter_for, show
from calotype.cli.wording import WORDING
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import TASKS, read_task
from calotype.tasks.output import Album

INPUTS = argument("inputs", list[Path], "pictures, folders of pictures, or patterns such as 'scans/*.jpg'", "INPUT")


def restore(**values: Any) -> int:
    """Restore old photos: the faces by a face network, all the rest by a super-resolution network.

    Results go to the folder "out", or to what -o says. What is done already is left alone, so the same command goes on
    after an interruption.
    """
    return _album("restore", values)


def upscale(**values: Any) -> int:
    """Enlarge pictures with a super-resolution network.

    Results go to the folder "out", or to what -o says. What is done already is left alone, so the same command goes on
    after an interruption.
    """
    return _album("upscale", values)


shape(restore, INPUTS, *flags(Album, TASKS["restore"], Settings), *TELL)
shape(upscale, INPUTS, *flags(Album, TASKS["upscale"], Settings), *TELL)


def _album(kind: str, values: dict[str, Any]) -> int:
    settings, output = Settings.gather(given(Settings, values)), read(Album, given(Album, values))
    task = read_task(kind, {**given(TASKS[kind], values), "source": values["inputs"][0]})
    from calotype import runner
    from calotype.engine import Engine

    request = runner.Request((task,), inputs=tuple(values["inputs"]))
    return show(runner.run(request, Engine(settings), output, wording=WORDING), reporter_for(values))


def again(**values: Any) -> int:
    """Make a result again from its record, and say whether it is the same to the last byte.

    The record is the .json beside a result, or the result itself, which carries it too. A picture that A1111, Forge or
    NovelAI drew is drawn again from the parameters in it, as far as the model is at hand.
    """

    from calotype import runner
    from calotype.cli.fast_import import imports_quickly
    from calotype.engine import Engine
    from calotype.outputs.reproduce import reproduction

    found = reproduction(
        values["record"],
        given(Settings, values),
        source=values["source"],
        out=values["out"],
        overwrite=bool(values["overwrite"]),
    )
    before = imports_quickly([found.task], found.settings) if found.is_drawn else None
    return show(runner.again(found, Engine(found.settings, before), wording=WORDING), reporter_for(values))


shape(
    again,
    argument("record", Path, "the .json beside a result, or the result", "RECORD"),
    flag("out", "file of the new result (default NAME-again beside the record)", "-o", "--out", kind=Path | None),
    flag("source", "where the picture lies now, if not where it was", kind=Path | None),
    flag("overwrite", "replace a file that lies there"),
    *flags(Settings),
    *TELL,
)
