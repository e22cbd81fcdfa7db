"""Files that a run leaves on its way, by kohya's rules."""

from pathlib import Path

import pytest

from calotype.tasks import TrainLora
from calotype.training.lora.saves import files_due


def left(total, per_epoch, **options):
    """Names that are there at the end, without the last."""
    task, there = TrainLora(photos=Path("x"), output_name="a", **options), []
    for done in range(1, total + 1):
        for due in files_due(task, done, total, per_epoch):
            there = [name for name in there if name != due.expired] + [due.name]
    return there


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        ({"save_every_n_epochs": 2}, ["a-000002", "a-000004"]),
        ({"save_every_n_epochs": 1, "save_last_n_epochs": 2}, ["a-000004", "a-000005"]),
        ({"save_n_epoch_ratio": 3}, ["a-000002", "a-000004"]),
        ({"save_every_n_steps": 4}, ["a-step00000004", "a-step00000008", "a-step00000012", "a-step00000016"]),
        ({"save_every_n_steps": 4, "save_last_n_steps": 4}, ["a-step00000012", "a-step00000016"]),
    ],
)
def test_files_are_kept_as_often_and_as_many_as_told(options, names):
    assert left(18, 3, **options) == names
