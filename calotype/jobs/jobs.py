"""Jobs as data, and what can go wrong with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError

FileRefs = str | list[str]  # "ID" or "ID/name.jpg" of an upload; a list for an option that takes a folder
QUEUED, RUNNING, PAUSED, DONE, FAILED, CANCELLED = "queued", "running", "paused", "done", "failed", "cancelled"
STATES = (QUEUED, RUNNING, PAUSED, DONE, FAILED, CANCELLED)
FINISHED_STATES = (DONE, FAILED, CANCELLED)
BUG = "an error in Calotype itself: {kind}: {bug}"
CRASHED = (
    "the process that ran this job ended {attempts} times without a result, so it is not tried again; the files or "
    "models of the job may crash it, or memory is short"
)
TEMPLATES = (BUG, CRASHED)  # errors of jobs that nobody is charged for
EXPLAINING = ("uncertainty", "mask")  # `beside` in the facts of a picture that only explains another one of its job
LEASE = 30.0  # seconds without a heartbeat after which a job is taken from its worker
MAX_ATTEMPTS = 3  # at a job whose process ends


class NotFound(CalotypeError):
    """There is no such job, result or upload, or it belongs to somebody else."""


class Conflict(CalotypeError):
    """The request does not fit the state of the job, or an earlier request with the same idempotency key."""


class OverBudget(CalotypeError):
    """The account has too many jobs in the queue, or has used its device seconds."""


class Unreachable(CalotypeError):
    """The service cannot be reached, or cannot answer at present: the same request may succeed later."""


class LeaseLost(Exception):
    """The job was taken from this worker, because its lease ended. Its results are not stored."""


@dataclass(frozen=True)
class StoredResult:
    """A file that a job has written."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # of `events.Saved`: seed, width, height, ...

    @property
    def is_picture(self) -> bool:
        """Whether this is a picture: no other kind of file, and none that explains another; a grid counts."""
        return self.media_type.startswith("image/") and self.facts.get("beside") not in EXPLAINING


@dataclass(frozen=True)
class NewResult:
    """A file to store as a result; `path` may be deleted afterwards."""

    path: Path
    name: str
    media_type: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredUpload:
    """An uploaded file, by the SHA-256 of its content."""

    id: str
    size: int


@dataclass(frozen=True)
class StoredEvent:
    """An event of a job; `data` is that of `events.as_data`, or {"event": "state", "state": ...}."""

    number: int
    created: float
    data: dict[str, Any]


def upload_ids(files: Mapping[str, FileRefs]) -> Iterator[tuple[str, str]]:
    """The uploads that a job needs: option and id."""
    for option, refs in files.items():
        yield from ((option, ref.partition("/")[0]) for ref in ([refs] if isinstance(refs, str) else refs))


@dataclass(frozen=True)
class Job:
    """A task in the queue. Times are seconds since 1970."""

    id: str
    owner: str
    account: str
    kind: str
    task: dict[str, Any]
    files: dict[str, FileRefs]  # uploads, by option
    output: dict[str, Any]  # options of `tasks.output`: format, quality
    models: tuple[str, ...]
    state: str
    priority: int
    created: float
    started: float | None
    finished: float | None
    progress: dict[str, Any] | None
    preview: str | None  # changes with each preview; the file is `files.preview(job.id)`
    results: tuple[StoredResult, ...]
    error: dict[str, Any] | None
    cost: float  # device seconds
    parent: str | None
    attempts: int
    is_favourite: bool
    last_event: int
    requested: str  # of a running job: run, cancel or pause

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED_STATES


def is_our_fault(error: Mapping[str, Any] | None) -> bool:
    """Whether a job failed by an error of the program: then its account is not charged."""
    return error is not None and error["error"]["template"] in TEMPLATES


@dataclass(frozen=True)
class Claim:
    """A job that a worker runs until its lease ends, unless the worker extends it by a heartbeat."""

    job: Job
    worker: str
    token: str
    lease: float  # seconds
    unload: bool = False  # the worker drops its models first


@dataclass(frozen=True)
class Budget:
    """Limits of the account that is charged for a job; None: unlimited.

    Attributes:
        account: who is charged; several owners may have one. Empty: the owner.
        seconds: device seconds; for each day in UTC if `is_daily`, else for ever.
        queued: jobs that wait or are paused.
        running: jobs that run at the same time; others wait.
    """

    account: str = ""
    seconds: float | None = None
    is_daily: bool = True
    queued: int | None = None
    running: int | None = None


UNLIMITED = Budget()


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker reported last."""

    name: str
    reported: float
    device: str
    models: tuple[str, ...]
    note: dict[str, Any] | None  # `Message.as_data`: why it waits
