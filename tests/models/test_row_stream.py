"""Compact networks by rows equal the network on the whole picture."""

import itertools

import pytest
import torch
from spandrel import MAIN_REGISTRY

from calotype.models.row_stream import RowStream, chain_of


def compact(activation: str = "prelu", features: int = 8, layers: int = 3, scale: int = 2) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(3)
    widths = [3, *[features] * (layers + 1), 3 * scale * scale]
    state = {}
    for n, (wide, out) in enumerate(itertools.pairwise(widths)):
        state[f"body.{2 * n}.weight"] = torch.randn(out, wide, 3, 3, generator=generator) / (9 * wide) ** 0.5
        state[f"body.{2 * n}.bias"] = torch.randn(out, generator=generator) / 10
        if activation == "prelu" and n <= layers:
            state[f"body.{2 * n + 1}.weight"] = torch.rand(out, generator=generator) * 2 - 0.5
    return MAIN_REGISTRY.load(state).model.eval().requires_grad_(False)


@pytest.mark.parametrize("height, width, rows", [(70, 23, 8), (5, 40, 2), (1, 7, 8), (2, 1, 1), (19, 30, 7), (9, 9, 9)])
@pytest.mark.parametrize("scale", [2, 4])
def test_rows_equal_the_whole_picture(height, width, rows, scale):
    network = compact(scale=scale)
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    stream = RowStream(chain_of(network))
    parts = [stream.push(x[:, :, top : top + rows], top + rows >= height) for top in range(0, height, rows)]
    torch.testing.assert_close(torch.cat(parts, 2), network(x), atol=2e-6, rtol=0)


def test_other_networks_have_no_chain():
    dilated = compact()
    dilated.body[2].dilation = (2, 2)
    assert chain_of(dilated) is None
    assert chain_of(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))) is None


def test_reach_is_that_of_the_layers():
    chain = chain_of(compact(layers=3))
    assert chain.reach == 5
    assert chain.bytes_per_row_pixel == 2 * 4 * (3 + 4 * 8)
