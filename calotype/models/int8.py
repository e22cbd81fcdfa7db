"""Compact networks with 8-bit integers: post-training static quantization, for processors that multiply them quickly.

Weights are symmetric per output channel, the features of a layer affine in one range (Jacob et al. 2018, "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"). PReLU is positively homogeneous, so
channels are first scaled to the same range, which changes nothing in floating point (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.1; here by measured ranges). The first
convolution, the activations, and the sum with the enlarged picture stay in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from calotype.models.row_stream import Chain, FloatLayer, Layer

LEVELS = 255  # of features, above the lowest
LEVELS_OF_WEIGHTS = 127


def is_int8_quick(device: torch.device) -> bool:
    """Whether this processor multiplies 8-bit integers in hardware (VNNI, AMX) and torch has the convolution for it."""
    if device.type != "cpu" or not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return False
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # before torch 2.11
        return torch.cpu._is_vnni_supported()
    return any(capabilities.get(name, False) for name in ("avx512_vnni", "amx_int8"))


def activation_ranges(chain: Chain, pictures: Sequence[Tensor]) -> list[Tensor]:
    """Per layer but the last, (2, channels): the lowest and highest output of each channel over (3, h, w) pictures."""
    ranges: list[Tensor] = []
    with torch.inference_mode():
        for picture in pictures:
            y = picture[None]
            for n, layer in enumerate(chain.layers[:-1]):
                y = layer(functional.pad(y, (0, 0, 1, 1)))
                found = torch.stack([y.amin((0, 2, 3)), y.amax((0, 2, 3))])
                if n == len(ranges):
                    ranges.append(found)
                ranges[n] = torch.stack([ranges[n][0].minimum(found[0]), ranges[n][1].maximum(found[1])])
    return ranges


def int8_chain(chain: Chain, ranges: Sequence[Tensor]) -> Chain:
    """The chain with 8-bit features and weights. `ranges`: as `activation_ranges` gives them for the same chain.

    Raises:
        ValueError: the ranges are of another network.
    """
    channels = [layer.conv.out_channels for layer in chain.layers[:-1]]
    if [tuple(each.shape) for each in ranges] != [(2, count) for count in channels]:
        raise ValueError("ranges of another network")
    layers: list[Layer] = []
    scale_in, zero_in = torch.ones(chain.layers[0].conv.in_channels), 0
    with torch.inference_mode():
        for n, layer in enumerate(chain.layers):
            if n < len(ranges):
                scale_out, zero_out = _steps(ranges[n].float())
            else:
                scale_out, zero_out = torch.ones(layer.conv.out_channels), None
            weight = layer.conv.weight.float() * scale_in[:, None, None] / scale_out[:, None, None, None]
            bias = layer.conv.bias.float() / scale_out
            if n == 0:
                layers.append(_FirstLayer(_conv(layer.conv, weight, bias), layer.activation, zero_out))
            else:
                layers.append(Int8Layer.quantized(weight, bias, layer.activation, zero_in, zero_out))
            scale_in, zero_in = scale_out, zero_out
    return Chain(tuple(layers), chain.scale)


def _steps(limits: Tensor) -> tuple[Tensor, int]:
    """From lowest and highest outputs (2, channels): the step of each channel, and the level that stands for zero."""
    largest = limits.abs().amax(0).clamp_min(1e-6)
    lowest = min(0.0, float((limits[0] / largest).min()))
    highest = max(0.0, float((limits[1] / largest).max()))
    step = (highest - lowest) / LEVELS
    return largest * step, round(-lowest / step)


def _conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    scaled = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    scaled.weight, scaled.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return scaled.to(memory_format=torch.channels_last)


def _levels(y: Tensor, zero: int) -> Tensor:
    """Features in steps -> levels from 0 to 255. Changes `y`."""
    return y.add_(zero + 0.5).clamp_(0, LEVELS).to(torch.uint8)


class _FirstLayer(FloatLayer):
    """Takes the picture in float32 and returns levels."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None, zero: int):
        super().__init__(conv, activation)
        self._zero = zero

    def __call__(self, y: Tensor) -> Tensor:
        return _levels(super().__call__(y), self._zero)


@dataclass(frozen=True, eq=False)
class Int8Layer:
    """A 3x3 convolution of levels, and the activation; the last layer of a chain returns float32."""

    packed: Tensor  # weights, in oneDNN's own order
    weight_steps: Tensor
    weight_zeros: Tensor
    bias: Tensor
    activation: nn.Module | None
    zero: int  # level that stands for zero in the input
    zero_out: int | None
    in_channels: int
    dtype: torch.dtype = torch.uint8

    @classmethod
    def quantized(
        cls, weight: Tensor, bias: Tensor, activation: nn.Module | None, zero: int, zero_out: int | None
    ) -> "Int8Layer":
        steps = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / LEVELS_OF_WEIGHTS
        levels = (weight / steps[:, None, None, None]).round().to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(levels, steps, 1.0, zero, [1, 1], [0, 1], [1, 1], 1, None)
        zeros = torch.zeros(len(steps), dtype=torch.long)
        return cls(packed, steps, zeros, bias, activation, zero, zero_out, weight.shape[1])

    def __call__(self, y: Tensor) -> Tensor:
        weights = self.packed, self.weight_steps, self.weight_zeros, self.bias
        shape = [1, 1], [0, 1], [1, 1], 1  # stride, padding, dilation, groups
        y = torch.ops.onednn.qconv2d_pointwise(
            y, 1.0, self.zero, *weights, *shape, 1.0, 0, torch.float32, "none", [], ""
        )
        y = y if self.activation is None else self.activation(y)
        return y if self.zero_out is None else _levels(y, self.zero_out)
