"""The diary: told again as it was, and readable whatever was cut off."""

import math

import pytest

from calotype.errors import CalotypeError
from calotype.training.monitor.metrics_log import LoggedSample, MetricsLog, read_diary


def told(path, steps=4):
    diary = MetricsLog(path)
    diary.fact("plan", ["a", "照片"])
    for step in range(1, steps + 1):
        diary.note(step, {"loss/current": 1 / step, "lr/unet": 0.1})
        if step % 2 == 0:
            diary.show(LoggedSample(step, f"sample/{step}.png", "a cat", "seed 1"))
    diary.close()
    return diary


def test_it_goes_on_where_the_run_does(tmp_path):
    told(tmp_path / "d.jsonl")
    diary = MetricsLog(tmp_path / "d.jsonl", after=3)
    assert diary.numbers["loss/current"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)] and diary.facts["plan"] == ["a", "照片"]
    assert diary.pictures == [LoggedSample(2, "sample/2.png", "a cat", "seed 1")]
    diary.note(4, {"loss/current": 9.0})
    diary.close()
    lines = read_diary(tmp_path / "d.jsonl")
    assert [line["loss/current"] for line in lines if "loss/current" in line] == [1.0, 0.5, 1 / 3, 9.0]
    assert MetricsLog(tmp_path / "d.jsonl").numbers == {}, "a run from the beginning forgets all"


def test_a_cut_or_foreign_line_is_left_out(tmp_path):
    path = tmp_path / "d.jsonl"
    told(path)
    odd = [
        b"[1]",
        b'{"step": "1", "loss": 2}',
        b'{"step": 2, "picture": "a"}',
        b'{"step": 1, "loss": "x"}',
        b"\xff\x00",
    ]
    path.write_bytes(b"\n".join([*odd, path.read_bytes() + b'{"step": 5, "loss/cur']))
    diary = MetricsLog(path, after=9)
    assert [step for step, _ in diary.numbers["loss/current"]] == [1, 2, 3, 4] and "loss" not in diary.numbers


def test_what_is_no_number_is_null_and_never_the_least(tmp_path):
    diary = MetricsLog(tmp_path / "d.jsonl")
    for step, value in enumerate((3.0, math.nan, 1.0, math.inf, 1.0), 1):
        diary.note(step, {"loss": value})
    assert diary.least("loss") == (3, 1.0) and diary.least("none") is None
    diary.close()
    assert [line["loss"] for line in read_diary(tmp_path / "d.jsonl")] == [3.0, None, 1.0, None, 1.0]
    again = MetricsLog(tmp_path / "d.jsonl", 5)
    assert math.isnan(again.numbers["loss"][1][1]) and again.least("loss") == (3, 1.0)


def test_a_closed_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CalotypeError, match=r"d\.jsonl cannot be written"):
        MetricsLog(tmp_path / "file" / "d.jsonl")
