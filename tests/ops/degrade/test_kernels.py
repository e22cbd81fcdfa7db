"""Kernels are what the paper says, and blurring with them is convolution, at any size."""

import math
from collections import Counter
from random import Random

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.degrade.kernels import SHAPES, SIZES, Kernel, KernelRanges, blur, draw_kernel, sinc, weights

DRAWS = 4000


@given(seed=st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_every_drawn_kernel_sums_to_one_and_is_point_symmetric(seed):
    drawn = draw_kernel(Random(seed), KernelRanges())
    kernel = weights(drawn)
    assert kernel.shape == (drawn.size, drawn.size) and drawn.size in SIZES
    assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-12, rtol=1e-9)
    if not drawn.shape.endswith("aniso"):
        torch.testing.assert_close(kernel, kernel.T, atol=1e-12, rtol=1e-9)
    assert drawn.shape == "sinc" or kernel.min() >= 0


def test_a_round_gaussian_is_opencvs():
    row = cv2.getGaussianKernel(11, 1.7)
    np.testing.assert_allclose(weights(Kernel("iso", 11, (1.7, 1.7))).numpy(), row @ row.T, atol=1e-12)


def test_a_turned_gaussian_has_its_spread_along_its_axes():
    angle, sigmas = 0.6, (2.0, 0.8)
    kernel = weights(Kernel("aniso", 21, sigmas, angle)).numpy()
    y, x = np.mgrid[-10:11, -10:11]
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    assert (kernel * along**2).sum() == pytest.approx(sigmas[0] ** 2, rel=0.01)
    assert (kernel * across**2).sum() == pytest.approx(sigmas[1] ** 2, rel=0.01)
    assert (kernel * along * across).sum() == pytest.approx(0, abs=0.01)


def test_generalised_and_plateau_shapes_by_hand():
    sigmas, beta = (2.0, 2.0), 1.5
    distance = (3 / 2) ** 2  # three pixels to the right
    bell = weights(Kernel("generalized_iso", 13, sigmas, beta=beta))
    plateau = weights(Kernel("plateau_iso", 13, sigmas, beta=beta))
    assert (bell[6, 9] / bell[6, 6]).item() == pytest.approx(math.exp(-0.5 * distance**beta))
    assert (plateau[6, 9] / plateau[6, 6]).item() == pytest.approx(1 / (1 + distance**beta))


def test_sinc_is_the_formula_with_a_series_for_the_bessel_function():
    def j1(z):
        return sum((-1) ** m / (math.factorial(m) * math.factorial(m + 1)) * (z / 2) ** (2 * m + 1) for m in range(60))

    cutoff, size = 1.9, 9
    rows = [[math.hypot(i - 4, j - 4) for j in range(size)] for i in range(size)]
    by_hand = np.array(
        [[cutoff * j1(cutoff * r) / (2 * math.pi * r) if r else cutoff**2 / (4 * math.pi) for r in row] for row in rows]
    )
    np.testing.assert_allclose(sinc(size, cutoff).numpy(), by_hand / by_hand.sum(), atol=5e-8)


def test_kinds_come_as_often_as_published():
    seen = Counter(draw_kernel(Random(seed), KernelRanges()).shape for seed in range(DRAWS))
    for shape, odds in (("sinc", 0.1), *((name, 0.9 * odds) for name, odds in SHAPES)):
        assert is_likely(seen[shape], DRAWS, odds), (shape, seen[shape])


def test_ranges_hold():
    for seed in range(500):
        kernel = draw_kernel(Random(seed), KernelRanges())
        if kernel.shape == "sinc":
            assert (math.pi / 3 if kernel.size < 13 else math.pi / 5) <= kernel.cutoff <= math.pi
        else:
            low, high = {"generalized": (0.5, 4), "plateau": (1, 2)}.get(kernel.shape.split("_")[0], (1, 1))
            assert low <= kernel.beta <= high and all(0.2 <= sigma <= 3 for sigma in kernel.sigmas)


def is_likely(count, draws, odds):
    """Within four and a half standard deviations of the binomial distribution."""
    return abs(count - draws * odds) < 4.5 * math.sqrt(draws * odds * (1 - odds))


@pytest.mark.parametrize("size", [7, 21, 25, 27, 41])
def test_blurring_is_opencvs_filter(photo, size):
    kernel = weights(Kernel("aniso", size, (size / 4, size / 9), 0.5))
    expected = cv2.filter2D(photo.permute(1, 2, 0).numpy(), -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(blur(photo[None], kernel)[0].permute(1, 2, 0).numpy(), expected, atol=2e-5)


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.sampled_from([3, 21, 41]))
@settings(max_examples=40, deadline=None)
def test_blurring_keeps_shape_and_flat_pictures_whatever_the_size(height, width, size):
    flat = torch.full((2, 3, height, width), 0.3)
    torch.testing.assert_close(blur(flat, weights(Kernel("iso", size, (2.0, 2.0)))), flat, atol=1e-5, rtol=0)
