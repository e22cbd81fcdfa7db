"""Which pictures come in which step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.training.data import batches as plan

PICTURES = st.lists(st.tuples(st.sampled_from([(512, 512), (448, 576)]), st.integers(1, 5)), min_size=1, max_size=9)


@given(PICTURES, st.integers(1, 4), st.integers(1, 6), st.integers(0, 3))
def test_every_epoch_shows_each_picture_as_often_as_told_in_steps_of_its_own(told, size, accumulated, epoch):
    shown = [plan.BatchItem(n, bucket, repeats) for n, (bucket, repeats) in enumerate(told)]
    batches = plan.count(shown, [size])
    found = plan.batches(shown, [size], 7, epoch)
    assert len(found) == batches and max(map(len, found)) <= size
    assert sorted(index for batch in found for index in batch) == [
        one.index for one in shown for _ in range(one.repeats)
    ]

    steps = plan.steps(batches, accumulated)
    groups = [plan.batches_of_step(epoch * steps + n, batches, accumulated) for n in range(steps)]
    assert [number for group in groups for number in group] == list(range(epoch * batches, (epoch + 1) * batches))
    assert all(len(group) == accumulated for group in groups[:-1]) and 1 <= len(groups[-1]) <= accumulated


@pytest.mark.parametrize(("batches", "accumulated", "steps"), [(1, 4, 1), (8, 4, 2), (9, 4, 3), (9, 1, 9)])
def test_the_last_step_of_an_epoch_may_be_short(batches, accumulated, steps):
    assert plan.steps(batches, accumulated) == steps
