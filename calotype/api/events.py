"""Events of jobs as a stream of server-sent events, which goes on where a connection broke."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from calotype.api.errors import error_data
from calotype.api.shown import event_data, job_view, learning_view
from calotype.jobs.jobs import Job, NotFound
from calotype.jobs.owner_jobs import Mark
from calotype.jobs.store import JobStore
from calotype.tasks import is_training

Marks = dict[str, int]  # the number of the last event of each job
POLL = 0.25  # seconds between two looks into the store, for all streams together
PING = 10.0  # seconds without an event after which a comment keeps the connection
CHECK = 10.0  # seconds between two looks whether a stream may go on: tokens are revoked, sessions end
RECENT = 60.0  # seconds for which a stream of all jobs also has those that have ended
LONGEST = 86_400.0  # seconds for which an open stream watches a job that has ended
PAGE = 200  # events that are read at once
END = "end"  # id of the last event of a stream; nothing follows it


class EventHub:
    """Looks into the store for all streams together, and wakes those whose jobs have changed."""

    def __init__(self, store: JobStore, stopping: asyncio.Event):
        self._store, self._stopping = store, stopping
        self._jobs: dict[asyncio.Future, tuple[str, Any]] = {}  # of a stream: the job, and the mark that it knows
        self._owners: dict[asyncio.Future, tuple[str, Marks, float]] = {}  # the owner, the marks, since when
        self._task: asyncio.Task | None = None
        self._state = _State()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def wait(self, job_id: str, mark: Any, timeout: float = PING) -> bool:
        """Waits until the job's mark is another one than `mark`. False after `timeout` seconds, and if the service
        stops."""
        return bool(await self._wait(self._jobs, (job_id, mark), timeout))

    async def wait_for_any(self, owner: str, marks: Marks, since: float, timeout: float = PING) -> Marks | None:
        """Waits until the marks of an owner's jobs are others than `marks`, and returns them.

        Args:
            since: jobs that ended before have no mark, in seconds since 1970.
        Returns:
            None after `timeout` seconds, and if the service stops.
        """
        return await self._wait(self._owners, (owner, marks, since), timeout)

    async def _wait(self, waiting: dict[asyncio.Future, Any], known: Any, timeout: float) -> Any:
        future = asyncio.get_running_loop().create_future()
        waiting[future] = known
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return None
        finally:
            del waiting[future]

    async def _look(self) -> None:
        while self._jobs or self._owners:
            jobs = frozenset(job_id for job_id, _ in self._jobs.values())
            owners = frozenset(owner for owner, *_ in self._owners.values())
            since = min((since for *_, since in self._owners.values()), default=math.inf)
            state = self._state = await run_in_threadpool(self._read, jobs, owners, since)
            for future, (job_id, number) in self._jobs.items():
                if job_id in jobs and (self.is_stopping or state.numbers.get(job_id) != number):
                    _settle(future, not self.is_stopping)
            for future, (owner, known, start) in self._owners.items():
                if owner in owners:
                    now = {id: m.last_event for id, m in state.marks[owner].items() if (m.finished or start) >= start}
                    if self.is_stopping or now != known:
                        _settle(future, None if self.is_stopping else now)
            await asyncio.sleep(POLL)

    def _read(self, jobs: frozenset[str], owners: frozenset[str], since: float) -> "_State":
        """What the store has of jobs and owners: as at the last look, if nothing at all has changed since."""
        known, version = self._state, self._store.database.version()
        is_enough = jobs <= known.jobs and owners <= known.marks.keys() and since >= known.since
        if version is not None and version == known.version and is_enough:
            return known
        numbers = self._store.last_events(jobs) if jobs else {}
        marks = self._store.marks(owners, since) if owners else {}
        return _State(version, jobs, numbers, marks, since)


@dataclass(frozen=True)
class _State:
    """What was seen at a look into the store."""

    version: int | None = None  # of the database
    jobs: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)
    since: float = math.inf


def _settle(future: asyncio.Future, value: Any) -> None:
    if not future.done():
        future.set_result(value)


def read_last_id(text: str | None) -> int | None:
    """The number in the header Last-Event-ID: 0 without one, None after the last event."""
    if text == END:
        return None
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else 0


async def stream(
    hub: EventHub, store: JobStore, job: Job, after: int, is_allowed: Callable[[], bool] = lambda: True
) -> AsyncIterator[bytes]:
    """The events of a job after number `after`, and an event `job` whenever its state changes; the last one, with the
    id `end`, has the final state, or is an event `error` if the job was deleted.

    Args:
        is_allowed: asks the store whether its owner may still read; the stream ends soon after that is False.
    """
    try:
        async for event in _events(hub, store, job, after, is_allowed):
            yield event
    except NotFound as fault:
        yield _packed(END, "error", error_data(fault))


async def _events(
    hub: EventHub, store: JobStore, job: Job, after: int, is_allowed: Callable[[], bool]
) -> AsyncIterator[bytes]:
    state, right = "", _Right(is_allowed)
    yield b"retry: 2000\n\n"
    while True:
        mark = (await run_in_threadpool(store.last_events, [job.id])).get(job.id)
        is_changed, events = not state or mark is None, [None] * PAGE  # None: the job was deleted
        while len(events) == PAGE:
            events = await run_in_threadpool(store.events, job.id, after, PAGE)
            for event in events:
                after = event.number
                is_changed |= event.data.get("event") == "state"
                yield _packed(str(after), event.data.get("event", "event"), event_data(event.data))
        if is_changed:
            job = await run_in_threadpool(store.get, job.id)
        if job.state != state:
            state = job.state
            yield _packed(END if job.is_finished else str(after), "job", job_view(job).model_dump())
        if job.is_finished:
            return
        is_changed = await hub.wait(job.id, mark)
        if hub.is_stopping or not await right.is_valid():
            return
        if not is_changed:
            yield b": waiting\n\n"


class _Right:
    """Whether a stream may go on, which is asked now and then."""

    def __init__(self, is_allowed: Callable[[], bool]):
        self._is_allowed, self._asked = is_allowed, time.monotonic()

    async def is_valid(self) -> bool:
        if time.monotonic() - self._asked < CHECK:
            return True
        self._asked = time.monotonic()
        return await run_in_threadpool(self._is_allowed)


def marks_of(store: JobStore, owner: str) -> Marks:
    """The marks of the jobs that have not ended, or have just ended."""
    marks = store.marks([owner], time.time() - RECENT)[owner]
    return {job_id: mark.last_event for job_id, mark in marks.items()}


async def stream_all(
    hub: EventHub,
    store: JobStore,
    owner: str,
    known: Marks,
    is_allowed: Callable[[], bool] = lambda: True,
) -> AsyncIterator[bytes]:
    """The jobs of an owner, each when it changes, and what trainings have learnt since.

    Args:
        known: the marks that the reader knows; without any the stream begins with the jobs that have not ended.
        is_allowed: asks the store whether the owner may still read; the stream ends soon after that is False.
    """
    since, right = time.time() - RECENT, _Right(is_allowed)
    yield b"retry: 2000\n\n"
    while not hub.is_stopping:
        marks = await hub.wait_for_any(owner, known, since)
        if not await right.is_valid():
            return
        if marks is None:
            yield b": waiting\n\n"
            continue
        for event in await run_in_threadpool(_changed, store, owner, known, marks):
            yield event
        known, since = marks, max(since, time.time() - LONGEST)


def _changed(store: JobStore, owner: str, known: Marks, marks: Marks) -> list[bytes]:
    """The events of jobs whose marks are others than before, and of those that are not there any more."""
    events = []
    for job_id in known.keys() | marks.keys():
        if known.get(job_id) == marks.get(job_id):
            continue
        try:
            job = store.get(job_id, owner)
        except NotFound:
            events.append(_packed("", "gone", {"id": job_id}))
            continue
        if job_id not in marks:  # it ended long ago
            continue
        events.append(_packed("", "job", job_view(job).model_dump()))
        if is_training(job.kind):
            events.append(_packed("", "learning", learning_view(store, job, known.get(job_id, 0)).model_dump()))
    return events


def _packed(number: str, name: str, data: Any) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
