"""`calotype train` as somebody new meets it: interrupts at any moment, folders that cannot be."""

import os
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from calotype import cli
from calotype.cli import main
from calotype.files import run_lock

TINY = {
    "upscaler": "--model none --network srvgg --num-feat 8 --num-block 1 --gt-size 32 --batch-size 1 --perceptual none "
    "--l1-steps 1 --gan-steps 0",
    "restorer": "--side 64 --channels 8,16 --blocks 1,1 --codes 8 --batch-size 1 --perceptual none --l1-steps 1 "
    "--gan-steps 0",
    "repairer": "--channels 4,4 --patch-size 64 --train-batch-size 2 --max-train-steps 1",
    "gan": "--resolution 32 --capacity 0.25 --train-batch-size 2 --max-train-steps 1 --snapshots 2",
}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Ten pictures that differ, in a folder with a Chinese name."""
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "我的 照片"
    folder.mkdir()
    for n in range(10):
        pixels = np.random.default_rng(n).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"照片{n}.png")
    return folder


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("kind", TINY)
def test_folders_may_have_names_in_any_script(photos, tmp_path, kind, capsys):
    out = tmp_path / "学 到"
    assert main(["train", kind, str(photos), *TINY[kind].split(), "--output-dir", str(out), "--output-name", "新"]) == 0
    assert (out / "新.safetensors").is_file() and (out / "report.html").is_file()
    assert f"{photos} -> {out}/新.safetensors".replace("/", os.sep) in capsys.readouterr().out


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("kind", TINY)
def test_an_output_that_is_a_file_is_that_file(photos, tmp_path, kind, capsys):
    words = ["train", kind, str(photos), *TINY[kind].split()]
    path = tmp_path / "new" / "my.v2.safetensors"
    assert main([*words, "-o", str(path), "--output-name", "yours"]) == 2
    assert f"-o {path} and --output-name yours do not agree; give one of them" in capsys.readouterr().err
    assert main([*words, "-o", str(path)]) == 0
    assert path.is_file() and (path.parent / "my.v2.log.jsonl").is_file()
    assert not list(path.parent.glob("*.pth"))


def test_an_upscalers_file_may_be_of_torchs_kind(photos, tmp_path, capsys):
    words = ["train", "upscaler", str(photos), *TINY["upscaler"].split(), "-o", str(tmp_path / "new" / "my.pth")]
    assert main([*words, "--save-format", "both"]) == 2
    assert "--save-format both do not agree" in capsys.readouterr().err
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "new").glob("my.*[hs]")} == {"my.pth"}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
@pytest.mark.parametrize("kind", [*TINY, "lora", "diffusion"])
@pytest.mark.parametrize("where, why", [("x" * 300, "cannot be made"), ("file", "is a file, not a folder")])
def test_a_folder_that_cannot_be_is_told_before_pictures_are_read(photos, tmp_path, kind, where, why, dry, capsys):
    (tmp_path / "file").write_text("")
    for path in photos.iterdir():
        path.write_text("no picture")
    words = ["train", kind, str(photos), *TINY.get(kind, "").split(), "--output-dir", str(tmp_path / where)]
    assert main([*words, *dry]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("calotype: ") and why in last and last.endswith("give another --output-dir")


@pytest.mark.parametrize(("kind", "room"), [("gan", "gan-snapshots"), ("upscaler", "sample"), ("restorer", "sample")])
def test_a_file_in_place_of_a_folder_for_samples_is_a_sentence(photos, tmp_path, kind, room, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / room).write_text("mine")
    assert main(["train", kind, str(photos), *TINY[kind].split(), "--output-dir", str(out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"calotype: {out / room} is a file, not a folder; give another --output-dir"
    assert (out / room).read_text() == "mine"


@pytest.mark.parametrize("kind", [*TINY, "lora", "diffusion"])
def test_a_name_goes_without_its_ending(photos, kind, capsys):
    assert main(["train", kind, str(photos), "--output-name", "my.v2.SafeTensors"]) == 2
    assert "--output-name is a file name without extension, which is added; give my.v2" in capsys.readouterr().err


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("kind", TINY)
def test_two_runs_do_not_write_the_same_files(photos, tmp_path, kind, capsys):
    words = ["train", kind, str(photos), *TINY[kind].split(), "--output-dir", str(tmp_path / "out")]
    with run_lock(tmp_path / "out", kind):
        assert main(words) == 2
        assert "another run is at work on" in capsys.readouterr().err
        assert main([*words, "--dry-run"]) == 0
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupt_while_the_program_loads_is_heard_behind_it(photos, tmp_path, monkeypatch, capsys):
    class Swallowing:
        """As some libraries do in which an import fails."""

        def find_spec(self, name, path=None, target=None):
            if name == "calotype.pipelines.train_upscaler":
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.05)
                except KeyboardInterrupt:
                    pass

    monkeypatch.delattr("calotype.pipelines.train_upscaler", raising=False)  # else the package keeps another one
    monkeypatch.delitem(sys.modules, "calotype.pipelines.train_upscaler", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Swallowing(), *sys.meta_path])
    out = tmp_path / "out"
    assert main(["train", "upscaler", str(photos), *TINY["upscaler"].split(), "--output-dir", str(out)]) == 130
    assert "stopped; run the same command again" in capsys.readouterr().err and not out.exists()


def test_an_interrupt_before_there_are_commands_ends_quietly(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert main(["train", "gan", "--demo"]) == 130
