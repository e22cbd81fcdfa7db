"""What of a file or an output must be the same, for those that hold clock times, paths of the machine or random names.

Everything not named here is compared byte for byte. Left out are

- of a training run's diary (`*.log.jsonl`): the seconds, when it began, the memory, and where TensorBoard's files lie;
- of pages (`*.html`): durations and memory in words;
- of LoRA files: the times of training in the metadata; of all safetensors files, the order of the metadata, which is
  left to chance when they are written;
- of the list of models (`shelf.json`): the checksums of LoRAs, which depend on these;
- of a diffusion training's state: the seconds in what it tells of its stage;
- of the figures of face networks (`*-figures.json`, and in words): the seconds that each took;
- of torch's archives (`*.pth`, `*.pt`, `*.ckpt`): the folder's name within, and the id of the archive;
- of TensorBoard's files: the time in each event and in the name, and the machine's name;
- of output with --json: progress (which is told a few times a second) and seconds;
- files in `.cache`, where onnxruntime keeps a number for the machine;
- of all output: the folder of the record, that of the program, durations and memory, and how tables are filled up with
  blanks.
"""

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

TIMES = ("ss_training_started_at", "ss_training_finished_at", "modelspec.date")
CLOCKS = ("seconds", "remaining", "memory", "begun at", "tensorboard")
WORDS = ("text", "cause", "why")  # of events: sentences
DURATION = re.compile(r"\b\d+ h \d+ min\b|\b\d+ min \d+ s\b|\b\d+(\.\d+)? (s|seconds|GiB)\b|\b(\d+:)?\d+:\d\d\b")
EXPECTED = re.compile(r"(time|memory) expected.*")  # measured, and more is told where it is more
FIGURES = re.compile(r"^(.+?(?: (?:[\d.]+|-)){6}) \d+\.\d\d$")  # of a face network, the last one its seconds
STAGE = "w.stage"
Words = Mapping[str, str]  # paths of the machine, by what stands for them


def is_ours(path: str) -> bool:
    return not path.startswith(".cache/")


def name(path: str) -> str:
    """A file's name without clock and machine."""
    path = re.sub(r"tfevents\.\d+\.[^/]*", "tfevents", path)
    return re.sub(r"/\d{14}/", "/BEGUN/", path)


def form(path: str, data: bytes, words: Words) -> Any:
    """What is compared where bytes differ."""
    file = PurePosixPath(path)
    ending = "figures.json" if file.name.endswith("figures.json") else file.name
    found = FORMS.get(ending) or FORMS.get(file.suffix) or (_board if "tfevents" in path else None)
    if found is None:
        return data
    try:
        return found(data, words)
    except (ValueError, KeyError, struct.error, zipfile.BadZipFile):
        return data


def text(data: bytes, words: Words) -> str:
    """Output as words, without what differs between machines and moments."""
    told = data.decode("utf-8", "replace")
    for path, stand_in in words.items():
        told = told.replace(path, stand_in)
    told = EXPECTED.sub(r"\1 expected", DURATION.sub("TIME", told))
    lines = (" ".join(line.split()) for line in told.splitlines())
    return "\n".join(FIGURES.sub(r"\1", line) for line in lines)


def output(data: bytes, words: Words) -> tuple[list[Any], list[str]]:
    """Facts and sentences of what a command printed."""
    facts, sentences = [], []
    for line in text_or_json(data, words):
        if not isinstance(line, dict):
            facts.append(line)
        elif line.get("event") != "progress":
            sentences += [f"{key}: {line[key]}" for key in WORDS if key in line]
            facts.append(_without(line, {*CLOCKS, *WORDS}))
    return facts, sentences


def text_or_json(data: bytes, words: Words) -> Iterable[Any]:
    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith("{"):
            try:
                yield _placed(json.loads(line), words)
                continue
            except ValueError:
                pass
        yield text(line.encode(), words)


def options(data: bytes) -> list[str]:
    """The names of options in a help text."""
    return sorted(set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", data.decode("utf-8", "replace"))))


def difference(path: str, one: bytes, other: bytes, words: tuple[Words, Words]) -> str:
    """In a clause, where two files differ."""
    first, second = form(path, one, words[0]), form(path, other, words[1])
    if isinstance(first, bytes) or isinstance(second, bytes):
        return _pixels(one, other) or f"{len(one)} and {len(other)} bytes"
    return differing(first, second)


def differing(first: Any, second: Any, where: str = "") -> str:
    """The first place at which two values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            if first.get(key) != second.get(key):
                return differing(first.get(key), second.get(key), f"{where}/{key}")
    if isinstance(first, (list, str)) and type(first) is type(second):
        parts = [value.splitlines() if isinstance(value, str) else value for value in (first, second)]
        if max(map(len, parts)) > 1:
            for n in range(max(map(len, parts))):
                pair = [part[n] if n < len(part) else None for part in parts]
                if pair[0] != pair[1]:
                    return differing(*pair, f"{where}/{n}")
    return f"at {where or '/'}: {str(first)[:90]!r}, now {str(second)[:90]!r}"


def _pixels(one: bytes, other: bytes) -> str:
    import numpy as np
    from PIL import Image

    try:
        first, second = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int) for data in (one, other))
    except (OSError, ValueError):
        return ""
    if first.shape != second.shape:
        return f"pictures of {first.shape[:2]} and {second.shape[:2]} pixels"
    return f"pixels up to {abs(first - second).max()} steps of 255 apart"


def _json(data: bytes, words: Words) -> Any:
    return _placed(json.loads(data), words)


def _shelf(data: bytes, words: Words) -> Any:
    told = _json(data, words)
    for added in told["added"].values():
        if added["kind"] == "lora":
            added.pop("sha256", None)
    return told


def _figures(data: bytes, words: Words) -> Any:
    told = _json(data, words)
    return {**told, "rows": [_without(row, CLOCKS) for row in told["rows"]]}


def _diary(data: bytes, words: Words) -> list[Any]:
    lines = [_placed(json.loads(line), words) for line in data.splitlines()]
    return [_without(line, CLOCKS) for line in lines if line.get("fact") not in CLOCKS]


def _page(data: bytes, words: Words) -> str:
    return text(data, words)


def _tensors(data: bytes, words: Words) -> dict[str, Any]:
    """Each tensor by the hash of its bytes, and the metadata."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    metadata = _without(header.pop("__metadata__", {}), TIMES)
    parts = {
        key: [facts["dtype"], facts["shape"], hashlib.sha256(body[slice(*facts["data_offsets"])]).hexdigest()]
        for key, facts in header.items()
    }
    if STAGE in header:  # seconds so far, when the stage began and is to end, its number, step, looks, and more seconds
        parts[STAGE] = struct.unpack("<7d", body[slice(*header[STAGE]["data_offsets"])])[3:6]
    return {"metadata": _placed(metadata, words), **parts}


def _archive(data: bytes, words: Words) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {part.partition("/")[2]: archive.read(part) for part in archive.namelist()}
    parts.pop(".data/serialization_id", None)
    return {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}


def _board(data: bytes, words: Words) -> list[str]:
    """Events without their times."""
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + size])
        event.wall_time = 0
        for value in event.summary.value:
            if value.HasField("tensor") and value.tensor.dtype == 7:  # text, in which paths may stand
                value.tensor.string_val[:] = [text(one, words).encode() for one in value.tensor.string_val]
        found.append(str(event))
        data = data[16 + size :]
    return found


def _without(told: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in names}


def _placed(value: Any, words: Words) -> Any:
    """The same with stand-ins for paths."""
    if isinstance(value, str):
        for path, stand_in in words.items():
            value = value.replace(path, stand_in)
        return value
    if isinstance(value, dict):
        return {key: _placed(part, words) for key, part in value.items()}
    return [_placed(part, words) for part in value] if isinstance(value, list) else value


FORMS: Mapping[str, Callable[[bytes, Words], Any]] = {
    "shelf.json": _shelf,
    "figures.json": _figures,
    ".json": _json,
    ".jsonl": _diary,
    ".html": _page,
    ".safetensors": _tensors,
    **dict.fromkeys((".pth", ".pt", ".ckpt"), _archive),
}
