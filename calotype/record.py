"""The record of what was done to a picture: kept in the file's metadata and in a JSON beside it.

A record holds all that is needed to make the same file again, and nothing that changes from run to run (no clock, no
paths of the machine), so that the same work gives the same bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from calotype import __version__
from calotype.errors import CalotypeError
from calotype.picture import Picture
from calotype.tasks import kind_of, options_of


@dataclass(frozen=True)
class FaceRecord:
    """One face that was found. Positions are in pixels of the source as it is seen upright."""

    number: int  # from 1, reading order: top to bottom, then left to right
    box: tuple[float, float, float, float]  # x, y, width, height
    landmarks: tuple[tuple[float, float], ...]  # eye, eye, nose, mouth corner, mouth corner; picture's left first
    confidence: float  # 0 to 1, the detector's
    treated: bool
    why: str = ""  # one clause, where it was left alone
    strength: float = 1.0


@dataclass(frozen=True)
class ModelRecord:
    name: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """What was done: task and options, source by content, models by content, and how it was computed."""

    task: str
    options: dict[str, Any]
    source_name: str = ""  # empty where there was none
    source_sha256: str = ""
    source_size: tuple[int, int] = (0, 0)  # height, width, upright
    models: tuple[ModelRecord, ...] = ()
    faces: tuple[FaceRecord, ...] = ()
    computed: dict[str, Any] = field(default_factory=dict)  # program, torch, device, precision, tile, threads
    said: tuple[str, ...] = ()  # notes about this picture

    def as_json(self) -> str:
        """One line that any encoding takes: of a file's name that is no UTF-8, the odd bytes are written as escapes."""
        text = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the record") -> "Record":
        """Raises CalotypeError, naming `where`, for text that is no record."""
        try:
            data = json.loads(text)
            data["faces"] = tuple(
                FaceRecord(**{**f, "box": tuple(f["box"]), "landmarks": tuple(map(tuple, f["landmarks"]))})
                for f in data.get("faces", ())
            )
            data["models"] = tuple(ModelRecord(**m) for m in data.get("models", ()))
            data["source_size"] = tuple(data["source_size"])
            data["said"] = tuple(data.get("said", ()))
            return cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise CalotypeError(
                "{where} is no record of Calotype's ({kind}); give the .json beside a result",
                where=where,
                kind=type(fault).__name__,
            ) from None


@dataclass(frozen=True, eq=False)
class Film:
    """What a walk between pictures ends in."""

    frames: tuple[np.ndarray, ...]  # (H, W, 3) uint8 each
    seconds: float  # of each
    seed: int  # of the first picture


@dataclass(frozen=True, eq=False)
class Result:
    """What a picture task ends in."""

    picture: Picture
    before: Picture | None  # the source as it was opened, where there was one
    record: Record
    is_sheet: bool = False  # of several drawings

    @classmethod
    def of(
        cls,
        task: Any,
        before: Picture | None,
        picture: Picture,
        models: Iterable[Any],
        computed: dict[str, Any],
        faces: Iterable[FaceRecord] = (),
    ) -> "Result":
        """Writes the record of a task; `models` are whatever has a name and a sha256."""
        used = {model.name: ModelRecord(model.name, model.sha256) for model in models if model is not None}
        record = Record(
            task=kind_of(task),
            options=options_of(task),
            **_origin(task, before),
            models=tuple(used.values()),
            faces=tuple(faces),
            computed={"calotype": __version__, **computed},
            said=before.notes if before else (),
        )
        return cls(picture, before, record)


def _origin(task: Any, before: Picture | None) -> dict[str, Any]:
    if before is None:
        return {}
    path = task.source if hasattr(task, "source") else task.init
    return {"source_name": path.name, "source_sha256": before.sha256, "source_size": before.pixels.shape[:2]}
