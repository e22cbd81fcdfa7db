"""Benchmarks for users: how much a tiled picture differs from the untiled one."""

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
    """One line of the table: differences are of 255, to the same network on the untiled picture."""

    model: str
    tile: int
    overlap: int
    context: int  # pixels of each tile beyond the part that is used
    largest: float
    mean: float


def tiles(engine: Engine, model: str, tile: int = 112) -> Iterator[TileRow]:
    """Enlarges a synthetic picture untiled and in two by two tiles, with increasing overlap; yields a row for each.

    Raises:
        CalotypeError: the tile is too small for the overlaps of the table.
    """
    if tile < 2 * max(OVERLAPS) - 16:
        raise CalotypeError(
            "{option:tile} takes values from {least}, not {tile}", least=2 * max(OVERLAPS) - 16, tile=tile
        )
    network = engine.models.upscaler(model)
    for overlap in OVERLAPS:
        side = (2 * tile - min(overlap, tile // 2)) // network.multiple * network.multiple
        picture = textured(side)
        untiled = network(picture[None])[0].clamp(0, 1)
        difference = (tiled(picture, network, tile, overlap) - untiled).abs() * 255
        context = (min(overlap, tile // 2) - FEATHER) // 2
        yield TileRow(network.name, tile, overlap, max(0, context), difference.max().item(), difference.mean().item())


def tiled(picture: Tensor, network: Network, tile: int, overlap: int) -> Tensor:
    """Applies a network to (3, H, W) in [0, 1], tile by tile."""
    pixels = picture.permute(1, 2, 0).numpy()
    tile_grid = grid(*pixels.shape[:2], tile, overlap, network.multiple)
    blend, rows = Blend(tile_grid, network.scale), []
    for row in range(len(tile_grid.rows.starts)):
        for column in range(len(tile_grid.columns.starts)):
            cropped = torch.from_numpy(tile_grid.cut(pixels, row, column).copy()).permute(2, 0, 1)
            rows += [band for _, band in blend.lay(row, column, network(cropped[None])[0])]
    return torch.cat(rows, 1)[:, :, : blend.width].clamp(0, 1)


def textured(side: int) -> Tensor:
    """1/f noise, with detail at every scale as in photos: (3, side, side)."""
    random = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft2(torch.randn(3, side, side, generator=random))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    picture = torch.fft.irfft2(spectrum / (down.square() + across.square()).sqrt().clamp(min=1 / side), s=(side, side))
    return ((picture - picture.mean()) / picture.std() / 6 + 0.5).clamp(0, 1)
