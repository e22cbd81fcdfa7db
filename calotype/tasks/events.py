"""Events that a task yields while it runs, and events of a run of the program (docs/events.md).

A task yields Progress, Note and, last, its result. `runner.run` yields the events below: frozen, and serializable as
JSON (`as_data`, `from_data`).
"""

import base64
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from calotype.errors import PLAIN, CalotypeError, Message, Wording, texts_of, with_path
from calotype.files import readable

Sentence = Message | CalotypeError


@dataclass(frozen=True)
class Started:
    """A run starts: the number of pictures (1 for a training run), and the output folder."""

    pictures: int
    out: str


@dataclass(frozen=True)
class ItemStarted:
    """The work on one source starts; `target` is the file or folder of its result."""

    source: str
    target: str


@dataclass(frozen=True)
class Progress:
    """Progress of a task: `done` of `total` units of `what`."""

    done: int
    total: int
    what: str
    remaining: float | None = None  # seconds, if it can be estimated
    source: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Drawing(Progress):
    """Progress of a picture that is being generated, or of a plan; `look()` returns a small preview: (h, w, 3) uint8.

    Not serializable: the runner makes a `Preview` of it.
    """

    look: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Learning(Progress):
    """Progress of a training run, after a step."""

    loss: float | None = None  # mean of the last steps; None if it is NaN
    rate: float | None = None  # the highest of the learning rates
    memory: int | None = None  # bytes in use on the device


@dataclass(frozen=True)
class Sampled(Progress):
    """A training run has drawn samples after `done` steps; `look()` returns them as one sheet: (h, w, 3) uint8.

    Not serializable: the runner makes a `Preview` of it.
    """

    look: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Preview:
    """A small preview of a picture that is being generated, of the samples of a training run, or of a plan."""

    source: str
    image: bytes  # an encoded file
    media_type: str = "image/jpeg"
    step: int | None = None  # of a training run, after which it was drawn


@dataclass(frozen=True)
class Note:
    """A message about the current source, or about the run if that is None.

    Of several with one `topic`, a run over pictures yields the first.
    """

    message: Message
    source: str | None = None
    topic: str = ""

    @property
    def text(self) -> str:
        """The message in the wording of no particular interface."""
        return str(self.message)


@dataclass(frozen=True)
class Saved:
    """A result is completely written. Its facts depend on the kind of task."""

    source: str
    target: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """Nothing was done, because the result exists already."""

    source: str
    target: str
    why: Message


@dataclass(frozen=True)
class Failed:
    """This source failed; the run continues with the next one."""

    source: str
    cause: Sentence

    @property
    def sentence(self) -> Sentence:
        """The cause, naming the file as the source does."""
        return with_path(self.cause, self.source)

    @property
    def names_source(self) -> bool:
        """Whether the sentence names the source with its path."""
        return readable(self.source) in map(readable, texts_of(self.sentence))

    @property
    def names_file(self) -> bool:
        """Whether the sentence names the file of the source, with any path or none."""
        name = PurePath(readable(self.source)).name
        return name in (PurePath(readable(text)).name for text in texts_of(self.sentence))


@dataclass(frozen=True)
class Compared:
    """Whether a reproduced result has the same bytes as the first one."""

    source: str
    target: str
    same: bool
    text: Message


@dataclass(frozen=True)
class Finished:
    """The last event of a run over pictures; after `again`, Compared may follow."""

    pictures: int
    done: int
    skipped: int
    failures: tuple[Failed, ...]
    seconds: float
    interrupted: bool
    report: str | None = None
    is_drawn: bool = False  # generated pictures: an interrupted one cannot be continued


Event = Started | ItemStarted | Progress | Preview | Note | Saved | Skipped | Failed | Compared | Finished

KINDS: dict[str, type] = {
    "begin": Started,
    "picture": ItemStarted,
    "progress": Progress,
    "learning": Learning,
    "preview": Preview,
    "said": Note,
    "done": Saved,
    "skipped": Skipped,
    "failed": Failed,
    "compared": Compared,
    "summary": Finished,
}
NAMES = {cls: name for name, cls in KINDS.items()}


def note(sentence: str | Message | Exception, /, **values: Any) -> Note:
    """A note from a template with its values, a message, or an error that is only reported."""
    if isinstance(sentence, CalotypeError):
        return Note(Message("{fault}", fault=sentence))
    return Note(Message.of(sentence) if isinstance(sentence, Exception) else Message(sentence, **values))


def as_data(event: Event) -> dict[str, Any]:
    """The event as JSON data, without loss: messages as templates with values, bytes as base64."""
    return {"event": NAMES[type(event)], **{s.name: _packed(getattr(event, s.name)) for s in dataclasses.fields(event)}}


def from_data(data: Mapping[str, Any]) -> Event:
    """The inverse of `as_data`. Raises KeyError, TypeError or ValueError for invalid data."""
    cls = KINDS[data["event"]]
    values = {name: value for name, value in data.items() if name != "event"}
    if cls is Saved:  # facts may have any names
        return Saved(**values)
    return cls(**{name: _unpacked(value) for name, value in values.items()})


def as_line(event: Event, wording: Wording = PLAIN) -> dict[str, Any]:
    """The event as the command line's --json prints it: flat, with messages as text, failures as source and cause."""
    name = {"learning": "progress"}.get(NAMES[type(event)], NAMES[type(event)])
    data = {"event": name, **{s.name: getattr(event, s.name) for s in dataclasses.fields(event)}}
    if isinstance(event, Progress):
        data = {"event": name, "source": data.pop("source"), **{k: v for k, v in data.items() if k != "event"}}
    elif isinstance(event, Note):
        data = {"event": name, "source": event.source, "text": wording.fill(event.message)}
    elif isinstance(event, Preview):
        data["image"] = base64.b64encode(event.image).decode()
    elif isinstance(event, Saved):
        data |= worded(data.pop("facts"), wording)
    elif isinstance(event, Failed):
        data |= {"cause": event.sentence}
    elif isinstance(event, Finished):
        failures = [{"source": failed.source, "cause": wording.fill(failed.sentence)} for failed in event.failures]
        counts = {"pictures": event.pictures, "done": event.done, "skipped": event.skipped, "failed": len(failures)}
        rest = {"seconds": event.seconds, "interrupted": event.interrupted, "report": event.report}
        data = {"event": name, **counts, "failures": failures, **rest, **({"is_drawn": True} if event.is_drawn else {})}
    return {key: wording.fill(value) if isinstance(value, Sentence) else value for key, value in data.items()}


def worded(facts: Mapping[str, Any], wording: Wording = PLAIN) -> dict[str, Any]:
    """Facts with the sentences in them, which are messages as data, in words. Raises as `Message.from_data`."""
    return {name: _worded(value, wording) for name, value in facts.items()}


def _worded(value: Any, wording: Wording) -> Any:
    if _is_map(value) and value.keys() == {"template", "values"}:
        return wording.fill(Message.from_data(value))
    if _is_map(value):
        return worded(value, wording)
    return [_worded(entry, wording) for entry in value] if isinstance(value, list | tuple) else value


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, CalotypeError):
        return value.as_data()
    if isinstance(value, Message):
        return {"message": value.as_data()}
    if type(value) in NAMES:
        return as_data(value)
    if isinstance(value, tuple):
        return [_packed(entry) for entry in value]
    if _is_map(value):
        return {key: str(entry) if isinstance(entry, Path) else entry for key, entry in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(entry) for entry in value)
    if not _is_map(value):
        return value
    if "base64" in value:
        return base64.b64decode(value["base64"])
    if "error" in value:
        return CalotypeError.from_data(value)
    if "message" in value:
        return Message.from_data(value["message"])
    return from_data(value) if value.get("event") in KINDS else value


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
