"""What accounts have used, their limits, and their waiting jobs, inside a transaction."""

from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from calotype.errors import duration, plural
from calotype.jobs.estimates import COLUMNS, Estimates
from calotype.jobs.fairness import Candidate, Usage
from calotype.jobs.jobs import FINISHED_STATES, PAUSED, QUEUED, RUNNING, Budget, OverBudget
from calotype.jobs.rows import QUEUE_ORDER, set_job, upsert
from calotype.jobs.schema import JOBS, USAGE, USAGE_DAYS

CANDIDATES = 20  # of each account, looked at for the next job
DAY = 86400


def check_budget(db: Connection, account: str, budget: Budget, now: float, job: Any) -> None:
    """Raises OverBudget if a limit of the account is reached, or would be by this job.

    Args:
        job: with the attributes of `estimates.COLUMNS`.
    """
    waiting = select(*COLUMNS).where(JOBS.c.account == account, JOBS.c.state.in_((QUEUED, PAUSED)))
    rows = db.execute(waiting).all() if budget.queued is not None or budget.seconds is not None else ()
    if budget.queued is not None and len(rows) >= budget.queued:
        several = "{count} jobs wait already, which is the limit; wait for one of them"
        raise OverBudget(plural(budget.queued, "one job waits already, which is the limit; wait for it", several))
    if budget.seconds is None:
        return
    if spent(db, account, budget.is_daily, now) >= budget.seconds:
        raise _used_up(budget, now)
    estimates = Estimates(db)
    needed = estimates.seconds(job)
    left = budget.seconds - spending(db, now, estimates)(account, budget.is_daily)
    left -= sum(estimates.seconds(row) or 0.0 for row in rows)
    if needed is not None and needed > left:
        raise _too_much(budget, needed, max(0.0, left), now)


def _used_up(budget: Budget, now: float) -> OverBudget:
    if budget.is_daily:
        template = "the {limit:g} seconds of today are used; go on in {time}"
        return OverBudget(template, limit=budget.seconds, time=duration(renewed(now) - now))
    return OverBudget("the {limit:g} seconds of this account are used; ask for more", limit=budget.seconds)


def _too_much(budget: Budget, needed: float, left: float, now: float) -> OverBudget:
    values = {"needed": needed, "left": left, "limit": budget.seconds}
    if needed > budget.seconds:
        whole = "this takes about {needed:.0f} device seconds, and the account has {limit:g}; make it smaller"
        return OverBudget(whole, **values)
    if budget.is_daily:
        template = (
            "this takes about {needed:.0f} device seconds, and {left:.0f} of the {limit:g} of today are left for it; "
            "go on in {time}"
        )
        return OverBudget(template, **values, time=duration(renewed(now) - now))
    template = (
        "this takes about {needed:.0f} device seconds, and {left:.0f} of the {limit:g} of this account are left for "
        "it; make it smaller, or ask for more"
    )
    return OverBudget(template, **values)


def renewed(now: float) -> float:
    """When a daily budget is renewed: the next midnight in UTC."""
    return (now // DAY + 1) * DAY


def spending(db: Connection, now: float, estimates: Estimates) -> Callable[[str, bool], float]:
    """A function of an account: the device seconds that it has used, today or ever, with what its running jobs are
    likely to need."""
    running: dict[str, float] = {}
    query = select(*COLUMNS, JOBS.c.account, JOBS.c.claimed, JOBS.c.max_seconds).where(JOBS.c.state == RUNNING)
    for row in db.execute(query):
        expected = None if row.max_seconds is None else estimates.seconds(row)
        running[row.account] = running.get(row.account, 0.0) + max(now - row.claimed, expected or 0.0)
    return cache(lambda account, is_daily: spent(db, account, is_daily, now) + running.get(account, 0.0))


def over_budget(db: Connection, now: float, estimates: Estimates) -> Callable[[Row], bool]:
    """A function of a waiting job: whether the budget of its account is used up, so that nothing of it starts."""
    used = spending(db, now, estimates)
    return lambda row: row.max_seconds is not None and used(row.account, row.is_daily) >= row.max_seconds


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
    is_over_budget = over_budget(db, now, Estimates(db))
    for row in rows:
        if row.max_running is not None and running.get(row.account, 0) >= row.max_running:
            continue
        if not is_over_budget(row):
            yield candidate(row)


def candidate(row: Row) -> Candidate:
    """A waiting job, as `fairness.choose` takes it."""
    values = row.id, row.account, row.priority, row.position, row.queued
    return Candidate(*values, frozenset(row.models), row.overtaken)


def set_limits(db: Connection, owner: str, budget: Budget) -> None:
    """Gives the jobs of an owner that have not ended the limits of a budget that has changed."""
    is_open = JOBS.c.owner == owner, JOBS.c.state.not_in(FINISHED_STATES)
    db.execute(update(JOBS).where(*is_open).values(**limits_of(owner, budget)))


def limits_of(owner: str, budget: Budget) -> dict[str, Any]:
    """The columns of a job for the budget of its owner."""
    limits = {"max_running": budget.running, "max_seconds": budget.seconds, "is_daily": budget.is_daily}
    return {"account": budget.account or owner, **limits}


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
    account, owner = _charged(db, job_id)
    write_usage(db, account, read_usage(db, account).after(seconds if busy is None else busy, now))
    for key in {account, owner}:
        add_usage(db, key, int(now // DAY), seconds)
    set_job(db, job_id, cost=JOBS.c.cost + seconds)


def _charged(db: Connection, job_id: str) -> tuple[str, str]:
    """Whose device seconds a job uses: its account, and its owner. Of an invitation, which several owners have, each
    one's own are known too. They may have changed since the job was claimed."""
    row = db.execute(select(JOBS.c.account, JOBS.c.owner).where(JOBS.c.id == job_id)).one()
    return row.account, row.owner


def add_usage(db: Connection, account: str, day: int, seconds: float) -> None:
    row = {"account": account, "day": day, "seconds": seconds}
    upsert(db, USAGE_DAYS, row, {"seconds": USAGE_DAYS.c.seconds + seconds})


def refund(db: Connection, job_id: str) -> None:
    """Takes the device seconds of a job off its account again, besides those from before it was tried again. What
    counts for its turn in the queue stays, as the device was busy."""
    job = db.execute(select(JOBS.c.cost, JOBS.c.settled).where(JOBS.c.id == job_id)).one()
    for account in set(_charged(db, job_id)):
        take_usage(db, account, job.cost - job.settled)
    set_job(db, job_id, cost=job.settled)


def take_usage(db: Connection, account: str, seconds: float) -> None:
    """Takes device seconds off an account, from the latest days first."""
    days = select(USAGE_DAYS).where(USAGE_DAYS.c.account == account, USAGE_DAYS.c.seconds > 0)
    for row in db.execute(days.order_by(USAGE_DAYS.c.day.desc())).all():
        if seconds <= 0:
            break
        taken = min(seconds, row.seconds)
        add_usage(db, account, row.day, -taken)
        seconds -= taken


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
