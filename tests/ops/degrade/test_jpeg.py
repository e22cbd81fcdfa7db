"""Our JPEG loses what a real encoder loses."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.degrade.jpeg import CHROMINANCE, LUMINANCE, jpeg, table


def real(photo, quality):
    """Through OpenCV's encoder and decoder, (3, H, W) in [0, 1]."""
    pixels = (photo.permute(1, 2, 0) * 255).round().byte().numpy()[..., ::-1]
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), flags)
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
    return torch.from_numpy(back).permute(2, 0, 1), data


def psnr(a, b):
    return -10 * torch.log10((a - b).square().mean()).item()


@pytest.mark.parametrize("quality", [10, 30, 49, 50, 75, 95, 100])
def test_it_is_far_nearer_to_the_real_one_than_to_the_picture(photo, quality):
    ours, theirs = jpeg(photo[None], quality)[0], real(photo, quality)[0]
    assert psnr(ours, theirs) > 44  # what is left: coefficients that lie halfway between two steps
    assert psnr(ours, theirs) > psnr(photo, theirs) + 12
    assert psnr(photo, ours) == pytest.approx(psnr(photo, theirs), abs=0.05)


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 95, 100])
def test_tables_are_the_encoders(photo, quality):
    data = real(photo, quality)[1].tobytes()
    for number, base in enumerate((LUMINANCE, CHROMINANCE)):
        start = next(n for n in places(data, b"\xff\xdb") if data[n + 4] == number) + 5
        zigzag = torch.tensor(list(data[start : start + 64])).float()
        assert sorted(zigzag) == sorted(table(base, torch.tensor([float(quality)])).flatten())
        steps = table(base, torch.tensor([float(quality)]))[0, 0]
        assert zigzag[:6].tolist() == [steps[i].item() for i in ((0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2))]


def places(data, mark):
    """Where the segments with this mark begin (a file may hold both tables in two segments)."""
    found = data.find(mark)
    while found >= 0:
        yield found
        found = data.find(mark, found + 1)


def test_every_picture_has_its_own_quality(photo):
    both = jpeg(torch.stack([photo, photo]), torch.tensor([20.0, 90.0]))
    assert torch.equal(both[0], jpeg(photo[None], 20)[0]) and torch.equal(both[1], jpeg(photo[None], 90)[0])


def test_worse_quality_is_worse(photo):
    losses = [psnr(photo, jpeg(photo[None], quality)[0]) for quality in (5, 20, 50, 80, 100)]
    assert losses == sorted(losses) and losses[-1] > losses[0] + 10


@given(height=st.integers(1, 35), width=st.integers(1, 35), quality=st.floats(1, 100))
@settings(max_examples=40, deadline=None)
def test_any_size_keeps_its_shape_and_range(height, width, quality):
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height * 36 + width)) * 1.4 - 0.2
    y = jpeg(x, quality)
    assert y.shape == x.shape and y.min() >= 0 and y.max() <= 1
    torch.testing.assert_close((y * 255).round(), y * 255, atol=1e-4, rtol=0)


def test_flat_grey_stays(photo):
    flat = torch.full((1, 3, 20, 20), 128 / 255)
    assert torch.equal(jpeg(flat, 30), flat)
