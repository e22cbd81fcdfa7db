"""What jobs are likely to cost, by the latest ones of their kind and models."""

from collections.abc import Collection
from statistics import median_low

from sqlalchemy import Connection, select

from calotype.jobs.jobs import DONE
from calotype.jobs.schema import JOBS

RECENT = 20  # jobs of a kind that are looked at


class Estimates:
    """Costs of jobs, inside a transaction. Each kind of jobs is looked up once.

    The cost of a job is its work (`limits.work_of`) times the median cost of a unit of work: a few jobs that loaded
    their models first, or had a picture of unusual size, change nothing.
    """

    def __init__(self, db: Connection):
        self._db = db
        self._rates: dict[tuple[str, tuple[str, ...]], float | None] = {}

    def seconds(self, kind: str, models: Collection[str], work: float | None) -> float | None:
        """Device seconds of a job; None if no job of its kind has ended yet."""
        key = kind, tuple(sorted(models))
        if key not in self._rates:
            self._rates[key] = self._rate(*key)
        rate = self._rates[key]
        return None if rate is None or work is None else rate * work

    def _rate(self, kind: str, models: tuple[str, ...]) -> float | None:
        """Device seconds of a unit of work: with these models, or else with any."""
        query = select(JOBS.c.cost, JOBS.c.work).where(JOBS.c.kind == kind, JOBS.c.state == DONE, JOBS.c.work > 0)
        query = query.order_by(JOBS.c.created.desc()).limit(RECENT)
        alike = query.where(JOBS.c.models == list(models))
        found = self._db.execute(alike).all() or self._db.execute(query).all()
        return median_low([row.cost / row.work for row in found]) if found else None
