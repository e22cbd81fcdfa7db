"""Tables of the store. A change of them needs a file in `migrations/versions`; a test compares the two."""

import json
import math
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class JsonText(TypeDecorator):
    """JSON as ASCII text, the same in every database: any string is allowed in it, NaN and infinity become null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else json.dumps(finite(value), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return None if value is None else json.loads(value)


def finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("account", String(64), nullable=False),  # who is charged; several owners may have one
    Column("kind", String(64), nullable=False),
    Column("task", JsonText, nullable=False),
    Column("files", JsonText, nullable=False),
    Column("output", JsonText, nullable=False),
    Column("models", JsonText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),  # in the queue
    Column("created", Double, nullable=False),
    Column("queued", Double, nullable=False),  # when it was queued last
    Column("started", Double),
    Column("finished", Double),
    Column("progress", JsonText),
    Column("preview", String(32)),
    Column("error", JsonText),
    Column("cost", Double, nullable=False),
    Column("settled", Double, nullable=False, server_default="0"),  # of it, what stays charged: before a retry
    Column("work", Double),  # of its task, in a unit of its kind
    Column("parent", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("overtaken", Integer, nullable=False),
    Column("is_favourite", Boolean, nullable=False),
    Column("key", String(200)),  # of idempotency
    Column("fingerprint", String(64), nullable=False),  # of the request
    Column("last_event", Integer, nullable=False),
    Column("worker", String(128)),
    Column("token", String(32)),  # of the claim
    Column("claimed", Double),
    Column("heartbeat", Double),
    Column("lease", Double),  # when it ends
    Column("kept", Double),  # device seconds of this attempt before its last saved state
    Column("requested", String(16), nullable=False),  # of a running job: run, cancel or pause
    Column("max_running", Integer),
    Column("max_seconds", Double),
    Column("is_daily", Boolean, nullable=False),  # whether max_seconds is for a day
    Index(None, "owner", "key", unique=True),
    Index(None, "owner", "created"),
    Index(None, "state", "account", "priority", "position"),
    Index(None, "account", "state"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("created", Double, nullable=False),
    Column("data", JsonText, nullable=False),
)

RESULTS = Table(
    "results",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("facts", JsonText, nullable=False),
)

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("id", String(64), primary_key=True),  # the SHA-256 of its content
    Column("owner", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("used", Double, nullable=False),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("account", String(64), primary_key=True),
    Column("seconds", Double, nullable=False),  # decayed, at the time of `updated`
    Column("updated", Double, nullable=False),
    Column("served", Double, nullable=False),  # when a job of it was claimed last
)

USAGE_DAYS = Table(
    "usage_days",
    METADATA,
    Column("account", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, in UTC
    Column("seconds", Double, nullable=False),
)

WORKERS = Table(
    "workers",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("reported", Double, nullable=False),
    Column("device", String(64), nullable=False),
    Column("models", JsonText, nullable=False),  # loaded
    Column("note", JsonText),  # a message: why it waits
    Column("unload", Boolean, nullable=False, server_default=false()),  # it is to drop its models
)
