"""Super-resolution of a whole picture: in tiles, to any size, with transparency."""

import contextlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calotype.checkpoints.entries import AUTOMATIC, quick_upscaler
from calotype.checkpoints.models import Models
from calotype.errors import PictureError, duration
from calotype.inference.flat import FlatTiles
from calotype.inference.rows import NotFinite, RowPlan, enlarged_rows, memory_of, plan_rows
from calotype.models.network import Network, is_out_of_memory
from calotype.ops.color import max_value, to_pixels, to_tensor
from calotype.ops.resize import Resizer, resized_region
from calotype.ops.tile import SMALLEST, Blend, Grid, grid
from calotype.picture import scaled_size
from calotype.tasks import Note, Progress, Tiling, note

TILE = {"cpu": 384, "cuda": 512, "mps": 256}  # measured: larger tiles waste less overlap, smaller tiles fit into caches
WORK_FRACTION = 0.6  # of the free memory, for the layers of a network
MAX_BATCH = 8  # tiles
BAND_ROWS = 128  # rows at a time for Lanczos
WARN_ABOVE = 60  # seconds from which the user is warned


@dataclass(frozen=True, eq=False)
class Enlarged:
    """Pixels, and the maximum side of the tiles: 0 if none were used."""

    pixels: np.ndarray
    tile: int = 0


EnlargedGenerator = Generator[Progress | Note, None, Enlarged]


def enlarged_size(pixels: np.ndarray, scale: float) -> tuple[int, int]:
    """Height and width of the result, at least one pixel."""
    return scaled_size(pixels.shape[:2], scale)


def enlarge(
    pixels: np.ndarray,
    network: Network | None,
    size: tuple[int, int],
    tiling: Tiling,
    models: Models,
    keep: float = 1.0,
) -> EnlargedGenerator:
    """Enlarges (H, W, C) pixels to `size` (height, width), same type and channels.

    If `size` exceeds the scale of the network, it runs several passes. Without a network, or with keep 0, Lanczos.

    Args:
        keep: weight of the network's output, 0 to 1; the rest is Lanczos.

    Raises:
        CalotypeError: the result, or the smallest tile, does not fit into memory.
    """
    _check_memory(pixels, size, models)
    if network is None or keep == 0:
        return Enlarged(resized_lanczos(pixels, size))
    enlarged = Enlarged(pixels)
    for pass_size in (*passes(pixels.shape[:2], network.scale, size)[1:], size):
        enlarged = yield from _pass(enlarged.pixels, network, pass_size, tiling, models)
    return enlarged if keep == 1 else Enlarged(blend_lanczos(enlarged.pixels, pixels, keep), enlarged.tile)


def passes(shape: tuple[int, int], scale: int, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of the input of each pass of a network that brings `shape` to `size`."""
    shapes = [shape]
    while size[0] > shapes[-1][0] * scale * 1.05 and scale > 1:
        shapes.append((shapes[-1][0] * scale, shapes[-1][1] * scale))
    return shapes


def _check_memory(pixels: np.ndarray, size: tuple[int, int], models: Models) -> None:
    """Raises PictureError for a result that does not fit into memory twice (pixels, and the encoder's copy)."""
    needed = 2 * size[0] * size[1] * pixels.shape[2] * pixels.itemsize
    free = models.free_memory(torch.device("cpu"), needed)
    if needed > free:
        raise PictureError(
            "a result of {width} x {height} pixels needs about {needed:.1f} GiB of memory and {free:.1f} are "
            "free; take a smaller {option:scale}",
            width=size[1],
            height=size[0],
            needed=needed / 2**30,
            free=free / 2**30,
        )


def enlarge_alpha(
    alpha: np.ndarray | None, network: Network | None, size: tuple[int, int], tiling: Tiling, models: Models
) -> Generator[Progress | Note, None, np.ndarray | None]:
    """Enlarges (H, W) transparency, or None, by the network or by Lanczos, as the task says.

    Where it is 0 or full all round, it stays so; at its own size it stays as it is.
    """
    if alpha is None or alpha.shape == size:
        return alpha
    if alpha.min() == alpha.max():
        return np.full(size, alpha[0, 0], alpha.dtype)
    channel = np.ascontiguousarray(alpha[..., None])
    enlarged = yield from enlarge(channel, network if tiling.alpha == "network" else None, size, tiling, models)
    keep_extremes(enlarged.pixels[..., 0], alpha)
    return enlarged.pixels[..., 0]


def resized_alpha(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) transparency resized by Lanczos, with `keep_extremes`."""
    resized = resized_lanczos(np.ascontiguousarray(alpha[..., None]), size)[..., 0]
    keep_extremes(resized, alpha)
    return resized


def keep_extremes(resized: np.ndarray, alpha: np.ndarray) -> None:
    """Sets `resized`, in place, to 0 or full where `alpha` is so at that place and all round it.

    Networks draw faint structure into empty areas, and Lanczos rings beside edges.
    """
    import cv2

    kernel = np.ones((3, 3), np.uint8)  # all round: the eight neighbours
    highest, lowest = cv2.dilate(alpha, kernel), cv2.erode(alpha, kernel)
    for axis, (old, new) in enumerate(zip(alpha.shape, resized.shape, strict=True)):
        if new < old:  # a pixel of the result covers several
            starts = np.arange(new) * old // new
            highest, lowest = np.maximum.reduceat(highest, starts, axis), np.minimum.reduceat(lowest, starts, axis)
    full = max_value(alpha.dtype)
    sizes = zip(resized.shape, highest.shape, strict=True)
    ys, xs = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in sizes)
    for top in range(0, len(ys), BAND_ROWS):
        rows = ys[top : top + BAND_ROWS, None]
        band = resized[top : top + BAND_ROWS]
        band[highest[rows, xs] == 0] = 0
        band[lowest[rows, xs] == full] = full


def resized_lanczos(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos resampling; pixels of the target size are returned unchanged."""
    if pixels.shape[:2] == size:
        return pixels
    return blend_lanczos(np.empty((*size, pixels.shape[2]), pixels.dtype), pixels, 0.0)


def blend_lanczos(result: np.ndarray, pixels: np.ndarray, keep: float) -> np.ndarray:
    """Blends a result with the Lanczos enlargement of `pixels`, in place: `keep` is the weight of the result."""
    height, width = result.shape[:2]
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, min(top + BAND_ROWS, height))
        plain = resized_region(pixels, (height, width), rows, slice(0, width))
        band = plain if keep == 0 else plain + keep * (to_tensor(result[rows]) - plain)
        result[rows] = to_pixels(band, result)
    return result


@dataclass(frozen=True)
class TilePlan:
    """The tile grid of a picture, the maximum side of its tiles, and the batch size."""

    tiles: Grid
    side: int
    batch: int


def plan_tiles(shape: tuple[int, int], network: Network, tiling: Tiling, free: int, max_side: int = 0) -> TilePlan:
    """Chooses tiles that fit into `free` bytes; `max_side` limits the side further (after running out of memory)."""
    side = tiling.tile or TILE.get(network.device.type, 256)
    if not tiling.tile:
        fits = int((free * WORK_FRACTION / network.bytes_per_pixel) ** 0.5)
        side = max(SMALLEST, min(side, fits // 16 * 16))
    if max_side:
        side = min(side, max_side)
    side = max(SMALLEST, side)
    tiles = _shrink_tiles(shape, grid(*shape, side, tiling.overlap, network.multiple), tiling.overlap, network.multiple)
    area = tiles.rows.tile * tiles.columns.tile
    batch = 1 if network.device.type == "cpu" else int(free * WORK_FRACTION / network.bytes_per_pixel / area)
    return TilePlan(tiles, side, max(1, min(MAX_BATCH, batch)))


def _full_memory(shape: tuple[int, int], network: Network, tiling: Tiling) -> float:
    """The free bytes with which `plan_tiles` takes the largest tiles and batches."""
    side = tiling.tile or TILE.get(network.device.type, 256)
    batch = 1 if network.device.type == "cpu" else MAX_BATCH
    return batch * network.bytes_per_pixel * min(side * side, shape[0] * shape[1]) / WORK_FRACTION


def _shrink_tiles(shape: tuple[int, int], tiles: Grid, overlap: int, multiple: int) -> Grid:
    """The same number of tiles, each as small as possible."""
    sides = []
    for size, axis in zip(shape, (tiles.rows, tiles.columns), strict=True):
        count = len(axis.starts)
        shared = (count - 1) * (min(overlap, axis.tile // 2) + multiple)
        sides.append(min(axis.tile, -(-(size + shared) // count)) if count > 1 else 0)
    rows, columns = (grid(*shape, side, overlap, multiple) for side in sides)
    return Grid(rows.rows, columns.columns)


def _pass(
    pixels: np.ndarray, network: Network, size: tuple[int, int], tiling: Tiling, models: Models
) -> EnlargedGenerator:
    """One pass through the network; on out of memory it halves the tile and restarts the pass.

    Compact networks on the processor go by rows instead of tiles, unless the size of tiles is given.
    """
    plan = None if tiling.tile else _row_plan(pixels, network, models)
    if plan:
        try:
            return Enlarged((yield from _by_rows(pixels, network, size, plan)))
        except (MemoryError, RuntimeError, NotFinite) as fault:
            if not (isinstance(fault, NotFinite) or is_out_of_memory(fault)):
                raise
    max_side = 0
    while True:
        free = models.free_memory(network.device, _full_memory(pixels.shape[:2], network, tiling))
        tile_plan = plan_tiles(pixels.shape[:2], network, tiling, free, max_side)
        try:
            return Enlarged((yield from _rows(pixels, network, size, tile_plan)), tile_plan.side)
        except (MemoryError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
        if models.cache.remove_idle():
            continue
        side = max(tile_plan.tiles.rows.tile, tile_plan.tiles.columns.tile)
        if side <= SMALLEST:
            raise PictureError(
                "there is not enough memory even for tiles of {side} pixels; close other programs or use "
                "{option:model} {quick_model}",
                side=side,
                quick_model=quick_upscaler("photo", network.scale),
            )
        max_side = max(SMALLEST, side // 2)
        yield note("out of memory with tiles of {side} pixels, continuing with {most}", side=side, most=max_side)


def _row_plan(pixels: np.ndarray, network: Network, models: Models) -> RowPlan | None:
    """How to compute a picture by rows; None where the network, or the memory, does not allow it."""
    chain = network.chain
    if chain is None:
        return None
    plan = plan_rows(pixels.shape[:2], torch.get_num_threads())
    needed = memory_of(plan, chain, network) / WORK_FRACTION
    return plan if needed < models.free_memory(network.device, needed) else None


def _by_rows(
    pixels: np.ndarray, network: Network, size: tuple[int, int], plan: RowPlan
) -> Generator[Progress | Note, None, np.ndarray]:
    result = np.empty((*size, pixels.shape[2]), pixels.dtype)
    clock, brightening = TileClock(plan.bands, network), _brightening(pixels)
    resizer = Resizer(plan.height * network.scale, plan.width * network.scale, *size)
    yield clock.progress(0)
    with contextlib.closing(enlarged_rows(pixels, network, network.chain, plan, brightening)) as bands:
        for n, band in enumerate(bands, 1):
            for top, rows in resizer.push(band) if band.shape[1] else ():
                result[top : top + rows.shape[1]] = to_pixels(rows / brightening, pixels)
            yield clock.progress(n)
            yield from clock.warning(n)
    return result


def _rows(
    pixels: np.ndarray, network: Network, size: tuple[int, int], tile_plan: TilePlan
) -> Generator[Progress | Note, None, np.ndarray]:
    result = np.empty((*size, pixels.shape[2]), pixels.dtype)
    tiles, clock, brightening = tile_plan.tiles, TileClock(len(tile_plan.tiles), network), _brightening(pixels)
    blend, flat = Blend(tiles, network.scale), FlatTiles(network)
    resizer = Resizer(blend.height, blend.width, *size)
    positions = [(row, column) for row in range(len(tiles.rows.starts)) for column in range(len(tiles.columns.starts))]
    yield clock.progress(0)
    for n in range(0, len(positions), tile_plan.batch):
        batch = positions[n : n + tile_plan.batch]
        for position, tile in zip(
            batch, _enlarged(_stack(pixels, tiles, batch) * brightening, network, flat), strict=True
        ):
            for _, band in blend.lay(*position, tile):
                for top, rows in resizer.push(band[:, :, : blend.width]):
                    result[top : top + rows.shape[1]] = to_pixels(rows / brightening, pixels)
        yield clock.progress(n + len(batch))
        yield from clock.warning(n + len(batch))
    return result


def _brightening(pixels: np.ndarray) -> float:
    """Gain for a dark 16-bit scan, as the network does not resolve very small values."""
    brightest = int(pixels.max()) / max_value(pixels.dtype)
    return 0.9 / brightest if pixels.dtype == np.uint16 and 0 < brightest < 0.25 else 1.0


def _stack(pixels: np.ndarray, tiles: Grid, positions: list[tuple[int, int]]) -> Tensor:
    return torch.stack([to_tensor(tiles.cut(pixels, *position)) for position in positions])


def _enlarged(stack: Tensor, network: Network, flat: FlatTiles) -> list[Tensor]:
    """(N, C, h, w) -> N enlarged tiles; the network computes those with detail, in one batch."""
    results = [flat.enlarged(tile) for tile in stack]
    detailed = [n for n, result in enumerate(results) if result is None]
    if detailed:
        for n, tile in zip(detailed, network(stack if len(detailed) == len(stack) else stack[detailed]), strict=True):
            results[n] = tile
    return results


class TileClock:
    """Estimates the remaining time of a pass from the finished tiles, without the first one, which warms up."""

    def __init__(self, total: int, network: Network):
        self._total, self._network = total, network
        self._started = self._first = time.monotonic()
        self._first_done = 0
        self._warned = False

    def progress(self, done: int) -> Progress:
        if done and not self._first_done:
            self._first, self._first_done = time.monotonic(), done
        return Progress(done, self._total, "tiles", self._remaining(done))

    def _remaining(self, done: int) -> float | None:
        if not done:
            return None
        timed = done - self._first_done
        seconds_per_tile = (time.monotonic() - self._first) / timed if timed else (self._first - self._started) / done
        return seconds_per_tile * (self._total - done)

    def warning(self, done: int) -> Iterator[Note]:
        """After two tiles, if the pass takes over a minute: the duration, and a faster model."""
        if self._warned or done < min(2, self._total) or done == self._total:
            return
        self._warned = True
        remaining = self._remaining(done)
        if remaining > WARN_ABOVE:
            quick = quick_upscaler("photo", self._network.scale)
            sentence = "this will take about {duration}; {quick_model} would be much faster"
            if self._network.chain or self._network.name in AUTOMATIC["quick"]:
                sentence = "this will take about {duration}"
            yield note(sentence, duration=duration(remaining), quick_model=quick)
