"""The loop of a worker: claims a job, runs it, stores what happens, and claims the next one."""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from calotype.engine import Engine
from calotype.errors import CalotypeError, Message
from calotype.jobs.database import StoreFull
from calotype.jobs.jobs import BUG, Claim, LeaseLost, Unreachable
from calotype.jobs.store import JobStore
from calotype.tasks.events import Preview, Progress
from calotype.tasks.limits import LIMITS
from calotype.worker.attempt import Attempt
from calotype.worker.upkeep import Schedule, Upkeep
from calotype.worker.worker_options import WorkerOptions

if TYPE_CHECKING:
    from calotype.worker.remote_store import RemoteStore

REPORT_SECONDS = 10.0
RETRY_SECONDS = 1.0  # after an error of the store
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ROOM = "the disk has {free:.1f} GiB free and jobs need {needed:.1f} GiB; they wait until there is room"

LOG = logging.getLogger("calotype.worker")
T = TypeVar("T")


class Worker:
    """Runs jobs of a store on one device, until `stop`.

    Args:
        engine: keeps models loaded between jobs.
        name: unique among workers.
    """

    def __init__(self, store: "JobStore | RemoteStore", engine: Engine, options: WorkerOptions, name: str):
        self.store, self.engine, self.options, self.name = store, engine, options, name
        self._stopping = threading.Event()
        self._upkeep, self._schedule = Upkeep(store, options), Schedule()
        self._note: Message | None = None

    def stop(self) -> None:
        """Ends `run` after the current step; its job goes back into the queue. Safe to call from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Runs jobs until `stop`."""
        while not self._stopping.is_set():
            try:
                is_idle = not self.run_next()
            except LeaseLost as fault:
                LOG.warning("job %s was taken from this worker: its lease had ended", fault)
                continue
            except CalotypeError as fault:  # of the store; it may be there again
                LOG.error("%s", fault)
                is_idle = self._stopping.wait(RETRY_SECONDS) or True
            if is_idle:
                self._stopping.wait(self.options.poll)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[None]:
        """Runs jobs in a thread of this process until the block ends."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def run_next(self) -> bool:
        """Runs one job, if there is one. Returns whether there was one."""
        self._maintain()
        if not self._has_room():
            return False
        claim = self.store.claim(self.name, lease=self.options.lease, loaded=self._loaded)
        if claim is None:
            return False
        if claim.unload:
            self._unload()
        LOG.info("job %s (%s) starts, attempt %d", claim.job.id, claim.job.kind, claim.job.attempts)
        started = time.monotonic()
        state = self._run(claim)
        LOG.info("job %s (%s) is %s after %.1f s", claim.job.id, claim.job.kind, state, time.monotonic() - started)
        return True

    @property
    def _loaded(self) -> Collection[str]:
        """Names of the models that are loaded."""
        return self.engine.models.loaded if self.engine.is_loaded else ()

    def _run(self, claim: Claim) -> str:
        """Runs a job to its end. Returns its state. Raises LeaseLost."""
        options, started = self.options, time.monotonic()

        def cost() -> float:
            return time.monotonic() - started

        with _Heartbeat(self.store, claim, options.poll) as heartbeat:
            try:
                limits = None if options.trusted else LIMITS
                attempt = Attempt(claim.job, self.store.files, self.engine, limits, options)
            except KeyError:
                fault = CalotypeError("this worker knows no task {kind}; install a newer version", kind=claim.job.kind)
                return self._store(lambda: self.store.fail(claim, fault, cost())).state
            try:
                requested = self._run_attempt(claim, attempt, heartbeat)
            except LeaseLost:
                raise
            except Unreachable:  # a file of the job could not be fetched
                return self._store(lambda: self.store.park(claim, cost())).state
            except Exception as fault:  # noqa: BLE001 - it fails this job, not the worker
                if self._is_disk_full(fault):
                    self._note = Message("the disk is full; jobs wait until there is room")
                    LOG.error("%s", self._note)
                    self._stopping.wait(RETRY_SECONDS)
                    return self._store(lambda: self.store.park(claim, cost())).state
                error = attempt.as_error(_as_error(fault, claim))
                return self._store(lambda: self.store.fail(claim, error, cost(), attempt.results)).state
            if requested == "lost":
                raise LeaseLost(claim.job.id)
            if requested == "cancel":
                return self._store(lambda: self.store.stop(claim, cost(), attempt.results)).state
            if requested in ("pause", "stop"):
                return self._store(lambda: self.store.park(claim, cost())).state
            if attempt.failures and not attempt.results:
                cause = attempt.failures[0].cause
                fault = cause if isinstance(cause, CalotypeError) else CalotypeError("{cause}", cause=cause)
                error = attempt.as_error(fault)
                return self._store(lambda: self.store.fail(claim, error, cost())).state
            return self._store(lambda: self.store.finish(claim, attempt.results, cost())).state

    def _run_attempt(self, claim: Claim, attempt: Attempt, heartbeat: "_Heartbeat") -> str:
        """Runs the job and stores its events. Returns "done", or why it was stopped."""
        states, is_due = attempt.states, _Limiter(self.options.progress_every)
        requested = "done"
        with contextlib.closing(attempt.events()) as events:
            for event in events:
                if heartbeat.requested != "run" or self._stopping.is_set():
                    requested = heartbeat.requested if heartbeat.requested != "run" else "stop"
                    break
                if isinstance(event, Preview):
                    self.store.add_preview(claim, event.image, event.media_type, event.step)
                elif not isinstance(event, Progress) or is_due(event):
                    self.store.add_event(claim, attempt.as_data(event))
                    if (found := attempt.states) != states:
                        states = found
                        self.store.saved_state(claim)
        if requested == "stop" and attempt.states != states:  # a training run, which has saved where it stopped
            self.store.saved_state(claim)
        return requested

    def _store(self, write: Callable[[], T]) -> T:
        """Stores the end of a job, and tries again while the store has an error, as the work is done. Raises LeaseLost;
        CalotypeError if the worker stops meanwhile."""
        while True:
            try:
                return write()
            except CalotypeError as fault:
                LOG.error("%s", fault)
                if self._stopping.wait(RETRY_SECONDS):
                    raise

    @property
    def _free(self) -> float:
        """GiB free on the disk."""
        return self.store.files.free() / 2**30

    def _has_room(self) -> bool:
        needed, free = self.options.min_free, self._free
        has_room = free >= needed
        if not has_room and self._note is None:
            LOG.error(NO_ROOM.format(free=free, needed=needed))
        self._note = None if has_room else Message(NO_ROOM, free=free, needed=needed)
        return has_room

    def _is_disk_full(self, fault: BaseException) -> bool:
        if self._free < self.options.min_free:
            return True
        return any(isinstance(f, StoreFull) or getattr(f, "errno", None) in DISK_FULL for f in _causes(fault))

    def _maintain(self) -> None:
        self._upkeep.run()
        if self._schedule.is_due("report", REPORT_SECONDS):
            with contextlib.suppress(StoreFull):
                if self.store.report(self.name, self.engine.settings.device, self._loaded, self._note):
                    self._unload()

    def _unload(self) -> None:
        self.engine.unload()
        LOG.info("models were dropped on request; jobs load them again")


class _Heartbeat:
    """Extends the lease of a claim in a thread, and reads what the job's owner wants."""

    def __init__(self, store: "JobStore | RemoteStore", claim: Claim, poll: float):
        self.requested = "run"
        self._store, self._claim, self._poll = store, claim, poll
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "_Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        every, due = self._claim.lease / 4, 0.0
        while not self._ended.wait(min(self._poll, every)):
            with contextlib.suppress(CalotypeError):  # the store is busy, or its disk full
                if time.monotonic() >= due:
                    self.requested = self._store.heartbeat(self._claim)
                    due = time.monotonic() + every
                else:
                    self.requested = self._store.requested(self._claim)


class _Limiter:
    """Which events of progress are stored: some seconds apart, and the last one of each kind."""

    def __init__(self, seconds: float):
        self._seconds, self._stored = seconds, float("-inf")

    def __call__(self, event: Progress) -> bool:
        is_due = event.done >= event.total or time.monotonic() - self._stored >= self._seconds
        self._stored = time.monotonic() if is_due else self._stored
        return is_due


def _as_error(fault: Exception, claim: Claim) -> CalotypeError:
    if isinstance(fault, CalotypeError):
        return fault
    if isinstance(fault, MemoryError):
        return CalotypeError("there is not enough memory for this job; make it smaller")
    LOG.error("job %s: an error in Calotype itself", claim.job.id, exc_info=fault)
    return CalotypeError(BUG, kind=type(fault).__name__, bug=str(fault))


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):  # a chain may be a circle
        if fault is None:
            return
        yield fault
        fault = fault.__cause__ or fault.__context__
