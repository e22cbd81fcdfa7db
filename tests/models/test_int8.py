"""Compact networks in 8-bit integers: near to float32, and the same by rows."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from calotype.checkpoints import models
from calotype.checkpoints.open_network import load
from calotype.models import network as networks
from calotype.models.int8 import activation_ranges, int8_chain
from calotype.models.row_stream import RowStream, chain_of
from calotype.pipelines.upscale import upscale
from calotype.tasks import Upscale
from tests.models.test_row_stream import compact

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.onednn, "qconv2d_pointwise"), reason="this torch has no convolution of 8-bit integers"
)


def smooth_pictures(count: int, side: int = 48) -> torch.Tensor:
    """(count, 3, side, side) in [0, 1], with gradients and noise."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    fine = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(6)) / 30
    return (functional.interpolate(coarse, (side, side), mode="bicubic") + fine).clamp(0, 1)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(1 / (a - b).square().mean()))


@pytest.mark.parametrize("scale", [2, 4])
def test_int8_is_near_to_float32(scale):
    chain = chain_of(compact(scale=scale, features=16, layers=6))
    known, new = smooth_pictures(12).chunk(2)
    rounded = int8_chain(chain, activation_ranges(chain, list(known)))
    exact_rows, rows = RowStream(chain).push(new, True), RowStream(rounded).push(new, True)
    assert rows.shape == exact_rows.shape
    assert psnr(rows, exact_rows) > 35
    edges = [..., slice(0, 2), slice(None)], [..., slice(-2, None), slice(None)], [..., slice(None), slice(0, 2)]
    for edge in edges:  # what is outside the picture is zero there too
        assert psnr(rows[tuple(edge)], exact_rows[tuple(edge)]) > 32


def test_rows_in_int8_equal_the_whole_picture():
    chain = chain_of(compact(features=16, layers=5))
    (picture,) = smooth_pictures(1, 60)
    rounded = int8_chain(chain, activation_ranges(chain, [picture]))
    whole, stream = RowStream(rounded).push(picture[None], True), RowStream(rounded)
    parts = [stream.push(picture[None, :, top : top + 7], top + 7 >= 60) for top in range(0, 60, 7)]
    # a feature between two levels may go to the other one where the first convolution adds in another order
    torch.testing.assert_close(torch.cat(parts, 2), whole, atol=0.02, rtol=0)
    assert (torch.cat(parts, 2) - whole).abs().mean() < 1e-4


def test_ranges_of_another_network_are_refused():
    chain, other = chain_of(compact(features=8)), chain_of(compact(features=16))
    ranges = activation_ranges(other, list(smooth_pictures(1)))
    with pytest.raises(ValueError):
        int8_chain(chain, ranges)


@pytest.mark.parametrize(
    "precision, has_int8, has_bfloat16, expected",
    [
        ("auto", True, False, True),
        ("auto", True, True, False),  # bfloat16 is nearer to float32
        ("auto", False, False, False),
        ("int8", True, True, True),
        ("int8", False, True, False),
        ("float32", True, False, False),
    ],
)
def test_int8_is_used_where_it_is_the_quickest(monkeypatch, precision, has_int8, has_bfloat16, expected):
    monkeypatch.setattr(networks, "is_int8_quick", lambda device: has_int8)
    monkeypatch.setattr(networks, "is_bfloat16_quick", lambda device: has_bfloat16)
    assert networks.computes_int8(torch.device("cpu"), precision) is expected


@pytest.mark.parametrize("name", ["photo-x2", "photo-x4"])
def test_the_shipped_networks_have_the_ranges_of_their_features(engine, portrait, name):
    loaded = load(engine.models.store.find(name))
    x = torch.from_numpy(np.ascontiguousarray(portrait[100:196, 180:276])).permute(2, 0, 1)[None].float() / 255
    chain = chain_of(loaded.module)
    rounded = int8_chain(chain, loaded.activation_ranges)
    with torch.inference_mode():
        difference = RowStream(rounded).push(x, True).clamp(0, 1) - loaded.module(x).clamp(0, 1)
    assert 255 * difference.abs().mean() < 1.6
    assert 255 * difference.mean().abs() < 0.4


@pytest.mark.parametrize("bits, tile, expected", [(8, 0, "int8"), (16, 0, "float32"), (8, 64, "float32")])
def test_records_say_where_int8_was_used(settings, monkeypatch, tmp_path, bits, tile, expected):
    monkeypatch.setattr(models, "computes_int8", lambda device, precision: True)
    monkeypatch.setattr(models, "pick_dtype", lambda *a: (torch.float32, ""))
    noise = np.random.default_rng(0).integers(0, 1 << bits, (72, 80)).astype(np.uint8 if bits == 8 else np.uint16)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    task = Upscale(source=tmp_path / "noise.png", model="photo-x2", scale=2, tile=tile)
    *_, result = upscale(task, models.Models(settings))
    assert result.record.computed["precision"] == expected
    assert result.picture.pixels.shape[:2] == (144, 160)
