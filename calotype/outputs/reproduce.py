"""A result made again: from its record, or, of a drawing, from the line of parameters that A1111 and its kin leave in
their files; and whether the bytes are the same."""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import CalotypeError, Message, Remedy
from calotype.files import readable
from calotype.outputs.model_hashes import CurrentHashes
from calotype.outputs.names import beside, format_of
from calotype.outputs.sidecar import StoredRecord, read_stored, sha256_of
from calotype.settings import Settings
from calotype.tasks import Imagine, read_task
from calotype.tasks.events import Compared
from calotype.tasks.limits import Limits
from calotype.tasks.output import Album, DrawingOutput

if TYPE_CHECKING:
    from calotype.picture import Picture
    from calotype.record import Record

OWN = Limits(**dict.fromkeys(("picture", "pixels", "drawing", "scale"), math.inf))  # whose computer it is decides


@dataclass(frozen=True)
class Reproduction:
    """All that is needed to make a result again, and to compare it."""

    task: Any
    output: Album | DrawingOutput
    settings: Settings  # with the precision, device and threads of the first time
    stored: StoredRecord | None  # None: the task was read from another program's parameters
    path: Path  # of the record
    notes: tuple[Message, ...] = ()

    @property
    def is_drawn(self) -> bool:
        return isinstance(self.task, Imagine)


def reproduction(
    path: Path,
    given: Mapping[str, Any],
    *,
    source: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> Reproduction:
    """Reads the record at `path`: a sidecar, or a result.

    Args:
        given: settings that the person gave; they win over what the record says.
        source: where the picture that it was made from lies now, if not where it was.
        out: file of the new result; NAME-again beside the old one where None.
    Raises:
        CalotypeError: no record, a source or model that is gone or has changed, no place for the result.
    """
    stored, picture = _stored_or_picture(path)
    computed = _computed(stored.record.computed) if stored else {}
    settings = Settings.gather({**computed, **given})
    if stored is None or stored.record.task == "imagine":
        return _drawing(path, stored, picture, settings, source, out, overwrite)
    task = task_again(stored, find_source(stored, source))
    _check_recorded_models(stored, settings)
    target = out or _target(stored)
    if format_of(target) is None or target.is_dir():
        raise CalotypeError(
            "{option:out} {target} names no picture file; give one, such as again.png", target=readable(target)
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
) -> Reproduction:
    notes: list[Message] = []
    if stored:
        task = drawing_task(stored, source)
        _check_recorded_models(stored, settings)
    else:
        from calotype.checkpoints.store import ModelStore

        task, notes = task_from_parameters(picture, path, ModelStore(settings).names)
    target = out or (_target(stored) if stored else beside(path, "-again", path.suffix))
    kind = format_of(path) or format_of(Path(stored.result if stored else "")) or "png"
    output = DrawingOutput(out=target, format=kind, overwrite=overwrite)
    return Reproduction(task, output, settings, stored, path, tuple(notes))


def _stored_or_picture(path: Path) -> tuple[StoredRecord | None, "Picture | None"]:
    """The record and no picture; or, of a file without a record that tells of itself in A1111's way, the picture."""
    from calotype.picture import Picture

    try:
        return read_stored(path), None
    except CalotypeError:
        picture = Picture.open(path) if format_of(path) else None
        if picture is None or not infotext_fields(picture):
            raise
        return None, picture


def _computed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about bits is taken from the record."""
    return {name: recorded[name] for name in ("precision", "device", "threads") if name in recorded}


def _target(stored: StoredRecord) -> Path:
    name = stored.result or stored.found_in.name
    place = stored.found_in.with_name(Path(name).name)
    if format_of(place) is None:
        raise CalotypeError(
            "{record} doesn't say what its result was called; give {option:out} FILE", record=readable(stored.found_in)
        )
    return beside(place, "-again", place.suffix)


def _check_recorded_models(stored: StoredRecord, settings: Settings) -> None:
    now = CurrentHashes(settings).recorded(stored.record)
    for model in stored.record.models:
        if now.get(model.name) != model.sha256:
            gone = "the record names the model {model} ({sha256}...), which isn't at hand"
            changed = "the record names the model {model} ({sha256}...), which has other bytes now"
            raise CalotypeError(
                changed if now.get(model.name) else gone,
                model=readable(model.name),
                sha256=readable(model.sha256[:12]),
                remedy=Remedy("list_models"),
            )


def recorded_faces(record: "Record") -> str | None:
    """The face network that was used then; by its place in the record, after the upscaler."""
    if record.task != "restore" or not any(face.treated for face in record.faces):
        return None
    return record.models[-1].name if record.models else None


def compared(stored: StoredRecord, target: Path, source: str = "") -> Compared:
    """Whether the result that was made again at `target` has the bytes that the record tells of."""
    old = stored.result_sha256 or (sha256_of(stored.found_in) if format_of(stored.found_in) else "")
    if not old:
        text = Message("the record doesn't tell the bytes of its result, so they can't be compared")
        return Compared(source, str(target), False, text)
    if old == sha256_of(target):
        return Compared(source, str(target), True, Message("the same to the last byte"))
    return Compared(source, str(target), False, _why(stored.record, read_stored(target).record))


def _why(then: "Record", now: "Record") -> Message:
    before, after = ({**record.computed, "source": record.source_name} for record in (then, now))
    changed = [f"{n} {readable(str(before.get(n)))}, now {after[n]}" for n in after if before.get(n) != after[n]]
    if not changed:
        return Message("not the same bytes as the first time")
    return Message("not the same bytes as the first time: it was made with {changes}", changes="; ".join(changed))


def task_again(stored: StoredRecord, source: Path) -> Any:
    """The recorded task, on the source as found, in tiles and with the face network as they were then, whatever memory
    is free and whatever network is the best now.

    Raises:
        CalotypeError: the record asks for something that this version doesn't know.
    """
    record = stored.record
    task = read_task(record.task, {**record.options, "tile": record.computed.get("tile", 0), "source": source})
    faces = recorded_faces(record)
    return replace(task, auto_face_model=faces) if faces else task


def find_source(stored: StoredRecord, given: Path | None) -> Path:
    """The picture that a record was made from: as given, at its old place, or beside the record.

    Raises:
        CalotypeError: it is at none of them, or has other bytes now.
    """
    folder, record = stored.found_in.parent, stored.record
    places = [given] if given else [folder / stored.source, folder / Path(record.source_name).name]
    there = [place for place in places if place.is_file()]
    for place in there:
        if sha256_of(place) == record.source_sha256:
            return _nearby(place)
    name = readable(given or record.source_name)
    if there:
        raise CalotypeError(
            "{there} is no longer the picture that the record tells of; give {option:source}", there=readable(there[0])
        )
    raise CalotypeError("the picture {name} isn't where it was; say where it is with {option:source}", name=name)


def _nearby(path: Path) -> Path:
    """`out/../a.jpg` as `a.jpg`."""
    with contextlib.suppress(ValueError):  # another drive on Windows
        return Path(os.path.relpath(os.path.realpath(path)))
    return path


def drawing_task(stored: StoredRecord, source: Path | None) -> Imagine:
    """The recorded task, on the pictures that it began with, wherever they lie now.

    Raises:
        CalotypeError: one of them is gone or has other bytes, or this version does not know an option.
    """
    record = stored.record
    data = dict(record.options)
    if record.source_sha256:
        data["init"] = find_source(stored, source)
    if mask := record.computed.get("mask"):
        data["mask"] = _mask(stored, Path(data["mask"]), mask)
    return read_task("imagine", data)


def _mask(stored: StoredRecord, was: Path, sha256: str) -> Path:
    for place in (was, stored.found_in.parent / was.name):
        if place.is_file() and sha256_of(place) == sha256:
            return place
    raise CalotypeError(
        "the mask {was} isn't where it was, or has changed; put it beside the picture", was=readable(was.name)
    )


def task_from_parameters(
    picture: "Picture", where: Path, names: Callable[[str], Collection[str]]
) -> tuple[Imagine, list[Message]]:
    """What A1111, Forge or NovelAI tell in a picture of theirs, as a task of ours, and what of it is not followed.

    The picture may be anybody's, so it names models and LoRAs as they are called here, never a file.

    Args:
        names: of the models at hand for a purpose (`Shelf.names`). A VAE that is not at hand is left out, since most
            checkpoints have one in them.

    Raises:
        CalotypeError: the picture tells nothing, or of something that cannot be made from words alone.
    """
    fields = infotext_fields(picture)
    if "Steps" not in fields or "Seed" not in fields:
        raise CalotypeError(
            "{where} doesn't tell how it was made; there is no record and no parameters in it", where=readable(where)
        )
    if "Mask blur" in fields or ("Denoising strength" in fields and "Hires upscaler" not in fields):
        raise CalotypeError(
            "{where} was made from another picture, which its parameters don't hold", where=readable(where)
        )
    told = {name: value for name, value in _data(fields).items() if value not in (None, "")}
    vae = told.pop("vae", None)
    at_hand = {Path(name).stem.casefold(): name for name in names("vae")}.get(Path(vae or "").stem.casefold())
    missing = Message("the VAE {vae} is not at hand, the model's own is taken", vae=vae)
    notes = [missing] if vae and not at_hand else []
    if learnt := fields.get("Training"):
        notes.append(Message("it was drawn with a LoRA on its way ({learnt}), which is not put on here", learnt=learnt))
    told |= {"vae": at_hand} if at_hand else {}
    return read_task("imagine", told, trusted=False, names=names, limits=OWN), notes


def infotext_fields(picture: "Picture") -> dict[str, str]:
    """The line of parameters, read; NovelAI's form is turned into A1111's. Empty where the picture has none."""
    from calotype.dialects.infotext import from_novelai, read

    drawn = picture.metadata.texts
    text = picture.metadata.infotext
    if not text and drawn.get("Software") == "NovelAI":
        text = from_novelai(drawn.get("Description", ""), drawn.get("Comment", ""))
    return read(text) if text else {}


def _data(fields: dict[str, str]) -> dict[str, Any]:
    """Fields by A1111's names -> options."""
    return {
        "prompt": fields["Prompt"],
        "negative": fields["Negative prompt"],
        "model": fields.get("Model"),
        "vae": fields.get("VAE") if fields.get("VAE") not in ("None", "Automatic") else None,
        "emphasis": fields.get("Emphasis", "original").lower().replace(" ", "-"),
        "steps": fields["Steps"],
        "sampler": fields.get("Sampler"),
        "schedule": fields.get("Schedule type"),
        "guidance": fields.get("CFG scale"),
        "rescale": fields.get("CFG Rescale"),
        "seed": fields["Seed"],
        "size": fields.get("Size"),
        "clip_skip": fields["Clip skip"] if fields["Clip skip"] != "1" else None,
        "noise": "cpu" if fields["RNG"] == "CPU" else "a1111",
        "variation_seed": fields.get("Variation seed"),
        "variation": fields.get("Variation seed strength"),
        "seed_resize": fields.get("Seed resize from"),
        "tiling": True if fields.get("Tiling") == "True" else None,
        "hires": fields.get("Hires upscale") or _times_larger(fields),
        "hires_steps": fields.get("Hires steps"),
        "hires_upscaler": fields.get("Hires upscaler"),
        "hires_strength": fields.get("Denoising strength"),
    }


def _times_larger(fields: dict[str, str]) -> float | None:
    """Where the second pass was given by its size: how many times larger, along the side that grows more."""
    try:
        return max(float(fields[f"Hires resize-{n}"]) / float(fields[f"Size-{n}"]) for n in (1, 2))
    except (KeyError, ValueError, ZeroDivisionError):
        return None
