"""The network of our own face restorer: a small U-Net behind a pixel-unshuffle that draws what to add to a face.

In its middle it may have a prior: what faces have in common, learnt with the rest.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256  # pixels; what weights without a prior take where two pixels' squares become channels
TELLTALE = ("enter.weight", "down.0.0.first.weight", "shrink.0.weight", "up.0.0.second.weight", "leave.weight")
GROUPS = 8


class ResBlock(nn.Module):
    """Two convolutions with one normalisation between them, added to what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h, w)
        return x + self.second(F.silu(self.norm(self.first(x))))


class Prior(nn.Module):
    """What is known of faces beforehand: what stands at each place of an aligned one, and codes that each place asks.

    The codes are read by attention, as a dictionary of facial parts (after Li et al. 2020, DFDNet, and Gu et al. 2022,
    VQFR, but soft, and learnt in one go).
    """

    def __init__(self, channels: int, codes: int, places: int):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, channels, places, places))
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.ask = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Parameter(torch.randn(codes, channels))
        self.values = nn.Parameter(torch.randn(codes, channels))
        self.join = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, places, places) -> the same
        n, _, height, width = x.shape
        asked = self.ask(self.norm(x) + self.place.to(x.dtype)).flatten(2).transpose(1, 2)  # (N, places, C)
        keys, values = (codes.to(asked.dtype).expand(n, -1, -1) for codes in (self.keys, self.values))
        told = F.scaled_dot_product_attention(asked, keys, values)
        return x + self.join(told.transpose(1, 2).unflatten(2, (height, width)))


class Restorer(nn.Module):
    """Takes an aligned face and returns it restored: (N, 3, side, side) in [-1, 1], RGB, both ways.

    Args:
        channels: at each of the resolutions, from side/shuffle down.
        blocks: how many at each.
        shuffle: side of the squares of pixels that become channels.
        codes: of the prior; 0: it has none, and takes any side.
        side: of the faces, where there is a prior.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (48, 96, 160, 224),
        blocks: tuple[int, ...] = (1, 2, 2, 4),
        shuffle: int = 2,
        codes: int = 0,
        side: int = SIDE,
    ):
        super().__init__()
        levels = range(len(channels))
        rising = levels[-2::-1]
        self.shuffle, self.side, pixels = shuffle, side, 3 * shuffle**2
        self.enter = nn.Conv2d(pixels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(channels[k], channels[k + 1], 2, 2) for k in levels[:-1])
        self.widen = nn.ModuleList(nn.Conv2d(channels[k + 1], channels[k], 1) for k in rising)
        self.up = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in rising)
        self.prior = Prior(channels[-1], codes, side // shuffle // 2 ** levels[-1]) if codes else nn.Identity()
        self.leave = nn.Conv2d(channels[0], pixels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # an untrained one changes nothing
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, side, side) -> (N, 3, side, side)
        h = self.enter(F.pixel_unshuffle(x, self.shuffle))
        kept = []
        for k, level in enumerate(self.down):
            h = level(h)
            if k < len(self.shrink):
                kept.append(h)
                h = self.shrink[k](h)
        h = self.prior(h)
        for widen, level in zip(self.widen, self.up, strict=True):
            h = F.interpolate(widen(h), scale_factor=2, mode="bilinear") + kept.pop()
            h = level(h)
        return x + F.pixel_shuffle(self.leave(h), self.shuffle)


@torch.no_grad()
def grown(network: Restorer, codes: int = 0) -> Restorer:
    """For faces of twice the side, with what is learnt already; with a prior of so many codes where it has none.

    Each pixel becomes four alike, so until it learns further it restores what is merely doubled as it did before.
    """
    channels = tuple(level[0].first.out_channels for level in network.down)
    blocks = tuple(len(level) for level in network.down)
    is_new = isinstance(network.prior, nn.Identity) and codes > 0
    codes = codes if is_new else len(getattr(network.prior, "keys", ()))
    larger = Restorer(channels, blocks, 2 * network.shuffle, codes, 2 * network.side)
    state = network.state_dict()
    for name, axis, share in (("enter.weight", 1, 4), ("leave.weight", 0, 1), ("leave.bias", 0, 1)):
        squares = state[name].unflatten(axis, (3, network.shuffle, network.shuffle))
        doubled = squares.repeat_interleave(2, axis + 1).repeat_interleave(2, axis + 2)
        state[name] = doubled.flatten(axis, axis + 2) / share
    if is_new:
        state |= {f"prior.{key}": value for key, value in larger.prior.state_dict().items()}
        state["prior.join.weight"], state["prior.join.bias"] = (
            0 * state[f"prior.join.{n}"] for n in ("weight", "bias")
        )
    larger.load_state_dict(state)
    return larger


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(channels) for _ in range(count)))


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
    shuffle = math.isqrt(state["enter.weight"].shape[1] // 3)
    codes, side = 0, SIDE * shuffle // 2
    if "prior.place" in state:
        codes, side = len(state["prior.keys"]), state["prior.place"].shape[-1] * shuffle * 2 ** (levels - 1)
    with torch.device("meta"):
        network = Restorer(channels, blocks, shuffle, codes, side)
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network
