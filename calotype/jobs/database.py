"""The connection to SQLite or PostgreSQL: transactions, migrations, and their errors as sentences."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from calotype.errors import CalotypeError, Remedy

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30  # to wait for another process that writes
POOL, MORE = 16, 48  # connections
LOCK = 0x63616C6F  # of PostgreSQL's advisory lock, the same number in every version
FULL = ("database or disk is full", "disk i/o error", "no space left on device", "could not extend file")


class Database:
    """Transactions on one database. Writing ones run one after another.

    Args:
        url: of SQLAlchemy, `sqlite:///path` or `postgresql://...`.
    Raises:
        CalotypeError: the URL is wrong, the database can't be opened, or a newer version has written it.
    """

    def __init__(self, url: str):
        self._engine = _engine(url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._turn = threading.Lock()  # threads of this process wait here, rather than poll SQLite's lock
        self._watcher: Any = None  # a connection that never writes
        self._watching = threading.Lock()
        with self.writing() as connection:
            _migrate(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with _as_sentence(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction during which nobody else writes; committed at the end, rolled back by an exception."""
        turn = self._turn if self.is_sqlite else contextlib.nullcontext()
        with _as_sentence(), turn, self._engine.connect() as connection:
            connection = connection.execution_options(is_writing=True)
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
                yield connection

    def version(self) -> int | None:
        """A number that is another one after each change, whoever made it: to ask is quicker than to read. None where
        the database has none, PostgreSQL."""
        if not self.is_sqlite:
            return None
        with _as_sentence(), self._watching:
            self._watcher = self._watcher or self._engine.raw_connection()
            return self._watcher.execute("PRAGMA data_version").fetchone()[0]

    def backup(self, path: Path) -> None:
        """Copies an SQLite database into a new file while it is in use."""
        if not self.is_sqlite:
            raise CalotypeError("a PostgreSQL database is copied by pg_dump, not by calotype")
        with contextlib.closing(sqlite3.connect(path)) as target, self._engine.connect() as connection:
            connection.connection.driver_connection.backup(target)

    def close(self) -> None:
        with self._watching:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        self._engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql" and parsed.drivername != "postgresql+psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise CalotypeError("the store is SQLite or PostgreSQL, not {name}", name=parsed.get_backend_name())
        options = {"connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
        if parsed.get_backend_name() == "postgresql":
            options = {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
        engine = create_engine(parsed, pool_size=POOL, max_overflow=MORE, **options)
    except ModuleNotFoundError as fault:
        raise CalotypeError(
            "PostgreSQL needs the package {name}", name=fault.name, remedy=Remedy("install_packages", "psycopg[binary]")
        ) from fault
    except (ArgumentError, NoSuchModuleError, ValueError) as fault:
        raise CalotypeError(
            "the address of the store is not valid; write postgresql://user:password@host/database, or leave it out"
        ) from fault
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says so, not at the first change
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get("is_writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current, newest = MigrationContext.configure(connection).get_current_revision(), scripts.get_current_head()
    if current == newest:
        return
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise CalotypeError("a newer version of calotype has written the store; install that version")
    with EnvironmentContext(config, scripts, fn=lambda revision, _: scripts._upgrade_revs("head", revision)):
        scripts.run_env()


@contextlib.contextmanager
def _as_sentence() -> Iterator[None]:
    """Errors of the database that the user can fix, as CalotypeError."""
    try:
        yield
    except PoolTimeout as fault:
        raise CalotypeError("the store is busy: no connection became free in time; try again") from fault
    except DatabaseError as fault:
        reason = str(fault.orig).strip().splitlines()[0] if str(fault.orig).strip() else type(fault.orig).__name__
        if any(words in reason.lower() for words in FULL):
            raise StoreFull("the store cannot be written: the disk is full", remedy=Remedy("free_disk")) from fault
        if "not a database" in reason or "malformed" in reason:
            raise CalotypeError(
                "the store is damaged: {reason}; put back a backup of it, or move it away", reason=reason
            ) from fault
        if isinstance(fault, OperationalError):
            raise CalotypeError("the store cannot be opened or written: {reason}", reason=reason) from fault
        raise


class StoreFull(CalotypeError):
    """The disk of the store is full."""
