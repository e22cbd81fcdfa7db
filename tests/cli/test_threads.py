"""Threads that wait: asleep, except in a short job on a quiet machine."""

import pytest

from calotype.cli import threads


@pytest.mark.parametrize(
    ("load", "environ", "left"),
    [
        (0.0, {}, {}),
        (80.0, {}, threads.RESTING),
        (0.0, {"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "1000"}),
    ],
)
def test_threads_spin_where_nobody_minds(monkeypatch, load, environ, left):
    for name in threads.RESTING:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("psutil.cpu_percent", lambda moment: load)
    threads.rest()
    threads.spin_if_quiet()
    assert {name: value for name, value in threads.os.environ.items() if name in threads.RESTING} == left
    for name in threads.RESTING:
        monkeypatch.delenv(name, raising=False)
