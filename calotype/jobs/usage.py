"""What accounts have used, their limits, and their waiting jobs, inside a transaction."""

from collections.abc import Collection, Iterator
from functools import cache

from sqlalchemy import Connection, func, select, update

from calotype.errors import plural
from calotype.jobs.fairness import Candidate, Usage
from calotype.jobs.jobs import PAUSED, QUEUED, RUNNING, Budget, OverBudget
from calotype.jobs.rows import QUEUE_ORDER, set_job, upsert
from calotype.jobs.schema import JOBS, USAGE, USAGE_DAYS

CANDIDATES = 20  # of each account, looked at for the next job
DAY = 86400


def check_budget(db: Connection, account: str, budget: Budget, now: float) -> None:
    """Raises OverBudget if a limit of the account is reached."""
    if budget.queued is not None:
        waiting = JOBS.c.account == account, JOBS.c.state.in_((QUEUED, PAUSED))
        if db.scalar(select(func.count()).select_from(JOBS).where(*waiting)) >= budget.queued:
            several = "{count} jobs wait already, which is the limit; wait for one of them"
            raise OverBudget(plural(budget.queued, "one job waits already, which is the limit; wait for it", several))
    if budget.seconds is not None and spent(db, account, budget.is_daily, now) >= budget.seconds:
        if budget.is_daily:
            raise OverBudget("the {limit:g} seconds of today are used; go on tomorrow", limit=budget.seconds)
        raise OverBudget("the {limit:g} seconds of this account are used; ask for more", limit=budget.seconds)


def candidates(db: Connection, kinds: Collection[str], now: float, account: str | None = None) -> Iterator[Candidate]:
    """The waiting jobs that may run now: the first ones of each account, or of one."""
    rank = func.row_number().over(partition_by=JOBS.c.account, order_by=QUEUE_ORDER).label("rank")
    names = "id", "account", "priority", "position", "queued", "models", "overtaken", "max_running", "max_seconds"
    ranked = select(*(JOBS.c[name] for name in names), JOBS.c.is_daily, rank).where(JOBS.c.state == QUEUED)
    if kinds:
        ranked = ranked.where(JOBS.c.kind.in_(kinds))
    if account is not None:
        ranked = ranked.where(JOBS.c.account == account)
    ranked = ranked.subquery()
    rows = db.execute(select(ranked).where(ranked.c.rank <= CANDIDATES)).all()
    query = select(JOBS.c.account, func.count().label("number")).where(JOBS.c.state == RUNNING).group_by(JOBS.c.account)
    running = {row.account: row.number for row in db.execute(query)}
    used = cache(lambda account, is_daily: spent(db, account, is_daily, now))
    for row in rows:
        if row.max_running is not None and running.get(row.account, 0) >= row.max_running:
            continue
        if row.max_seconds is not None and used(row.account, row.is_daily) >= row.max_seconds:
            continue
        values = row.id, row.account, row.priority, row.position, row.queued
        yield Candidate(*values, frozenset(row.models), row.overtaken)


def all_usage(db: Connection, now: float) -> dict[str, Usage]:
    """Usage by account, with what running jobs have used so far."""
    usage = {row.account: Usage(row.seconds, row.updated, row.served) for row in db.execute(select(USAGE))}
    for row in db.execute(select(JOBS.c.account, JOBS.c.claimed).where(JOBS.c.state == RUNNING)):
        usage[row.account] = usage.get(row.account, Usage()).after(now - row.claimed, now)
    return usage


def count_attempt(db: Connection, job_id: str, seconds: float, now: float) -> None:
    """Counts an attempt that broke off. Where its owner asked for that, it is charged; where the worker or its computer
    ended, only what was kept of its work. For the turns in the queue all of it counts, as the device was busy."""
    job = db.execute(select(JOBS.c.requested, JOBS.c.kept).where(JOBS.c.id == job_id)).one()
    charged = seconds if job.requested != "run" else min(seconds, job.kept or 0.0)
    charge(db, job_id, charged, now, busy=seconds)


def charge(db: Connection, job_id: str, seconds: float, now: float, *, busy: float | None = None) -> None:
    """Adds device seconds to a job and its account.

    Args:
        busy: seconds that count for the turns in the queue, if those are others.
    """
    seconds = max(0.0, seconds)
    account = db.scalar(select(JOBS.c.account).where(JOBS.c.id == job_id))  # it may have changed since the claim
    write_usage(db, account, read_usage(db, account).after(seconds if busy is None else busy, now))
    add_usage(db, account, int(now // DAY), seconds)
    set_job(db, job_id, cost=JOBS.c.cost + seconds)


def add_usage(db: Connection, account: str, day: int, seconds: float) -> None:
    row = {"account": account, "day": day, "seconds": seconds}
    upsert(db, USAGE_DAYS, row, {"seconds": USAGE_DAYS.c.seconds + seconds})


def refund(db: Connection, job_id: str) -> None:
    """Takes the device seconds of a job off its account again, from the latest days first. What counts for its turn in
    the queue stays, as the device was busy."""
    job = db.execute(select(JOBS.c.account, JOBS.c.cost).where(JOBS.c.id == job_id)).one()
    left = job.cost
    for row in db.execute(
        select(USAGE_DAYS).where(USAGE_DAYS.c.account == job.account).order_by(USAGE_DAYS.c.day.desc())
    ):
        taken = min(left, row.seconds)
        day = USAGE_DAYS.c.account == row.account, USAGE_DAYS.c.day == row.day
        db.execute(update(USAGE_DAYS).where(*day).values(seconds=row.seconds - taken))
        left -= taken
        if left <= 0:
            break
    set_job(db, job_id, cost=0.0)


def write_usage(db: Connection, account: str, usage: Usage) -> None:
    values = {"seconds": usage.seconds, "updated": usage.updated, "served": usage.served}
    upsert(db, USAGE, {"account": account, **values}, values)


def read_usage(db: Connection, account: str) -> Usage:
    row = db.execute(select(USAGE).where(USAGE.c.account == account)).first()
    return Usage(row.seconds, row.updated, row.served) if row else Usage()


def spent(db: Connection, account: str, is_daily: bool, now: float) -> float:
    """Device seconds that an account has used today (in UTC), or ever."""
    query = select(func.sum(USAGE_DAYS.c.seconds)).where(USAGE_DAYS.c.account == account)
    return db.scalar(query.where(USAGE_DAYS.c.day == int(now // DAY)) if is_daily else query) or 0.0
