"""How many requests an address or an account may make: token buckets, in the memory of this process."""

import contextlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from calotype.api.errors import Refusal

RETRY_OPEN = "15"  # seconds
MAX_KEYS = 10_000  # the longest unused ones are forgotten, which are full again by then


@dataclass(frozen=True)
class Rate:
    """`burst` requests at once, then `per_minute`."""

    burst: int
    per_minute: float


class RateLimiter:
    """Requests by key. One limiter counts one kind of request, in whatever threads."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic):
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key: (tokens left, time)
        self._lock = threading.Lock()

    def wait_for(self, key: str) -> float:
        """Seconds until the next request is allowed; 0: now. Takes nothing."""
        with self._lock:
            return self._wait(self._left(key, self._clock()))

    def take(self, key: str) -> None:
        """Counts a request. Raises Refusal (429) if there were too many."""
        with self._lock:
            now = self._clock()
            left = self._left(key, now)
            if wait := self._wait(left):
                raise too_many(wait)
            self._buckets[key] = (left - 1, now)
            self._buckets.move_to_end(key)
            while len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)

    def _left(self, key: str, now: float) -> float:
        left, since = self._buckets.get(key, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - since) * self._rate.per_minute / 60)

    def _wait(self, left: float) -> float:
        return max(0.0, 1 - left) * 60 / self._rate.per_minute


class OpenLimiter:
    """Requests that are open at the same time, by key.

    Args:
        limit: of one key.
        reason: why one more is refused, with {limit}.
    """

    def __init__(self, limit: int, reason: str):
        self.limit, self._reason = limit, reason
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self._open.total()

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[None]:
        """Counts a request for as long as the block lasts. Raises Refusal (429) if there are too many."""
        if self._open[key] >= self.limit:
            raise Refusal(429, self._reason, headers={"Retry-After": RETRY_OPEN}, limit=self.limit)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


def too_many(wait: float) -> Refusal:
    seconds = int(wait) + 1
    return Refusal(429, "too many requests; wait {seconds} s", headers={"Retry-After": str(seconds)}, seconds=seconds)
