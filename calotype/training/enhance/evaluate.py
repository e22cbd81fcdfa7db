"""Evaluates face restorers on validation faces, in a table."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError
from calotype.files import make_folder, write_atomic
from calotype.models import face_identity
from calotype.models.face_detector import Detector
from calotype.models.face_identity import FaceIdentity
from calotype.ops.color import to_pixels
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, note
from calotype.training.enhance.loop import psnr, side_by_side
from calotype.training.enhance.run import Test
from calotype.training.optim.perceptual import Lite
from calotype.training.run.result import TrainResult

MAX_SHOWN = 8  # faces on the sheet
SMALL = 4  # by this factor smaller is the face that is given to the upscaler and bicubic, besides the whole one
UPSCALER = "realesrgan-x4plus"


@dataclass(frozen=True)
class Row:
    """Means over all faces; landmarks over those faces in which they are found both times."""

    way: str  # name of the method
    perceptual: float  # distance of features, lower is better
    psnr: float  # dB
    landmarks: float  # pixels, lower is better
    identity: float  # 1 - cosine similarity of deep features, lower is better
    person: float  # distance of dlib's descriptors, lower is better; NaN if its weights are not installed
    lost: int  # faces that the detector does not find any more
    seconds: float  # per face


def evaluate(task: Any, models: Models, tests: Sequence[Test]) -> Iterator[Progress | Note | TrainResult]:
    """Compares `task.model` with the unrestored face, bicubic and Real-ESRGAN x4plus; writes a table and a sheet.

    Raises:
        CalotypeError: no validation faces, the features are not installed, a network is not at hand.
    """
    if not tests:
        raise CalotypeError("no validation faces; give a higher {option:validation_split}, or more sheets")
    side, features, detector = tests[0].true.shape[1], Lite(), models.detector()
    identity = FaceIdentity() if face_identity.is_installed() else None
    if identity is None:
        yield note(face_identity.missing())
    methods = methods_of(task, models, side)
    own = next(reversed(methods.values()))
    rows, outputs = [], {}
    for n, (name, method) in enumerate(methods.items()):
        start = time.monotonic()
        outputs[name] = []
        for k, test in enumerate(tests):
            outputs[name].append(method(test.low[None])[0].clamp(0, 1))
            yield Progress(n * len(tests) + k + 1, len(methods) * len(tests), "faces")
        seconds = (time.monotonic() - start) / len(tests)
        rows.append(_row(name, outputs[name], tests, features, detector, identity, seconds))
    clean = sum(psnr(own(test.true[None]).clamp(0, 1), test.true[None]) for test in tests) / len(tests)
    yield from map(note, _table(rows))
    yield note(
        "a sharp face through {network} has {clean:.2f} dB; {count} faces of {side} pixels",
        network=rows[-1].way,
        clean=clean,
        count=len(tests),
        side=side,
    )
    path = task.output_dir / f"{task.output_name}-figures.json"
    make_folder(task.output_dir)
    data = {"faces": len(tests), "side": side, "clean_psnr": clean, "rows": [_json(row) for row in rows]}
    write_atomic(path, json.dumps(data, indent=1).encode())
    sheet = path.with_suffix(".jpg")
    save(Picture(_sheet(list(outputs.values()), tests)), sheet, format="jpeg", quality=90)
    yield note("figures: {path}, and side by side, the original last: {sheet}", path=path, sheet=sheet)
    yield TrainResult(path, (), len(tests), sheet)


def methods_of(task: Any, models: Models, side: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """All methods that are compared, the task's model last: (N, 3, side, side) to the same.

    Real-ESRGAN is given each face twice: as it is, and a quarter as large, which suits faces that were that small.
    """
    small, upscaler = side // SMALL, models.upscaler(UPSCALER)

    def restored(network: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: _resized(network(_resized(x, network.side)), side)

    methods = {
        "unrestored": lambda x: x,
        "bicubic": lambda x: _resized(_resized(x, small), side),
        UPSCALER: lambda x: _resized(upscaler(x), side),
        f"{UPSCALER}, of a quarter": lambda x: _resized(upscaler(_resized(x, small)), side),
    }
    given = dict.fromkeys(name for name in task.compared_models if name != task.model)
    restorers = {name: models.faces(name) for name in (*given, task.model)}
    names = [*methods, *(network.name for network in restorers.values())]
    for name, network in restorers.items():  # two networks of one name are called as they were given
        methods[network.name if names.count(network.name) == 1 else name] = restored(network)
    return methods


def _row(
    name: str,
    outputs: Sequence[Tensor],
    tests: Sequence[Test],
    features: Lite,
    detector: Detector,
    face_identity: FaceIdentity | None,
    seconds: float,
) -> Row:
    count, perceptual, identity, mean_psnr, lost = len(tests), 0.0, 0.0, 0.0, 0
    landmark_distances, identity_distances = [], []
    with torch.no_grad():
        for output, test in zip(outputs, tests, strict=True):
            x, original = output[None], test.true[None]
            distance, identity_distance = features.both(x, original)
            perceptual += float(distance) / count
            identity += float(identity_distance) / count
            mean_psnr += psnr(x, original) / count
            found, true = (_landmarks(detector, picture) for picture in (output, test.true))
            if true is not None and found is not None:
                landmark_distances.append(float(np.hypot(*(found - true).T).mean()))
            lost += true is not None and found is None
            if true is not None and face_identity is not None:
                identity_distances.append(face_identity.distance(output, test.true, true))
    landmarks, person = _mean(landmark_distances), _mean(identity_distances)
    return Row(name, perceptual, mean_psnr, landmarks, identity, person, lost, seconds)


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else math.nan


def _json(row: Row) -> dict[str, Any]:
    """Its fields for JSON, which has null instead of NaN."""
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(row).items()}


def _landmarks(detector: Detector, picture: Tensor) -> np.ndarray | None:
    found = detector.find(to_pixels(picture, like=np.empty((1, 1, 3), np.uint8)))
    return found[0].landmarks if found else None


def _resized(x: Tensor, side: int | None) -> Tensor:
    """(N, 3, h, h) to the side: bicubic, antialiased."""
    if side is None or x.shape[-1] == side:
        return x
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def _table(rows: Sequence[Row]) -> list[str]:
    """Aligned lines."""
    width = max(len(row.way) for row in rows)
    lines = [f"{'':{width}}  perceptual   PSNR  landmarks  identity  person  lost  seconds"]
    lines += [
        f"{row.way:{width}}  {row.perceptual:10.3f}  {row.psnr:5.2f}  {row.landmarks:9.2f}  {row.identity:8.4f}  "
        f"{'-' if math.isnan(row.person) else f'{row.person:.3f}':>6}  "
        f"{row.lost:4d}  {row.seconds:7.2f}"
        for row in rows
    ]
    return lines


def _sheet(columns: Sequence[Sequence[Tensor]], tests: Sequence[Test]) -> np.ndarray:
    """Faces in rows, methods in columns, the original last."""
    rows = [
        side_by_side([*(column[n] for column in columns), tests[n].true]) for n in range(min(MAX_SHOWN, len(tests)))
    ]
    return np.ascontiguousarray(np.concatenate(rows))
