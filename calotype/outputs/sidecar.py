"""The JSON file beside a result: how to reproduce it, and whether the result is unchanged."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.checkpoints.entries import AUTOMATIC
from calotype.errors import CalotypeError, Message, reason_of
from calotype.files import file_sha256, readable, write_atomic
from calotype.outputs.model_hashes import automatic_upscaler
from calotype.outputs.names import format_of
from calotype.tasks import kind_of, options_of

if TYPE_CHECKING:
    from calotype.record import FaceRecord, Record

MAX_BYTES = 16 * 2**20  # of a sidecar; usual ones have a few thousand
GIVEN_FILES = ("hints", "reference", "mask")  # options that are files, whose hashes are in the record
LOSSLESS = ("png", "tiff", "bmp")


@dataclass(frozen=True)
class StoredRecord:
    """A record on disk. Paths are relative to the sidecar's folder; empty if there is no sidecar."""

    record: "Record"
    path: Path
    source: str = ""
    result: str = ""
    result_sha256: str = ""


def sidecar_of(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def sha256_of(path: Path) -> str:
    """Raises CalotypeError if the file can't be read."""
    try:
        return file_sha256(path)
    except OSError as fault:
        raise CalotypeError(
            "can't read {path} ({reason}); check the name and permissions", path=readable(path), reason=reason_of(fault)
        ) from None


def write_sidecar(record: "Record", source: Path, target: Path, sha256: str) -> Path:
    """Writes the record as indented JSON, with the relative paths of source and result."""
    path = sidecar_of(target)
    files = {"source": _relative(source, path.parent), "result": target.name, "result_sha256": sha256}
    data = {**json.loads(record.as_json()), "files": files}
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    write_atomic(path, text.encode("utf-8", "backslashreplace"), "out")
    return path


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive on Windows
        return path.absolute().as_posix()


def read_stored(path: Path) -> StoredRecord:
    """Reads the record from a sidecar, or from a result with a record in its metadata.

    Raises:
        CalotypeError: there is no record in it.
    """
    if format_of(path):
        stored = _beside(path) or _embedded(path)
        if stored is None:
            sha256_of(path)
            raise CalotypeError("{path} has no Calotype record; give the .json beside a result", path=readable(path))
        return stored
    return _read_sidecar(path)


def _read_sidecar(path: Path) -> StoredRecord:
    from calotype.record import Record

    where = readable(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        data = json.loads(text) if len(text) <= MAX_BYTES else None
    except OSError as fault:
        raise CalotypeError(
            "can't read {where} ({reason}); check the name", where=where, reason=reason_of(fault)
        ) from None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise CalotypeError("{where} is not a Calotype record; give the .json beside a result", where=where)
    files = data.pop("files", {})
    record = checked(Record.from_json(json.dumps(data), where), where)
    named = files if isinstance(files, dict) else {}
    source, result, sha256 = (str(named.get(name, "")) for name in ("source", "result", "result_sha256"))
    return StoredRecord(record, path, source, result, sha256)


def checked(record: "Record", where: str) -> "Record":
    """Validates the types of a record from a file.

    Raises:
        CalotypeError: one is wrong.
    """
    kinds = {"task": str, "options": dict, "source_name": str, "source_sha256": str, "computed": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(record, name), kind)]
    wrong += [] if all(isinstance(text, str) for m in record.models for text in (m.name, m.sha256)) else ["models"]
    wrong += [] if all(isinstance(sentence, str) for sentence in record.notes) else ["said"]
    wrong += [] if all(map(_is_face, record.faces)) else ["faces"]
    if wrong:
        raise CalotypeError("{where} is not a Calotype record: its {wrong} can't be read", where=where, wrong=wrong[0])
    return record


def _is_face(face: "FaceRecord") -> bool:
    lists = (face.box, face.eyes, face.landmarks, face.creases)
    if not all(isinstance(values, tuple) for values in (*lists, *face.landmarks, *face.creases)):
        return False
    numbers = [*face.box, *face.eyes, *(v for pair in (*face.landmarks, *face.creases) for v in pair)]
    numbers += [face.number, face.confidence, face.strength, face.kept, face.softened]
    numbers += [v for v in (face.yaw, face.identity, face.clarity) if v is not None]
    are_numbers = all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers)
    return are_numbers and len(face.box) == 4 and isinstance(face.why, str)


def _beside(result: Path) -> StoredRecord | None:
    """The record in the sidecar of a result, if the result has the recorded hash."""
    path = sidecar_of(result)
    if not path.is_file():
        return None
    try:
        stored = _read_sidecar(path)
    except CalotypeError:
        return None
    return stored if stored.result_sha256 == sha256_of(result) else None


def _embedded(result: Path) -> StoredRecord | None:
    from calotype.picture import read_record
    from calotype.record import Record

    try:
        text = read_record(result)
        return StoredRecord(checked(Record.from_json(text, result.name), result.name), result) if text else None
    except CalotypeError:
        return None


def is_result(path: Path) -> bool:
    """Whether this picture was written by Calotype."""
    return path.is_file() and bool(is_sidecar(sidecar_of(path)) or _embedded(path))


def is_sidecar(path: Path) -> bool:
    """Whether this file is a Calotype record."""
    try:
        return path.is_file() and bool(_read_sidecar(path))
    except CalotypeError:
        return False


@dataclass(frozen=True)
class Existing:
    """What exists at the path of a result: nothing, that result (`stored`), or something else (`fault`)."""

    stored: StoredRecord | None = None
    fault: Message | None = None


def existing_result(target: Path, task: Any, sha_of: Callable[["Record"], dict[str, str]]) -> Existing:
    """Compares the file at `target` with the result that the task would have.

    Args:
        sha_of: the hashes, by name, of the models that would be used now for the task of a record.
    """
    if not os.path.lexists(target):
        return Existing()
    if target.is_dir():
        template = "{target} is a folder; give {option:suffix} or another {option:out}"
        return Existing(fault=Message(template, target=readable(target)))
    stored = _beside(target) or (None if _was_changed(target) else _embedded(target))
    if stored is None:
        return _conflict(target, Message("was changed since, or not written by Calotype"))
    record = stored.record
    if record.source_sha256 != sha256_of(task.source):
        return _conflict(target, Message("was made from another picture"))
    lossless = format_of(target) in LOSSLESS
    now, then = (_relevant_options(options, record, lossless) for options in _with_network(task, record))
    if record.task != kind_of(task) or now != then:
        return _conflict(target, Message("was made with other options"))
    given, recorded = _given_files(task), {n: record.computed[n] for n in GIVEN_FILES if n in record.computed}
    if given.get("mask") != recorded.get("mask"):
        return _conflict(target, Message("was made with another mask"))
    if given != recorded:
        return _conflict(target, Message("was made with other options"))
    if {model.name: model.sha256 for model in record.models} != sha_of(record):
        return _conflict(target, Message("was made with other models"))
    return Existing(stored)


def _given_files(task: Any) -> dict[str, str]:
    """The hashes of the files, besides the source, that a task reads."""
    paths = {name: getattr(task, name, None) for name in GIVEN_FILES}
    return {name: sha256_of(path) for name, path in paths.items() if path}


def _with_network(task: Any, record: "Record") -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the task and those of the record, with the network itself instead of `auto` and `speed`.

    A task on `auto` accepts every network that its `speed` may choose, as the choice depends on the machine's speed.
    """
    now, then = options_of(task), dict(record.options)
    name = getattr(task, "UPSCALER_OPTION", None)
    if record.task != kind_of(task) or name not in then:
        return now, then
    speed = now.pop("speed")
    then.pop("speed", None)
    then[name] = automatic_upscaler(record) or then[name]
    if now[name] == "auto" and then[name] in AUTOMATIC[speed]:
        now[name] = then[name]
    return now, then


def _was_changed(target: Path) -> bool:
    """Whether its sidecar has the same record as the file, but another hash."""
    embedded = _embedded(target)
    if embedded is None or not sidecar_of(target).is_file():
        return False
    try:
        return _read_sidecar(sidecar_of(target)).record == embedded.record
    except CalotypeError:
        return False


def _conflict(target: Path, reason: Message) -> Existing:
    template = "{target} exists and {reason}; give {option:overwrite} or {option:suffix}"
    return Existing(fault=Message(template, target=readable(target), reason=reason))


def _relevant_options(options: dict[str, Any], record: "Record", lossless: bool) -> dict[str, Any]:
    """The options that affect this picture."""
    names = [model.name for model in record.models]
    unused = {"format", "quality"} if lossless else {"format"}  # the file name determines the format
    unused.update(GIVEN_FILES)  # compared by their hashes
    unused.add("damaged_file")  # so is the photo, which is read in one way alone
    if not any("general-x4v3" in name for name in names):
        unused.add("denoise")
    if not any("codeformer" in name.lower() for name in names):
        unused.add("fidelity")
    return {name: value for name, value in options.items() if name not in unused}
