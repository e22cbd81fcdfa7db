"""Finds the faces of a photo, without restoring them, and tells what restoring does."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calotype.checkpoints.entries import CATALOG
from calotype.checkpoints.models import Models
from calotype.errors import Message, duration, recognized
from calotype.files import atomic_file, make_folder
from calotype.html import encode_jpeg
from calotype.inference import faces
from calotype.inference.examine import examine, examine_faces
from calotype.inference.repair import repair
from calotype.inference.speed import choose_upscaler, expected_seconds
from calotype.inference.upscale import enlarged_size
from calotype.measures import Measure
from calotype.outputs.compare import shown
from calotype.picture import Picture
from calotype.picture.notes import as_message
from calotype.record import REASONS, FaceRecord
from calotype.tasks import FindFaces, Note, Progress, Restore


@dataclass(frozen=True)
class FoundFaces:
    """The small copy of a photo.

    `facts`: its size; `measures` of it; the faces with their boxes in pixels of the photo, and `why` one is left as it
    is; `plan`, what restoring does. Sentences are messages as data.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)


def find_faces(task: FindFaces, models: Models) -> Iterator[Progress | Note | FoundFaces]:
    """Opens the photo as restoring does, so that the numbers of its faces are the same."""
    opened = Picture.open(task.source, models.settings.max_pixels, task.page, task.damaged_file)
    yield Progress(0, 1, "faces")
    records, measures, plan = _planned(task.restoration, opened, models)
    yield from map(Note, plan)
    if task.out:
        make_folder(task.out.parent, "out")
        with atomic_file(task.out) as file:
            file.write(encode_jpeg(shown(opened, task.side)))
    height, width = opened.pixels.shape[:2]
    facts = {"width": width, "height": height, "found": [_found(face) for face in records]}
    facts |= {"measures": [measure.as_data() for measure in measures]}
    yield FoundFaces(task.out or task.source, facts | {"plan": [sentence.as_data() for sentence in plan]})


def _found(face: FaceRecord) -> dict[str, Any]:
    why = {"why": recognized(face.why, REASONS).as_data()} if face.why else {}
    return {"number": face.number, "box": list(face.box), "confidence": face.confidence, **why}


def _planned(task: Restore, opened: Picture, models: Models) -> tuple[list[FaceRecord], list[Measure], list[Message]]:
    """What `restore` does with each face, as far as it is known before; what it measures; and what it does besides."""
    plan = [as_message(text) for text in opened.notes]
    scan = faces.network_input(opened)
    measures = list(examine(scan))
    repaired = _collected(repair(scan, task, models), plan)
    picture = repaired.picture
    plan += _enlarging(task, picture.pixels, models)
    network = _collected(faces.face_network(task, models, picture.pixels.dtype == np.uint16), plan)
    detected = faces.find_faces(picture, models)
    records = [faces.face_record(number, face, task, network) for number, face in enumerate(detected, 1)]
    records = faces.select_faces(records, task, picture)
    if not records:
        plan.append(Message("no faces were found, so the whole picture is only enlarged"))
    elif any(face.treated for face in records):
        plan.append(Message("faces are restored by {model}", model=network.name))
    measures += (*repaired.measures, *examine_faces(scan, records, task.min_face))
    return records, measures, plan


def _enlarging(task: Restore, pixels: np.ndarray, models: Models) -> list[Message]:
    """To which size, by which network and in which time (H, W, C) pixels are enlarged."""
    (height, width), (new_height, new_width) = pixels.shape[:2], enlarged_size(pixels, task.scale)
    sizes = {"width": width, "height": height, "new_width": new_width, "new_height": new_height}
    plan = [Message("{width} x {height} pixels become {new_width} x {new_height}", **sizes)]
    name = _collected(choose_upscaler(task, pixels, models), plan)
    if task.is_automatic:
        return plan
    if name == "none":
        return [*plan, Message("it is enlarged without a network, by Lanczos")]
    if name in CATALOG and CATALOG[name].macs:
        seconds = duration(expected_seconds(name, pixels, task.scale, models))
        return [*plan, Message("{model} takes about {time}", model=name, time=seconds)]
    return [*plan, Message("it is enlarged by {model}", model=name)]


def _collected(notes: Generator[Progress | Note, None, Any], plan: list[Message]) -> Any:
    """What a generator returns; what it notes goes into the plan."""
    while True:
        try:
            step = next(notes)
            plan += [step.message] if isinstance(step, Note) else []
        except StopIteration as end:
            return end.value
