"""Jobs as workers use them: claims with a lease, events, and the end of a job."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update

from calotype.errors import CalotypeError, Message
from calotype.jobs.fairness import Choice, Usage, choose
from calotype.jobs.files import new_id
from calotype.jobs.jobs import (
    CANCELLED,
    CRASHED,
    DONE,
    FAILED,
    FINISHED_STATES,
    LEASE,
    PAUSED,
    QUEUED,
    RUNNING,
    Claim,
    Job,
    LeaseLost,
    NewResult,
    WorkerStatus,
    is_our_fault,
)
from calotype.jobs.rows import JOB_COLUMNS, jobs_of_rows, load, log_event, set_job, set_state, upsert
from calotype.jobs.schema import JOBS, RESULTS, WORKERS
from calotype.jobs.store_part import StorePart
from calotype.jobs.usage import DAY, all_usage, candidates, charge, count_attempt, read_usage, refund, write_usage

PREVIEWED = ("restore", "upscale", "colour", "split")  # kinds whose last preview shows the result or the plan


class Claims(StorePart):
    """The part of the store that workers use."""

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

        def chosen(db: Connection) -> Choice | None:
            return choose(candidates(db, kinds, now), all_usage(db, now), now, loaded)

        with self.database.reading() as db:  # of a long queue it takes a while, during which others may write
            choice = chosen(db)
        if choice is None:
            return None
        with self.database.writing() as db:
            if choice.overtakes or not _may_run(db, choice.id, kinds, now):  # another worker may have been faster
                choice = chosen(db)
            if choice is None:
                return None
            if choice.overtakes:
                passed = update(JOBS).where(JOBS.c.id.in_(choice.overtakes))
                db.execute(passed.values(overtaken=JOBS.c.overtaken + 1))
            job, token = load(db, choice.id), new_id()
            values = {"worker": worker, "token": token, "claimed": now, "heartbeat": now, "lease": now + lease}
            started = now if job.started is None else job.started
            values |= {
                "started": started,
                "attempts": job.attempts + 1,
                "requested": "run",
                "progress": None,
                "kept": 0.0,
            }
            set_state(db, job.id, RUNNING, self._clock(), **values)
            usage = read_usage(db, job.account)
            write_usage(db, job.account, Usage(usage.at(now), now, now))
            return Claim(load(db, job.id), worker, token, lease, _is_unloaded(db, worker))

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
            if data.get("event") == "learning":
                set_job(db, claim.job.id, progress=dict(data))
            elif data.get("event") == "progress":
                set_job(db, claim.job.id, progress=_with_aside(db, claim.job.id, data))
            return log_event(db, claim.job.id, data, self._clock())

    def add_preview(self, claim: Claim, image: bytes, media_type: str = "image/jpeg", step: int | None = None) -> int:
        """Replaces the preview of the job, and stores an event without the image itself. Raises LeaseLost.

        Args:
            step: of a training run, after which the image was drawn, or the number of a photo of a scan; it is kept
                with those of other steps.
        """
        with self.database.writing() as db:
            _check_claim(db, claim)
            event = {"event": "preview", "preview": new_id(), "media_type": media_type}
            self.files.write_preview(claim.job.id, image)
            if step is not None:
                self.files.write_sample(claim.job.id, step, image)
                event["step"] = step
            set_job(db, claim.job.id, preview=event["preview"])
            return log_event(db, claim.job.id, event, self._clock())

    def saved_state(self, claim: Claim) -> None:
        """The job can go on from here: what was tried before no longer counts as an attempt, and is charged whatever
        becomes of this one. Raises LeaseLost."""
        with self.database.writing() as db:
            _check_claim(db, claim)
            set_job(db, claim.job.id, attempts=1, kept=self._clock() - JOBS.c.claimed)

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
        attempt, and charged only to an owner who wanted it, or up to the state that is kept. Raises LeaseLost."""
        with self.database.writing() as db:
            requested = _check_claim(db, claim)
            count_attempt(db, claim.job.id, cost, self._clock())
            state = {"cancel": CANCELLED, "pause": PAUSED}.get(requested, QUEUED)
            finished = {"finished": self._clock()} if state == CANCELLED else {"queued": self._clock()}
            set_state(db, claim.job.id, state, self._clock(), attempts=JOBS.c.attempts - 1, **_UNCLAIMED, **finished)
            return load(db, claim.job.id)

    def sweep(self) -> list[Job]:
        """Takes jobs from workers whose lease has ended. Returns these jobs as they are now."""
        return self._take_back(JOBS.c.lease < self._clock())

    def extend_leases(self, seconds: float) -> None:
        """Gives the workers of running jobs this time to report: they could not while the service was down."""
        until = self._clock() + seconds
        with self.database.writing() as db:
            db.execute(update(JOBS).where(JOBS.c.state == RUNNING, JOBS.c.lease < until).values(lease=until))

    def worker_ended(self, worker: str) -> list[Job]:
        """Takes the jobs of a worker whose process has ended, without waiting for the lease."""
        return self._take_back(JOBS.c.worker == worker)

    def report(self, worker: str, device: str, models: Collection[str], note: Message | None = None) -> bool:
        """Stores what a worker is and why it waits, if it does. Returns whether it is to drop its models."""
        values = {
            "reported": self._clock(),
            "device": device,
            "models": sorted(models),
            "note": note.as_data() if note else None,
        }
        with self.database.writing() as db:
            upsert(db, WORKERS, {"name": worker, **values}, values)
            db.execute(delete(WORKERS).where(WORKERS.c.reported < self._clock() - DAY))
            return _is_unloaded(db, worker)

    def unload_models(self) -> None:
        """Has every worker drop its models: before its next job, or when it reports next."""
        with self.database.writing() as db:
            db.execute(update(WORKERS).values(unload=True))

    def workers(self, seconds: float = 60.0) -> list[WorkerStatus]:
        """The workers that reported within the last seconds."""
        query = select(WORKERS).where(WORKERS.c.reported >= self._clock() - seconds).order_by(WORKERS.c.name)
        with self.database.reading() as db:
            rows = db.execute(query).all()
        return [WorkerStatus(row.name, row.reported, row.device, tuple(row.models), row.note) for row in rows]

    def _end(self, claim: Claim, state: str, cost: float, results: Sequence[NewResult], **values: Any) -> Job:
        adopted = []
        try:
            for result in results:
                adopted.append((result, *self.files.adopt(result.path)))
            with self.database.writing() as db:
                _check_claim(db, claim)
                charge(db, claim.job.id, cost, self._clock())
                if is_our_fault(values.get("error")):
                    refund(db, claim.job.id)
                for number, (result, result_id, size, sha256) in enumerate(adopted):
                    names = {"id": result_id, "job": claim.job.id, "number": number, "name": result.name}
                    facts = {"media_type": result.media_type, "facts": dict(result.facts)}
                    db.execute(insert(RESULTS).values(**names, **facts, size=size, sha256=sha256))
                is_kept = state == DONE and claim.job.kind in PREVIEWED
                ended = {**_UNCLAIMED, "finished": self._clock(), **({} if is_kept else {"preview": None}), **values}
                set_state(db, claim.job.id, state, self._clock(), **ended)
                job = load(db, claim.job.id)
        except BaseException:
            for _, result_id, *_ in adopted:
                self.files.delete_result(result_id)
            raise
        if not is_kept:
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
            for row, job in zip(rows, jobs_of_rows(db, rows), strict=True):
                count_attempt(db, job.id, row.heartbeat - row.claimed, self._clock())
                now, values = self._clock(), dict(_UNCLAIMED)
                state = {"cancel": CANCELLED, "pause": PAUSED}.get(job.requested, QUEUED)
                if state == QUEUED and job.attempts >= self._max_attempts:
                    state, values["error"] = FAILED, _crashed(job.attempts).as_data()
                values |= {"finished": now} if state in FINISHED_STATES else {"queued": now}
                if state == FAILED:
                    refund(db, job.id)
                set_state(db, job.id, state, self._clock(), **values)
                taken.append(load(db, job.id))
        return taken


_UNCLAIMED = {"worker": None, "token": None, "claimed": None, "heartbeat": None, "lease": None, "requested": "run"}


def _is_ours(claim: Claim) -> Any:
    return and_(JOBS.c.id == claim.job.id, JOBS.c.token == claim.token, JOBS.c.state == RUNNING)


def _is_unloaded(db: Connection, worker: str) -> bool:
    """Whether the worker is to drop its models; it is told once."""
    asked = update(WORKERS).where(WORKERS.c.name == worker, WORKERS.c.unload).values(unload=False)
    return db.execute(asked).rowcount > 0


def _may_run(db: Connection, job_id: str, kinds: Collection[str], now: float) -> bool:
    """Whether a job still waits, and its account may have one more running."""
    account = db.scalar(select(JOBS.c.account).where(JOBS.c.id == job_id))
    return any(job.id == job_id for job in candidates(db, kinds, now, account))


def _check_claim(db: Connection, claim: Claim) -> str:
    """What the owner wants. Raises LeaseLost if the job is no longer this worker's."""
    row = db.execute(select(JOBS.c.requested).where(_is_ours(claim))).first()
    if row is None:
        raise LeaseLost(claim.job.id)
    return row.requested


def _with_aside(db: Connection, job_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of a job: that of its steps stays while a training draws samples, which is `aside` in it."""
    latest = db.scalar(select(JOBS.c.progress).where(JOBS.c.id == job_id))
    if not latest or latest.get("event") != "learning":
        return dict(data)
    return {**latest, "aside": {name: data.get(name) for name in ("done", "total", "what")}}


def _crashed(attempts: int) -> CalotypeError:
    return CalotypeError(CRASHED, attempts=attempts)
