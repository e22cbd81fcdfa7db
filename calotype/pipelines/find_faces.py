"""Finds the faces of a photo, without restoring them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype.checkpoints.models import Models
from calotype.files import atomic_file, make_folder
from calotype.html import encode_jpeg
from calotype.inference import faces
from calotype.outputs.compare import shown
from calotype.picture import Picture
from calotype.tasks import FindFaces, Progress


@dataclass(frozen=True)
class FoundFaces:
    """The small copy of a photo; `facts`: its size, and the faces with their boxes in pixels of the photo."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)


def find_faces(task: FindFaces, models: Models) -> Iterator[Progress | FoundFaces]:
    """Opens the photo as restoring does, so that the numbers of its faces are the same."""
    opened = Picture.open(task.source, models.settings.max_pixels)
    yield Progress(0, 1, "faces")
    found = [
        {
            "number": number,
            "box": [round(float(value), 1) for value in face.box],
            "confidence": round(float(face.confidence), 3),
        }
        for number, face in enumerate(faces.find_faces(faces.network_input(opened), models), 1)
    ]
    make_folder(task.out.parent, "out")
    with atomic_file(task.out) as file:
        file.write(encode_jpeg(shown(opened, task.side)))
    height, width = opened.pixels.shape[:2]
    yield FoundFaces(task.out, {"width": width, "height": height, "found": found})
