"""What an earlier version wrote is taken: records, a LoRA, states of trainings (data/head/README.md tells of them)."""

import json
import lzma
import os
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from calotype.cli import main
from calotype.outputs.sidecar import read_stored
from calotype.picture import Picture
from calotype.tasks import TASKS

HEAD = Path(__file__).parent / "data" / "head"
CASES = json.loads((HEAD / "cases.json").read_text())
RECORDS = [*CASES["records"], "out/restored.png.json", "out/drawn.png.json"]
NEAR = 1 / 255 + 1e-6  # of a picture, where another torch or processor computes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, in which the commands are given."""
    place = shutil.copytree(HEAD, tmp_path / "head")
    for path in place.rglob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith("CALOTYPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALOTYPE_OFFLINE", "1")
    monkeypatch.setenv("CALOTYPE_MEMORY", "4")
    return place


@pytest.fixture(autouse=True)
def threads():
    """As many as before, whatever a record asks for."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def is_same_machine():
    """Whether torch and the kind of processor are those that computed the files: MKL sums otherwise on other makes."""
    facts, cpuinfo = CASES["facts"], Path("/proc/cpuinfo")
    is_same_make = cpuinfo.is_file() and facts["make"] in cpuinfo.read_text()
    return is_same_make and (facts["torch"], facts["cpu"]) == (
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
    )


def pixels(path):
    """In [0, 1]."""
    found = Picture.open(path).pixels
    return found.astype(np.float64) / np.iinfo(found.dtype).max


def default_options(kind, names):
    """The defaults of options that an earlier version did not have."""
    return {spec.name: spec.default for spec in fields(TASKS[kind]) if spec.name in names}


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_an_earlier_version_makes_the_same_picture(folder, name):
    result = folder / name.removesuffix(".json")
    again = folder / f"again{result.suffix}"
    inputs = ["--source", "in/start.png"] if "inpainted" in name else []
    assert main(["again", name, "-o", str(again), *inputs]) == 0
    then, now = (read_stored(path).record for path in (result, again))
    ours = pixels(again)
    later = {name: value for name, value in now.options.items() if name not in then.options}
    assert {**now.options, **then.options} == now.options and later == default_options(now.task, later)
    assert now.models == then.models and len(now.faces) == len(then.faces)
    if name.startswith("out/enlarged.png"):  # of a cutout: since then, hidden colours stay out of visible ones
        opaque = Picture.open(again).alpha == 255
        assert np.abs(pixels(result) - ours)[opaque].mean() < 0.02
    elif then.computed == now.computed and is_same_machine():
        assert np.array_equal(pixels(result), ours)
    else:
        assert np.abs(pixels(result) - ours).max() <= NEAR


def test_a_lora_of_an_earlier_version_is_read(folder, capsys):
    assert main(["lora", "info", "out/grandma.safetensors", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metadata"]["ss_network_dim"] == "1" and told["tags"]
    assert main(["lora", "convert", "out/grandma.safetensors", "--to", "diffusers", "-o", "there.safetensors"]) == 0
    assert main(["lora", "convert", "there.safetensors", "-o", "back.safetensors"]) == 0
    old, new = load_file("out/grandma.safetensors"), load_file("back.safetensors")
    assert old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("name", CASES["runs"])
def test_a_training_that_an_earlier_version_began_goes_on(folder, name):
    """What the diary tells of the steps before stays, seconds included, so these were not taken again."""
    run, diary = CASES["runs"][name], folder / "out" / name / f"{name}.log.jsonl"
    before = steps(diary)
    assert max(before) == run["step"]
    assert main([*run["line"].split(), "--threads", "1", "--device", "cpu"]) == 0
    after = steps(diary)
    assert all(after[step].items() >= told.items() for step, told in before.items())
    assert max(after) > run["step"] and (folder / "out" / name / "report.html").is_file()
    if name != "diffusion":  # whose networks are too large to keep here
        check_end(folder / "out" / name / f"{name}.safetensors", folder / "ends" / f"{name}.safetensors")


def check_end(path, expected):
    """The run ends as it did in the version that began it."""
    ours, theirs = load_file(path), load_file(expected)
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        if is_same_machine():
            assert torch.equal(value, ours[key]), key
        else:
            torch.testing.assert_close(ours[key], value, atol=2e-3, rtol=1e-2)


def steps(diary):
    """What is told of each step that was taken."""
    told = [json.loads(line) for line in diary.read_text("utf-8").splitlines()]
    return {line["step"]: line for line in told if "seconds" in line}
