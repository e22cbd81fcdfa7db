"""The network of our own face restorer: a small U-Net behind a pixel-unshuffle that draws what to add to a face."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256  # pixels; what the shipped weights were trained on
TELLTALE = ("enter.weight", "down.0.0.first.weight", "shrink.0.weight", "up.0.0.second.weight", "leave.weight")
GROUPS = 8


class Block(nn.Module):
    """Two convolutions with one normalisation between them, added to what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h, w)
        return x + self.second(F.silu(self.norm(self.first(x))))


class Restorer(nn.Module):
    """Takes an aligned face and returns it restored: (N, 3, side, side) in [-1, 1], RGB, both ways.

    Args:
        channels: at each of the resolutions, from side/2 down.
        blocks: how many at each.
    """

    def __init__(self, channels: tuple[int, ...] = (48, 96, 160, 224), blocks: tuple[int, ...] = (1, 2, 2, 4)):
        super().__init__()
        levels = range(len(channels))
        rising = levels[-2::-1]
        self.enter = nn.Conv2d(12, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(channels[k], channels[k + 1], 2, 2) for k in levels[:-1])
        self.widen = nn.ModuleList(nn.Conv2d(channels[k + 1], channels[k], 1) for k in rising)
        self.up = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in rising)
        self.leave = nn.Conv2d(channels[0], 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # an untrained one changes nothing
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, side, side) -> (N, 3, side, side)
        h = self.enter(F.pixel_unshuffle(x, 2))
        kept = []
        for k, level in enumerate(self.down):
            h = level(h)
            if k < len(self.shrink):
                kept.append(h)
                h = self.shrink[k](h)
        for widen, level in zip(self.widen, self.up, strict=True):
            h = F.interpolate(widen(h), scale_factor=2, mode="bilinear") + kept.pop()
            h = level(h)
        return x + F.pixel_shuffle(self.leave(h), 2)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))


def detects(state: dict[str, Tensor]) -> bool:
    """Whether these are weights of a Restorer."""
    return all(key in state for key in TELLTALE)


def build(state: dict[str, Tensor]) -> Restorer:
    """A Restorer of the size that the weights tell, with these weights, on the CPU in float32.

    Raises:
        KeyError, RuntimeError: keys are missing, unknown, or of the wrong shape.
    """
    levels = 1 + sum(key.startswith("shrink.") and key.endswith(".weight") for key in state)
    channels = tuple(state[f"down.{k}.0.first.weight"].shape[0] for k in range(levels))
    blocks = tuple(sum(f"down.{k}.{n}.first.weight" in state for n in range(64)) for k in range(levels))
    with torch.device("meta"):
        network = Restorer(channels, blocks)
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network
