"""Tiles without detail: enlarged without the network, as it would have answered."""

import numpy as np
import pytest
import torch

from calotype.checkpoints.models import Models
from calotype.inference.flat import FlatTiles
from calotype.inference.upscale import enlarge
from calotype.models.network import Network
from calotype.settings import Settings
from calotype.tasks import Tiling


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(Settings(device="cpu", precision="float32"))


@pytest.fixture(scope="module")
def network(models) -> Network:
    return models.upscaler("realesr-animevideov3")


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (201, 180, 17), (128, 128, 128)])
def test_a_tile_of_one_color_is_what_the_network_answers(network, color):
    tile = (torch.tensor(color) / 255)[:, None, None].expand(3, 160, 160)
    answer, enlarged = network(tile[None])[0], FlatTiles(network).enlarged(tile)
    inside = slice(48 * network.scale, -48 * network.scale)  # the network's edges reach no further
    assert enlarged.shape == answer.shape
    torch.testing.assert_close(enlarged[:, inside, inside], answer[:, inside, inside], atol=0.5 / 255, rtol=0)


def test_a_faint_gradient_stays_one(network):
    ramp = (0.4 + torch.linspace(0, 0.99 / 255, 64)).expand(3, 64, 64)
    enlarged = FlatTiles(network).enlarged(ramp)
    means = enlarged.mean((0, 1)).reshape(64, network.scale).mean(1)
    assert (means.diff() > 0).all()
    assert torch.allclose(means - means.mean(), ramp[0, 0] - ramp.mean(), atol=0.05 / 255)


@pytest.mark.parametrize("step", [1, 3])
def test_detail_is_for_the_network(network, step):
    tile = torch.full((3, 64, 64), 0.5)
    tile[1, 30, 30] += step / 255
    assert FlatTiles(network).enlarged(tile) is None


def test_only_tiles_with_detail_are_computed(network, models, monkeypatch):
    pixels = np.full((192, 192, 3), 250, np.uint8)
    pixels[130:170, 130:170] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    sizes, run = [], Network._run

    def recorded(self, module, x, fidelity):
        sizes.append(tuple(x.shape[2:]))
        return run(self, module, x, fidelity)

    def enlarged() -> np.ndarray:
        steps = enlarge(pixels, network, (384, 384), Tiling(tile=64), models)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value.pixels

    monkeypatch.setattr(Network, "_run", recorded)
    result, computed = enlarged(), len(sizes)
    sizes.clear()
    monkeypatch.setattr(FlatTiles, "enlarged", lambda self, tile: None)
    whole, every = enlarged(), len(sizes)
    assert computed < every / 2
    assert np.abs(result[8:-8, 8:-8].astype(int) - whole[8:-8, 8:-8]).max() <= 1
