"""Calotype's own face restorer: a small U-Net on pixel-unshuffled input that predicts a residual.

Its bottleneck may have a prior: trained position embeddings and a codebook.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256  # pixels; side of the faces for weights without a prior at shuffle 2
REQUIRED_KEYS = ("enter.weight", "down.0.0.first.weight", "shrink.0.weight", "up.0.0.second.weight", "leave.weight")
GROUPS = 8


class ResBlock(nn.Module):
    """Two convolutions with one normalisation between them, with a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h, w)
        return x + self.second(F.silu(self.norm(self.first(x))))


class Prior(nn.Module):
    """A trained face prior: an embedding for each position of an aligned face, and a codebook that positions query.

    The codebook is read by attention, as a dictionary of facial components (after Li et al. 2020, DFDNet, and Gu et al.
    2022, VQFR, but soft, and trained end to end).
    """

    def __init__(self, channels: int, codes: int, size: int):
        super().__init__()
        # The names are keys of saved weights.
        self.place = nn.Parameter(torch.zeros(1, channels, size, size))
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.ask = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Parameter(torch.randn(codes, channels))
        self.values = nn.Parameter(torch.randn(codes, channels))
        self.join = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, size, size) -> the same
        n, _, height, width = x.shape
        queries = self.ask(self.norm(x) + self.place.to(x.dtype)).flatten(2).transpose(1, 2)  # (N, positions, C)
        keys, values = (codes.to(queries.dtype).expand(n, -1, -1) for codes in (self.keys, self.values))
        attended = F.scaled_dot_product_attention(queries, keys, values)
        return x + self.join(attended.transpose(1, 2).unflatten(2, (height, width)))


class Restorer(nn.Module):
    """Restores aligned faces: (N, 3, side, side) in [-1, 1] RGB -> the same.

    Args:
        channels: at each resolution, from side/shuffle downwards.
        blocks: residual blocks at each resolution.
        shuffle: factor of the pixel-unshuffle.
        codes: entries of the prior's codebook; 0: no prior, and any side.
        side: of the faces, if there is a prior.
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
        upward = levels[-2::-1]
        self.shuffle, self.side, pixels = shuffle, side, 3 * shuffle**2
        self.enter = nn.Conv2d(pixels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(channels[k], channels[k + 1], 2, 2) for k in levels[:-1])
        self.widen = nn.ModuleList(nn.Conv2d(channels[k + 1], channels[k], 1) for k in upward)
        self.up = nn.ModuleList(_blocks(channels[k], blocks[k]) for k in upward)
        self.prior = Prior(channels[-1], codes, side // shuffle // 2 ** levels[-1]) if codes else nn.Identity()
        self.leave = nn.Conv2d(channels[0], pixels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # an untrained network is the identity
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, side, side) -> (N, 3, side, side)
        h = self.enter(F.pixel_unshuffle(x, self.shuffle))
        skips = []
        for k, level in enumerate(self.down):
            h = level(h)
            if k < len(self.shrink):
                skips.append(h)
                h = self.shrink[k](h)
        h = self.prior(h)
        for widen, level in zip(self.widen, self.up, strict=True):
            h = F.interpolate(widen(h), scale_factor=2, mode="bilinear") + skips.pop()
            h = level(h)
        return x + F.pixel_shuffle(self.leave(h), self.shuffle)


@torch.no_grad()
def grown(network: Restorer, codes: int = 0) -> Restorer:
    """A network for faces of twice the side with the same weights; adds a prior of `codes` entries if it has none.

    Each pixel is mapped to four equal ones, so before further training the result is the previous one, doubled.
    """
    channels = tuple(level[0].first.out_channels for level in network.down)
    blocks = tuple(len(level) for level in network.down)
    is_new = isinstance(network.prior, nn.Identity) and codes > 0
    codes = codes if is_new else len(getattr(network.prior, "keys", ()))
    larger = Restorer(channels, blocks, 2 * network.shuffle, codes, 2 * network.side)
    state = network.state_dict()
    for name, axis, divisor in (("enter.weight", 1, 4), ("leave.weight", 0, 1), ("leave.bias", 0, 1)):
        squares = state[name].unflatten(axis, (3, network.shuffle, network.shuffle))
        doubled = squares.repeat_interleave(2, axis + 1).repeat_interleave(2, axis + 2)
        state[name] = doubled.flatten(axis, axis + 2) / divisor
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
    return all(key in state for key in REQUIRED_KEYS)


def build(state: dict[str, Tensor]) -> Restorer:
    """A Restorer with these weights and the size given by their shapes, on the CPU in float32.

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
