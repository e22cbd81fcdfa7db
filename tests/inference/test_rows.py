"""Enlarging by rows: equal to the whole picture, in whatever columns and threads."""

import itertools
import threading

import numpy as np
import pytest
import torch

from calotype.inference import rows
from calotype.inference.rows import NotFinite, RowPlan, enlarged_rows, memory_of, plan_rows
from calotype.models.network import Network, NetworkCheckpoint
from calotype.models.row_stream import RowStream
from calotype.ops.color import to_tensor
from tests.models.test_row_stream import compact


@pytest.fixture(scope="module")
def network() -> Network:
    module = compact()
    loaded = NetworkCheckpoint("compact", "0" * 64, "upscale", module, lambda m, x, f: m(x), scale=2)
    return Network(loaded, torch.device("cpu"), torch.float32)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def joined(pixels: np.ndarray, network: Network, plan: RowPlan, gain: float = 1.0) -> torch.Tensor:
    return torch.cat(list(enlarged_rows(pixels, network, network.chain, plan, gain)), 1)


@pytest.mark.parametrize("starts", [(0,), (0, 20), (0, 7, 14, 50)])
@pytest.mark.parametrize("threads, band", [(1, 8), (2, 5), (3, 64)])
def test_columns_equal_the_whole_picture(network, starts, threads, band):
    pixels = photo(45, 61)
    plan = RowPlan(starts, 45, 61, band, min(threads, len(starts)), 1)
    whole = network(to_tensor(pixels)[None])[0]
    torch.testing.assert_close(joined(pixels, network, plan), whole, atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_equal_rows_are_computed_once_and_equal_the_whole_picture(network, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    pixels = photo(200, 50)
    top, bottom = sorted(rng.choice(np.arange(201), 2, replace=False).tolist())
    pixels[top:bottom] = rng.integers(0, 256, (1, 50, 3)) if seed % 2 else 255
    plan = RowPlan((0, 25), 200, 50, int(rng.integers(1, 20)), 2, 1)
    pushed, push = [], RowStream.push

    def count(stream, x, is_last=False):
        pushed.append(x.shape[2])
        return push(stream, x, is_last)

    monkeypatch.setattr(RowStream, "push", count)
    whole = network(to_tensor(pixels)[None])[0]
    torch.testing.assert_close(joined(pixels, network, plan), whole, atol=2e-6, rtol=0)
    if bottom - top > 80:
        assert sum(pushed) <= 2 * (200 - (bottom - top) + 2 * network.chain.reach + 2 + 2 * plan.rows)


def test_white_paper_is_computed_once(network, monkeypatch):
    pixels = np.full((3000, 40, 3), 255, np.uint8)
    plan = RowPlan((0,), 3000, 40, 16, 1, 1)
    pushed, push = [], RowStream.push
    monkeypatch.setattr(RowStream, "push", lambda *a: pushed.append(a[1].shape[2]) or push(*a))
    assert joined(pixels, network, plan).shape == (3, 6000, 80)
    assert sum(pushed) < 60


@pytest.mark.parametrize("width, threads", list(itertools.product((1, 191, 400, 1155, 4000, 30_000), (1, 2, 3, 16))))
def test_the_plan_covers_the_picture(width, threads):
    plan = plan_rows((3000, width), threads)
    columns = [plan.column(n) for n in range(len(plan.starts))]
    assert [c.start for c in columns] == [0, *(c.stop for c in columns[:-1])]
    assert columns[-1].stop == width
    assert plan.threads * plan.inner_threads <= threads
    assert max(c.stop - c.start for c in columns) <= max(rows.WIDEST, 2 * rows.NARROWEST)
    if width >= threads * rows.NARROWEST:
        assert plan.threads == threads and len(columns) % threads == 0


def test_memory_hardly_depends_on_the_height(network):
    chain = network.chain
    assert memory_of(plan_rows((100, 4000), 2), chain, network) == memory_of(
        plan_rows((90_000, 4000), 2), chain, network
    )


def test_threads_are_as_before(network):
    before, running = torch.get_num_threads(), threading.active_count()
    steps = enlarged_rows(photo(400, 61), network, network.chain, RowPlan((0, 30), 400, 61, 4, 2, 1))
    next(steps)
    steps.close()
    assert (torch.get_num_threads(), threading.active_count()) == (before, running)


def test_infinity_is_noticed(network):
    plan = RowPlan((0, 30), 40, 61, 8, 2, 1)
    with pytest.raises(NotFinite):
        joined(photo(40, 61), network, plan, gain=float("inf"))
