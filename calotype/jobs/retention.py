"""How much of jobs, results and uploads is kept, and what of it counts against whom."""

import contextlib

from sqlalchemy import Connection, and_, delete, func, select

from calotype.jobs.jobs import CANCELLED, DONE, FINISHED_STATES, Conflict, Job, NotFound, upload_ids
from calotype.jobs.rows import load, log_state, state_word
from calotype.jobs.schema import JOBS, RESULTS, UPLOADS
from calotype.jobs.store_part import StorePart
from calotype.jobs.usage import spent

UPLOAD_SECONDS = 3600.0  # an upload that no job uses is kept for this long, whatever the disk budget


class Retention(StorePart):
    """The part of the store that counts and deletes."""

    def delete(self, job_id: str, owner: str | None = None) -> None:
        """Deletes a finished job with its results."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if not job.is_finished:
                raise Conflict("the job is {state}; cancel it first", state=state_word(job))
            db.execute(delete(JOBS).where(JOBS.c.id == job_id))
        self._delete_files(job)

    def delete_result(self, job_id: str, result_id: str, owner: str | None = None) -> None:
        """Deletes a result of a finished job; with the last one the job is deleted too. Raises NotFound."""
        with self.database.writing() as db:
            job = load(db, job_id, owner)
            if result_id not in {result.id for result in job.results}:
                raise NotFound("there is no result {id} of this job", id=result_id)
            if is_last := len(job.results) == 1:
                db.execute(delete(JOBS).where(JOBS.c.id == job_id))
            else:
                db.execute(delete(RESULTS).where(RESULTS.c.id == result_id))
                log_state(db, job_id, job.state, self._clock())  # so that streams show the job again
        if is_last:
            self._delete_files(job)
        else:
            self.files.delete_result(result_id)

    def counts(self, owner: str | None = None) -> dict[str, int]:
        """The number of jobs in each state that has any."""
        query = select(JOBS.c.state, func.count().label("number")).group_by(JOBS.c.state)
        with self.database.reading() as db:
            rows = db.execute(query if owner is None else query.where(JOBS.c.owner == owner)).all()
        return {row.state: row.number for row in rows}

    def spent(self, account: str, is_daily: bool = True) -> float:
        """Device seconds that an account has used today (in UTC), or ever."""
        with self.database.reading() as db:
            return spent(db, account, is_daily, self._clock())

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
            excess = db.scalars(query).all()[len(expired) :] if self._bytes(db) > max_bytes else ()
        for number, job_id in enumerate((*expired, *excess)):
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
                "previews": set(db.scalars(select(JOBS.c.id).where(JOBS.c.preview.is_not(None)))),
                "samples": set(db.scalars(select(JOBS.c.id))),
                "work": set(db.scalars(select(JOBS.c.id).where(JOBS.c.state.not_in((DONE, CANCELLED))))),
                "incoming": set(),
            }
        return sum(self.files.delete_orphans(kind, ids.__contains__) for kind, ids in known.items())

    def _delete_files(self, job: Job) -> None:
        self._delete_result_files(job)
        self.files.delete_preview(job.id)
        self.files.delete_samples(job.id)
        self.files.delete_work(job.id)

    def _delete_uploads(self, before: float) -> None:
        """Deletes uploads that were last used before this time, unless a job has them."""
        with self.database.writing() as db:
            old = db.execute(select(UPLOADS).where(UPLOADS.c.used < before)).all()
            if not old:
                return
            needed = {upload for files in db.scalars(select(JOBS.c.files)) for _, upload in upload_ids(files)}
            unused = [row for row in old if row.id not in needed]
            for row in unused:
                db.execute(delete(UPLOADS).where(UPLOADS.c.id == row.id, UPLOADS.c.owner == row.owner))
        self._delete_unowned(row.id for row in unused)

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
