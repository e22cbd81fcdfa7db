"""A store, and runs that the tests of workers make up."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from calotype.jobs.store import JobStore
from calotype.worker import attempt as attempts


@pytest.fixture
def store(tmp_path):
    opened = JobStore("", tmp_path / "service")
    yield opened
    opened.close()


@pytest.fixture
def runs(monkeypatch):
    """Replaces what the runner does by a function of the request and its output, which yields events."""

    def replace(function):
        monkeypatch.setattr(attempts, "run", lambda request, engine, output, **_: function(request, output))

    return replace
