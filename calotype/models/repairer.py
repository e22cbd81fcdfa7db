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
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(x + self.second_norm(self.second(y)))


class Repairer(nn.Module):
    """Works at half the size and less, on 2x2 pixels as channels.

    Its input is the picture, and how much pixels differ from the mean around them, in units of white and of the noise.
    """

    def __init__(self, widths: Sequence[int] = (32, 48, 64, 96)):
        super().__init__()
        pairs = list(pairwise(widths))
        self.multiple = 2 ** len(widths)  # of the sides of its input
        self.stem = nn.Conv2d(4 * INPUTS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Block(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.decoder = nn.ModuleList(Block(width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 1, H, W)
        """RGB in [0, 1] to the logits of the mask."""
        with torch.no_grad():
            inputs = F.pixel_unshuffle(torch.cat([x - 0.5, differences(x)], 1), 2)
        y, skips = self.stem(inputs), []
        for n, block in enumerate(self.encoder):
            y = block(self.down[n - 1](y) if n else y)
            skips.append(y)
        for n in reversed(range(len(self.decoder))):
            y = self.decoder[n](skips[n] + F.interpolate(self.up[n](y), scale_factor=2, mode="nearest"))
        return F.pixel_shuffle(self.head(y), 2)


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
    """The mean over a square of this many pixels."""
    rows = F.avg_pool2d(x, (size, 1), 1, (size // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, size), 1, (0, size // 2), count_include_pad=False)


def detects(state: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of a Repairer."""
    return all(key in state for key in ("stem.weight", "encoder.0.first_norm.weight", "up.0.weight", "head.weight"))


def build(state: Mapping[str, Tensor]) -> Repairer:
    """A Repairer with these weights and the size given by their shapes, on the CPU in float32.

    Raises:
        KeyError, RuntimeError: keys are missing, unknown, or of the wrong shape.
    """
    levels = sum(key.startswith("encoder.") and key.endswith(".first.weight") for key in state)
    network = Repairer([len(state[f"encoder.{n}.first.weight"]) for n in range(levels)])
    network.load_state_dict({key: value.float() for key, value in state.items()} | _counts(network))
    return network


def saved_state(network: Repairer) -> dict[str, Tensor]:
    """The weights, and the statistics of the normalisation without the number of batches that they are of."""
    counts = _counts(network)
    return {key: value for key, value in network.state_dict().items() if key not in counts}


def _counts(network: Repairer) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
