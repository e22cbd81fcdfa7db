"""The last step of an item in a thread: order, failures, interrupts."""

import contextlib
import threading

import pytest

from calotype.overlap import WAIT, Overlap


class Album:
    """Items of two events, and a last step that waits until it may end."""

    def __init__(self):
        self.overlap, self.may_end, self.started = Overlap("test"), threading.Event(), threading.Event()
        self.running = self.most = 0

    def item(self, name: str, fails: bool = False, saves: bool = True):
        yield f"{name} begins"
        yield f"{name} works"
        yield WAIT
        if fails:
            yield f"{name} fails"
        elif saves:
            self.overlap.begin(self.save, lambda future: self.end(name, future))

    def save(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        assert self.may_end.wait(5)
        self.running -= 1
        return "saved"

    def end(self, name, future):
        yield WAIT
        yield f"{name} {future.result()}"

    def events(self, *items):
        with contextlib.closing(self.overlap):
            for item in items:
                yield from self.overlap.passed_on(item)
            yield from self.overlap.finish()


def test_events_are_those_of_one_item_after_the_other():
    album = Album()
    threading.Timer(0.05, album.may_end.set).start()
    items = [album.item("a"), album.item("b", fails=True), album.item("c"), album.item("d", saves=False)]
    assert list(album.events(*items)) == [
        *("a begins", "a works", "a saved"),
        *("b begins", "b works", "b fails"),
        *("c begins", "c works", "c saved"),
        *("d begins", "d works"),
    ]
    assert album.most == 1


def test_the_next_item_works_while_one_is_saved():
    album, reached = Album(), []

    def second():
        yield "b begins"
        assert album.started.wait(5)
        reached.append(album.running)
        album.may_end.set()
        yield "b works"

    assert list(album.events(album.item("a"), second())) == ["a begins", "a works", "a saved", "b begins", "b works"]
    assert reached == [1]


def test_after_an_interrupt_the_step_in_the_thread_is_complete():
    album = Album()
    events = album.events(album.item("a"), album.item("b"))
    assert [next(events), next(events)] == ["a begins", "a works"]
    album.may_end.set()
    assert next(events) == "a saved"
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert list(album.overlap.stop()) == [] and album.running == 0


def test_a_failure_in_the_thread_is_raised_where_its_events_are_made():
    album = Album()

    def fail():
        raise ValueError("disk full")

    def item():
        yield "a begins"
        yield WAIT
        album.overlap.begin(fail, end)

    def end(future):
        with pytest.raises(ValueError, match="disk full"):
            future.result()
        yield "a failed"

    assert list(album.events(item())) == ["a begins", "a failed"]
