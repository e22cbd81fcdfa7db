"""Generator and discriminator of a GAN.

After R3GAN (Huang, Gokaslan, Kuleshov and Tompkin, "The GAN is dead; long live the GAN!", NeurIPS 2024): residual
blocks 1x1, 3x3, 1x1 without any normalisation, leaky ReLUs, a trained first tensor scaled by the latent, resampling by
interpolation, residual branches that begin at zero (Fixup: Zhang, Dauphin and Ma 2019). Smaller here, for
processors: its 3x3 convolutions are not grouped, and from 64 pixels on the widest blocks work on squares of 2x2 pixels.
"""

import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.errors import CalotypeError

SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2 / (1 + SLOPE**2))
BASE = 4  # pixels of the first tensor's side
SIDES = (32, 64, 128, 256, 512)
LATENT, WIDEST = 64, 256
MAX_VALUES = {"side": 1024, "latent": 4096, "blocks": 16, "patch": 16}  # largest values that a file may declare
MAX_CHANNELS = 2048


@dataclass(frozen=True)
class Shape:
    """The configuration of both networks. `widths` are the channels at 4, 8, 16, ... pixels, up to side / patch."""

    side: int
    widths: tuple[int, ...]
    latent: int = LATENT
    blocks: int = 1  # residual blocks at every size
    patch: int = 1  # pixels per position at the largest size, along each side

    def __post_init__(self) -> None:
        numbers = [(getattr(self, name), limit) for name, limit in MAX_VALUES.items()]
        numbers += [(width, MAX_CHANNELS) for width in self.widths]
        is_valid = all(isinstance(number, int) and 1 <= number <= limit for number, limit in numbers)
        is_valid = is_valid and 1 <= len(self.widths) <= MAX_VALUES["side"].bit_length()
        if not is_valid or self.side != BASE * self.patch * 2 ** (len(self.widths) - 1):
            raise CalotypeError("there is no such generator: {shape}", shape=self)

    @classmethod
    def preset(cls, side: int, capacity: float = 1.0) -> "Shape":
        """The default networks for pictures of `side` pixels; `capacity` scales their channels.

        Larger pictures have as many channels at their finest resolution as those of 64 pixels, so that the cost per
        pixel is constant; coarser resolutions double them up to the widest.
        """
        patch = 2 if side >= 64 else 1
        budget = 1024 * max(1, side // 64)
        sizes = [BASE * 2**n for n in range(round(math.log2(side // patch / BASE)) + 1)]
        widths = tuple(max(16, round(min(WIDEST, budget / size) * capacity / 8) * 8) for size in sizes)
        return cls(side, widths, patch=patch)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Shape":
        """From a file's metadata. Raises CalotypeError if it is invalid."""
        try:
            data = json.loads(text)
            return cls(**{**data, "widths": tuple(data["widths"])})
        except (ValueError, TypeError, KeyError):
            raise CalotypeError("{where} does not tell what generator it holds; train it again", where=where) from None

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class BottleneckBlock(nn.Module):
    """x + 1x1(3x3(1x1(x))), initialised as the identity."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        # Fixup; `blocks` counts all residual branches of the network, each with two scaled layers.
        gain = GAIN * blocks ** (-1 / 4)
        # The names are keys of saved weights.
        self.narrow = _conv(width, width, 1, gain)
        self.spread = _conv(width, width, 3, gain)
        self.join = _conv(width, width, 1, 0, is_biased=False)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w)
        y = F.leaky_relu(self.narrow(x), SLOPE)
        y = F.leaky_relu(self.spread(y), SLOPE)
        return x + self.join(y)


class Generator(nn.Module):
    """Standard normal latents (N, L) -> pictures (N, 3, side, side), nominally in [-1, 1]."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, (first, *_) = shape, shape.widths
        total = shape.blocks * len(shape.widths)
        self.first = nn.Parameter(torch.randn(first, BASE, BASE))
        self.scale = nn.Linear(shape.latent, first)
        nn.init.normal_(self.scale.weight, std=shape.latent**-0.5)
        nn.init.zeros_(self.scale.bias)
        self.stages = nn.ModuleList(_make_stage(width, shape.blocks, total) for width in shape.widths)
        self.turns = nn.ModuleList(_conv(a, b, 1, 1, is_biased=False) for a, b in pairwise(shape.widths))
        self.fine = _conv(shape.widths[-1], shape.widths[-1], 3, GAIN) if shape.patch > 1 else nn.Identity()
        self.out = _conv(shape.widths[-1], 3, 1, 0.1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.first * self.scale(latents)[:, :, None, None]
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for turn, stage in zip(self.turns, self.stages[1:], strict=True):
            x = stage(F.interpolate(turn(x), scale_factor=2, mode="bilinear"))
        if self.shape.patch > 1:
            x = self.fine(F.interpolate(x, scale_factor=self.shape.patch, mode="bilinear"))
        return self.out(F.leaky_relu(x, SLOPE))


class Discriminator(nn.Module):
    """Pictures (N, 3, side, side) in [-1, 1] -> logits (N,), higher for more real."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, widths = shape, shape.widths[::-1]
        total = shape.blocks * len(widths)
        self.into = _conv(3 * shape.patch**2, widths[0], 3 if shape.patch > 1 else 1, 1)
        self.stages = nn.ModuleList(_make_stage(width, shape.blocks, total) for width in widths)
        self.turns = nn.ModuleList(_conv(a, b, 1, 1, is_biased=False) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], widths[-1], BASE, groups=widths[-1], bias=False)
        self.verdict = nn.Linear(widths[-1], 1)
        nn.init.normal_(self.last.weight, std=1 / BASE)
        nn.init.normal_(self.verdict.weight, std=widths[-1] ** -0.5)
        nn.init.zeros_(self.verdict.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = F.pixel_unshuffle(images, self.shape.patch).contiguous(memory_format=torch.channels_last)
        x = self.stages[0](self.into(x))
        for turn, stage in zip(self.turns, self.stages[1:], strict=True):
            x = stage(turn(F.avg_pool2d(x, 2)))
        return self.verdict(self.last(x).flatten(1)).squeeze(1)


def _make_stage(width: int, blocks: int, total: int) -> nn.Sequential:
    return nn.Sequential(*(BottleneckBlock(width, total) for _ in range(blocks)))


def _conv(in_channels: int, out_channels: int, kernel_size: int, gain: float, is_biased: bool = True) -> nn.Conv2d:
    """He initialisation, scaled by `gain`, 1 being that of a linear layer; 0 initialises to zero."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=is_biased)
    nn.init.normal_(conv.weight, std=gain / math.sqrt(in_channels * kernel_size**2))
    if is_biased:
        nn.init.zeros_(conv.bias)
    return conv
