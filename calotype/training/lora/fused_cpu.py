"""A LoRA's forward and backward passes as few matrix products, for CPUs.

oneDNN's gradients of a convolution to 16 channels and back take longer there than the whole layer beside it: in the
shipped U-Net 68 of 72 ms, against 3 here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_supported(layer: nn.Module, x: Tensor) -> bool:
    """Whether `add_lora` supports the layer: on the CPU, a linear layer or a convolution that keeps the size."""
    if x.device.type != "cpu":
        return False
    if isinstance(layer, nn.Linear):
        return True
    height, width = layer.kernel_size
    keeps_size = layer.padding == (height // 2, width // 2) and layer.stride == layer.dilation == (1, 1)
    return height == width and height % 2 == 1 and keeps_size and layer.groups == 1


def add_lora(output: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """`output + scale * up(down(x))`, in the dtype of `x`.

    Args:
        output: of the layer itself for x: (..., out), or (N, out, h, w).
        x: (..., in), or (N, in, h, w).
        down: (rank, in), or (rank, in, k, k).
        up: (out, rank), or (out, rank, 1, 1).
    """
    return _AddLora.apply(output, x, down, up, scale)


class _AddLora(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        down_weight, up_weight = down.to(x.dtype), up.to(x.dtype).flatten(1)
        if down.dim() == 2:
            y = _rows(x) @ down_weight.t()
        elif down.shape[-1] == 1:
            y = _rows(x) @ down_weight.flatten(1).t()
        else:
            y = _rows(F.conv2d(x, down_weight, None, 1, down.shape[-1] // 2))
        ctx.save_for_backward(x, y, down_weight, up_weight)
        ctx.scale = scale
        return _like(torch.addmm(_rows(output), y, up_weight.t(), alpha=scale), output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, down_weight, up_weight = ctx.saved_tensors
        g = _rows(grad)
        grad_up = (g.t() @ y).float() * ctx.scale  # (out, rank)
        grad_low = (g @ up_weight) * ctx.scale if ctx.scale != 1 else g @ up_weight  # (rows, rank)
        kernel = down_weight if down_weight.dim() == 4 else down_weight[..., None, None]  # (rank, in, k, k)
        rank, _, side, _ = kernel.shape
        unfolded = _unfold(grad_low, x, side) if side > 1 else grad_low  # (rows, k * k * rank)
        taps = kernel.permute(2, 3, 0, 1).flatten(0, 2)  # (k * k * rank, in)
        grad_x = _like(unfolded @ taps, x) if ctx.needs_input_grad[1] else None
        grad_down = (unfolded.t() @ _rows(x)).float().view(side, side, rank, -1).permute(2, 3, 0, 1)
        return (
            grad,
            grad_x,
            grad_down.reshape(down_weight.shape),
            grad_up.view(-1, rank, *[1] * (down_weight.dim() - 2)),
            None,
        )


def _rows(x: Tensor) -> Tensor:
    """One row for each position: (..., D) or (N, D, h, w) -> (rows, D); no copy if the channels are contiguous."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).reshape(-1, x.shape[1] if x.dim() == 4 else x.shape[-1])


def _like(rows: Tensor, like: Tensor) -> Tensor:
    """Rows in the shape and memory format of `like`, with their own number of channels."""
    if like.dim() != 4:
        return rows.view(*like.shape[:-1], -1)
    n, _, height, width = like.shape
    return rows.view(n, height, width, -1).permute(0, 3, 1, 2)


def _unfold(low: Tensor, x: Tensor, side: int) -> Tensor:
    """(rows, rank) -> (rows, k * k * rank): the gradients of the positions around each position, for each kernel tap.

    With it, each of the two gradients of a convolution is a single matrix product.
    """
    n, _, height, width = x.shape
    padding = side // 2
    padded = F.pad(low.view(n, height, width, -1), (0, 0, padding, padding, padding, padding))
    last = side - 1
    shifted = [
        padded[:, last - row : last - row + height, last - column : last - column + width]
        for row in range(side)
        for column in range(side)
    ]
    return torch.stack(shifted, 3).reshape(n * height * width, -1)
