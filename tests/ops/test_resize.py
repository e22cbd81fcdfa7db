"""Lanczos by rows equals Pillow's Lanczos on the whole picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.resize import Resizer, averaged, resized_region

side = st.integers(1, 90)


@given(height=side, width=side, wanted_height=side, wanted_width=side, band=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_row_by_row_equals_pillow(height, width, wanted_height, wanted_width, band):
    pixels = np.random.default_rng(0).random((height, width), dtype=np.float32)
    resizer = Resizer(height, width, wanted_height, wanted_width)
    rows = []
    for top in range(0, height, band):
        for first, out in resizer.push(torch.from_numpy(pixels[None, top : top + band])):
            assert first == sum(r.shape[1] for r in rows)
            rows.append(out)
    expected = np.asarray(Image.fromarray(pixels).resize((wanted_width, wanted_height), Image.LANCZOS))
    np.testing.assert_allclose(torch.cat(rows, 1)[0].numpy(), expected, atol=2e-6)


@given(height=side, width=side, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_equals_that_part_of_the_whole(height, width, data):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = data.draw(side), data.draw(side)
    top, left = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    rows = slice(top, data.draw(st.integers(top + 1, size[0])))
    columns = slice(left, data.draw(st.integers(left + 1, size[1])))
    (_, whole), *rest = Resizer(height, width, *size).push(to_tensor(pixels))
    assert not rest
    torch.testing.assert_close(resized_region(pixels, size, rows, columns), whole[:, rows, columns], atol=2e-6, rtol=0)


def test_pixels_survive_the_way_to_floating_point_and_back():
    rng = np.random.default_rng(0)
    for dtype, channels in [(np.uint8, 3), (np.uint16, 3), (np.uint8, 1), (np.uint16, 1)]:
        pixels = rng.integers(0, np.iinfo(dtype).max + 1, (20, 30, channels), dtype=dtype)
        back = to_pixels(to_tensor(pixels), pixels)
        assert back.dtype == dtype
        assert np.array_equal(back, pixels)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_means_of_areas_keep_the_axis_of_channels(channels, dtype):
    pixels = (np.arange(6 * 8 * 4).reshape(6, 8, 4) % 250)[..., : channels[0] if channels else 1].astype(dtype)
    pixels = pixels.reshape(6, 8, *channels)
    small = averaged(pixels, 3, 4)
    assert small.shape == (3, 4, *channels) and small.dtype == dtype
    blocks = pixels.reshape(3, 2, 4, 2, *channels).astype(float).mean((1, 3))
    assert np.abs(small - blocks).max() <= 0.5
