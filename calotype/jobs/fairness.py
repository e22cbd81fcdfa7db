"""Which job is next: pure functions.

Accounts are served by their recent usage in device seconds, which halves every hour, less a credit for the time they
have waited since they were served last. Usage is finite and the credit grows without limit, so an account that waits
is served: once it has waited for `usage / CREDIT` seconds, every account is served at most once before it. Within an
account, the priority counts, then the place in the queue. A job whose models are loaded may go before others, but no
job is overtaken by such jobs more than MAX_OVERTAKEN times.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

HALF_LIFE = 3600.0  # seconds
CREDIT = 0.25  # device seconds for each second of waiting
MAX_OVERTAKEN = 3
MAX_COMPARED = 200_000  # accounts times jobs, whose turns are told; of a longer queue it would take too long


@dataclass(frozen=True)
class Usage:
    """Recent use of the devices by an account: decayed device seconds at the time `updated`."""

    seconds: float = 0.0
    updated: float = 0.0
    served: float = 0.0  # when a job of it started last

    def at(self, now: float) -> float:
        return self.seconds * 0.5 ** (max(0.0, now - self.updated) / HALF_LIFE)

    def after(self, seconds: float, now: float) -> "Usage":
        return Usage(self.at(now) + max(0.0, seconds), now, self.served)


@dataclass(frozen=True)
class Candidate:
    """A waiting job."""

    id: str
    account: str
    priority: int
    position: int
    queued: float
    models: frozenset[str] = frozenset()
    overtaken: int = 0


@dataclass(frozen=True)
class Choice:
    """The next job, and those that it overtakes because its models are loaded."""

    id: str
    overtakes: tuple[str, ...] = ()


def score(usage: Usage, queued: float, now: float) -> float:
    """The lower, the sooner."""
    return usage.at(now) - CREDIT * max(0.0, now - max(queued, usage.served))


def in_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The jobs of one account."""
    return sorted(candidates, key=lambda job: (-job.priority, job.position, job.queued, job.id))


def choose(
    candidates: Iterable[Candidate], usage: Mapping[str, Usage], now: float, loaded: Collection[str] = ()
) -> Choice | None:
    """The next job, if there is one.

    Args:
        usage: by account; an account that is missing has used nothing.
        loaded: the names of the models that the worker has loaded.
    """
    waiting: dict[str, list[Candidate]] = {}
    for job in candidates:
        waiting.setdefault(job.account, []).append(job)
    queues = [in_order(jobs) for jobs in waiting.values()]
    if not queues:
        return None
    queues.sort(key=lambda queue: _rank(queue[0], usage, now))
    first = queues[0][0]
    if loaded and not _is_loaded(first, loaded):
        ahead: list[Candidate] = []
        for queue in queues:
            for n, job in enumerate(queue):
                if job.priority == queue[0].priority and _is_loaded(job, loaded):
                    overtaken = (*ahead, *queue[:n])
                    if all(passed.overtaken < MAX_OVERTAKEN for passed in overtaken):
                        return Choice(job.id, tuple(passed.id for passed in overtaken))
            ahead.append(queue[0])
    return Choice(first.id)


def in_turn(
    candidates: Collection[Candidate], usage: Mapping[str, Usage], now: float, seconds: Callable[[str], float]
) -> Iterator[Candidate]:
    """The jobs in the order in which they will be chosen, if none is added, and none goes first because its models are
    loaded.

    Args:
        seconds: that a job is likely to take, by its id.
    """
    waiting: dict[str, deque[Candidate]] = {}
    for job in in_order(candidates):
        waiting.setdefault(job.account, deque()).append(job)
    if len(waiting) * len(candidates) > MAX_COMPARED:
        yield from in_order(candidates)
        return
    usage = dict(usage)
    while waiting:
        account = min(waiting, key=lambda account: _rank(waiting[account][0], usage, now))
        job = waiting[account].popleft()
        if not waiting[account]:
            del waiting[account]
        yield job
        ended = now + seconds(job.id)
        usage[account] = replace(usage.get(account, Usage()).after(ended - now, ended), served=now)
        now = ended


def _rank(head: Candidate, usage: Mapping[str, Usage], now: float) -> tuple[float, float, int, str]:
    """Of an account with this job first; the lowest is served first."""
    return score(usage.get(head.account, Usage()), head.queued, now), head.queued, head.position, head.id


def _is_loaded(job: Candidate, loaded: Collection[str]) -> bool:
    return bool(job.models) and job.models <= frozenset(loaded)
