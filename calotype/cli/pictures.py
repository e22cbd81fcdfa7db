"""`calotype restore`, `upscale` and `again`."""

from pathlib import Path
from typing import Any

from calotype.album import Album, plan, readable
from calotype.album.names import beside, format_of
from calotype.cli.flags import TELL, argument, flag, flags, given, shape
from calotype.cli.show import Quiet, listener
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.settings import Settings
from calotype.tasks import TASKS, read_task

INPUTS = argument("inputs", list[Path], "pictures, folders of pictures, or patterns such as 'scans/*.jpg'", "INPUT")


def restore(**values: Any) -> int:
    """Restore old photos: the faces by a face network, all the rest by a super-resolution network.

    Results go to the folder "out", or to what -o says. What is done already is left alone, so the same command goes on
    after an interruption.
    """
    return _batch("restore", values)


def upscale(**values: Any) -> int:
    """Enlarge pictures with a super-resolution network.

    Results go to the folder "out", or to what -o says. What is done already is left alone, so the same command goes on
    after an interruption.
    """
    return _batch("upscale", values)


shape(restore, INPUTS, *flags(Album, TASKS["restore"], Settings), *TELL)
shape(upscale, INPUTS, *flags(Album, TASKS["upscale"], Settings), *TELL)


def _batch(kind: str, values: dict[str, Any]) -> int:
    from calotype.album.today import check_models
    from calotype.cli.batch import Batch

    cls = TASKS[kind]
    settings = Settings.gather(given(Settings, values))
    album = read(Album, given(Album, values))
    asked = given(cls, values)
    task = read_task(kind, {**asked, "source": "x"})
    check_models(task, settings)
    show = listener(values)
    chosen = plan(values["inputs"], album, task.format)
    return Batch(chosen, album, settings, lambda source: read_task(kind, {**asked, "source": source}), show).run()


def again(**values: Any) -> int:
    """Make a result again from its record, and say whether it is the same to the last byte.

    The record is the .json beside a result, or the result itself, which carries it too. A picture that A1111, Forge or
    NovelAI drew is drawn again from the parameters in it, as far as the model is at hand.
    """
    from calotype.album.sidecar import find_source, task_again
    from calotype.cli.batch import Batch

    story, picture = _story(values["record"])
    if story is None or story.record.task == "imagine":
        return _draw_again(story, picture, values)
    source = find_source(story, values["source"])
    task = task_again(story, source)
    settings = Settings.gather({**_computed(story.record.computed), **given(Settings, values)})
    _check_models(story, settings)
    target = values["out"] or _target(story)
    album = Album(out=target, overwrite=bool(values["overwrite"]))
    if format_of(target) is None or target.is_dir():
        raise CalotypeError(
            "{option:out} {target} names no picture file; give one, such as again.png", target=readable(target)
        )
    chosen = plan([source], album)
    show = listener(values)
    status = Batch(chosen, album, settings, lambda source: task, show, _faces(story.record)).run()
    return status or _compare(story, chosen.items[0].target, show, str(chosen.items[0].source))


shape(
    again,
    argument("record", Path, "the .json beside a result, or the result", "RECORD"),
    flag("out", "file of the new result (default NAME-again beside the record)", "-o", "--out", kind=Path | None),
    flag("source", "where the picture lies now, if not where it was", kind=Path | None),
    flag("overwrite", "replace a file that lies there"),
    *flags(Settings),
    *TELL,
)


def _story(path: Path) -> tuple[Any, Any]:
    """The record and no picture; or, of a file without a record that tells of itself in A1111's way, the picture."""
    from calotype.album.redrawn import infotext_fields
    from calotype.album.sidecar import read_story
    from calotype.picture import Picture

    try:
        return read_story(path), None
    except CalotypeError:
        picture = Picture.open(path) if format_of(path) else None
        if picture is None or not infotext_fields(picture):
            raise
        return None, picture


def _draw_again(story: Any, picture: Any, values: dict[str, Any]) -> int:
    from calotype.album.drawn import Output
    from calotype.album.redrawn import recorded_task, told_task
    from calotype.checkpoints.catalog import Shelf
    from calotype.cli.imagine import Drawings, prepare

    path = values["record"]
    told = _computed(story.record.computed) if story else {}
    settings = Settings.gather({**told, **given(Settings, values)})
    notes = []
    if story:
        task = recorded_task(story, values["source"])
        _check_models(story, settings)
    else:
        task, notes = told_task(picture, path, Shelf(settings).names("vae"))
    target = values["out"] or (_target(story) if story else beside(path, "-again", path.suffix))
    prepare([task], settings)
    show = listener(values)
    for note in notes:
        show.tell("said", source=str(path), text=note)
    kind = format_of(path) or format_of(Path(story.result if story else "")) or "png"
    output = Output(out=target, format=kind, overwrite=bool(values["overwrite"]))
    drawings = Drawings([task], output, settings, show, last_only=True)
    status = drawings.run()
    return status or (_compare(story, drawings.made[-1], show) if story else 0)


def _computed(recorded: dict[str, Any]) -> dict[str, Any]:
    """What decides about bits is taken from the record."""
    return {name: recorded[name] for name in ("precision", "device", "threads") if name in recorded}


def _target(story: Any) -> Path:
    name = story.result or story.found_in.name
    place = story.found_in.with_name(Path(name).name)
    if format_of(place) is None:
        raise CalotypeError(
            "{found_in} doesn't say what its result was called; give {option:out} FILE",
            found_in=readable(story.found_in),
        )
    return beside(place, "-again", place.suffix)


def _check_models(story: Any, settings: Settings) -> None:
    from calotype.album.today import Today

    now = Today(settings).recorded(story.record)
    for model in story.record.models:
        if now.get(model.name) != model.sha256:
            state = "has other bytes now" if now.get(model.name) else "isn't at hand"
            raise CalotypeError(
                "the record names the model {model} ({sha256}...), which {state}; `calotype models list` shows "
                "what is there",
                model=readable(model.name),
                sha256=readable(model.sha256[:12]),
                state=state,
            )


def _faces(record: Any) -> str | None:
    """The face network that was used then; by its place in the record, after the upscaler."""
    if record.task != "restore" or not any(face.treated for face in record.faces):
        return None
    return record.models[-1].name if record.models else None


def _compare(story: Any, target: Path, show: Quiet, source: str = "") -> int:
    from calotype.album.sidecar import read_story, sha256_of

    old = story.result_sha256 or (sha256_of(story.found_in) if format_of(story.found_in) else "")
    if old and old == sha256_of(target):
        text = "the same to the last byte"
    elif old:
        now = read_story(target).record
        then = story.record.computed | {"source": story.record.source_name}
        text = "not the same bytes as the first time" + _why(then, now.computed | {"source": now.source_name})
    else:
        text = "the record doesn't tell the bytes of its result, so they can't be compared"
    show.tell("compared", source=source, target=str(target), same=text.startswith("the same"), text=text)
    return 0


def _why(then: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [f"{n} {readable(str(then.get(n)))}, now {now.get(n)}" for n in now if then.get(n) != now[n]]
    return f": it was made with {'; '.join(changed)}" if changed else ""
