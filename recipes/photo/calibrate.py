"""Measures the ranges of a compact network's features over photos, for `models.int8`, and what 8 bits cost.

    python calibrate.py TRAIN NETWORK.safetensors [--held HELD]

Of each photo one patch of 128 pixels from its middle, as it is and degraded as in training. Writes
activation_ranges.safetensors beside the network. With HELD it prints how far the network in int8 is from the
same in float32: PSNR, and the mean and the highest difference in 255ths.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from calotype.checkpoints.entries import RANGES
from calotype.checkpoints.open_network import load
from calotype.checkpoints.store import Checkpoint
from calotype.models.int8 import activation_ranges, int8_chain
from calotype.models.row_stream import RowStream, chain_of
from calotype.ops.degrade import SecondOrder, second_order

SIDE = 128


def patches(folder: Path, side: int = SIDE) -> Iterator[Tensor]:
    """(3, side, side) in [0, 1]."""
    for n, path in enumerate(sorted(folder.glob("*.jpg"))):
        with Image.open(path) as photo:
            width, height = photo.size
            x, y = width // 2 - side // 2, height // 2 - side // 2
            if min(x, y) < 0:
                continue
            patch = torch.from_numpy(np.array(photo.convert("RGB").crop((x, y, x + side, y + side))))
        patch = patch.permute(2, 0, 1).float() / 255
        yield patch
        yield second_order(patch[None], torch.Generator().manual_seed(n), SecondOrder(1))[0].clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--held", type=Path)
    options = parser.parse_args()
    loaded = load(Checkpoint(options.network.stem, options.network))
    chain = chain_of(loaded.module)
    ranges = activation_ranges(chain, list(patches(options.train)))
    save_file({f"layers.{n}": each for n, each in enumerate(ranges)}, options.network.with_name(RANGES))
    if options.held:
        errors = torch.cat([compared(chain, ranges, patch) for patch in patches(options.held, 256)])
        psnr = 10 * float(torch.log10(255**2 / errors.square().mean()))
        print(f"{len(errors)} patches: {psnr:.1f} dB, mean {errors.abs().mean():.2f}, highest {errors.abs().max():.0f}")


@torch.inference_mode()
def compared(chain, ranges: list[Tensor], patch: Tensor) -> Tensor:
    """(1, 3, h, w): the difference in 255ths."""
    x = patch[None].contiguous(memory_format=torch.channels_last)
    exact, rounded = (RowStream(each).push(x, True).clamp(0, 1) for each in (chain, int8_chain(chain, ranges)))
    return (rounded * 255).round() - (exact * 255).round()


if __name__ == "__main__":
    main()
