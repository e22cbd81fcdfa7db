"""Which number format a device is quick in."""

import contextlib

import pytest
import torch

from calotype.models import network
from calotype.models.network import Network, NetworkCheckpoint, is_mixed
from calotype.pipelines.train_gan import uses_bfloat16
from calotype.tasks import TrainGan
from tests.models.test_row_stream import compact


@pytest.mark.parametrize("generation, is_quick", [(6, False), (7, False), (8, True), (9, True)])
def test_bfloat16_that_is_emulated_is_not_taken(monkeypatch, generation, is_quick):
    """torch says yes to it on GTX and RTX 20 cards and on the T4, where it is slow."""

    def told(including_emulation=True):
        return including_emulation or generation >= 8

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", told)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    card = torch.device("cuda")
    assert (
        network.is_bfloat16_quick(card)
        == is_mixed("auto", card)
        == uses_bfloat16(TrainGan(demo=True), card)
        == is_quick
    )
    assert is_mixed("bf16", card)


@pytest.mark.parametrize("has", [False, True])
def test_a_processor_says_itself_whether_it_is_quick_in_bfloat16(monkeypatch, has):
    monkeypatch.setattr(network, "has_bfloat16", lambda: has)
    assert network.is_bfloat16_quick(torch.device("cpu")) == is_mixed("auto", torch.device("cpu")) == has
    assert not network.is_bfloat16_quick(torch.device("mps"))
    dtype, _ = network.pick_dtype(torch.device("cpu"), "auto")
    assert dtype == (torch.bfloat16 if has else torch.float32)


def test_rows_in_bfloat16_equal_the_network_in_bfloat16():
    loaded = NetworkCheckpoint("compact", "0" * 64, "upscale", compact(), lambda m, x, f: m(x), scale=2)
    network = Network(loaded, torch.device("cpu"), torch.bfloat16)
    x = torch.rand(1, 3, 40, 31, generator=torch.Generator().manual_seed(0))
    stream = network.stream(network.chain)
    rows = torch.cat([stream.push(x[:, :, top : top + 8], top + 8 >= 40) for top in range(0, 40, 8)], 2)
    assert (rows - network(x)).abs().max() < 0.01
    assert (rows - compact()(x)).abs().max() < 0.03
