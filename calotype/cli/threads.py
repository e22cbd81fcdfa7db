"""The wait policy of OpenMP threads. libgomp reads it once, when torch is imported.

Beside other programs, spinning threads made networks 5 to 30 times slower; on an idle machine, sleeping threads make
small networks a fifth slower. So they sleep, after a short spin, except in a short run on an idle machine.
"""

import os

RESTING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
OWN_PROCESS: list[bool] = []  # not empty if quick imports affect no other code
QUIET = 25.0  # percent of all cores that other programs use
MOMENT = 0.06  # seconds of measurement


def rest() -> None:
    """Makes waiting threads sleep, unless the environment sets it otherwise."""
    for name, value in RESTING.items():
        os.environ.setdefault(name, value)


def spin_if_quiet() -> None:
    """For a run of seconds: makes threads spin if the CPU is idle. Values set by the user are kept."""
    if all(os.environ.get(name) == value for name, value in RESTING.items()) and _load() < QUIET:
        for name in RESTING:
            del os.environ[name]


def _load() -> float:
    import psutil

    return psutil.cpu_percent(MOMENT)
