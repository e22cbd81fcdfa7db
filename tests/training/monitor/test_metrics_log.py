"""The log: told again as it was, and readable whatever was cut off."""

import math

import pytest

from calotype.errors import CalotypeError
from calotype.training.monitor.metrics_log import LoggedSample, MetricsLog, read_metrics_log


def told(path, steps=4):
    log = MetricsLog(path)
    log.fact("plan", ["a", "照片"])
    for step in range(1, steps + 1):
        log.note(step, {"loss/current": 1 / step, "lr/unet": 0.1})
        if step % 2 == 0:
            log.show(LoggedSample(step, f"sample/{step}.png", "a cat", "seed 1"))
    log.close()
    return log


def test_it_goes_on_where_the_run_does(tmp_path):
    told(tmp_path / "d.jsonl")
    log = MetricsLog(tmp_path / "d.jsonl", after=3)
    assert log.numbers["loss/current"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)] and log.facts["plan"] == ["a", "照片"]
    assert log.pictures == [LoggedSample(2, "sample/2.png", "a cat", "seed 1")]
    log.note(4, {"loss/current": 9.0})
    log.close()
    lines = read_metrics_log(tmp_path / "d.jsonl")
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
    log = MetricsLog(path, after=9)
    assert [step for step, _ in log.numbers["loss/current"]] == [1, 2, 3, 4] and "loss" not in log.numbers


def test_what_is_no_number_is_null_and_never_the_least(tmp_path):
    log = MetricsLog(tmp_path / "d.jsonl")
    for step, value in enumerate((3.0, math.nan, 1.0, math.inf, 1.0), 1):
        log.note(step, {"loss": value})
    assert log.minimum("loss") == (3, 1.0) and log.minimum("none") is None
    log.close()
    assert [line["loss"] for line in read_metrics_log(tmp_path / "d.jsonl")] == [3.0, None, 1.0, None, 1.0]
    again = MetricsLog(tmp_path / "d.jsonl", 5)
    assert math.isnan(again.numbers["loss"][1][1]) and again.minimum("loss") == (3, 1.0)


def test_a_closed_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CalotypeError, match=r"d\.jsonl cannot be written"):
        MetricsLog(tmp_path / "file" / "d.jsonl")
