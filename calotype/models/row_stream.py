"""Compact networks (SRVGGNetCompact) computed a few rows at a time, equal to the network on the whole picture.

Each convolution keeps the last two rows of its input for the next rows. So no rows are computed twice, the size of a
picture does not matter, and the features of a few rows stay in the processor's cache: a tile of 384 pixels takes twice
the time per pixel, half of it for memory that the system clears for each layer.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(Protocol):
    """A 3x3 convolution with its activation."""

    in_channels: int
    dtype: torch.dtype  # of its input
    zero: int  # of its input: what stands for zero

    def __call__(self, y: Tensor) -> Tensor:
        """(N, C, h + 2, W) -> (N, C', h, W): the columns are padded with zeros, the rows are not."""


class FloatLayer:
    """A layer in a floating-point format; the activation may be in another one."""

    zero = 0

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None):
        self.conv, self.activation = conv, activation
        self.in_channels, self.dtype = conv.in_channels, conv.weight.dtype
        parameters = () if activation is None else activation.parameters()
        self._activated = next((parameter.dtype for parameter in parameters), self.dtype)

    def __call__(self, y: Tensor) -> Tensor:
        y = functional.conv2d(y, self.conv.weight, self.conv.bias, padding=(0, 1))
        return y if self.activation is None else self.activation(y.to(self._activated))


@dataclass(frozen=True, eq=False)
class Chain:
    """The layers of a compact network: 3x3 convolutions, each but the last followed by an activation."""

    layers: tuple[Layer, ...]
    scale: int

    @property
    def reach(self) -> int:
        """Input pixels, on each side, that a pixel of the result depends on."""
        return len(self.layers)

    @property
    def bytes_per_row_pixel(self) -> int:
        """Bytes per pixel of a row that a stream keeps between rows."""
        return sum(2 * layer.in_channels * layer.dtype.itemsize for layer in self.layers)


def chain_of(module: nn.Module) -> Chain | None:
    """The layers of a SRVGGNetCompact; None for any other network, as well as for unusual layers."""
    if type(module).__name__ != "SRVGGNetCompact":  # spandrel has no public name for it
        return None
    convolutions, activations = list(module.body)[::2], list(module.body)[1::2]
    are_usual = all(map(_is_usual, convolutions)) and not any(isinstance(layer, nn.Conv2d) for layer in activations)
    if not are_usual or convolutions[0].in_channels != 3 or len(activations) != len(convolutions) - 1:
        return None
    return Chain(tuple(map(FloatLayer, convolutions, [*activations, None])), module.upscale)


def _is_usual(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and (
        (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
        == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    )


class RowStream:
    """Takes the rows of a picture from top to bottom, and returns those of the result that they complete."""

    def __init__(self, chain: Chain, dtype: torch.dtype = torch.float32):
        self._chain, self._dtype = chain, dtype
        self._carried: list[Tensor | None] = [None] * len(chain.layers)
        self._base: Tensor | None = None

    @torch.inference_mode()
    def push(self, rows: Tensor, is_last: bool = False) -> Tensor:
        """(N, C, h, W) -> (N, C, h' * scale, W * scale): h' is `reach` rows behind, and catches up with the last."""
        rows = rows.to(self._dtype)
        self._base = rows if self._base is None else torch.cat([self._base, rows], 2)
        y, scale = rows, self._chain.scale
        for n, layer in enumerate(self._chain.layers):
            y = self._with_neighbours(n, y.to(layer.dtype), is_last)
            if y.shape[2] < 3:
                return rows.new_zeros(len(rows), rows.shape[1], 0, rows.shape[3] * scale)
            y = layer(y)
        count = y.shape[2]
        base, self._base = self._base[:, :, :count], self._base[:, :, count:]
        y = functional.pixel_shuffle(y, scale)
        return y.add_(functional.interpolate(base, scale_factor=float(scale), mode="nearest"))

    def _with_neighbours(self, n: int, y: Tensor, is_last: bool) -> Tensor:
        """The input of a layer: carried rows, new ones, and a row of zeros at the edges of the picture."""
        zeros = y.new_full((len(y), y.shape[1], 1, y.shape[3]), self._chain.layers[n].zero)
        above = zeros if self._carried[n] is None else self._carried[n]
        y = torch.cat([above, y, *([zeros] if is_last else [])], 2).contiguous(memory_format=torch.channels_last)
        self._carried[n] = y[:, :, -2:].clone()
        return y
