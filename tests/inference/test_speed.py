"""Which network `auto` stands for, and what is said about it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.checkpoints.entries import AUTOMATIC, CATALOG, quick_upscaler
from calotype.checkpoints.open_network import load
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.inference import speed
from calotype.inference.speed import choose_upscaler, expected_seconds
from calotype.runner import Request, run
from calotype.settings import Settings
from calotype.tasks import FindFaces, Note, Restore, Upscale, read_task
from calotype.tasks.events import Saved, worded
from calotype.tasks.output import Album
from tests.ops.test_drawn import drawing

MACS_PER_SECOND = 1e11 / speed.EFFICIENCY  # so that a network takes its MACs / 1e11 seconds a pixel


@pytest.fixture(autouse=True)
def throughput(monkeypatch):
    monkeypatch.setattr(speed, "_throughput", lambda *about: MACS_PER_SECOND)


def machine(device: str = "cpu"):
    return SimpleNamespace(device=torch.device(device), settings=Settings(device="cpu", precision="float32"))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def chosen(task, pixels, device="cpu"):
    run = choose_upscaler(task, pixels, machine(device))
    notes = []
    while True:
        try:
            notes.append(next(run).text)
        except StopIteration as end:
            return end.value, notes


# 17.9 million MACs a pixel at 1e11 a second: 409 x 409 pixels take x4plus 30 seconds
@pytest.mark.parametrize(
    ("options", "side", "device", "name"),
    [
        ({}, 400, "cpu", "realesrgan-x4plus"),
        ({}, 420, "cpu", "photo-x2"),
        ({}, 420, "cuda", "realesrgan-x4plus"),
        ({"scale": 4}, 420, "cpu", "photo-x4"),
        ({"scale": 1}, 420, "cpu", "photo-x2"),
        ({"speed": "quick"}, 40, "cpu", "photo-x2"),
        ({"speed": "quick"}, 40, "cuda", "photo-x2"),
        ({"speed": "best"}, 420, "cpu", "realesrgan-x4plus"),
        ({"auto_seconds": 3}, 400, "cpu", "photo-x2"),
        ({"auto_upscaler": "realesr-animevideov3"}, 400, "cpu", "realesr-animevideov3"),
    ],
)
def test_the_time_expected_decides(options, side, device, name):
    got, notes = chosen(Restore(source="x", **options), noise(side, side), device)
    assert got == name and len(notes) == ("auto_upscaler" not in options)


def test_one_line_says_which_how_long_and_the_other():
    _, notes = chosen(Restore(source="x"), noise(1000, 1000))
    assert notes == ["photo-x2 takes about 6 seconds; speed best (realesrgan-x4plus) would take about 3 minutes"]
    _, notes = chosen(Upscale(source="x"), noise(100, 100))
    assert notes == ["realesrgan-x4plus takes about 2 seconds; speed quick (photo-x4) would take about 1 second"]


def test_drawings_get_networks_for_drawings_and_are_said_to_be_ones():
    for options, name in (
        ({}, "realesrgan-x4plus-anime"),
        ({"speed": "quick", "scale": 2}, "realesr-animevideov3-x2"),
        ({"speed": "quick", "scale": 2.5}, "realesr-animevideov3-x3"),
        ({"speed": "quick"}, "realesr-animevideov3"),
        ({"auto_seconds": 1, "scale": 4}, "realesr-animevideov3"),
    ):
        got, notes = chosen(Upscale(source="x", **options), drawing())
        assert got == name and notes[0].startswith("this looks like a drawing: " + name)


def test_a_second_pass_counts():
    once, twice = (expected_seconds("photo-x4", noise(50, 50), scale, machine()) for scale in (4, 8))
    assert once == pytest.approx(914_112 * 2500 / 1e11) and twice == pytest.approx(once * 17)


def test_a_named_network_is_taken_and_a_speed_beside_it_refused():
    assert chosen(Upscale(source="x", model="photo-x2"), noise(9, 9)) == ("photo-x2", [])
    assert chosen(Restore(source="x", upscaler="none"), noise(9, 9)) == ("none", [])
    with pytest.raises(CalotypeError, match="model names the network, so speed has no effect"):
        Upscale(source="x", model="photo-x2", speed="quick")
    with pytest.raises(CalotypeError, match="upscaler names the network"):
        read_task("restore", {"source": "x", "upscaler": "none", "speed": "best"})


def test_the_quick_networks_by_scale():
    names = [quick_upscaler("photo", scale) for scale in (0.5, 2, 2.1, 3, 4, 16)]
    assert names == ["photo-x2"] * 2 + ["photo-x4"] * 4


@pytest.mark.parametrize("name", sorted(AUTOMATIC["auto"]))
def test_the_catalog_says_how_much_each_network_computes(tmp_path, name):
    loaded = load(ModelStore(Settings(home=tmp_path)).find(name, kind="upscale"))
    macs = []

    def count(layer, inputs, output):
        macs.append(layer.weight.numel() * output.shape[2] * output.shape[3] / 16**2)

    for layer in loaded.module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        loaded.call(loaded.module, torch.rand(1, 3, 16, 16), 0.5)
    assert sum(macs) == CATALOG[name].macs and loaded.scale == CATALOG[name].scale


def test_the_measured_throughput_is_positive_and_kept(monkeypatch):
    monkeypatch.undo()
    speed._throughput.cache_clear()
    about = (torch.device("cpu"), torch.float32, torch.get_num_threads())
    assert speed._throughput(*about) > 1e8 and speed._throughput(*about) is speed._throughput(*about)


@pytest.fixture
def album(tmp_path):
    for n in range(3):
        Image.fromarray(noise(40, 30)).save(tmp_path / f"{n}.png")
    return tmp_path


def test_an_album_says_it_once_and_shares_the_half_minute(album, engine, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "calotype.pipelines.upscale.choose_upscaler",
        lambda task, *rest: seen.append(task.auto_seconds) or choose_upscaler(task, *rest),
    )
    request = Request((Upscale(source=album, speed="quick", scale=2),), inputs=(album,))
    notes = [event for event in run(request, engine, Album(out=album / "out")) if isinstance(event, Note)]
    assert [note.text.split()[0] for note in notes] == ["photo-x2"] and notes[0].source.endswith("0.png")
    assert seen == [10, 10, 10]


def test_the_plan_of_an_album_names_the_network_that_its_run_takes(album, engine, monkeypatch):
    """Each photo alone would be quick enough for the best network, all of them together are not."""
    monkeypatch.setattr(speed, "_throughput", lambda *about: CATALOG["realesrgan-x4plus"].macs * 40 * 30 / 20)

    def networks(*sources):
        examined = Request((FindFaces(source=album, scale=2),), inputs=sources)
        facts = [event.facts for event in run(examined, engine) if isinstance(event, Saved)]
        return [worded(fact)["plan"][1].split()[0] for fact in facts]

    photos = [album / f"{n}.png" for n in range(3)]
    assert networks(photos[0]) == ["realesrgan-x4plus"] and networks(*photos) == ["photo-x2"] * 3
    restored = Request((Restore(source=album, scale=2, faces="none", repair="none"),), inputs=tuple(photos))
    notes = [event.text for event in run(restored, engine, Album(out=album / "out")) if isinstance(event, Note)]
    assert notes[0].startswith("photo-x2 takes about ")


def test_the_record_names_the_network_and_again_takes_it(album, engine):
    from calotype.outputs.reproduce import reproduction

    request = Request((Upscale(source=album / "0.png", speed="quick", scale=2),))
    list(run(request, engine, Album(out=album / "out")))
    sidecar = album / "out/0.png.json"
    data = json.loads(sidecar.read_text("utf-8"))
    assert data["models"][0]["name"] == "photo-x2" and data["options"]["model"] == "auto"
    assert "auto_upscaler" not in data["options"] and "auto_seconds" not in data["options"]
    data["models"][0] |= {"name": "realesr-animevideov3-x2"}
    data["models"][0]["sha256"] = CATALOG["realesr-animevideov3-x2"].weights_sha256
    sidecar.write_text(json.dumps(data), "utf-8")
    task = reproduction(sidecar, {}).task
    assert task.auto_upscaler == "realesr-animevideov3-x2" and replace(task, auto_upscaler="").speed == "quick"
