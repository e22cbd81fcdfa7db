"""How many requests an address or an account may make: token buckets, in the memory of this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from calotype.api.errors import Refusal

MAX_KEYS = 10_000  # the longest unused ones are forgotten, which are full again by then


@dataclass(frozen=True)
class Rate:
    """`burst` requests at once, then `per_minute`."""

    burst: int
    per_minute: float


class RateLimiter:
    """Requests by key. One limiter counts one kind of request."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic):
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key: (tokens left, time)

    def wait_for(self, key: str) -> float:
        """Seconds until the next request is allowed; 0: now. Takes nothing."""
        return max(0.0, 1 - self._left(key)) * 60 / self._rate.per_minute

    def take(self, key: str) -> None:
        """Counts a request. Raises Refusal (429) if there were too many."""
        if wait := self.wait_for(key):
            raise too_many(wait)
        self._buckets[key] = (self._left(key) - 1, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)

    def _left(self, key: str) -> float:
        if key not in self._buckets:
            return self._rate.burst
        left, since = self._buckets[key]
        return min(self._rate.burst, left + (self._clock() - since) * self._rate.per_minute / 60)


def too_many(wait: float) -> Refusal:
    seconds = int(wait) + 1
    return Refusal(429, "too many requests; wait {seconds} s", headers={"Retry-After": str(seconds)}, seconds=seconds)
