"""An interrupt waits until the step is over; the second one does not."""

import os
import signal
import time

import pytest

from calotype.training import interrupts


def test_an_interrupt_comes_behind_what_is_done_to_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.whole():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append(1)
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_comes_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.whole():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        done.append(1)
    assert not done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens_and_faults_pass():
    with interrupts.whole():
        pass
    with pytest.raises(ZeroDivisionError), interrupts.whole():
        raise ZeroDivisionError


def test_a_state_is_due_by_steps_or_by_time(monkeypatch):
    assert [done for done in range(1, 9) if interrupts.Due(3)(done)] == [3, 6]
    monkeypatch.setattr(interrupts, "SAVED_AFTER", 0.02)
    due = interrupts.Due(0)
    assert not due(5)
    time.sleep(0.03)
    assert due(5)
    due.saved()
    assert not due(6)
