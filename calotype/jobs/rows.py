"""Jobs as rows of the tables: reading and changing them inside a transaction."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from calotype.errors import Message
from calotype.jobs.jobs import FINISHED_STATES, QUEUED, Job, NotFound, StoredResult
from calotype.jobs.schema import EVENTS, JOBS, RESULTS

MAX_EVENTS = 5000  # kept of a job; of older ones notes and states stay, and some of the others, for the curve of a loss
KEPT_EVERY = 50
KEPT = tuple(f'{{"event": "{name}"%' for name in ("said", "state"))  # as the column has it
JOB_COLUMNS = [
    column
    for column in JOBS.c
    if column.name in Job.__dataclass_fields__  # the others are the store's own
]
_JOB = select(*JOB_COLUMNS).where(JOBS.c.id == bindparam("job_id"))  # built once: building takes longer than reading
_COUNT_EVENT = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("job_id"))
    .values(last_event=JOBS.c.last_event + 1)
    .returning(JOBS.c.last_event)
)
_ADD_EVENT = insert(EVENTS)
QUEUE_ORDER = JOBS.c.priority.desc(), JOBS.c.position, JOBS.c.queued, JOBS.c.id


def set_job(db: Connection, job_id: str, **values: Any) -> None:
    db.execute(update(JOBS).where(JOBS.c.id == job_id).values(**values))


def set_state(db: Connection, job_id: str, state: str, now: float, **values: Any) -> None:
    set_job(db, job_id, state=state, **values)
    log_state(db, job_id, state, now)


def log_state(db: Connection, job_id: str, state: str, now: float) -> None:
    log_event(db, job_id, {"event": "state", "state": state}, now)


def log_event(db: Connection, job_id: str, data: Mapping[str, Any], now: float) -> int:
    """Stores an event of a job; most of its oldest ones are deleted. Returns its number."""
    number = db.scalar(_COUNT_EVENT, {"job_id": job_id})
    db.execute(_ADD_EVENT, {"job": job_id, "number": number, "created": now, "data": dict(data)})
    if number % 100 == 0:
        text = as_text(EVENTS.c.data)
        old = EVENTS.c.number.between(number - MAX_EVENTS - 99, number - MAX_EVENTS)  # those before were looked at
        is_kept = or_(EVENTS.c.number % KEPT_EVERY == 0, *(text.like(start) for start in KEPT))
        db.execute(delete(EVENTS).where(EVENTS.c.job == job_id, old, not_(is_kept)))
    return number


def load(db: Connection, job_id: str, owner: str | None = None) -> Job:
    """A job. Raises NotFound if it does not exist or belongs to another owner."""
    row = db.execute(_JOB, {"job_id": job_id}).first()
    if row is None or owner not in (None, row.owner):
        raise NotFound("there is no such job")
    return jobs_of_rows(db, [row])[0]


def jobs_of_rows(db: Connection, rows: Sequence[Row]) -> list[Job]:
    finished = [row.id for row in rows if row.state in FINISHED_STATES]  # others have no results
    query = select(RESULTS).where(RESULTS.c.job.in_(finished)).order_by(RESULTS.c.job, RESULTS.c.number)
    results: dict[str, list[StoredResult]] = {}
    for row in db.execute(query) if finished else ():
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


def as_text(column: Any) -> Any:
    """The JSON in a column as the database has it."""
    return cast(type_coerce(column, Text), Text)


def has_text(column: Any, word: str) -> Any:
    """Whether the JSON in a column contains a word, in any case of ASCII letters."""
    written = json.dumps(word)[1:-1]  # as the column has it: characters beyond ASCII are escaped
    return func.lower(as_text(column)).contains(written.lower(), autoescape=True)


def queue_of(owner: str) -> Any:
    """The query of the waiting jobs of an owner, in their order."""
    return select(*JOB_COLUMNS).where(JOBS.c.owner == owner, JOBS.c.state == QUEUED).order_by(*QUEUE_ORDER)


def next_position(db: Connection) -> int:
    return (db.scalar(select(func.max(JOBS.c.position))) or 0) + 1


def state_word(job: Job) -> Message:
    """The state of a job, for a message."""
    asked = {"cancel": Message("being cancelled"), "pause": Message("being paused")}
    states = {
        "queued": Message("waiting"),
        "running": Message("running"),
        "paused": Message("paused"),
        "done": Message("done"),
        "failed": Message("failed"),
        "cancelled": Message("cancelled"),
    }
    return asked.get(job.requested) or states[job.state]


def upsert(db: Connection, table: Any, values: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Inserts a row, or changes the one of the same primary key."""
    dialect = sqlite if db.dialect.name == "sqlite" else postgresql
    row = dialect.insert(table).values(**values)
    db.execute(row.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=dict(changed)))
