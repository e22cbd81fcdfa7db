"""The log of a training run: metrics and pictures by step, and facts.

It is a file of JSON lines, one for each entry, so that it stays readable if the run is interrupted:
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

from calotype.errors import CalotypeError, reason_of
from calotype.files import write_atomic

SECONDS = "seconds"  # metric: time that the run has taken so far


@dataclass(frozen=True)
class LoggedSample:
    """A sample drawn during training."""

    step: int
    picture: str  # file, relative to the log's folder
    what: str  # prompt or description, the same for all pictures to compare
    how: str = ""


class MetricsLog:
    """Metrics by name, each a list of (step, value) with increasing steps; pictures; facts by name."""

    def __init__(self, path: Path, after: int = 0, is_written: bool = True):
        """Continues the log at `path`, if any, without entries of steps after `after`; with `after` 0 it is replaced.

        With `is_written` False no file is written.

        Raises:
            CalotypeError: the file cannot be written.
        """
        self.path = path
        self.numbers: dict[str, list[tuple[int, float]]] = {}
        self.pictures: list[LoggedSample] = []
        self.facts: dict[str, Any] = {}
        for entry in _lines(path) if after else ():
            if entry.get("step", 0) <= after:
                self._apply(entry)
        self._file: BinaryIO | None = None
        if not is_written:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, b"".join(_line(entry) for entry in self._entries()))
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise CalotypeError(
                "{path} cannot be written ({reason}); give another {option:output_dir}",
                path=path,
                reason=reason_of(error),
            ) from None

    def note(self, step: int, numbers: Mapping[str, float]) -> None:
        self._append({"step": step, **numbers})

    def show(self, sample: LoggedSample) -> None:
        self._append(asdict(sample))

    def fact(self, name: str, value: Any) -> None:
        """Logs a fact about the run; a later one with the same name replaces it."""
        self._append({"fact": name, "value": value})

    def last(self, name: str, default: float = math.nan) -> float:
        return self.numbers[name][-1][1] if self.numbers.get(name) else default

    def minimum(self, name: str) -> tuple[int, float] | None:
        """The (step, value) of a metric's minimum; the first of equal ones."""
        finite = [(step, value) for step, value in self.numbers.get(name, ()) if math.isfinite(value)]
        return min(finite, key=lambda entry: entry[1], default=None)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _append(self, entry: dict[str, Any]) -> None:
        self._apply(entry)
        if self._file is None:
            return
        try:
            self._file.write(_line(entry))
        except OSError as error:
            raise CalotypeError(
                "{path} cannot be written ({reason}); make room on the disk", path=self.path, reason=reason_of(error)
            ) from None

    def _apply(self, entry: Mapping[str, Any]) -> None:
        if "fact" in entry:
            self.facts[entry["fact"]] = entry["value"]
        elif "picture" in entry:
            sample = LoggedSample(**entry)
            if sample in self.pictures:  # a resumed run may log a step again
                self.pictures.remove(sample)
            self.pictures.append(sample)
        else:
            for name, value in entry.items():
                if name != "step":
                    values = self.numbers.setdefault(name, [])
                    if values and values[-1][0] == entry["step"]:  # a resumed run may log a step again
                        values.pop()
                    values.append((entry["step"], math.nan if value is None else value))

    def _entries(self) -> Iterator[dict[str, Any]]:
        """All entries, in the order of a new log."""
        yield from ({"fact": name, "value": value} for name, value in self.facts.items())
        steps: dict[int, dict[str, float]] = {}
        for name, values in self.numbers.items():
            for step, value in values:
                steps.setdefault(step, {"step": step})[name] = value
        yield from (steps[step] for step in sorted(steps))
        yield from (asdict(sample) for sample in self.pictures)


def read_metrics_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, oldest first; empty if there is no file."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The valid entries; a crash may have truncated the last one."""
    try:
        text = path.read_bytes()
    except OSError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and _is_valid(entry):
            yield entry


def _is_valid(entry: Mapping[str, Any]) -> bool:
    if "fact" in entry:
        return entry.keys() == {"fact", "value"} and isinstance(entry["fact"], str)
    if type(entry.get("step")) is not int:
        return False
    if "picture" in entry:
        texts = (entry.get(name) for name in ("picture", "what", "how"))
        return entry.keys() == {"step", "picture", "what", "how"} and all(isinstance(text, str) for text in texts)
    return all(value is None or type(value) in (int, float) for value in entry.values())


def _line(entry: Mapping[str, Any]) -> bytes:
    """NaN and infinity become null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
    return json.dumps(finite, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
