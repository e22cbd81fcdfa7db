"""Files that a run leaves on its way, by kohya's rules; and no two runs that write the same ones."""

import os
from pathlib import Path

import pytest

from calotype.errors import CalotypeError
from calotype.picture.saving import Arriving
from calotype.tasks import TrainLora
from calotype.training import files
from calotype.training.files import alone, check_place, files_due


def left(total, per_epoch, **options):
    """Names that are there at the end, without the last."""
    task, there = TrainLora(photos=Path("x"), output_name="a", **options), []
    for done in range(1, total + 1):
        for due in files_due(task, done, total, per_epoch):
            there = [name for name in there if name != due.outlived] + [due.name]
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


def test_a_name_is_one_runs_at_a_time(tmp_path):
    with alone(tmp_path / "新 out", "a"), alone(tmp_path / "新 out", "b"):
        with (
            pytest.raises(CalotypeError, match=r"another run is at work on .*新 out.a; wait for it"),
            alone(tmp_path / "新 out", "a"),
        ):
            pass
        assert (tmp_path / "新 out" / "a.running").read_text("utf-8").startswith(f"{os.getpid()} ")
    assert list((tmp_path / "新 out").iterdir()) == []


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    check_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(CalotypeError, match=r"file is a file, not a folder; give another --output-dir"):
            check_place(folder)
    with pytest.raises(CalotypeError, match=r"cannot be made .*; give another --output-dir"):
        check_place(tmp_path / ("x" * 1000))


def test_a_drive_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(
        CalotypeError, match=r"cannot be made, for no folder above it is there; give another --output-d"
    ):
        check_place(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_closed_is_known_before(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CalotypeError, match="cannot be written to; give another --output-dir"):
            check_place(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("names", [["a.running"], ["a.running", "a.running.cleared"]])
@pytest.mark.parametrize("left", ["", "999999999 1.0", f"{os.getpid()} 1.0"])
def test_a_run_that_was_killed_is_in_nobodys_way(tmp_path, left, names):
    for name in names:
        (tmp_path / name).write_text(left, "utf-8")
    with alone(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_two_runs_that_find_the_file_of_a_killed_one_only_one_begins(tmp_path, monkeypatch):
    def judged(*given):
        answer = is_at_work(*given)
        if not others:
            others.append(alone(tmp_path, "a"))  # the other run is quicker
            others[0].__enter__()
        return answer

    is_at_work, others = files._is_at_work, []
    monkeypatch.setattr(files, "_is_at_work", judged)
    path = tmp_path / "a.running"
    path.write_text("999999999 1.0", "utf-8")
    with pytest.raises(CalotypeError, match="another run is at work"), alone(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == [path] and path.read_text("utf-8").startswith(f"{os.getpid()} ")
    others[0].__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_behind_the_beginning_is_in_nobodys_way(tmp_path, monkeypatch):
    def finished(arriving):
        finish(arriving)
        raise KeyboardInterrupt

    finish = Arriving._finish
    monkeypatch.setattr(Arriving, "_finish", finished)
    with pytest.raises(KeyboardInterrupt), alone(tmp_path, "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "is a file, not a folder"), (tmp_path / "file" / "out", "cannot be made")):
        with pytest.raises(CalotypeError, match=f"{why}.*give another --output-dir"), alone(folder, "a"):
            pass
