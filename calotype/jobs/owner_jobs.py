"""Jobs as their owners use them: into the queue, through it, and what became of them."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from calotype.jobs.estimates import COLUMNS
from calotype.jobs.files import new_id
from calotype.jobs.jobs import (
    CANCELLED,
    FAILED,
    FINISHED_STATES,
    PAUSED,
    QUEUED,
    RUNNING,
    UNLIMITED,
    Budget,
    Conflict,
    FileRefs,
    Job,
    NotFound,
    StoredEvent,
    StoredResult,
    upload_ids,
)
from calotype.jobs.rows import (
    JOB_COLUMNS,
    has_text,
    jobs_of_rows,
    load,
    log_state,
    next_position,
    queue_of,
    set_job,
    set_state,
    state_word,
)
from calotype.jobs.schema import EVENTS, JOBS, RESULTS, UPLOADS
from calotype.jobs.store_part import StorePart
from calotype.jobs.tables import CHAT_MESSAGES
from calotype.jobs.uploads import check_upload
from calotype.jobs.usage import check_budget, limits_of


class Mark(NamedTuple):
    """How far a job is."""

    last_event: int  # its number; every change of the state is an event too
    finished: float | None  # seconds since 1970


class OwnerJobs(StorePart):
    """The part of the store that the owners of jobs use."""

    def submit(
        self,
        owner: str,
        kind: str,
        task: Mapping[str, Any],
        *,
        files: Mapping[str, FileRefs] | None = None,
        output: Mapping[str, Any] | None = None,
        models: Collection[str] = (),
        work: float | None = None,
        priority: int = 0,
        parent: str | None = None,
        key: str | None = None,
        budget: Budget = UNLIMITED,
        also: Callable[[Connection, str], object] | None = None,
    ) -> Job:
        """Puts a task into the queue.

        Args:
            task: as JSON data; validated by the caller.
            files: uploads of the owner, by option: "ID" or "ID/name.jpg", or a list of them for a folder.
            output: options of `DrawingOutput`: format and quality.
            models: names of the models that the task needs, for workers that have them loaded.
            work: of the task, as `limits.work_of` has it: jobs of a kind cost in proportion. None: not known.
            parent: the job of which this is a variation.
            key: of idempotency: a second request with the same key returns the job of the first.
            budget: whom to charge, and the limits of that account.
            also: writes more in the same transaction, with the id of the job, a new one or that of the first request.
        Raises:
            NotFound: the owner has no such upload or parent.
            Conflict: an earlier request with this key was another one.
            OverBudget: a limit of the account is reached, or would be by this task.
        """
        files, output = dict(files or {}), dict(output or {})
        uploads = list(upload_ids(files))
        request = [kind, task, files, output, priority, parent]
        fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        now, account, job_id = self._clock(), budget.account or owner, new_id()
        also = also or (lambda db, job: None)
        with self.database.writing() as db:
            if key is not None:
                same = and_(JOBS.c.owner == owner, JOBS.c.key == key)
                if row := db.execute(select(JOBS.c.id, JOBS.c.fingerprint).where(same)).first():
                    if row.fingerprint != fingerprint:
                        raise Conflict("an earlier request with the same idempotency key was another one")
                    also(db, row.id)
                    return load(db, row.id)
            for option, upload in uploads:
                check_upload(db, owner, upload, option)
            if parent is not None:
                load(db, parent, owner)
            check_budget(db, account, budget, now, SimpleNamespace(kind=kind, models=models, task=task, work=work))
            ours = UPLOADS.c.id.in_([upload for _, upload in uploads]), UPLOADS.c.owner == owner
            db.execute(update(UPLOADS).where(*ours).values(used=now))
            db.execute(
                insert(JOBS).values(
                    id=job_id,
                    owner=owner,
                    kind=kind,
                    task=dict(task),
                    files=files,
                    output=output,
                    models=sorted(models),
                    work=work,
                    state=QUEUED,
                    priority=priority,
                    position=next_position(db),
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
                    **limits_of(owner, budget),
                )
            )
            log_state(db, job_id, QUEUED, self._clock())
            also(db, job_id)
            return load(db, job_id)

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """A job. Raises NotFound if it does not exist or, with `owner`, belongs to another."""
        with self.database.reading() as db:
            return load(db, job_id, owner)

    def find(
        self,
        owner: str | None = None,
        states: Collection[str] = (),
        after: str | None = None,
        limit: int = 50,
        *,
        kinds: Collection[str] = (),
        text: str = "",
        since: float | None = None,
        until: float | None = None,
        is_favourite: bool | None = None,
        ids: Collection[str] | None = None,
    ) -> list[Job]:
        """Jobs, newest first.

        Args:
            ids: only these; those that do not exist are left out.
            text: every word of it occurs in the options of the task, its models or the names of its files.
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
            if kinds:
                query = query.where(JOBS.c.kind.in_(kinds))
            if ids is not None:
                query = query.where(JOBS.c.id.in_(ids))
            if since is not None:
                query = query.where(JOBS.c.created >= since)
            if until is not None:
                query = query.where(JOBS.c.created < until)
            if is_favourite is not None:
                query = query.where(JOBS.c.is_favourite == is_favourite)
            for word in text.split():
                query = query.where(
                    or_(*(has_text(column, word) for column in (JOBS.c.task, JOBS.c.files, JOBS.c.models)))
                )
            if after is not None:
                last = load(db, after, owner)
                earlier = and_(JOBS.c.created == last.created, JOBS.c.id < last.id)
                query = query.where(or_(JOBS.c.created < last.created, earlier))
            return jobs_of_rows(db, db.execute(query).all())

    def queue(self, owner: str) -> list[Job]:
        """The waiting jobs of an owner, in their order."""
        with self.database.reading() as db:
            return jobs_of_rows(db, db.execute(queue_of(owner)).all())

    def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Cancels a job: a running one at its next heartbeat. Has no effect on a finished one."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if job.state in (QUEUED, PAUSED):
                set_state(db, job_id, CANCELLED, self._clock(), finished=self._clock())
            elif job.state == RUNNING:
                set_job(db, job_id, requested="cancel")
            return load(db, job_id)

    def pause(self, job_id: str, owner: str | None = None) -> Job:
        """Takes a job out of the queue until `resume`; a running one stops at its next heartbeat."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if job.state == QUEUED:
                set_state(db, job_id, PAUSED, self._clock())
            elif job.state == RUNNING and job.requested != "cancel":
                set_job(db, job_id, requested="pause")
            elif job.state != PAUSED:
                raise Conflict("the job is {state}; a job that waits or runs can be paused", state=state_word(job))
            return load(db, job_id)

    def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Puts a paused job back into the queue, at its place."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if job.state == PAUSED:
                set_state(db, job_id, QUEUED, self._clock(), queued=self._clock())
            elif job.state == RUNNING and job.requested == "pause":
                set_job(db, job_id, requested="run")
            elif job.state not in (QUEUED, RUNNING) or job.requested == "cancel":
                raise Conflict("the job is {state}; only a paused job can be resumed", state=state_word(job))
            return load(db, job_id)

    def move(self, job_id: str, owner: str, before: str | None = None) -> list[Job]:
        """Moves a waiting job before another one of the owner, or to the end. Returns the queue of the owner.

        Its priority becomes that of its new place. The places of other owners do not change.
        """
        with self.database.writing() as db:
            for moved in (job_id, before):
                if moved is not None and load(db, moved, owner).state != QUEUED:
                    raise Conflict("only jobs that wait in the queue can be moved")
            rows = db.execute(queue_of(owner)).all()
            ids = [row.id for row in rows if row.id != job_id]
            place = ids.index(before) if before not in (None, job_id) else len(ids)
            if before == job_id:
                return jobs_of_rows(db, rows)
            priority = {row.id: row.priority for row in rows}
            neighbour = before or (ids[-1] if ids else job_id)
            ids.insert(place, job_id)
            positions = sorted(db.scalars(select(JOBS.c.position).where(JOBS.c.id.in_(ids))))
            for position, moved in zip(positions, ids, strict=True):
                set_job(db, moved, position=position)
            set_job(db, job_id, priority=priority[neighbour])
            return jobs_of_rows(db, db.execute(queue_of(owner)).all())

    def retry(self, job_id: str, owner: str | None = None, budget: Budget = UNLIMITED) -> Job:
        """Queues a failed or cancelled job again, which `budget` is charged for; its message in a chat follows it, too.
        Raises OverBudget as `submit` does."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if job.state not in (FAILED, CANCELLED):
                raise Conflict(
                    "the job is {state}; only a failed or cancelled job can be tried again", state=state_word(job)
                )
            again = db.execute(select(*COLUMNS).where(JOBS.c.id == job_id)).one()
            check_budget(db, budget.account or job.owner, budget, self._clock(), again)
            db.execute(delete(RESULTS).where(RESULTS.c.job == job.id))
            values = {"error": None, "progress": None, "started": None, "finished": None, "attempts": 0}
            values |= {"queued": self._clock(), "position": next_position(db), "overtaken": 0}
            values |= limits_of(job.owner, budget) | {"settled": job.cost}  # whatever becomes of the next attempt
            set_state(db, job_id, QUEUED, self._clock(), **values)
            db.execute(update(CHAT_MESSAGES).where(CHAT_MESSAGES.c.job == job_id).values(is_final=False))
            queued = load(db, job_id)
        self._delete_result_files(job)  # not before the store has forgotten them
        return queued

    def favourite(self, job_id: str, owner: str | None, value: bool) -> Job:
        """Marks a job as a favourite, which `retain` never deletes, or removes the mark."""
        with self.database.writing() as db:
            load(db, job_id, owner)
            set_job(db, job_id, is_favourite=value)
            return load(db, job_id)

    def result(self, result_id: str, owner: str | None = None) -> tuple[Job, StoredResult]:
        """A result and its job; its file is `files.result(result_id)`. Raises NotFound."""
        with self.database.reading() as db:
            job_id = db.scalar(select(RESULTS.c.job).where(RESULTS.c.id == result_id))
            if job_id is None:
                raise NotFound("there is no such result")
            try:
                job = load(db, job_id, owner)
            except NotFound:
                raise NotFound("there is no such result") from None
            return job, next(result for result in job.results if result.id == result_id)

    def events(self, job_id: str, after: int = 0, limit: int = 200) -> list[StoredEvent]:
        """Events of a job whose number is greater than `after`."""
        query = select(EVENTS).where(EVENTS.c.job == job_id, EVENTS.c.number > after)
        with self.database.reading() as db:
            rows = db.execute(query.order_by(EVENTS.c.number).limit(limit)).all()
        return [StoredEvent(row.number, row.created, row.data) for row in rows]

    def marks(self, owners: Collection[str], since: float) -> dict[str, dict[str, Mark]]:
        """For each owner the jobs that have not ended, or ended after `since`, in one query for all."""
        is_current = or_(JOBS.c.state.not_in(FINISHED_STATES), JOBS.c.finished >= since)
        query = select(JOBS.c.owner, JOBS.c.id, JOBS.c.last_event, JOBS.c.finished)
        marks: dict[str, dict[str, Mark]] = {owner: {} for owner in owners}
        with self.database.reading() as db:
            for row in db.execute(query.where(JOBS.c.owner.in_(owners), is_current)):
                marks[row.owner][row.id] = Mark(row.last_event, row.finished)
        return marks

    def last_events(self, job_ids: Collection[str]) -> dict[str, int]:
        """The number of the last event of each job, in one query; every change of the state is an event too."""
        with self.database.reading() as db:
            rows = db.execute(select(JOBS.c.id, JOBS.c.last_event).where(JOBS.c.id.in_(job_ids))).all()
        return {row.id: row.last_event for row in rows}
