"""Token buckets: what threads take at the same time is counted once each."""

import threading
import time

from calotype.api.errors import Refusal
from calotype.api.limiter import Rate, RateLimiter


def test_requests_of_many_threads_at_once_are_all_counted():
    def slow_clock():  # so that all threads are within `take` at the same time
        time.sleep(0.002)
        return 0.0

    limiter, taken, refused = RateLimiter(Rate(5, 60), slow_clock), [], []

    def take():
        try:
            taken.append(limiter.take("ann"))
        except Refusal as fault:
            refused.append(str(fault))

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (5, 15)
    assert set(refused) == {"too many requests; wait 2 s"} and limiter.wait_for("ann") == 1
