"""What jobs are likely to cost, by the latest ones of their kind and models."""

from statistics import median_low
from typing import Any

from sqlalchemy import Connection, and_, not_, select

from calotype.jobs.jobs import DONE
from calotype.jobs.rows import as_text
from calotype.jobs.schema import JOBS

RECENT = 20  # jobs of a kind that are looked at
COLUMNS = JOBS.c.kind, JOBS.c.models, JOBS.c.task, JOBS.c.work  # that an estimate is made of
SIZED, UNSIZED = '%"size": "%', '%"size": ""%'  # in a task, as the column has it


class Estimates:
    """Costs of jobs, inside a transaction. Each kind of jobs is looked up once.

    The cost of a job is its work (`limits.work_of`) times the median cost of a unit of work: a few jobs that loaded
    their models first change nothing. Where the model decides about the size of pictures, `work_of` cannot know it, so
    that such jobs are compared with such ones only; so are those whose work is not known at all.
    """

    def __init__(self, db: Connection):
        self._db = db
        self._rates: dict[tuple[str, tuple[str, ...], bool, bool], float | None] = {}

    def seconds(self, job: Any) -> float | None:
        """Device seconds of a job, or of a row with its `COLUMNS`; None if none like it has ended yet."""
        key = job.kind, tuple(sorted(job.models)), bool(job.task.get("size")), job.work is not None
        if key not in self._rates:
            self._rates[key] = self._rate(*key)
        rate = self._rates[key]
        return None if rate is None else rate * (1.0 if job.work is None else job.work)

    def _rate(self, kind: str, models: tuple[str, ...], has_size: bool, has_work: bool) -> float | None:
        """Device seconds of a unit of work: with these models, or else with any."""
        text = as_text(JOBS.c.task)
        sized = and_(text.like(SIZED), ~text.like(UNSIZED))
        query = select(JOBS.c.cost, JOBS.c.work).where(JOBS.c.kind == kind, JOBS.c.state == DONE)
        query = query.where(JOBS.c.work > 0 if has_work else JOBS.c.work.is_(None))
        query = query.where(sized if has_size else not_(sized)).order_by(JOBS.c.created.desc()).limit(RECENT)
        alike = query.where(JOBS.c.models == list(models))
        found = self._db.execute(alike).all() or self._db.execute(query).all()
        return median_low([row.cost / (row.work or 1.0) for row in found]) if found else None
