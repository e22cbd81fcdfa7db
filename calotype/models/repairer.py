"""A small U-Net that finds marks on a print: scratches, hairs, dust, tears."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOXES = (5, 17)  # pixels: a mark is lighter or darker than the mean of so many around it
NOISE = 31  # pixels around one over which its noise is averaged
MIN_NOISE = 1 / 255
INPUTS = 3 + 2 * len(BOXES)


class Block(nn.Module):
    """Two convolutions with normalisation, added to their input."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.first_norm, self.second_norm = (nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (N, width, H, W)
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(self.second_norm(self.second(y)).add_(x), inplace=True)


class Repairer(nn.Module):
    """Works at half the size and less, on 2x2 pixels as channels.

    Its input is the picture, and how much pixels differ from the mean around them, in units of white and of the noise.
    """

    def __init__(self, widths: Sequence[int] = (32, 48, 64, 96), is_deep: bool = True):
        """Args:
        widths: channels at each resolution.
        is_deep: whether below the first there are two blocks each way, and not one; the second ones begin as identity.
        """
        super().__init__()
        pairs = list(pairwise(widths))
        lower = widths[1:] if is_deep else ()
        self.multiple = 2 ** len(widths)  # of the sides of its input
        self.stem = nn.Conv2d(4 * INPUTS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Block(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.decoder = nn.ModuleList(Block(width) for width in widths[:-1])
        self.second_encoder = nn.ModuleList(Block(width) for width in lower)
        self.second_decoder = nn.ModuleList(Block(width) for width in lower[:-1])
        for block in (*self.second_encoder, *self.second_decoder):
            nn.init.zeros_(block.second_norm.weight)
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 1, H, W)
        """RGB in [0, 1], float32 whatever the weights are in, to the logits of the mask."""
        return self._logits(self._inputs(x))

    def probability(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 1, H, W)
        """Of a mark, 0 to 1 in float32: the mean for a picture and its mirror image, which are quicker one by one."""
        inputs = self._inputs(x)
        straight, mirrored = (self._logits(view).float().sigmoid() for view in (inputs, inputs.flip(3)))
        return (straight + mirrored.flip(3)) / 2

    @torch.no_grad()
    def _inputs(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, INPUTS, H, W)
        inputs = torch.cat([x - 0.5, differences(x)], 1)
        return inputs.to(self.stem.weight.dtype, memory_format=torch.channels_last)

    def _logits(self, inputs: Tensor) -> Tensor:
        y, skips = self.stem(F.pixel_unshuffle(inputs, 2)), []
        for n, block in enumerate(self.encoder):
            y = _twice(block(self.down[n - 1](y) if n else y), self.second_encoder, n)
            skips.append(y)
        for n in reversed(range(len(self.decoder))):
            y = self.decoder[n](skips[n] + F.interpolate(self.up[n](y), scale_factor=2, mode="nearest"))
            y = _twice(y, self.second_decoder, n)
        return F.pixel_shuffle(self.head(y), 2)


def _twice(y: Tensor, second: nn.ModuleList, level: int) -> Tensor:
    """With the second block of a level, where it has one."""
    return second[level - 1](y) if 0 < level <= len(second) else y


def differences(x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 2 * len(BOXES), H, W)
    """Grey less its mean over each of BOXES: times 4, and in tens of the local noise."""
    grey = x.mean(1, keepdim=True)
    both = torch.cat([grey - _box(grey, size) for size in BOXES], 1)
    return torch.cat([4 * both, (0.1 * both / local_noise(grey)).clamp(-4, 4)], 1)


def local_noise(grey: Tensor) -> Tensor:  # (N, 1, H, W) -> the same
    """Standard deviation of the noise around each pixel, by the mean absolute Laplacian (Immerkaer 1996)."""
    kernel = grey.new_tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    laplacian = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernel).abs()
    return (_box(laplacian, NOISE) * math.sqrt(math.pi / 2) / 6).clamp(min=MIN_NOISE)


def _box(x: Tensor, size: int) -> Tensor:
    """The mean over a square of this many pixels, of which those outside count neither way."""
    return _run(_run(x, size, 2), size, 3)


def _run(x: Tensor, size: int, axis: int) -> Tensor:
    """The mean over so many pixels along an axis, by differences of a cumulative sum: as quick for every size."""
    count = x.shape[axis]
    place = torch.arange(count, device=x.device)
    first, last = (place - size // 2).clamp(min=0), (place + size // 2 + 1).clamp(max=count)
    sums = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.cumsum(axis)], axis)
    numbers = (last - first).to(x.dtype)
    return (sums.index_select(axis, last) - sums.index_select(axis, first)) / (
        numbers[:, None] if axis == 2 else numbers
    )


def detects(state: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of a Repairer."""
    return all(key in state for key in ("stem.weight", "encoder.0.first_norm.weight", "up.0.weight", "head.weight"))


def build(state: Mapping[str, Tensor]) -> Repairer:
    """A Repairer with these weights and the size given by their shapes, on the CPU in float32.

    Raises:
        KeyError, RuntimeError: keys are missing, unknown, or of the wrong shape.
    """
    levels = sum(key.startswith("encoder.") and key.endswith(".first.weight") for key in state)
    widths = [len(state[f"encoder.{n}.first.weight"]) for n in range(levels)]
    network = Repairer(widths, is_deep=any(key.startswith("second_encoder.") for key in state))
    network.load_state_dict({key: value.float() for key, value in state.items()} | _counts(network))
    return network


def saved_state(network: Repairer) -> dict[str, Tensor]:
    """The weights, and the statistics of the normalisation without the number of batches that they are of."""
    counts = _counts(network)
    return {key: value for key, value in network.state_dict().items() if key not in counts}


def _counts(network: Repairer) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
