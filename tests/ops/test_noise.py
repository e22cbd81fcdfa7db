"""Noise by seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.noise import initial_noise, philox, slerp, source


@pytest.mark.parametrize(
    ("word", "expected"),
    [(0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"), (0xFFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd")],
)
def test_philox_gives_the_published_vectors(word, expected):
    counter = tuple(np.array([word], np.uint64) for _ in range(4))
    found = philox(counter, (word, word))
    assert " ".join(f"{int(part[0]):08x}" for part in found) == expected


def test_cuda_noise_of_seed_0_is_what_cuda_draws():
    """torch.randn on a CUDA device after torch.manual_seed(0), to the digits that torch prints."""
    found = source(0, "a1111")((3, 4))
    assert np.allclose(found[0], [-0.9247, -0.4253, -2.6438, 0.1452], atol=1e-4)
    assert np.allclose(found[1:].flatten()[:4], [-0.1209, -0.5797, -0.6229, -0.3284], atol=1e-4)


@pytest.mark.parametrize("kind", ["cpu", "a1111"])
def test_noise_is_normal_and_goes_on(kind):
    draw = source(7, kind)
    first, second = draw((4, 128, 128)), draw((4, 128, 128))
    for noise in (first, second):
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert not torch.equal(first, second)
    assert torch.equal(source(7, kind)((4, 128, 128)), first)
    assert not torch.equal(source(8, kind)((4, 128, 128)), first)


def test_a_large_seed_is_not_cut():
    """torch's own generator on the CPU looks at 32 bits of the seed only."""
    assert not torch.equal(source(1, "a1111")((8,)), source(1 + 2**32, "a1111")((8,)))


def test_cpu_noise_is_torch_own():
    assert torch.equal(source(3)((4, 8, 8)), torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3)))


def noise(seed, shape=(4, 8, 8), **more):
    return initial_noise(source(seed), source, seed, shape, **more)


def test_a_variation_goes_from_one_seed_to_the_other():
    assert torch.equal(noise(1, variation=(2, 0.0)), noise(1))
    assert torch.allclose(noise(1, variation=(2, 1.0)), noise(2), atol=1e-5)
    half = noise(1, variation=(2, 0.5))
    assert (half - noise(1)).norm() < (noise(2) - noise(1)).norm()


@given(st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_variation_stays_noise(share):
    mixed = slerp(noise(1, (4, 64, 64)), noise(2, (4, 64, 64)), share)
    assert abs(mixed.std() - 1) < 0.05


@pytest.mark.parametrize("shape", [(4, 8, 12), (4, 12, 8), (4, 4, 4), (4, 9, 7)])
def test_a_resized_seed_keeps_its_noise_in_the_middle(shape):
    found, kept = noise(1, shape, resized_from=(8, 8)), noise(1)
    assert found.shape == shape
    top, left = (abs(8 - side) // 2 for side in shape[1:])
    y, x = (min(8, side) // 2 for side in shape[1:])
    inside = found[:, (top if shape[1] > 8 else 0) + y, (left if shape[2] > 8 else 0) + x]
    assert torch.equal(inside, kept[:, (top if shape[1] < 8 else 0) + y, (left if shape[2] < 8 else 0) + x])


def test_noise_one_pixel_high_can_be_mixed():
    one, other = noise(1, (4, 1, 16)), noise(2, (4, 1, 16))
    assert slerp(one, other, 0.3).isfinite().all()
