"""Noise by seed: the same on every device and in any batch, because every picture has its own generator.

Two sources. "cpu" is torch's generator on the CPU, as in ComfyUI and A1111 (with "RNG: CPU"). "a1111" is CUDA's
generator, as for A1111's "GPU" and "NV": Philox 4x32-10 (Salmon et al. 2011, section 3.3) with
Box-Muller.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_UNIT = np.float32(2.3283064e-10)  # 2 ** -32, as CUDA writes it
_TURN = np.float32(2.3283064e-10 * 6.2831855)


class Source(Protocol):
    """`source(shape)`: the next standard normal numbers, float32 on the CPU."""

    def __call__(self, shape: tuple[int, ...]) -> Tensor: ...


def source(seed: int, kind: str = "cpu") -> Source:
    """A new source of standard normal numbers: "cpu" as torch draws them, "a1111" as CUDA does."""
    return _Philox(seed) if kind == "a1111" else _Torch(seed)


class _Torch:
    def __init__(self, seed: int):
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator)


class _Philox:
    """The numbers of one call are the lanes of a CUDA kernel; each call advances the offset by one."""

    def __init__(self, seed: int):
        self._key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self._calls = 0

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        lanes = np.arange(math.prod(shape), dtype=np.uint64)
        zero = np.zeros_like(lanes)
        words = philox((zero + np.uint64(self._calls), zero, lanes & np.uint64(0xFFFFFFFF), zero), self._key)
        self._calls += 1
        return torch.from_numpy(_normal(words[0], words[1]).reshape(shape))


def philox(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Philox 4x32-10: four arrays of 32-bit words (stored as uint64), two key words -> four arrays of words."""
    a, b, c, d = counter
    low = np.uint64(0xFFFFFFFF)
    for step in range(_ROUNDS):
        keys = [np.uint64((key[n] + step * _WEYL[n]) & 0xFFFFFFFF) for n in (0, 1)]
        from_a, from_c = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
        high = np.uint64(32)
        a, b, c, d = (
            (from_c >> high) ^ b ^ keys[0],
            from_c & low,
            (from_a >> high) ^ d ^ keys[1],
            from_a & low,
        )
    return a, b, c, d


def _normal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Box-Muller transform, in float32 as CUDA does it."""
    u = x.astype(np.float32) * _UNIT + _UNIT / 2
    v = y.astype(np.float32) * _TURN + _TURN / 2
    return (np.sqrt(np.float32(-2) * np.log(u)) * np.sin(v)).astype(np.float32)


def initial_noise(
    draw: Source,
    make_source: Callable[[int], Source],
    seed: int,
    shape: tuple[int, int, int],
    variation: tuple[int, float] | None = None,
    resized_from: tuple[int, int] | None = None,
) -> Tensor:
    """The initial noise of a picture, (C, h, w).

    Args:
        draw: the picture's own source, which is also used for later noise.
        make_source: a function from a seed to a source.
        variation: a second seed, and the interpolation weight of its noise, 0 to 1.
        resized_from: (h, w) of the latents whose noise is kept in the middle, as A1111's "seed resize".
    """
    noise_shape = (shape[0], *resized_from) if resized_from else shape
    noise = make_source(seed)(noise_shape) if noise_shape != shape else draw(shape)
    if variation and variation[1]:
        noise = slerp(noise, make_source(variation[0])(noise_shape), variation[1])
    return noise if noise_shape == shape else _centred(noise, draw(shape))


def slerp(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Spherical interpolation from `start` (weight 0) to `end` (1), by columns of (C, h, w), as A1111 does it."""
    unit = [x / x.norm(dim=1, keepdim=True) for x in (start, end)]
    dot = (unit[0] * unit[1]).sum(1)
    if dot.mean() > 0.9995:
        return start * (1 - weight) + end * weight
    angle = dot.clamp(-1 + 1e-6, 1 - 1e-6).acos()  # noise one pixel high is parallel or opposite
    weights = [torch.sin(angle * w) / torch.sin(angle) for w in (1 - weight, weight)]
    return weights[0].unsqueeze(1) * start + weights[1].unsqueeze(1) * end


def _centred(noise: Tensor, canvas: Tensor) -> Tensor:
    """`noise` centred in `canvas`; what is larger is cropped."""
    target, origin = [slice(None)], [slice(None)]
    for small, large in zip(noise.shape[1:], canvas.shape[1:], strict=True):
        gap = (large - small) // 2 if large >= small else -((small - large) // 2)
        size = min(small, large) if gap >= 0 else small + 2 * gap
        target.append(slice(max(gap, 0), max(gap, 0) + size))
        origin.append(slice(max(-gap, 0), max(-gap, 0) + size))
    canvas = canvas.clone()
    canvas[tuple(target)] = noise[tuple(origin)][:, : canvas.shape[1], : canvas.shape[2]]
    return canvas
