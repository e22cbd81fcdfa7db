"""The record of how a picture was made: stored in the file's metadata and in a JSON beside it.

A record holds all that is needed to reproduce the file, and nothing that differs between runs (no time, no paths of the
machine), so that the same task gives the same bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from calotype import __version__
from calotype.errors import CalotypeError, Wording
from calotype.measures import Measure
from calotype.options import about, option_fields, title, title_of, visible
from calotype.picture import Picture
from calotype.settings import Settings
from calotype.tasks import TASKS, kind_of, options_of

REPAIRED = "repaired"  # key of `computed`: names of repairs, with what was measured
FACE_MESH = "face_mesh"  # key of `computed`: the version of how faces are treated; none before there was a mesh
IDENTITY = "identity"  # key of `computed`: how the likeness of faces was measured
# titles of facts that are no options
WORDS = ("PyTorch", "Version of face restoration", "Measure of likeness", "Repairs")
TITLES = dict(zip(("torch", FACE_MESH, IDENTITY, REPAIRED), WORDS, strict=True))
NO_NETWORK = "no face network"
NO_STRENGTH = "strength 0"
NOT_SURE = "the detector is not sure that this is a face ({confidence})"
TOO_SMALL = "too small ({width} pixels wide)"
DETAILED = "already has more detail than the face network draws ({side} pixels)"
SHARP = "already as sharp as the face network would draw it"
NOT_CHOSEN = "not asked for"
REASONS = (NO_NETWORK, NO_STRENGTH, NOT_SURE, TOO_SMALL, DETAILED, SHARP, NOT_CHOSEN)  # why a face was not restored


def fact_title(task: str, name: str) -> str:
    """What an option or a computed fact of a record is called, to be translated."""
    specs = {spec.name: spec for cls in (Settings, TASKS.get(task)) if cls for spec in visible(cls)}
    return title(specs[name]) if name in specs else TITLES.get(name, title_of(name))


def has_fact(task: str, name: str, value: Any) -> bool:
    """Whether a fact of a record tells anything: no empty text does, nor the default of what interfaces do not show."""
    specs = option_fields(TASKS[task]) if task in TASKS else ()
    hidden = {spec.name: spec.default for spec in specs if about(spec).is_hidden}
    return value not in ("", None) and (name, value) not in hidden.items()


def fact_text(value: Any, wording: Wording) -> str:
    """Names with their figures as "texture 3.4", yes or no, anything else as it is."""
    if isinstance(value, bool):
        return wording.translate("yes" if value else "no")
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{wording.translate(str(name))} {figure}" for name, figure in value.items())


@dataclass(frozen=True)
class FaceRecord:
    """One detected face. Positions are in pixels of the upright source."""

    number: int  # from 1, reading order: top to bottom, then left to right
    box: tuple[float, float, float, float]  # x, y, width, height
    landmarks: tuple[tuple[float, float], ...]  # eye, eye, nose, mouth corner, mouth corner; picture's left first
    confidence: float  # 0 to 1, the detector's
    treated: bool
    why: str = ""  # one of REASONS, filled in, if it was not restored
    strength: float = 1.0
    yaw: float | None = None  # degrees to the side, positive to the picture's right; None where it was not measured
    eyes: tuple[float, ...] = ()  # of the photo: height over width of each eye, picture's left first
    creases: tuple[tuple[float, float], ...] = ()  # depth on each upper eyelid, in the photo and in the result
    identity: float | None = None  # likeness of the result to the photo, 0 to 1
    kept: float = 1.0  # factor of strength that was left for it
    clarity: float | None = None  # of the photo: confidence of the mesh in it, 0 to 1
    softened: float = 1.0  # factor of strength where the photo shows too little of it


@dataclass(frozen=True)
class ModelRecord:
    name: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """Task and options, hashes of source and models, and how the picture was computed."""

    task: str
    options: dict[str, Any]
    source_name: str = ""  # empty if there is none
    source_sha256: str = ""
    source_size: tuple[int, int] = (0, 0)  # height, width, upright
    models: tuple[ModelRecord, ...] = ()
    faces: tuple[FaceRecord, ...] = ()
    computed: dict[str, Any] = field(default_factory=dict)  # program, torch, device, precision, tile, threads
    notes: tuple[str, ...] = ()  # about the source; "said" in files
    measures: tuple[Measure, ...] = ()  # of the source, with what was decided; records without any have no such key

    @property
    def repairs(self) -> str:
        """What was repaired, as the option has it: "none" or a list of names."""
        names = self.computed.get(REPAIRED)
        return ",".join(names) if names and isinstance(names, dict) else "none"

    @property
    def face_mesh(self) -> str:
        """Whether faces were treated by their mesh, as the option has it: "none" for records of earlier versions."""
        return str(self.computed.get(FACE_MESH, "none"))

    @property
    def identity_measure(self) -> str:
        return str(self.computed.get(IDENTITY, ""))

    def as_data(self) -> dict[str, Any]:
        """As JSON, with the keys that files have."""
        data = asdict(self)
        data["said"] = data.pop("notes")
        if not self.measures:
            del data["measures"]
        return data

    def as_json(self) -> str:
        """One line of valid UTF-8: bytes of a file name that are not UTF-8 are written as escapes."""
        text = json.dumps(self.as_data(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the record") -> "Record":
        """Raises CalotypeError, naming `where`, if the text is not a record."""
        try:
            data = json.loads(text)
            data["faces"] = tuple(
                FaceRecord(**{name: _as_tuples(value) for name, value in face.items()})
                for face in data.get("faces", ())
            )
            data["models"] = tuple(ModelRecord(**m) for m in data.get("models", ()))
            data["source_size"] = tuple(data["source_size"])
            notes = tuple(data.pop("said", ()))
            measures = tuple(map(Measure.from_data, data.pop("measures", ())))
            return cls(**data, notes=notes, measures=measures)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CalotypeError(
                "{where} is not a Calotype record; give the .json beside a result", where=where
            ) from None


def _as_tuples(value: Any) -> Any:
    """Lists, also those in lists, as tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, eq=False)
class Film:
    """The result of an interpolation between seeds."""

    frames: tuple[np.ndarray, ...]  # (H, W, 3) uint8 each
    seconds: float  # of each
    seed: int  # of the first picture


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a task that makes a picture."""

    picture: Picture
    before: Picture | None  # the source as it was opened, if there is one
    record: Record
    uncertainty: np.ndarray | None = None  # (H, W, 3) uint8 of the picture's size: what is invented in its faces
    is_sheet: bool = False  # a grid of several pictures
    mask: np.ndarray | None = None  # (H, W) bool, of the source: where damage was repaired, if asked for

    @property
    def is_copy(self) -> bool:
        """Whether the picture is the source itself, which is then copied."""
        return self.picture is self.before

    def with_source_name(self, name: str) -> "Result":
        """The result with a record that calls the source so; as it is, if the name is empty."""
        return replace(self, record=replace(self.record, source_name=name)) if name else self

    @classmethod
    def of(
        cls,
        task: Any,
        before: Picture | None,
        picture: Picture,
        models: Iterable[Any],
        computed: dict[str, Any],
        faces: Iterable[FaceRecord] = (),
        measures: Iterable[Measure] = (),
        mask: np.ndarray | None = None,
    ) -> "Result":
        """A result with the record of its task; `models` are objects with a name and a sha256."""
        used = {model.name: ModelRecord(model.name, model.sha256) for model in models if model is not None}
        record = Record(
            task=kind_of(task),
            options=_options(task),
            **_origin(task, before),
            models=tuple(used.values()),
            faces=tuple(faces),
            computed={"calotype": __version__, **computed},
            notes=tuple(map(str, before.notes)) if before else (),
            measures=tuple(measures),
        )
        return cls(picture, before, record, mask=mask)


def _options(task: Any) -> dict[str, Any]:
    """The options of a task, with the names alone of files that are given by their place on this computer."""
    paths = {spec.name for spec in option_fields(task) if about(spec).is_path}
    options = options_of(task)
    named = {n: Path(options[n]).name for n in paths & options.keys() if options[n] and Path(options[n]).is_absolute()}
    return options | named


def _origin(task: Any, before: Picture | None) -> dict[str, Any]:
    if before is None:
        return {}
    path = task.source if hasattr(task, "source") else task.init
    return {"source_name": path.name, "source_sha256": before.sha256, "source_size": before.pixels.shape[:2]}
