"""Real-ESRGAN's file layout: what is written is what its own program writes, and spandrel reads it back."""

import pytest
import torch
from safetensors.torch import load_file
from spandrel import ModelLoader

from calotype.checkpoints import ncnn
from calotype.checkpoints import realesrgan as official
from calotype.checkpoints.open_network import load
from calotype.checkpoints.store import Checkpoint, ModelStore
from calotype.errors import CalotypeError


@pytest.mark.parametrize("kind, scale", [("rrdbnet", 1), ("rrdbnet", 2), ("rrdbnet", 4), ("srvgg", 2), ("srvgg", 4)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_spandrel_reads_what_is_written(kind, scale, suffix, tmp_path):
    torch.manual_seed(0)
    network = official.new_network(kind, scale, 16 if kind == "srvgg" else 8, 2)
    path = tmp_path / f"own{suffix}"
    official.write(path, network, {"made by": "a test"})
    found = ModelLoader().load_from_file(path)
    x = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(found.model(x), network(x))
    assert found.scale == official.scale_of(network) == scale


def test_the_keys_are_those_of_the_published_program(tmp_path):
    network = official.new_network("rrdbnet", 4, 8, 1)
    path = tmp_path / "own.pth"
    official.write(path, network, {})
    keys = torch.load(path, weights_only=True)["params_ema"].keys()
    ends = ["conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    dense = [f"body.0.rdb{d}.conv{c}" for d in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    assert keys == {f"{name}.{what}" for name in ends + dense for what in ("weight", "bias")}


def test_the_shipped_x4plus_comes_out_as_it_went_in(settings, tmp_path):
    found = ModelStore(settings).find("realesrgan-x4plus", kind="upscale")
    network = official.trainable(load(found))
    official.write(tmp_path / "own.safetensors", network, {})
    state = load_file(tmp_path / "own.safetensors")
    before = ncnn.read(*ncnn.pair_of(found.path)).state
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], value.float()) for key, value in before.items())


@pytest.mark.parametrize(
    "name, kind, why", [("faces-v2", "faces", "neither RRDBNet"), ("realesr-animevideov3-x2", "upscale", "shrinks")]
)
def test_what_cannot_be_written_again_is_not_trained(settings, name, kind, why):
    loaded = load(ModelStore(settings).find(name, kind=kind))
    with pytest.raises(CalotypeError, match=why):
        official.trainable(loaded)


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    network = official.new_network("srvgg", 4, 16, 1)
    network.body[0].weight.data[0] = float("nan")
    with pytest.raises(CalotypeError, match="not finite"):
        official.write(tmp_path / "own.pth", network, {})
    assert not list(tmp_path.iterdir())


def test_a_file_given_by_path_is_opened_as_a_network_for_enlarging(tmp_path):
    official.write(tmp_path / "own.pth", official.new_network("rrdbnet", 2, 8, 1), {})
    loaded = load(Checkpoint("own", tmp_path / "own.pth"))
    assert (loaded.kind, loaded.scale) == ("upscale", 2)
