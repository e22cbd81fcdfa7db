"""Tiles: cutting and blending give back what went in; a network's result holds where context covers its reach."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from calotype.ops.tile import Blend, axis, grid, mirrored

sizes = st.integers(1, 150)


def tiled(pixels, network, tile, overlap, multiple=1, scale=1):
    """Runs a network over (H, W, C) float pixels tile by tile."""
    tiles = grid(*pixels.shape[:2], tile, overlap, multiple)
    blend = Blend(tiles, scale)
    rows = []
    for row in range(len(tiles.rows.starts)):
        for column in range(len(tiles.columns.starts)):
            cut = torch.from_numpy(np.ascontiguousarray(tiles.cut(pixels, row, column))).permute(2, 0, 1)
            for first, band in blend.lay(row, column, network(cut[None])[0]):
                assert first == sum(r.shape[1] for r in rows)
                rows.append(band)
    return torch.cat(rows, 1)


@given(height=sizes, width=sizes, tile=st.integers(0, 80), overlap=st.integers(0, 40), scale=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_pointwise_network_gives_the_untiled_result(height, width, tile, overlap, scale):
    pixels = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)

    def enlarge(x):
        return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3) * 2 - 1

    result = tiled(pixels, enlarge, tile, overlap, scale=scale)
    torch.testing.assert_close(result, enlarge(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0], atol=1e-5, rtol=0)


@given(
    size=st.integers(1, 3000),
    tile=st.integers(0, 512),
    overlap=st.integers(0, 300),
    multiple=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_the_axis_share_the_overlap_and_sum_to_one(size, tile, overlap, multiple):
    along = axis(size, tile, overlap, multiple)
    total = torch.zeros(max(size, along.starts[-1] + along.tile))
    for n, start in enumerate(along.starts):
        assert start % multiple == 0 and along.tile % multiple == 0
        total[start : start + along.tile] += along.weights(n, 1)
    torch.testing.assert_close(total[:size], torch.ones(size), atol=3e-6, rtol=0)
    shared = min(overlap, along.tile // 2 - multiple + 1)
    for before, after in zip(along.starts, along.starts[1:], strict=False):
        assert before + along.tile - after >= shared - multiple + 1


class Blur(nn.Module):
    """Reaches `reach` pixels: an average over (2 * reach + 1) squared."""

    def __init__(self, reach):
        super().__init__()
        self.pool = nn.AvgPool2d(2 * reach + 1, 1, reach, count_include_pad=False)

    def forward(self, x):
        return self.pool(x)


@pytest.mark.parametrize(("overlap", "equal"), [(20, True), (24, True), (12, False)])
def test_a_network_with_reach_needs_context_as_wide_as_its_reach(overlap, equal):
    pixels = np.random.default_rng(1).random((120, 90, 3), dtype=np.float32)
    network = Blur(reach=6)  # (20 - 8) / 2 = 6 on each side
    untiled = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    difference = (tiled(pixels, network, 48, overlap) - untiled).abs().max().item()
    assert (difference < 1e-5) == equal


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mirrored_indices_fold_back_and_forth(size):
    expected = {1: [0, 0, 0, 0, 0, 0, 0], 2: [0, 1, 0, 1, 0, 1, 0], 5: [0, 1, 2, 3, 4, 3, 2]}
    assert mirrored(7, size).tolist() == expected[size]


def test_all_tiles_have_one_shape():
    tiles = grid(333, 77, 64, 16)
    pixels = np.zeros((333, 77, 3), np.uint8)
    shapes = {
        tiles.cut(pixels, r, c).shape for r in range(len(tiles.rows.starts)) for c in range(len(tiles.columns.starts))
    }
    assert shapes == {(64, 64, 3)}
