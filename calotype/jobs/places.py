"""How long waiting jobs are likely to wait."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select

from calotype.jobs.estimates import COLUMNS, Estimates
from calotype.jobs.fairness import in_turn
from calotype.jobs.jobs import LEASE, QUEUED, RUNNING
from calotype.jobs.rows import QUEUE_ORDER
from calotype.jobs.schema import JOBS, WORKERS
from calotype.jobs.store_part import StorePart
from calotype.jobs.usage import all_usage, candidate, over_budget, renewed

NAMES = "id", "owner", "account", "claimed", "progress", "priority", "position", "queued", "overtaken"
LIMITS = "max_seconds", "is_daily"


@dataclass(frozen=True)
class Place:
    """Where a waiting job is in the queue of all owners: the jobs before it, and how long they are likely to take.

    Attributes:
        seconds: None: no job of one of their kinds has ended yet, or the budget is used up.
        is_over_budget: the budget of its account is used up; it runs once there is more of it.
        renewed_in: where it is used up, seconds until a new budget begins; None: by itself, never.
    """

    job: str
    ahead: int
    seconds: float | None
    is_over_budget: bool = False
    renewed_in: float | None = None


class Places(StorePart):
    """The part of the store that estimates waiting times."""

    def places(self, owner: str | None = None) -> list[Place]:
        """The places of the waiting jobs of an owner, or of all owners, in the order in which they are likely to run;
        last, those whose budget is used up."""
        columns = [*COLUMNS, *(JOBS.c[name] for name in (*NAMES, *LIMITS))]
        now = self._clock()
        with self.database.reading() as db:
            waiting = db.execute(select(*columns).where(JOBS.c.state == QUEUED).order_by(*QUEUE_ORDER)).all()
            if not any(owner in (None, row.owner) for row in waiting):
                return []
            running = db.execute(select(*columns).where(JOBS.c.state == RUNNING)).all()
            estimates = Estimates(db)
            is_over_budget = over_budget(db, now, estimates)
            costs = {row.id: estimates.seconds(row) for row in (*waiting, *running)}
            stopped = {row.id: row for row in waiting if is_over_budget(row)}
            usage = all_usage(db, now)
            query = select(func.count()).select_from(WORKERS).where(WORKERS.c.reported > now - 2 * LEASE)
            workers = max(1, db.scalar(query) or 0, len(running))
        owners = {row.id: row.owner for row in waiting}
        left = [_left(row, costs[row.id], now) for row in running]
        total = None if None in left else sum(left)
        free = [candidate(row) for row in waiting if row.id not in stopped]
        places = []
        for ahead, job in enumerate(in_turn(free, usage, now, lambda job: (costs[job] or 0.0) / workers), len(running)):
            if owner in (None, owners[job.id]):
                places.append(Place(job.id, ahead, None if total is None else total / workers))
            cost = costs[job.id]
            total = None if total is None or cost is None else total + cost
        ahead = len(running) + len(free)
        return places + [
            Place(row.id, ahead, None, True, renewed(now) - now if row.is_daily and row.max_seconds else None)
            for row in stopped.values()
            if owner in (None, row.owner)
        ]


def _left(row: Row[Any], cost: float | None, now: float) -> float | None:
    """Seconds that a running job is likely to take from now on: what it says itself, or by those of its kind."""
    if row.progress and row.progress.get("remaining") is not None:
        return float(row.progress["remaining"])
    return None if cost is None else max(0.0, cost - (now - row.claimed))
