"""Reproducing a result: from its record, or from the generation parameters in a picture of another program; and
comparing its bytes."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import CalotypeError, Message, Remedy, listed
from calotype.files import readable
from calotype.options import read
from calotype.outputs.model_hashes import CurrentHashes, automatic_upscaler
from calotype.outputs.names import beside, ending, format_of
from calotype.outputs.redraw import picture_parameters, task_from_parameters, with_options
from calotype.outputs.sidecar import GIVEN_FILES, StoredRecord, read_stored, sha256_of
from calotype.settings import Settings
from calotype.suffixes import SUFFIXES
from calotype.tasks import TASKS, Imagine, read_task
from calotype.tasks.events import Compared
from calotype.tasks.output import Album, DrawingOutput

if TYPE_CHECKING:
    from calotype.picture import Picture
    from calotype.record import Record


@dataclass(frozen=True)
class Reproduction:
    """Everything needed to reproduce a result, and to compare it."""

    task: Any
    output: Album | DrawingOutput
    settings: Settings  # with the recorded precision, device and threads
    stored: StoredRecord | None  # None: the task is from another program's parameters
    path: Path  # of the record
    notes: tuple[Message, ...] = ()
    is_changed: bool = False  # some options differ from the recorded ones, so the bytes are not compared

    @property
    def is_drawn(self) -> bool:
        return isinstance(self.task, Imagine)


_COLOURS = "{file}, which gave the colours, is missing or has changed; put it beside the result or the photo"
_MASK = "the mask {file} is missing or has changed; put it beside the result or the photo"
_MISSING = {"hints": _COLOURS, "reference": _COLOURS, "mask": _MASK}  # by the option of the file


def reproduction(
    path: Path,
    given: Mapping[str, Any],
    *,
    source: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Reproduction:
    """Reads the record at `path`: a sidecar, or a result.

    Args:
        given: settings that override the recorded ones.
        options: of a generated picture, which override the recorded ones.
        source: current path of the source, if it was moved.
        out: file of the new result; NAME-again beside the old one if None.
    Raises:
        CalotypeError: no record, a source or model that is missing or has changed, an invalid output path.
    """
    stored, picture = _stored_or_picture(path)
    computed = _computed(stored.record.computed) if stored else {}
    settings = Settings.gather({**computed, **given})
    if stored is None or stored.record.task == "imagine":
        return _drawing(path, stored, picture, settings, source, out, overwrite, dict(options or {}))
    if options:
        raise CalotypeError(
            "{path} was not generated from a prompt, so it has no {option}; leave that out",
            option=next(iter(options)),
            path=readable(path),
        )
    task = task_again(stored, find_source(stored, source))
    _check_recorded_models(stored, settings)
    target = out or _target(stored)
    if format_of(target) is None or target.is_dir():
        raise CalotypeError(
            "{option:out} {target} is not the name of a picture file; give one, such as again.png",
            target=readable(target),
        )
    return Reproduction(task, Album(out=target, overwrite=overwrite), settings, stored, path)


def _drawing(
    path: Path,
    stored: StoredRecord | None,
    picture: "Picture | None",
    settings: Settings,
    source: Path | None,
    out: Path | None,
    overwrite: bool,
    options: dict[str, Any],
) -> Reproduction:
    notes: list[Message] = []
    if stored:
        task = with_options(drawing_task(stored, source), options)
        if not options:
            _check_recorded_models(stored, settings)
    else:
        from calotype.checkpoints.store import ModelStore

        options |= {"init": source} if source else {}
        task, notes = task_from_parameters(picture, path, ModelStore(settings).names, options)
    target = out or (_target(stored) if stored else beside(path, "-again", ending(path, "auto")))
    kind = format_of(path) or format_of(Path(stored.result if stored else "")) or "png"
    quality = {"quality": stored.record.computed["quality"]} if stored and "quality" in stored.record.computed else {}
    output = read(DrawingOutput, {"out": target, "format": kind, "overwrite": overwrite, **quality})
    return Reproduction(task, output, settings, stored, path, tuple(notes), is_changed=bool(options))


def _stored_or_picture(path: Path) -> tuple[StoredRecord | None, "Picture | None"]:
    """The record and None; or None and the picture, if it has parameters and no record."""
    from calotype.picture import Picture

    try:
        return read_stored(path), None
    except CalotypeError:
        picture = Picture.open(path) if path.suffix.lower() in SUFFIXES else None
        if picture is None or picture_parameters(picture) is None:
            raise
        return None, picture


def _computed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded settings that affect the bytes of the result."""
    return {name: recorded[name] for name in ("precision", "device", "threads") if name in recorded}


def _target(stored: StoredRecord) -> Path:
    name = stored.result or stored.path.name
    path = stored.path.with_name(Path(name).name)
    if format_of(path) is None:
        raise CalotypeError(
            "{record} doesn't contain the name of its result; give {option:out} FILE", record=readable(stored.path)
        )
    return beside(path, "-again", path.suffix)


def _check_recorded_models(stored: StoredRecord, settings: Settings) -> None:
    now = CurrentHashes(settings).recorded(stored.record)
    for model in stored.record.models:
        if now.get(model.name) != model.sha256:
            gone = "the record names the model {model} ({sha256}...), which isn't installed"
            changed = "the record names the model {model} ({sha256}...), whose file has changed"
            raise CalotypeError(
                changed if now.get(model.name) else gone,
                model=readable(model.name),
                sha256=readable(model.sha256[:12]),
                remedy=Remedy("list_models"),
            )


def recorded_faces(record: "Record") -> str | None:
    """The face network that was used: the last model in the record, after the upscaler."""
    if record.task != "restore" or not any(face.treated for face in record.faces):
        return None
    return record.models[-1].name if record.models else None


def compared(stored: StoredRecord, target: Path, source: str = "") -> Compared:
    """Whether the reproduced result at `target` has the recorded bytes."""
    old = stored.result_sha256 or (sha256_of(stored.path) if format_of(stored.path) else "")
    if not old:
        text = Message("the record doesn't contain a hash of its result, so they can't be compared")
        return Compared(source, str(target), False, text)
    if old == sha256_of(target):
        return Compared(source, str(target), True, Message("the same to the last byte"))
    return Compared(source, str(target), False, _why(stored.record, read_stored(target).record))


def _why(old: "Record", new: "Record") -> Message:
    before, after = old.computed, new.computed
    changed = [
        Message("{name} {old}, now {new}", name=n, old=readable(str(before.get(n))), new=after[n])
        for n in after
        if before.get(n) != after[n]
    ]
    if not changed:
        return Message("not the same bytes as the first time")
    return Message("not the same bytes as the first time: it was made with {changes}", changes=listed(changed, "; "))


def task_again(stored: StoredRecord, source: Path) -> Any:
    """The recorded task, on the given source, with the recorded tile size and networks instead of current defaults.

    Raises:
        CalotypeError: this version doesn't support a recorded task or option.
    """
    record = stored.record
    options = {**record.options, "source": source}
    if hasattr(TASKS.get(record.task), "tile"):
        options["tile"] = record.computed.get("tile", 0)
    for name in GIVEN_FILES:
        if options.get(name):
            folders, sha256 = (stored.path.parent, source.parent), str(record.computed.get(name, ""))
            path = Path(str(options[name]))
            options[name] = _recorded_file(folders, path, sha256)
            if options[name] is None:
                raise CalotypeError(_MISSING[name], file=readable(path.name))
    task = read_task(record.task, options)
    if faces := recorded_faces(record):
        task = replace(task, auto_face_model=faces)
    if upscaler := automatic_upscaler(record):
        task = replace(task, auto_upscaler=upscaler)
    if hasattr(task, "auto_repair"):
        task = replace(
            task,
            auto_repair=record.repairs,
            examined=bool(record.measures),
            auto_face_mesh=record.face_mesh,
            auto_identity=record.identity_measure,
        )
    return task


def find_source(stored: StoredRecord, given: Path | None) -> Path:
    """The source of a record: as given, at its recorded path, or beside the record.

    Raises:
        CalotypeError: it is missing, or has changed.
    """
    folder, record = stored.path.parent, stored.record
    candidates = [given] if given else [folder / stored.source, folder / Path(record.source_name).name]
    existing = [path for path in candidates if path.is_file()]
    for path in existing:
        if sha256_of(path) == record.source_sha256:
            return _nearby(path)
    changed = [path for path in existing if given or not _is_own_result(path, stored)]
    if changed:
        raise CalotypeError(
            "{path} is not the recorded source any more; give {option:source}",
            path=readable(changed[0]),
        )
    name = given or (_nearby(folder / stored.source) if stored.source else record.source_name)
    raise CalotypeError("the source {name} is missing; give its path with {option:source}", name=readable(name))


def _is_own_result(path: Path, stored: StoredRecord) -> bool:
    """Whether it is the result of this record, which may have the name of its source."""
    results = stored.path, stored.path.with_name(Path(stored.result).name or stored.path.name)
    return any(result.is_file() and result.samefile(path) for result in results)


def _nearby(path: Path) -> Path:
    """`out/../a.jpg` as `a.jpg`."""
    with contextlib.suppress(ValueError):  # another drive on Windows
        return Path(os.path.relpath(os.path.realpath(path)))
    return path


def drawing_task(stored: StoredRecord, source: Path | None) -> Imagine:
    """The recorded task, on its initial picture and mask at their current paths.

    Raises:
        CalotypeError: one of them is missing or has changed, or this version does not support an option.
    """
    record = stored.record
    data = dict(record.options)
    if data.get("blend"):
        raise CalotypeError("a picture that was blended of several is not made again from its file; blend them again")
    if record.source_sha256:
        data["init"] = find_source(stored, source)
    if mask := record.computed.get("mask"):
        folders = stored.path.parent, data["init"].parent
        path = Path(data["mask"])
        data["mask"] = _recorded_file(folders, path, mask)
        if data["mask"] is None:
            raise CalotypeError(
                "the mask {mask} is missing or has changed; put it beside the picture", mask=readable(path.name)
            )
    return read_task("imagine", data)


def _recorded_file(folders: Iterable[Path], recorded: Path, sha256: str) -> Path | None:
    """The file at its recorded place, or by its name in one of the folders; None where it is in neither unchanged."""
    candidates = (recorded, *(folder.absolute() / recorded.name for folder in folders))
    return next((path for path in candidates if path.is_file() and sha256_of(path) == sha256), None)
