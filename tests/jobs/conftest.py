"""A store on each database, with a clock that tests set."""

from dataclasses import dataclass

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
