"""Conversion between stored pixels ((H, W, C), 8 or 16 bit, grey or RGB) and tensors ((3, H, W) float32 in [0, 1])."""

import numpy as np
import torch
from torch import Tensor

from calotype.ops import channels

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG


def max_value(dtype: np.dtype) -> int:
    """The largest value of a type: 255 or 65535."""
    return np.iinfo(dtype).max


def to_uint8_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of any pixels."""
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    return np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 1|3) uint8|uint16 -> (3, H, W) float32 in [0, 1]; grey is repeated."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / float(max_value(pixels.dtype))
    return x.expand(3, -1, -1) if x.shape[0] == 1 else x


def to_pixels(x: Tensor, like: np.ndarray) -> np.ndarray:
    """(3, H, W) float in [0, 1] -> (H, W, C) of the type and channels of `like`; rounds half up, clamps."""
    if like.shape[2] == 1 and x.shape[0] == 3:
        x = luma(x)
    x = (x.clamp(0, 1) * max_value(like.dtype) + 0.5).permute(1, 2, 0)
    return np.ascontiguousarray(x.to(torch.int32).numpy().astype(like.dtype))


def luma(x: Tensor) -> Tensor:
    """(3, H, W) -> (1, H, W)."""
    return (x * torch.tensor(LUMA, dtype=x.dtype)[:, None, None]).sum(0, keepdim=True)


def squeeze_grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) of a grey picture stored as RGB -> one channel (H, W, 1); other pixels are returned unchanged.

    Grey means that channels differ by one 8-bit step at most, as after JPEG.
    """
    if pixels.shape[2] == 1:
        return pixels
    step = max_value(pixels.dtype) // 255
    for top in range(0, len(pixels), 256):
        band = pixels[top : top + 256]
        if (channels.largest(band) - channels.smallest(band)).max() > step:
            return pixels
    return np.ascontiguousarray(pixels[..., 1:2])


def match_channels(pixels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """(H, W, C) with as many channels as `like`."""
    return pixels if pixels.shape[2] == like.shape[2] else pixels.repeat(like.shape[2], 2)
