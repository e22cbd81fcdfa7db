"""Checks that a person can run on their own machine: how far a tiled picture is from the untiled one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.models.network import Network
from calotype.ops.tile import FEATHER, Blend, grid

OVERLAPS = (8, 16, 32, 48, 64)


@dataclass(frozen=True)
class TileRow:
    """One line of the table: differences are of 255, against the same network on the whole picture at once."""

    model: str
    tile: int
    overlap: int
    context: int  # pixels that each tile sees beyond what is kept of it
    largest: float
    mean: float


def tiles(engine: Engine, model: str, tile: int = 112) -> Iterator[TileRow]:
    """Enlarges a drawn picture whole and in two by two tiles, with growing overlap; yields a row for each.

    Raises:
        CalotypeError: a tile so small that the overlaps of the table do not fit.
    """
    if tile < 2 * max(OVERLAPS) - 16:
        raise CalotypeError(
            "{option:tile} takes values from {least}, not {tile}", least=2 * max(OVERLAPS) - 16, tile=tile
        )
    network = engine.models.upscaler(model)
    for overlap in OVERLAPS:
        side = (2 * tile - min(overlap, tile // 2)) // network.multiple * network.multiple
        picture = textured(side)
        whole = network(picture[None])[0].clamp(0, 1)
        difference = (tiled(picture, network, tile, overlap) - whole).abs() * 255
        context = (min(overlap, tile // 2) - FEATHER) // 2
        yield TileRow(network.name, tile, overlap, max(0, context), difference.max().item(), difference.mean().item())


def tiled(picture: Tensor, network: Network, tile: int, overlap: int) -> Tensor:
    """(3, H, W) in [0, 1] through a network tile by tile."""
    pixels = picture.permute(1, 2, 0).numpy()
    places = grid(*pixels.shape[:2], tile, overlap, network.multiple)
    blend, rows = Blend(places, network.scale), []
    for row in range(len(places.rows.starts)):
        for column in range(len(places.columns.starts)):
            cut = torch.from_numpy(places.cut(pixels, row, column).copy()).permute(2, 0, 1)
            rows += [band for _, band in blend.lay(row, column, network(cut[None])[0])]
    return torch.cat(rows, 1)[:, :, : blend.width].clamp(0, 1)


def textured(side: int) -> Tensor:
    """A picture with detail at every size, as photos have (noise that falls with frequency): (3, side, side)."""
    random = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft2(torch.randn(3, side, side, generator=random))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    picture = torch.fft.irfft2(spectrum / (down.square() + across.square()).sqrt().clamp(min=1 / side), s=(side, side))
    return ((picture - picture.mean()) / picture.std() / 6 + 0.5).clamp(0, 1)
