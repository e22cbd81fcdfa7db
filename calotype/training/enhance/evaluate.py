"""How well face networks restore, in a table: on faces that none of them learnt from."""

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
from calotype.files import write_atomic
from calotype.models.face_detector import Detector
from calotype.ops.color import to_pixels
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, note
from calotype.training.enhance import face_identity as likeness
from calotype.training.enhance.face_identity import Likeness
from calotype.training.enhance.loop import decibels, strip
from calotype.training.enhance.run import Test
from calotype.training.optim.perceptual import Lite
from calotype.training.run.result import TrainResult

SHOWN = 8  # faces of the sheet
SMALL = 4  # how many times smaller the face is that the upscaler and bicubic are given, besides the whole one
UPSCALER = "realesrgan-x4plus"


@dataclass(frozen=True)
class Row:
    """Means over all faces; of landmarks over those faces in which they are found both times."""

    way: str
    perceptual: float  # distance of features, lower is better
    psnr: float  # dB
    landmarks: float  # pixels, lower is better
    identity: float  # 1 - likeness of deep features, lower is better
    person: float  # distance of dlib's descriptors, lower is better; no number where they are not installed
    lost: int  # faces that the detector does not see any more
    seconds: float  # of a face


def compared(task: Any, models: Models, tests: Sequence[Test]) -> Iterator[Progress | Note | TrainResult]:
    """Measures `task.model` beside the unrestored face, bicubic and Real-ESRGAN x4plus; writes a table and a sheet.

    Raises:
        CalotypeError: no faces held back, the features are not installed, a network is not at hand.
    """
    if not tests:
        raise CalotypeError(
            "no faces are held back to measure with; give a higher {option:validation_split}, or more sheets"
        )
    side, features, detector = tests[0].true.shape[1], Lite(), models.detector()
    persons = Likeness() if likeness.is_installed() else None
    if persons is None:
        yield note(likeness.missing())
    ways = _ways(task, models, side)
    ours = next(reversed(ways.values()))
    rows, made = [], {}
    for n, (name, way) in enumerate(ways.items()):
        begun = time.monotonic()
        made[name] = []
        for k, test in enumerate(tests):
            made[name].append(way(test.low[None])[0].clamp(0, 1))
            yield Progress(n * len(tests) + k + 1, len(ways) * len(tests), "faces")
        seconds = (time.monotonic() - begun) / len(tests)
        rows.append(_row(name, made[name], tests, features, detector, persons, seconds))
    clean = sum(decibels(ours(test.true[None]).clamp(0, 1), test.true[None]) for test in tests) / len(tests)
    yield from map(note, _table(rows))
    yield note(
        "a sharp face through {network} has {clean:.2f} dB; {count} faces of {side} pixels",
        network=rows[-1].way,
        clean=clean,
        count=len(tests),
        side=side,
    )
    path = task.output_dir / f"{task.output_name}-figures.json"
    task.output_dir.mkdir(parents=True, exist_ok=True)
    data = {"faces": len(tests), "side": side, "clean_psnr": clean, "rows": [_plain(row) for row in rows]}
    write_atomic(path, json.dumps(data, indent=1).encode())
    sheet = path.with_suffix(".jpg")
    save(Picture(_sheet(list(made.values()), tests)), sheet, format="jpeg", quality=90)
    yield note("figures: {path}, and side by side, the truth last: {sheet}", path=path, sheet=sheet)
    yield TrainResult(path, (), len(tests), sheet)


def _ways(task: Any, models: Models, side: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """All that is compared, the task's model last: (N, 3, side, side) to the same.

    Real-ESRGAN is given the face twice: as it is, and a quarter as large, which is kinder to what was that small.
    """
    small, upscaler = side // SMALL, models.upscaler(UPSCALER)

    def drawn(network: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: _at(network(_at(x, network.side)), side)

    found = {
        "unrestored": lambda x: x,
        "bicubic": lambda x: _at(_at(x, small), side),
        UPSCALER: lambda x: _at(upscaler(x), side),
        f"{UPSCALER}, of a quarter": lambda x: _at(upscaler(_at(x, small)), side),
    }
    given = dict.fromkeys(name for name in task.compared_models if name != task.model)
    restorers = {name: models.faces(name) for name in (*given, task.model)}
    names = [*found, *(network.name for network in restorers.values())]
    for name, network in restorers.items():  # two of one name are told apart as they were given
        found[network.name if names.count(network.name) == 1 else name] = drawn(network)
    return found


def _row(
    name: str,
    made: Sequence[Tensor],
    tests: Sequence[Test],
    features: Lite,
    detector: Detector,
    persons: Likeness | None,
    seconds: float,
) -> Row:
    count, perceptual, identity, psnr, away, apart, lost = len(tests), 0.0, 0.0, 0.0, [], [], 0
    with torch.no_grad():
        for picture, test in zip(made, tests, strict=True):
            one, other = picture[None], test.true[None]
            distance, unlikeness = features.both(one, other)
            perceptual += float(distance) / count
            identity += float(unlikeness) / count
            psnr += decibels(one, other) / count
            seen, true = (_landmarks(detector, x) for x in (picture, test.true))
            if true is not None and seen is not None:
                away.append(float(np.hypot(*(seen - true).T).mean()))
            lost += true is not None and seen is None
            if true is not None and persons is not None:
                apart.append(persons.apart(picture, test.true, true))
    return Row(name, perceptual, psnr, _mean(away), identity, _mean(apart), lost, seconds)


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else math.nan


def _plain(row: Row) -> dict[str, Any]:
    """As JSON has it: null where there is no number."""
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(row).items()}


def _landmarks(detector: Detector, picture: Tensor) -> np.ndarray | None:
    found = detector.find(to_pixels(picture, like=np.empty((1, 1, 3), np.uint8)))
    return found[0].landmarks if found else None


def _at(x: Tensor, side: int | None) -> Tensor:
    """(N, 3, h, h) to the side, bicubic, smoothed where it shrinks."""
    if side is None or x.shape[-1] == side:
        return x
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def _table(rows: Sequence[Row]) -> list[str]:
    """Lines that stand under each other."""
    width = max(len(row.way) for row in rows)
    told = [f"{'':{width}}  perceptual   PSNR  landmarks  identity  person  lost  seconds"]
    told += [
        f"{row.way:{width}}  {row.perceptual:10.3f}  {row.psnr:5.2f}  {row.landmarks:9.2f}  {row.identity:8.4f}  "
        f"{'-' if math.isnan(row.person) else f'{row.person:.3f}':>6}  "
        f"{row.lost:4d}  {row.seconds:7.2f}"
        for row in rows
    ]
    return told


def _sheet(columns: Sequence[Sequence[Tensor]], tests: Sequence[Test]) -> np.ndarray:
    """Faces in rows, ways in columns, the truth last."""
    rows = [strip([*(column[n] for column in columns), tests[n].true]) for n in range(min(SHOWN, len(tests)))]
    return np.ascontiguousarray(np.concatenate(rows))
