"""How the processor's threads wait for each other. libgomp reads it once, when torch is imported.

Beside other programs, threads that spin made networks 5 to 30 times slower; on a quiet machine, threads that sleep make
small networks a fifth slower. So they sleep, after a short spin, except in a short job on a quiet machine.
"""

import os

RESTING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
OWN_PROCESS: list[bool] = []  # not empty where nobody else will want what a quick import leaves out
QUIET = 25.0  # per cent of all cores that others use, over a moment
MOMENT = 0.06  # seconds


def rest() -> None:
    """Threads that wait sleep, unless the person's environment says otherwise."""
    for name, value in RESTING.items():
        os.environ.setdefault(name, value)


def spin_if_quiet() -> None:
    """For a job of seconds: threads spin where nobody else wants the processor. What the person set stays."""
    if all(os.environ.get(name) == value for name, value in RESTING.items()) and _load() < QUIET:
        for name in RESTING:
            del os.environ[name]


def _load() -> float:
    import psutil

    return psutil.cpu_percent(MOMENT)
