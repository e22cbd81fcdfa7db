"""`calotype restore`, `upscale`, `examine`, `split`, `colour`, `again` and `faces`."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import OUTPUT_FLAGS, argument, flag, flags, given_options, set_signature
from calotype.cli.show import reporter_for, show
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import TASKS, FindFaces, Imagine, read_task
from calotype.tasks.output import Album

INPUTS = argument("inputs", list[Path], "pictures, folders of pictures, or patterns such as 'scans/*.jpg'", "INPUT")


def restore(**values: Any) -> int:
    """Restore old photos: the faces by a face restoration network, the rest by a super-resolution network.

    Results are written to the folder "out", or to -o. Existing results are skipped, so the same command resumes after
    an interruption.
    """
    return _examine(values) if values["plan"] else _run_album("restore", values)


def upscale(**values: Any) -> int:
    """Upscale pictures with a super-resolution network.

    Results are written to the folder "out", or to -o. Existing results are skipped, so the same command resumes after
    an interruption.
    """
    return _run_album("upscale", values)


def examine(**values: Any) -> int:
    """Measure what is wrong with photos, and tell what restoring them would do; nothing is written.

    Each measure has its figure, the threshold from which it counts, and the decision. A measure that counts is marked.
    The options are those of restore, which decides alike.
    """
    return _examine(values)


def split(**values: Any) -> int:
    """Cut the photos out of scans that hold several, each turned straight and upright.

    Results are written to the folder "out", or to -o, as SCAN-01, SCAN-02 and so on, in reading order. Existing results
    are skipped, so the same command resumes after an interruption.
    """
    return _run_album("split", {**values, "dry_run": values["plan"] or None})


def colour(**values: Any) -> int:
    """Colour black and white photos, by strokes of colour or by a photo in colour.

    The lightness of every pixel stays as it is, bit for bit. Results are written to the folder "out", or to -o.
    Existing results are skipped, so the same command resumes after an interruption.
    """
    return _run_album("colour", values)


PLAN = flag("plan", "measure the photos and tell what would be done, as examine does; write nothing", panel="Output")
FOUND = ("out", "side")  # of the task: what examine does not write
set_signature(
    restore,
    INPUTS,
    *flags(Album, TASKS["restore"], Settings),
    PLAN,
    *OUTPUT_FLAGS,
)
set_signature(
    examine,
    INPUTS,
    *(parameter for parameter in flags(FindFaces, Settings) if parameter.name not in FOUND),
    *(parameter for parameter in flags(Album) if parameter.name in ("pages", "recursive")),
    *OUTPUT_FLAGS,
)
SPLIT_PLAN = flag("plan", "tell which photos are found and where; write nothing", panel="Output")
set_signature(
    split,
    INPUTS,
    *(parameter for parameter in flags(Album, TASKS["split"], Settings) if parameter.name != "dry_run"),
    SPLIT_PLAN,
    *OUTPUT_FLAGS,
)
set_signature(colour, INPUTS, *flags(Album, TASKS["colour"], Settings), *OUTPUT_FLAGS)
set_signature(upscale, INPUTS, *flags(Album, TASKS["upscale"], Settings), *OUTPUT_FLAGS)


def _run_album(kind: str, values: dict[str, Any]) -> int:
    settings, output = Settings.gather(given_options(Settings, values)), read(Album, given_options(Album, values))
    task = read_task(kind, {**given_options(TASKS[kind], values), "source": values["inputs"][0]})
    _check_pictures_beside(task)
    from calotype import runner
    from calotype.engine import Engine

    request = runner.Request((task,), inputs=tuple(values["inputs"]))
    return show(runner.run(request, Engine(settings), output, wording=WORDING), reporter_for(values))


def _check_pictures_beside(task: Any) -> None:
    """Raises CalotypeError if what is invented in faces is asked for, and none is restored, or if the mask of what is
    repaired is, and nothing is.

    In a request that is no error: the page asks for them once, for photos of which some have no face to restore.
    """
    if getattr(task, "has_mask", False) and task.aligned:
        raise CalotypeError(
            "{option:aligned} repairs nothing, so {option:has_mask} has no effect; leave one of them out"
        )
    if getattr(task, "has_uncertainty", False) and (task.aligned or "none" in (task.faces, task.face_model)):
        raise CalotypeError("no face is restored, so {option:has_uncertainty} has no effect; leave it out")


def _examine(values: dict[str, Any]) -> int:
    if values.get("aligned"):
        raise CalotypeError("{option:plan} measures whole photos; leave {option:aligned} out", option="plan")
    settings = Settings.gather(given_options(Settings, values))
    output = Album(**{name: values[name] for name in ("pages", "recursive") if values.get(name)})
    given = {name: value for name, value in given_options(FindFaces, values).items() if name not in FOUND}
    task = read_task("find_faces", {**given, "source": values["inputs"][0]})
    from calotype import runner
    from calotype.engine import Engine

    request = runner.Request((task,), inputs=tuple(values["inputs"]))
    reporter = reporter_for(values)
    return show(runner.run(request, Engine(settings), output, wording=WORDING), reporter)


def again(**values: Any) -> int:
    """Reproduce a result from its record, and compare it byte by byte.

    The record is the .json beside a result, or the result itself, which contains it too. A picture of A1111, Forge,
    SD.Next, Fooocus, NovelAI, ComfyUI, InvokeAI, SwarmUI, AI Horde or Easy Diffusion is generated again from the
    parameters in it, if the model is installed. Options of generation override those of the picture.
    """

    from calotype import runner
    from calotype.cli.fast_import import quick_import_hook
    from calotype.engine import Engine
    from calotype.outputs.reproduce import reproduction

    reproduced = reproduction(
        values["record"],
        given_options(Settings, values),
        source=values["source"],
        out=values["out"],
        overwrite=bool(values["overwrite"]),
        options=given_options(Imagine, values),
    )
    before_torch = quick_import_hook([reproduced.task], reproduced.settings) if reproduced.is_drawn else None
    return show(
        runner.again(reproduced, Engine(reproduced.settings, before_torch), wording=WORDING), reporter_for(values)
    )


set_signature(
    again,
    argument("record", Path, "the .json beside a result, or the result", "RECORD"),
    flag("out", "file of the new result (default NAME-again beside the record)", "-o", "--out", kind=Path | None),
    flag("source", "current path of the source, if it was moved", kind=Path | None),
    flag("overwrite", "overwrite an existing file"),
    flag("prompt", "another prompt", kind=str | None),
    *flags(Imagine, Settings),
    *OUTPUT_FLAGS,
)


def faces(**values: Any) -> int:
    """Find the faces of a photo, numbered as --faces takes them, and write a small copy of it."""
    from calotype import runner
    from calotype.engine import Engine

    settings = Settings.gather(given_options(Settings, values))
    task = read_task("find_faces", {**given_options(FindFaces, values), "source": values["source"]})
    return show(runner.run(runner.Request((task,)), Engine(settings)), reporter_for(values))


set_signature(
    faces,
    argument("source", Path, "photo", "PHOTO"),
    *flags(FindFaces, Settings),
    *OUTPUT_FLAGS,
)
