"""A LoRA's detour as few matrix products, forwards and backwards, for processors.

oneDNN's gradients of a convolution to 16 channels and back take longer there than the whole layer beside it: in the
shipped U-Net 68 of 72 ms, against 3 here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_quick(layer: nn.Module, x: Tensor) -> bool:
    """Whether `added` can be taken: on the processor, a linear layer or a convolution that keeps the size."""
    if x.device.type != "cpu":
        return False
    if isinstance(layer, nn.Linear):
        return True
    high, wide = layer.kernel_size
    keeps = layer.padding == (high // 2, wide // 2) and layer.stride == layer.dilation == (1, 1)
    return high == wide and high % 2 == 1 and keeps and layer.groups == 1


def added(made: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """`made + scale * up(down(x))`, in the format of `x`.

    Args:
        made: what the layer itself makes of x: (..., out), or (N, out, h, w).
        x: (..., in), or (N, in, h, w).
        down: (rank, in), or (rank, in, k, k).
        up: (out, rank), or (out, rank, 1, 1).
    """
    return _Added.apply(made, x, down, up, scale)


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, made: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        narrow, wide = down.to(x.dtype), up.to(x.dtype).flatten(1)
        if down.dim() == 2:
            y = _rows(x) @ narrow.t()
        elif down.shape[-1] == 1:
            y = _rows(x) @ narrow.flatten(1).t()
        else:
            y = _rows(F.conv2d(x, narrow, None, 1, down.shape[-1] // 2))
        ctx.save_for_backward(x, y, narrow, wide)
        ctx.scale = scale
        return _back(torch.addmm(_rows(made), y, wide.t(), alpha=scale), made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, narrow, wide = ctx.saved_tensors
        g = _rows(grad)
        to_up = (g.t() @ y).float() * ctx.scale  # (out, rank)
        low = (g @ wide) * ctx.scale if ctx.scale != 1 else g @ wide  # (rows, rank)
        kernel = narrow if narrow.dim() == 4 else narrow[..., None, None]  # (rank, in, k, k)
        rank, _, side, _ = kernel.shape
        spread = _spread(low, x, side) if side > 1 else low  # (rows, k * k * rank)
        taps = kernel.permute(2, 3, 0, 1).flatten(0, 2)  # (k * k * rank, in)
        to_x = _back(spread @ taps, x) if ctx.needs_input_grad[1] else None
        to_down = (spread.t() @ _rows(x)).float().view(side, side, rank, -1).permute(2, 3, 0, 1)
        return grad, to_x, to_down.reshape(narrow.shape), to_up.view(-1, rank, *[1] * (narrow.dim() - 2)), None


def _rows(x: Tensor) -> Tensor:
    """One row for each place: (..., D) or (N, D, h, w) -> (rows, D); no copy where the channels lie together."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).reshape(-1, x.shape[1] if x.dim() == 4 else x.shape[-1])


def _back(rows: Tensor, like: Tensor) -> Tensor:
    """Rows as the tensor they come from lies, with their own number of channels."""
    if like.dim() != 4:
        return rows.view(*like.shape[:-1], -1)
    n, _, height, width = like.shape
    return rows.view(n, height, width, -1).permute(0, 3, 1, 2)


def _spread(low: Tensor, x: Tensor, side: int) -> Tensor:
    """(rows, rank) -> (rows, k * k * rank): what each place gets back from the places around it, tap by tap.

    With it both gradients of a convolution are one matrix product each.
    """
    n, _, height, width = x.shape
    edge = side // 2
    padded = F.pad(low.view(n, height, width, -1), (0, 0, edge, edge, edge, edge))
    last = side - 1
    parts = [
        padded[:, last - row : last - row + height, last - column : last - column + width]
        for row in range(side)
        for column in range(side)
    ]
    return torch.stack(parts, 3).reshape(n * height * width, -1)
