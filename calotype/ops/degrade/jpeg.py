"""JPEG compression artefacts on tensors of any device: a picture as it is after saving as JPEG and opening again.

Written in torch rather than taken from OpenCV, because training degrades batches on the GPU: no copies, no encoder
threads, and each picture has its own quality. No entropy coding, since it is lossless. Tables of the standard
(ITU-T T.81, Annex K), scaled by quality as libjpeg does; chroma halved in both directions (4:2:0), as in almost all
JPEG files.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(x: Tensor, quality: Tensor | float) -> Tensor:
    """Compresses and decompresses.

    Args:
        x: (N, 3, H, W) RGB; clamped to [0, 1] and rounded to 8 bits first.
        quality: 1 to 100, one for all or (N,) one for each.

    Returns:
        (N, 3, H, W) in [0, 1], quantized to 1/255, of x's type and on x's device. Gradients do not pass.
    """
    height, width = x.shape[-2:]
    quality = torch.as_tensor(quality, dtype=torch.float32, device=x.device).expand(x.shape[0])
    pixels = (x.detach().float().clamp(0, 1) * 255).round()
    padded = F.pad(pixels, (0, -width % 16, 0, -height % 16), mode="replicate")
    y, chroma = _split(padded)
    y = _quantized(y, table(LUMINANCE, quality))
    chroma = _quantized(chroma, table(CHROMINANCE, quality))
    chroma = chroma[..., : -(-height // 2), : -(-width // 2)]
    return (_merged(y[..., :height, :width], chroma) / 255).to(x.dtype)


def table(base: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """(N,) qualities -> (N, 1, 8, 8) quantisation steps from 1 to 255, as libjpeg scales them."""
    quality = quality.clamp(1, 100)
    percent = torch.where(quality < 50, (5000 / quality).floor(), (200 - 2 * quality).floor())
    steps = torch.tensor(base, dtype=torch.float32, device=quality.device)
    return ((steps * percent[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None]


def _split(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) in 0..255 -> luma (N, 1, H, W) and halved chroma (N, 2, H/2, W/2), whole numbers around 0."""
    ycc = _converted(rgb, TO_YCC).round()
    sums = F.avg_pool2d(ycc[:, 1:], 2) * 4
    rounding = torch.arange(sums.shape[-1], device=sums.device) % 2 + 1  # libjpeg's: alternating
    return ycc[:, :1] - 128, ((sums + rounding) / 4).floor()


def _merged(y: Tensor, chroma: Tensor) -> Tensor:
    """The inverse, for any H and W; chroma is interpolated with weights 3/4 and 1/4, as libjpeg does."""
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).round()
    ycc = torch.cat([y + 128, chroma[..., : y.shape[-2], : y.shape[-1]]], 1)
    return _converted(ycc, TO_RGB).round().clamp(0, 255)


def _converted(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,njhw->nihw", torch.tensor(matrix, dtype=x.dtype, device=x.device), x)


def _quantized(planes: Tensor, steps: Tensor) -> Tensor:
    """(N, C, H, W) through DCT and inverse DCT, coefficients rounded to multiples of (N, 1, 8, 8) steps."""
    n, channels, height, width = planes.shape
    basis = _cosines(planes.device)
    blocks = planes.reshape(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    steps = steps[:, :, None, None]
    coefficients = (basis @ blocks @ basis.T / steps).round() * steps
    blocks = (basis.T @ coefficients @ basis).transpose(3, 4)
    return blocks.reshape(n, channels, height, width).round().clamp(-128, 127)


def _cosines(device: torch.device) -> Tensor:
    """The (8, 8) orthonormal DCT-II: row k holds cos((2 n + 1) k pi / 16), scaled."""
    k, n = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos((2 * n + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.to(device)
