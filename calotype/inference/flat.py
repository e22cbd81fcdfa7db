"""Tiles without detail: enlarged without the network, to what it would answer."""

import torch
from torch import Tensor
from torch.nn import functional

from calotype.models.network import Network

RANGE = 0.999 / 255  # tiles whose pixels differ by less than a level of 8 bits, in each channel, have no detail
SIDE = 128  # pixels of the patch of one colour that the network is given; its edges do not reach the middle
MAX_COLORS = 4096


class FlatTiles:
    """Enlarges tiles without detail; one instance per picture.

    A network answers a patch of one colour with that colour and a small offset, which may differ between the
    scale x scale pixels that stand for one. The offset is measured once a colour, in steps of 1/255; the tile itself
    is enlarged by bilinear interpolation, so that a faint gradient in 16 bits stays one.
    """

    def __init__(self, network: Network):
        self._network = network
        self._offsets: dict[tuple[int, ...], Tensor] = {}  # (C, scale, scale), by the colour in 1/255

    def enlarged(self, tile: Tensor) -> Tensor | None:
        """(C, h, w) in [0, 1] -> (C, h * scale, w * scale), or None for a tile with detail."""
        lowest, highest = tile.amin((1, 2)), tile.amax((1, 2))
        if (highest - lowest >= RANGE).any():
            return None
        scale = self._network.scale
        offset = self._offset(tuple(torch.round((lowest + highest) / 2 * 255).int().tolist()))
        smooth = functional.interpolate(tile[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]
        return smooth + offset.repeat(1, *tile.shape[1:])

    def _offset(self, levels: tuple[int, ...]) -> Tensor:
        if levels not in self._offsets:
            if len(self._offsets) >= MAX_COLORS:
                self._offsets.clear()
            color = torch.tensor(levels)[:, None, None] / 255
            output = self._network(color.expand(-1, SIDE, SIDE)[None])[0]
            middle = SIDE // 2 * self._network.scale
            block = slice(middle, middle + self._network.scale)
            self._offsets[levels] = output[:, block, block] - color
        return self._offsets[levels]
