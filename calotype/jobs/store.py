"""The queue in a database: jobs, their events and results, uploads, and usage by account."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from calotype.errors import CalotypeError, Message
from calotype.jobs.database import Database
from calotype.jobs.fairness import Candidate, Usage, choose
from calotype.jobs.files import FileStore, new_id
from calotype.jobs.jobs import (
    CANCELLED,
    DONE,
    FAILED,
    FINISHED_STATES,
    LEASE,
    MAX_ATTEMPTS,
    PAUSED,
    QUEUED,
    RUNNING,
    UNLIMITED,
    Budget,
    Claim,
    Conflict,
    FileRefs,
    Job,
    LeaseLost,
    NewResult,
    NotFound,
    OverBudget,
    StoredEvent,
    StoredResult,
    StoredUpload,
    WorkerStatus,
    upload_ids,
)
from calotype.jobs.schema import EVENTS, JOBS, RESULTS, UPLOADS, USAGE, USAGE_DAYS, WORKERS

CANDIDATES = 20  # of each account, looked at for the next job
MAX_EVENTS = 5000  # kept of a job; older ones are deleted
MAX_UPLOAD = 1 << 30  # bytes
UPLOAD_SECONDS = 3600.0  # an upload that no job uses is kept for this long, whatever the disk budget
DAY = 86400
JOB_COLUMNS = [
    column
    for column in JOBS.c
    if column.name in Job.__dataclass_fields__  # the others are the store's own
]


class JobStore:
    """Jobs of all owners. Safe to use from several threads and processes at once.

    Args:
        url: of the database; empty: SQLite in `folder`.
        folder: for files, and for SQLite.
        clock: seconds since 1970.
        max_attempts: how often a job is started whose worker disappears.
    Raises:
        CalotypeError: the database can't be opened, or a newer version has written it.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        clock: Callable[[], float] = time.time,
        *,
        max_attempts: int = MAX_ATTEMPTS,
    ):
        self.folder, self.files = folder, FileStore(folder)
        self._clock, self._max_attempts = clock, max_attempts
        self.database = Database(url or f"sqlite:///{folder / 'jobs.sqlite3'}")

    def close(self) -> None:
        self.database.close()

    # Jobs of an owner

    def submit(
        self,
        owner: str,
        kind: str,
        task: Mapping[str, Any],
        *,
        files: Mapping[str, FileRefs] | None = None,
        output: Mapping[str, Any] | None = None,
        models: Collection[str] = (),
        priority: int = 0,
        parent: str | None = None,
        key: str | None = None,
        budget: Budget = UNLIMITED,
    ) -> Job:
        """Puts a task into the queue.

        Args:
            task: as JSON data; validated by the caller.
            files: uploads of the owner, by option: "ID" or "ID/name.jpg", or a list of them for a folder.
            output: options of `DrawingOutput`: format and quality.
            models: names of the models that the task needs, for workers that have them loaded.
            parent: the job of which this is a variation.
            key: of idempotency: a second request with the same key returns the job of the first.
            budget: whom to charge, and the limits of that account.
        Raises:
            NotFound: the owner has no such upload or parent.
            Conflict: an earlier request with this key was another one.
            OverBudget: a limit of the account is reached.
        """
        files, output = dict(files or {}), dict(output or {})
        uploads = list(upload_ids(files))
        request = [kind, task, files, output, priority, parent]
        fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        now, account, job_id = self._clock(), budget.account or owner, new_id()
        with self.database.writing() as db:
            if key is not None:
                same = and_(JOBS.c.owner == owner, JOBS.c.key == key)
                if row := db.execute(select(JOBS.c.id, JOBS.c.fingerprint).where(same)).first():
                    if row.fingerprint != fingerprint:
                        raise Conflict("an earlier request with the same idempotency key was another one")
                    return _load(db, row.id)
            for option, upload in uploads:
                _check_upload(db, owner, upload, option)
            if parent is not None:
                _load(db, parent, owner)
            self._check_budget(db, account, budget, now)
            ours = UPLOADS.c.id.in_([upload for _, upload in uploads]), UPLOADS.c.owner == owner
            db.execute(update(UPLOADS).where(*ours).values(used=now))
            db.execute(
                insert(JOBS).values(
                    id=job_id,
                    owner=owner,
                    account=account,
                    kind=kind,
                    task=dict(task),
                    files=files,
                    output=output,
                    models=sorted(models),
                    state=QUEUED,
                    priority=priority,
                    position=_next_position(db),
                    created=now,
                    queued=now,
                    cost=0.0,
                    parent=parent,
                    attempts=0,
                    overtaken=0,
                    is_favourite=False,
                    key=key,
                    fingerprint=fingerprint,
                    last_event=0,
                    requested="run",
                    max_running=budget.running,
                    max_seconds=budget.seconds,
                    is_daily=budget.is_daily,
                )
            )
            self._log_state(db, job_id, QUEUED)
            return _load(db, job_id)

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """A job. Raises NotFound if it does not exist or, with `owner`, belongs to another."""
        with self.database.reading() as db:
            return _load(db, job_id, owner)

    def find(
        self,
        owner: str | None = None,
        states: Collection[str] = (),
        after: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first.

        Args:
            after: the id of a job: only those that follow it in this order.
        Raises:
            NotFound: there is no job `after`.
        """
        with self.database.reading() as db:
            query = select(*JOB_COLUMNS).order_by(JOBS.c.created.desc(), JOBS.c.id.desc()).limit(limit)
            if owner is not None:
                query = query.where(JOBS.c.owner == owner)
            if states:
                query = query.where(JOBS.c.state.in_(states))
            if after is not None:
                last = _load(db, after, owner)
                earlier = and_(JOBS.c.created == last.created, JOBS.c.id < last.id)
                query = query.where(or_(JOBS.c.created < last.created, earlier))
            return _jobs(db, db.execute(query).all())

    def queue(self, owner: str) -> list[Job]:
        """The waiting jobs of an owner, in their order."""
        with self.database.reading() as db:
            return _jobs(db, db.execute(_queue_of(owner)).all())

    def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Cancels a job: a running one at its next heartbeat. Has no effect on a finished one."""
        with self.database.writing() as db:
            job = _load(db, job_id, owner)
            if job.state in (QUEUED, PAUSED):
                self._set_state(db, job_id, CANCELLED, finished=self._clock())
            elif job.state == RUNNING:
                _set(db, job_id, requested="cancel")
            return _load(db, job_id)

    def pause(self, job_id: str, owner: str | None = None) -> Job:
        """Takes a job out of the queue until `resume`; a running one stops at its next heartbeat."""
        with self.database.writing() as db:
            job = _load(db, job_id, owner)
            if job.state == QUEUED:
                self._set_state(db, job_id, PAUSED)
            elif job.state == RUNNING and job.requested != "cancel":
                _set(db, job_id, requested="pause")
            elif job.state != PAUSED:
                raise Conflict("the job is {state}; a job that waits or runs can be paused", state=_word(job))
            return _load(db, job_id)

    def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Puts a paused job back into the queue, at its place."""
        with self.database.writing() as db:
            job = _load(db, job_id, owner)
            if job.state == PAUSED:
                self._set_state(db, job_id, QUEUED, queued=self._clock())
            elif job.state == RUNNING and job.requested == "pause":
                _set(db, job_id, requested="run")
            elif job.state not in (QUEUED, RUNNING) or job.requested == "cancel":
                raise Conflict("the job is {state}; only a paused job can be resumed", state=_word(job))
            return _load(db, job_id)

    def move(self, job_id: str, owner: str, before: str | None = None) -> list[Job]:
        """Moves a waiting job before another one of the owner, or to the end. Returns the queue of the owner.

        Its priority becomes that of its new place. The places of other owners do not change.
        """
        with self.database.writing() as db:
            for moved in (job_id, before):
                if moved is not None and _load(db, moved, owner).state != QUEUED:
                    raise Conflict("only jobs that wait in the queue can be moved")
            rows = db.execute(_queue_of(owner)).all()
            ids = [row.id for row in rows if row.id != job_id]
            place = ids.index(before) if before not in (None, job_id) else len(ids)
            if before == job_id:
                return _jobs(db, rows)
            priority = {row.id: row.priority for row in rows}
            neighbour = before or (ids[-1] if ids else job_id)
            ids.insert(place, job_id)
            positions = sorted(db.scalars(select(JOBS.c.position).where(JOBS.c.id.in_(ids))))
            for position, moved in zip(positions, ids, strict=True):
                _set(db, moved, position=position)
            _set(db, job_id, priority=priority[neighbour])
            return _jobs(db, db.execute(_queue_of(owner)).all())

    def retry(self, job_id: str, owner: str | None = None, budget: Budget = UNLIMITED) -> Job:
        """Queues a failed or cancelled job again. Raises OverBudget as `submit` does."""
        with self.database.writing() as db:
            job = _load(db, job_id, owner)
            if job.state not in (FAILED, CANCELLED):
                raise Conflict(
                    "the job is {state}; only a failed or cancelled job can be tried again", state=_word(job)
                )
            self._check_budget(db, job.account, budget, self._clock())
            db.execute(delete(RESULTS).where(RESULTS.c.job == job.id))
            self._delete_result_files(job)
            values = {"error": None, "progress": None, "started": None, "finished": None, "attempts": 0}
            values |= {"queued": self._clock(), "position": _next_position(db), "overtaken": 0}
            self._set_state(db, job_id, QUEUED, **values)
            return _load(db, job_id)

    def favourite(self, job_id: str, owner: str | None, value: bool) -> Job:
        """Marks a job as a favourite, which `retain` never deletes, or removes the mark."""
        with self.database.writing() as db:
            _load(db, job_id, owner)
            _set(db, job_id, is_favourite=value)
            return _load(db, job_id)

    def delete(self, job_id: str, owner: str | None = None) -> None:
        """Deletes a finished job with its results."""
        with self.database.writing() as db:
            job = _load(db, job_id, owner)
            if not job.is_finished:
                raise Conflict("the job is {state}; cancel it first", state=_word(job))
            db.execute(delete(JOBS).where(JOBS.c.id == job_id))
        self._delete_files(job)

    def result(self, result_id: str, owner: str | None = None) -> tuple[Job, StoredResult]:
        """A result and its job; its file is `files.result(result_id)`. Raises NotFound."""
        with self.database.reading() as db:
            job_id = db.scalar(select(RESULTS.c.job).where(RESULTS.c.id == result_id))
            if job_id is None:
                raise NotFound("there is no such result")
            try:
                job = _load(db, job_id, owner)
            except NotFound:
                raise NotFound("there is no such result") from None
            return job, next(result for result in job.results if result.id == result_id)

    def events(self, job_id: str, after: int = 0, limit: int = 200) -> list[StoredEvent]:
        """Events of a job whose number is greater than `after`."""
        query = select(EVENTS).where(EVENTS.c.job == job_id, EVENTS.c.number > after)
        with self.database.reading() as db:
            rows = db.execute(query.order_by(EVENTS.c.number).limit(limit)).all()
        return [StoredEvent(row.number, row.created, row.data) for row in rows]

    def last_events(self, job_ids: Collection[str]) -> dict[str, int]:
        """The number of the last event of each job, in one query; every change of the state is an event too."""
        with self.database.reading() as db:
            rows = db.execute(select(JOBS.c.id, JOBS.c.last_event).where(JOBS.c.id.in_(job_ids))).all()
        return {row.id: row.last_event for row in rows}

    # Uploads

    def upload(self, owner: str, stream: BinaryIO, limit: int = MAX_UPLOAD) -> StoredUpload:
        """Stores a file; the same content is stored once. Raises TooLarge if it exceeds the limit."""
        received, stored = self.files.receive(stream, limit)
        try:
            with self.database.writing() as db:
                self.files.keep(received, stored.id)
                self._add_upload(db, owner, stored)
        finally:
            received.unlink(missing_ok=True)
        return stored

    def find_upload(self, owner: str, upload_id: str) -> StoredUpload:
        """An upload of this owner, with which it need not be sent again. Raises NotFound."""
        with self.database.writing() as db:
            stored = _check_upload(db, owner, upload_id, "")
            self._add_upload(db, owner, stored)
            return stored

    def remove_upload(self, owner: str, upload_id: str) -> None:
        """Forgets an upload of this owner. Raises NotFound, or Conflict while a job of the owner needs it."""
        with self.database.writing() as db:
            _check_upload(db, owner, upload_id, "")
            jobs = select(JOBS.c.files).where(JOBS.c.owner == owner, JOBS.c.state.not_in((DONE, CANCELLED)))
            if any(upload_id == needed for files in db.scalars(jobs) for _, needed in upload_ids(files)):
                raise Conflict("a job needs this upload; cancel or delete the job first")
            db.execute(delete(UPLOADS).where(UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner))
            if db.execute(select(UPLOADS.c.id).where(UPLOADS.c.id == upload_id)).first() is None:
                self.files.delete_upload(upload_id)

    def _add_upload(self, db: Connection, owner: str, stored: StoredUpload) -> None:
        values = {"id": stored.id, "owner": owner, "size": stored.size, "used": self._clock()}
        self._upsert(db, UPLOADS, values, {"used": values["used"]})

    # Workers

    def claim(
        self,
        worker: str,
        *,
        lease: float = LEASE,
        loaded: Collection[str] = (),
        kinds: Collection[str] = (),
    ) -> Claim | None:
        """The next job, which now runs on this worker; None if there is none.

        Args:
            loaded: names of the models that the worker has loaded.
            kinds: of tasks that the worker runs; empty: all.
        """
        now = self._clock()
        with self.database.writing() as db:
            choice = choose(self._candidates(db, kinds, now), self._usage(db, now), now, loaded)
            if choice is None:
                return None
            if choice.overtakes:
                passed = update(JOBS).where(JOBS.c.id.in_(choice.overtakes))
                db.execute(passed.values(overtaken=JOBS.c.overtaken + 1))
            job, token = _load(db, choice.id), new_id()
            values = {"worker": worker, "token": token, "claimed": now, "heartbeat": now, "lease": now + lease}
            started = now if job.started is None else job.started
            values |= {"started": started, "attempts": job.attempts + 1, "requested": "run", "progress": None}
            self._set_state(db, job.id, RUNNING, **values)
            usage = _read_usage(db, job.account)
            self._write_usage(db, job.account, Usage(usage.at(now), now, now))
            return Claim(_load(db, job.id), worker, token, lease)

    def requested(self, claim: Claim) -> str:
        """What `heartbeat` returns, without extending the lease."""
        with self.database.reading() as db:
            return db.scalar(select(JOBS.c.requested).where(_is_ours(claim))) or "lost"

    def heartbeat(self, claim: Claim) -> str:
        """Extends the lease. Returns "run", "cancel" or "pause", as its owner wants it, or "lost"."""
        now = self._clock()
        ours = update(JOBS).where(_is_ours(claim)).values(heartbeat=now, lease=now + claim.lease)
        with self.database.writing() as db:
            row = db.execute(ours.returning(JOBS.c.requested)).first()
        return row.requested if row else "lost"

    def add_event(self, claim: Claim, data: Mapping[str, Any]) -> int:
        """Stores an event, as `events.as_data` has it. Returns its number.

        Raises:
            LeaseLost: the job was taken from this worker.
        """
        with self.database.writing() as db:
            _check_claim(db, claim)
            if data.get("event") in ("progress", "learning"):
                _set(db, claim.job.id, progress=dict(data))
            return self._log(db, claim.job.id, data)

    def add_preview(self, claim: Claim, image: bytes, media_type: str = "image/jpeg") -> int:
        """Replaces the preview of the job, and stores an event without the image itself. Raises LeaseLost."""
        with self.database.writing() as db:
            _check_claim(db, claim)
            preview = new_id()
            self.files.write_preview(claim.job.id, image)
            _set(db, claim.job.id, preview=preview)
            return self._log(db, claim.job.id, {"event": "preview", "preview": preview, "media_type": media_type})

    def saved_state(self, claim: Claim) -> None:
        """The job can go on from here: what was tried before no longer counts as an attempt. Raises LeaseLost."""
        with self.database.writing() as db:
            _check_claim(db, claim)
            _set(db, claim.job.id, attempts=1)

    def finish(self, claim: Claim, results: Sequence[NewResult], cost: float) -> Job:
        """Stores the results of a job that is done. Raises LeaseLost, and stores nothing then."""
        return self._end(claim, DONE, cost, results)

    def fail(
        self,
        claim: Claim,
        error: CalotypeError | Message,
        cost: float,
        results: Sequence[NewResult] = (),
    ) -> Job:
        """Ends a job that failed, with the results that it has nevertheless. Raises LeaseLost."""
        fault = error if isinstance(error, CalotypeError) else CalotypeError(error)
        return self._end(claim, FAILED, cost, results, error=fault.as_data())

    def stop(self, claim: Claim, cost: float, results: Sequence[NewResult] = ()) -> Job:
        """Ends a job that its owner cancelled. Raises LeaseLost."""
        return self._end(claim, CANCELLED, cost, results)

    def park(self, claim: Claim, cost: float) -> Job:
        """Puts a job back into the queue at its place, because the worker stops or its owner paused it; it is no
        attempt. Raises LeaseLost."""
        with self.database.writing() as db:
            requested = _check_claim(db, claim)
            self._charge(db, claim.job, cost)
            state = {"cancel": CANCELLED, "pause": PAUSED}.get(requested, QUEUED)
            finished = {"finished": self._clock()} if state == CANCELLED else {"queued": self._clock()}
            self._set_state(db, claim.job.id, state, attempts=JOBS.c.attempts - 1, **_UNCLAIMED, **finished)
            return _load(db, claim.job.id)

    def sweep(self) -> list[Job]:
        """Takes jobs from workers whose lease has ended. Returns these jobs as they are now."""
        return self._take_back(JOBS.c.lease < self._clock())

    def worker_ended(self, worker: str) -> list[Job]:
        """Takes the jobs of a worker whose process has ended, without waiting for the lease."""
        return self._take_back(JOBS.c.worker == worker)

    def report(self, worker: str, device: str, models: Collection[str], note: Message | None = None) -> None:
        """Stores what a worker is and why it waits, if it does."""
        values = {
            "reported": self._clock(),
            "device": device,
            "models": sorted(models),
            "note": note.as_data() if note else None,
        }
        with self.database.writing() as db:
            self._upsert(db, WORKERS, {"name": worker, **values}, values)
            db.execute(delete(WORKERS).where(WORKERS.c.reported < self._clock() - DAY))

    def workers(self, seconds: float = 60.0) -> list[WorkerStatus]:
        """The workers that reported within the last seconds."""
        query = select(WORKERS).where(WORKERS.c.reported >= self._clock() - seconds).order_by(WORKERS.c.name)
        with self.database.reading() as db:
            rows = db.execute(query).all()
        return [WorkerStatus(row.name, row.reported, row.device, tuple(row.models), row.note) for row in rows]

    # Usage and retention

    def counts(self, owner: str | None = None) -> dict[str, int]:
        """The number of jobs in each state that has any."""
        query = select(JOBS.c.state, func.count().label("number")).group_by(JOBS.c.state)
        with self.database.reading() as db:
            rows = db.execute(query if owner is None else query.where(JOBS.c.owner == owner)).all()
        return {row.state: row.number for row in rows}

    def spent(self, account: str, is_daily: bool = True) -> float:
        """Device seconds that an account has used today (in UTC), or ever."""
        with self.database.reading() as db:
            return _spent(db, account, is_daily, self._clock())

    def retain(self, max_bytes: float, max_age: float) -> int:
        """Deletes the oldest finished jobs with their results, never favourites, until the files fit.

        Args:
            max_bytes: of results and uploads.
            max_age: seconds since a job finished.
        Returns:
            the number of jobs deleted.
        """
        now = self._clock()
        self._delete_uploads(now - max(UPLOAD_SECONDS, max_age))
        finished = and_(JOBS.c.state.in_(FINISHED_STATES), JOBS.c.is_favourite.is_(False))
        query = select(JOBS.c.id).where(finished).order_by(JOBS.c.finished, JOBS.c.id)
        deleted = 0
        with self.database.reading() as db:
            expired = db.scalars(query.where(JOBS.c.finished < now - max_age)).all()  # the first ones of the query
            others = db.scalars(query).all()[len(expired) :] if self._bytes(db) > max_bytes else ()
        for number, job_id in enumerate((*expired, *others)):
            if number >= len(expired) and not self._is_over(max_bytes, now):
                break
            with contextlib.suppress(NotFound, Conflict):  # deleted or tried again meanwhile
                if not self.get(job_id).is_favourite:
                    self.delete(job_id)
                    deleted += 1
        return deleted

    def delete_orphans(self) -> int:
        """Deletes files that a killed process has left, and that no row names. Returns their number."""
        with self.database.reading() as db:
            known = {
                "uploads": set(db.scalars(select(UPLOADS.c.id))),
                "results": set(db.scalars(select(RESULTS.c.id))),
                "previews": set(db.scalars(select(JOBS.c.id))),
                "work": set(db.scalars(select(JOBS.c.id).where(JOBS.c.state.not_in((DONE, CANCELLED))))),
                "incoming": set(),
            }
        return sum(self.files.delete_orphans(kind, ids.__contains__) for kind, ids in known.items())

    # Inside a transaction

    def _check_budget(self, db: Connection, account: str, budget: Budget, now: float) -> None:
        if budget.queued is not None:
            waiting = JOBS.c.account == account, JOBS.c.state.in_((QUEUED, PAUSED))
            if db.scalar(select(func.count()).select_from(JOBS).where(*waiting)) >= budget.queued:
                raise OverBudget(
                    "{limit} jobs wait already, which is the limit; wait for one of them", limit=budget.queued
                )
        if budget.seconds is not None and _spent(db, account, budget.is_daily, now) >= budget.seconds:
            if budget.is_daily:
                raise OverBudget("the {limit:g} seconds of today are used; go on tomorrow", limit=budget.seconds)
            raise OverBudget("the {limit:g} seconds of this account are used; ask for more", limit=budget.seconds)

    def _candidates(self, db: Connection, kinds: Collection[str], now: float) -> Iterator[Candidate]:
        rank = func.row_number().over(partition_by=JOBS.c.account, order_by=_QUEUE_ORDER).label("rank")
        names = "id", "account", "priority", "position", "queued", "models", "overtaken", "max_running", "max_seconds"
        ranked = select(*(JOBS.c[name] for name in names), JOBS.c.is_daily, rank).where(JOBS.c.state == QUEUED)
        if kinds:
            ranked = ranked.where(JOBS.c.kind.in_(kinds))
        ranked = ranked.subquery()
        rows = db.execute(select(ranked).where(ranked.c.rank <= CANDIDATES)).all()
        query = (
            select(JOBS.c.account, func.count().label("number")).where(JOBS.c.state == RUNNING).group_by(JOBS.c.account)
        )
        running = {row.account: row.number for row in db.execute(query)}
        spent = cache(lambda account, is_daily: _spent(db, account, is_daily, now))
        for row in rows:
            if row.max_running is not None and running.get(row.account, 0) >= row.max_running:
                continue
            if row.max_seconds is not None and spent(row.account, row.is_daily) >= row.max_seconds:
                continue
            values = row.id, row.account, row.priority, row.position, row.queued
            yield Candidate(*values, frozenset(row.models), row.overtaken)

    def _usage(self, db: Connection, now: float) -> dict[str, Usage]:
        """Usage by account, with what running jobs have used so far."""
        usage = {row.account: Usage(row.seconds, row.updated, row.served) for row in db.execute(select(USAGE))}
        for row in db.execute(select(JOBS.c.account, JOBS.c.claimed).where(JOBS.c.state == RUNNING)):
            usage[row.account] = usage.get(row.account, Usage()).after(now - row.claimed, now)
        return usage

    def _charge(self, db: Connection, job: Job, seconds: float) -> None:
        now, seconds = self._clock(), max(0.0, seconds)
        self._write_usage(db, job.account, _read_usage(db, job.account).after(seconds, now))
        day = {"account": job.account, "day": int(now // DAY), "seconds": seconds}
        self._upsert(db, USAGE_DAYS, day, {"seconds": USAGE_DAYS.c.seconds + seconds})
        _set(db, job.id, cost=JOBS.c.cost + seconds)

    def _write_usage(self, db: Connection, account: str, usage: Usage) -> None:
        values = {"seconds": usage.seconds, "updated": usage.updated, "served": usage.served}
        self._upsert(db, USAGE, {"account": account, **values}, values)

    def _upsert(self, db: Connection, table: Any, values: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        dialect = sqlite if self.database.is_sqlite else postgresql
        row = dialect.insert(table).values(**values)
        db.execute(row.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=dict(changed)))

    def _end(self, claim: Claim, state: str, cost: float, results: Sequence[NewResult], **values: Any) -> Job:
        adopted = []
        try:
            for result in results:
                adopted.append((result, *self.files.adopt(result.path)))
            with self.database.writing() as db:
                _check_claim(db, claim)
                self._charge(db, claim.job, cost)
                for number, (result, result_id, size, sha256) in enumerate(adopted):
                    names = {"id": result_id, "job": claim.job.id, "number": number, "name": result.name}
                    facts = {"media_type": result.media_type, "facts": dict(result.facts)}
                    db.execute(insert(RESULTS).values(**names, **facts, size=size, sha256=sha256))
                ended = {**_UNCLAIMED, "finished": self._clock(), "preview": None, **values}
                self._set_state(db, claim.job.id, state, **ended)
                job = _load(db, claim.job.id)
        except BaseException:
            for _, result_id, *_ in adopted:
                self.files.delete_result(result_id)
            raise
        self.files.delete_preview(job.id)
        if state != FAILED:  # a failed training run may be tried again, from its saved state
            self.files.delete_work(job.id)
        return job

    def _take_back(self, condition: Any) -> list[Job]:
        taken = []
        with self.database.reading() as db:  # usually there is none, and nothing is locked
            if db.execute(select(JOBS.c.id).where(JOBS.c.state == RUNNING, condition).limit(1)).first() is None:
                return []
        with self.database.writing() as db:
            query = select(*JOB_COLUMNS, JOBS.c.claimed, JOBS.c.heartbeat)
            rows = db.execute(query.where(JOBS.c.state == RUNNING, condition)).all()
            for row, job in zip(rows, _jobs(db, rows), strict=True):
                self._charge(db, job, row.heartbeat - row.claimed)
                now, values = self._clock(), dict(_UNCLAIMED)
                state = {"cancel": CANCELLED, "pause": PAUSED}.get(job.requested, QUEUED)
                if state == QUEUED and job.attempts >= self._max_attempts:
                    state, values["error"] = FAILED, _crashed(job.attempts).as_data()
                values |= {"finished": now} if state in FINISHED_STATES else {"queued": now}
                self._set_state(db, job.id, state, **values)
                taken.append(_load(db, job.id))
        return taken

    def _set_state(self, db: Connection, job_id: str, state: str, **values: Any) -> None:
        _set(db, job_id, state=state, **values)
        self._log_state(db, job_id, state)

    def _log_state(self, db: Connection, job_id: str, state: str) -> None:
        self._log(db, job_id, {"event": "state", "state": state})

    def _log(self, db: Connection, job_id: str, data: Mapping[str, Any]) -> int:
        counted = update(JOBS).where(JOBS.c.id == job_id).values(last_event=JOBS.c.last_event + 1)
        number = db.scalar(counted.returning(JOBS.c.last_event))
        db.execute(insert(EVENTS).values(job=job_id, number=number, created=self._clock(), data=dict(data)))
        if number % 100 == 0:
            db.execute(delete(EVENTS).where(EVENTS.c.job == job_id, EVENTS.c.number <= number - MAX_EVENTS))
        return number

    def _delete_result_files(self, job: Job) -> None:
        for result in job.results:
            self.files.delete_result(result.id)

    def _delete_files(self, job: Job) -> None:
        self._delete_result_files(job)
        self.files.delete_preview(job.id)
        self.files.delete_work(job.id)

    def _delete_uploads(self, before: float) -> None:
        """Deletes uploads that were last used before this time, unless a job has them."""
        with self.database.writing() as db:
            old = db.execute(select(UPLOADS).where(UPLOADS.c.used < before)).all()
            if not old:
                return
            needed = {upload for files in db.scalars(select(JOBS.c.files)) for _, upload in upload_ids(files)}
            for row in old:
                if row.id in needed:
                    continue
                db.execute(delete(UPLOADS).where(UPLOADS.c.id == row.id, UPLOADS.c.owner == row.owner))
                if db.execute(select(UPLOADS.c.id).where(UPLOADS.c.id == row.id)).first() is None:
                    self.files.delete_upload(row.id)

    def _is_over(self, max_bytes: float, now: float) -> bool:
        with self.database.reading() as db:
            excess = self._bytes(db) - max_bytes
        if excess > 0:  # a deleted job may have been the last that used an upload
            self._delete_uploads(now - UPLOAD_SECONDS)
            with self.database.reading() as db:
                excess = self._bytes(db) - max_bytes
        return excess > 0

    def _bytes(self, db: Connection) -> int:
        uploads = select(UPLOADS.c.id, func.max(UPLOADS.c.size).label("size")).group_by(UPLOADS.c.id).subquery()
        total = (db.scalar(select(func.sum(column))) or 0 for column in (RESULTS.c.size, uploads.c.size))
        return int(sum(total))


_QUEUE_ORDER = JOBS.c.priority.desc(), JOBS.c.position, JOBS.c.queued, JOBS.c.id
_UNCLAIMED = {"worker": None, "token": None, "claimed": None, "heartbeat": None, "lease": None, "requested": "run"}


def _set(db: Connection, job_id: str, **values: Any) -> None:
    db.execute(update(JOBS).where(JOBS.c.id == job_id).values(**values))


def _is_ours(claim: Claim) -> Any:
    return and_(JOBS.c.id == claim.job.id, JOBS.c.token == claim.token, JOBS.c.state == RUNNING)


def _check_claim(db: Connection, claim: Claim) -> str:
    """What the owner wants. Raises LeaseLost if the job is no longer this worker's."""
    row = db.execute(select(JOBS.c.requested).where(_is_ours(claim))).first()
    if row is None:
        raise LeaseLost(claim.job.id)
    return row.requested


def _check_upload(db: Connection, owner: str, upload_id: str, option: str) -> StoredUpload:
    query = select(UPLOADS.c.size).where(UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner)
    size = db.scalar(query) if isinstance(upload_id, str) else None
    if size is None:
        raise NotFound("there is no upload of this id; send the file first", option=option)
    return StoredUpload(upload_id, size)


def _load(db: Connection, job_id: str, owner: str | None = None) -> Job:
    query = select(*JOB_COLUMNS).where(JOBS.c.id == job_id)
    row = db.execute(query if owner is None else query.where(JOBS.c.owner == owner)).first()
    if row is None:
        raise NotFound("there is no such job")
    return _jobs(db, [row])[0]


def _jobs(db: Connection, rows: Sequence[Row]) -> list[Job]:
    query = select(RESULTS).where(RESULTS.c.job.in_([row.id for row in rows if row.state in FINISHED_STATES]))
    results: dict[str, list[StoredResult]] = {}
    for row in db.execute(query.order_by(RESULTS.c.job, RESULTS.c.number)):
        stored = StoredResult(row.id, row.name, row.media_type, row.size, row.sha256, row.facts)
        results.setdefault(row.job, []).append(stored)
    names = [column.name for column in JOB_COLUMNS if column.name != "models"]
    return [
        Job(
            **{name: getattr(row, name) for name in names},
            models=tuple(row.models),
            results=tuple(results.get(row.id, ())),
        )
        for row in rows
    ]


def _queue_of(owner: str) -> Any:
    return select(*JOB_COLUMNS).where(JOBS.c.owner == owner, JOBS.c.state == QUEUED).order_by(*_QUEUE_ORDER)


def _next_position(db: Connection) -> int:
    return (db.scalar(select(func.max(JOBS.c.position))) or 0) + 1


def _read_usage(db: Connection, account: str) -> Usage:
    row = db.execute(select(USAGE).where(USAGE.c.account == account)).first()
    return Usage(row.seconds, row.updated, row.served) if row else Usage()


def _spent(db: Connection, account: str, is_daily: bool, now: float) -> float:
    query = select(func.sum(USAGE_DAYS.c.seconds)).where(USAGE_DAYS.c.account == account)
    return db.scalar(query.where(USAGE_DAYS.c.day == int(now // DAY)) if is_daily else query) or 0.0


def _crashed(attempts: int) -> CalotypeError:
    return CalotypeError(
        "the process that ran this job ended {attempts} times without a result, so it is not tried again; the files or "
        "models of the job may crash it, or memory is short",
        attempts=attempts,
    )


def _word(job: Job) -> str:
    return {"run": job.state, "cancel": "being cancelled", "pause": "being paused"}[job.requested]
