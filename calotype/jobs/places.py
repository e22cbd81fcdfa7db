"""How long waiting jobs are likely to wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from calotype.jobs.jobs import DONE, LEASE, QUEUED, RUNNING
from calotype.jobs.rows import QUEUE_ORDER
from calotype.jobs.schema import JOBS, WORKERS
from calotype.jobs.store_part import StorePart

RECENT = 20  # finished jobs of a kind, whose mean cost is that of the next one


@dataclass(frozen=True)
class Place:
    """Where a waiting job is in the queue of all owners: the jobs before it, and how long they are likely to take."""

    job: str
    ahead: int
    seconds: float | None  # None: no job of one of their kinds has ended yet


class Places(StorePart):
    """The part of the store that estimates waiting times."""

    def places(self, owner: str | None = None) -> list[Place]:
        """The places of the waiting jobs of an owner, or of all owners; turns between owners may change them."""
        columns = JOBS.c.id, JOBS.c.owner, JOBS.c.kind, JOBS.c.claimed, JOBS.c.progress
        now = self._clock()
        with self.database.reading() as db:
            waiting = db.execute(select(*columns).where(JOBS.c.state == QUEUED).order_by(*QUEUE_ORDER)).all()
            if not any(owner in (None, row.owner) for row in waiting):
                return []
            running = db.execute(select(*columns).where(JOBS.c.state == RUNNING)).all()
            costs = _mean_costs(db, {row.kind for row in (*waiting, *running)})
            query = select(func.count()).select_from(WORKERS).where(WORKERS.c.reported > now - 2 * LEASE)
            workers = max(1, db.scalar(query) or 0, len(running))
        left = [_left(costs, row.kind, row.progress, now - (row.claimed or now)) for row in running]
        total = None if None in left else sum(left)
        places = []
        for ahead, row in enumerate(waiting, len(running)):
            if owner in (None, row.owner):
                places.append(Place(row.id, ahead, None if total is None else total / workers))
            cost = costs.get(row.kind)
            total = None if total is None or cost is None else total + cost
        return places


def _left(costs: Mapping[str, float], kind: str, progress: Any, seconds: float) -> float | None:
    """Seconds that a running job is likely to take from now on: what it says itself, or by the mean of its kind."""
    if progress and progress.get("remaining") is not None:
        return float(progress["remaining"])
    return max(0.0, costs[kind] - seconds) if kind in costs else None


def _mean_costs(db: Connection, kinds: set[str]) -> dict[str, float]:
    """Mean device seconds of the latest jobs of each kind that are done."""
    costs = {}
    for kind in kinds:
        query = select(JOBS.c.cost).where(JOBS.c.kind == kind, JOBS.c.state == DONE)
        if found := db.scalars(query.order_by(JOBS.c.created.desc()).limit(RECENT)).all():
            costs[kind] = sum(found) / len(found)
    return costs
