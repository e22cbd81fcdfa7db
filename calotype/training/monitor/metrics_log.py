"""What a training run has to tell: numbers and pictures by step, and facts. Any training loop can keep one.

It is a file of JSON lines, one for each thing told, so that a run that is broken off leaves all of it readable:
{"step": 12, "loss/current": 0.08, "lr/unet": 0.0001, "seconds": 6.1}
{"step": 12, "picture": "sample/mine_e000001_00_1337.png", "what": "a cat", "how": "16 steps, seed 1337"}
{"fact": "photos", "value": "24"}
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from calotype.errors import CalotypeError
from calotype.files import write_atomic

SECONDS = "seconds"  # the number that tells how long the run has worked until then


@dataclass(frozen=True)
class LoggedSample:
    """A picture that was drawn on the way."""

    step: int
    picture: str  # file, as seen from the diary's folder
    what: str  # the same for all pictures that are to be compared
    how: str = ""


class MetricsLog:
    """Numbers by name, each a list of (step, value) with rising steps; pictures; facts by name."""

    def __init__(self, path: Path, after: int = 0, is_kept: bool = True):
        """Goes on with the diary at `path` where there is one; what it has of later steps than `after` is forgotten.

        With `after` 0 it begins anew. One that is not kept is told everything and writes nothing.

        Raises:
            CalotypeError: the file cannot be written.
        """
        self.path = path
        self.numbers: dict[str, list[tuple[int, float]]] = {}
        self.pictures: list[LoggedSample] = []
        self.facts: dict[str, Any] = {}
        for told in _lines(path) if after else ():
            if told.get("step", 0) <= after:
                self._take(told)
        self._file: BinaryIO | None = None
        if not is_kept:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, b"".join(_line(told) for told in self._all()))
            self._file = path.open("ab", buffering=0)
        except OSError as fault:
            raise CalotypeError(
                "{path} cannot be written ({reason}); give another {option:output_dir}",
                path=path,
                reason=fault.strerror,
            ) from None

    def note(self, step: int, numbers: Mapping[str, float]) -> None:
        self._tell({"step": step, **numbers})

    def show(self, shown: LoggedSample) -> None:
        self._tell(asdict(shown))

    def fact(self, name: str, value: Any) -> None:
        """Tells of the run as a whole; the last one told under a name counts."""
        self._tell({"fact": name, "value": value})

    def last(self, name: str, otherwise: float = math.nan) -> float:
        return self.numbers[name][-1][1] if self.numbers.get(name) else otherwise

    def least(self, name: str) -> tuple[int, float] | None:
        """The step at which a number was lowest, and the number; the first of equals."""
        real = [(step, value) for step, value in self.numbers.get(name, ()) if math.isfinite(value)]
        return min(real, key=lambda told: told[1], default=None)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _tell(self, told: dict[str, Any]) -> None:
        self._take(told)
        if self._file is None:
            return
        try:
            self._file.write(_line(told))
        except OSError as fault:
            raise CalotypeError(
                "{path} cannot be written ({reason}); make room on the disk", path=self.path, reason=fault.strerror
            ) from None

    def _take(self, told: Mapping[str, Any]) -> None:
        if "fact" in told:
            self.facts[told["fact"]] = told["value"]
        elif "picture" in told:
            now = LoggedSample(**told)
            if now in self.pictures:  # a run that goes on may tell of a step again
                self.pictures.remove(now)
            self.pictures.append(now)
        else:
            for name, value in told.items():
                if name != "step":
                    values = self.numbers.setdefault(name, [])
                    if values and values[-1][0] == told["step"]:  # a run that goes on may tell of a step again
                        values.pop()
                    values.append((told["step"], math.nan if value is None else value))

    def _all(self) -> Iterator[dict[str, Any]]:
        """Everything, as it would be told in one go."""
        yield from ({"fact": name, "value": value} for name, value in self.facts.items())
        steps: dict[int, dict[str, float]] = {}
        for name, values in self.numbers.items():
            for step, value in values:
                steps.setdefault(step, {"step": step})[name] = value
        yield from (steps[step] for step in sorted(steps))
        yield from (asdict(shown) for shown in self.pictures)


def read_diary(path: Path) -> list[dict[str, Any]]:
    """The lines of a diary as data, oldest first; empty where there is none."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Those that are whole: a break of power may have cut the last one."""
    try:
        text = path.read_bytes()
    except OSError:
        return
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and _is_sound(told):
            yield told


def _is_sound(told: Mapping[str, Any]) -> bool:
    if "fact" in told:
        return told.keys() == {"fact", "value"} and isinstance(told["fact"], str)
    if type(told.get("step")) is not int:
        return False
    if "picture" in told:
        texts = (told.get(name) for name in ("picture", "what", "how"))
        return told.keys() == {"step", "picture", "what", "how"} and all(isinstance(text, str) for text in texts)
    return all(value is None or type(value) in (int, float) for value in told.values())


def _line(told: Mapping[str, Any]) -> bytes:
    """Numbers that are none (NaN, infinity) become null, which JSON has."""
    sound = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in told.items()}
    return json.dumps(sound, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
