"""Overlaps the last step of each item of a list, in a thread, with the work on the next item."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

WAIT = object()  # an event at which the item before has to be complete; it is not passed on
Then = Callable[[Future], Iterator[Any]]


class Overlap:
    """Passes on the events of items in order: those of an item follow the last one of the item before.

    An item is a generator of events. Before its last step it yields `WAIT` and then calls `begin`, so that one step at
    most is in the thread, and one result more than without a thread in memory.
    """

    def __init__(self, name: str):
        self._pool = ThreadPoolExecutor(1, name)
        self._begun: tuple[Future, Then] | None = None
        self._kept: list[Any] = []  # events of the present item that wait for those of the one before

    def begin(self, work: Callable[[], Any], then: Then) -> None:
        """Begins the last step of an item; `then` turns its future into the item's last events."""
        self._begun = self._pool.submit(work), then

    def passed_on(self, item: Generator[Any, None, None]) -> Iterator[Any]:
        """The events of an item, until its last step is begun, and before them the last ones of the item before."""
        with contextlib.closing(item):
            for event in item:
                if self._begun and event is not WAIT and not self._begun[0].done():
                    self._kept.append(event)
                    continue
                yield from self.finish()
                if event is not WAIT:
                    yield event
        if self._kept:
            yield from self.finish()

    def finish(self) -> Iterator[Any]:
        """Waits for the last step that was begun: its events, and those that waited for it."""
        if self._begun:
            future, then = self._begun
            wait([future])
            self._begun = None
            yield from (event for event in then(future) if event is not WAIT)
        kept, self._kept = self._kept, []
        yield from kept

    def stop(self) -> Iterator[Any]:
        """As `finish`, without the events of an item that goes no further."""
        self._kept.clear()
        yield from self.finish()

    def close(self) -> None:
        """Waits for the last step, without its events."""
        self._pool.shutdown()
