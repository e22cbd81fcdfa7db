"""When the state of a training run is saved."""

import time

from calotype.training.run import save_timer as interrupts


def test_a_state_is_due_by_steps_or_by_time(monkeypatch):
    assert [done for done in range(1, 9) if interrupts.SaveTimer(3)(done)] == [3, 6]
    monkeypatch.setattr(interrupts, "SAVE_INTERVAL", 0.02)
    due = interrupts.SaveTimer(0)
    assert not due(5)
    time.sleep(0.03)
    assert due(5)
    due.saved()
    assert not due(6)
