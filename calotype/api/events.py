"""Events of jobs as a stream of server-sent events, which goes on where a connection broke."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from calotype.api.errors import error_data
from calotype.api.shown import event_data, job_view
from calotype.jobs.jobs import Job, NotFound
from calotype.jobs.store import JobStore

POLL = 0.25  # seconds between two looks into the store, for all streams together
PING = 15.0  # seconds without an event after which a comment keeps the connection
RECENT = 60.0  # seconds for which a stream of all jobs also has those that have ended
PAGE = 200  # events that are read at once
END = "end"  # id of the last event of a stream; nothing follows it


class EventHub:
    """Looks into the store for all streams together, and wakes those whose jobs have changed."""

    def __init__(self, store: JobStore, stopping: asyncio.Event):
        self._store, self._stopping = store, stopping
        self._waiting: dict[str, dict[asyncio.Future, Any]] = {}  # job id: streams, and the mark that each knows
        self._task: asyncio.Task | None = None

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def wait(self, job_id: str, mark: Any, timeout: float = PING) -> bool:
        """Waits until the job's mark is another one than `mark`. False after `timeout` seconds, and if the service
        stops."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, {})[future] = mark
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting.get(job_id, {}).pop(future, None)
            if not self._waiting.get(job_id, True):
                del self._waiting[job_id]

    async def _look(self) -> None:
        while self._waiting:
            marks = await run_in_threadpool(self._store.last_events, list(self._waiting))
            for job_id, futures in self._waiting.items():
                for future, mark in futures.items():
                    if not future.done() and (self._stopping.is_set() or marks.get(job_id) != mark):
                        future.set_result(not self._stopping.is_set())
            await asyncio.sleep(POLL)


def read_last_id(text: str | None) -> int | None:
    """The number in the header Last-Event-ID: 0 without one, None after the last event."""
    if text == END:
        return None
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else 0


async def stream(hub: EventHub, store: JobStore, job: Job, after: int) -> AsyncIterator[bytes]:
    """The events of a job after number `after`, and an event `job` whenever its state changes; the last one, with the
    id `end`, has the final state, or is an event `error` if the job was deleted."""
    try:
        async for event in _events(hub, store, job, after):
            yield event
    except NotFound as fault:
        yield _packed(END, "error", error_data(fault))


async def _events(hub: EventHub, store: JobStore, job: Job, after: int) -> AsyncIterator[bytes]:
    state = ""
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
        if not await hub.wait(job.id, mark):
            if hub.is_stopping:
                return
            yield b": waiting\n\n"


async def stream_all(hub: EventHub, store: JobStore, owner: str) -> AsyncIterator[bytes]:
    """The jobs of an owner, each when it changes. The first ones are those that have not ended."""
    known: dict[str, int] = {}
    since, sent = time.time() - RECENT, time.monotonic()
    yield b"retry: 2000\n\n"
    while not hub.is_stopping:
        marks = await run_in_threadpool(store.marks, owner, since)
        for job_id in [job_id for job_id in marks if known.get(job_id) != marks[job_id]]:
            with contextlib.suppress(NotFound):
                job = await run_in_threadpool(store.get, job_id, owner)
                yield _packed("", "job", job_view(job).model_dump())
                sent = time.monotonic()
        for job_id in known.keys() - marks.keys():
            yield _packed("", "gone", {"id": job_id})
        known = marks
        if time.monotonic() - sent > PING:
            yield b": waiting\n\n"
            sent = time.monotonic()
        await asyncio.sleep(2 * POLL)


def _packed(number: str, name: str, data: Any) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
