"""Periodic texture of a print: the weave of silk paper, honeycomb, a halftone raster, lines of a scanner.

What belongs to the paper repeats over the whole print, what belongs to the picture does not. So the spectrum that most
windows of a scan have in common shows the paper alone: a bin that stands out there from others of its radius is damped
to their level, in every window. Averaged spectra for finding a raster: Sur & Grediac 2015, "Automated removal of
quasiperiodic noise using frequency domain statistics"; the gate and its thresholds were measured on our own sets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from calotype.ops import channels
from calotype.ops.resize import averaged

WINDOW = 128  # pixels
COMMON = 0.3  # quantile over the windows: what seven in ten of them have
WINDOWS = 20  # a side at most, for measuring
FEWEST = 9  # windows in which something can be told from chance
FLAT = 1.5 / 255  # standard deviation of a window without content: it says nothing
PERIODS, PERIODS_REDUCED = 40, 64  # of a paper's texture along the shorter side, at least: fences have fewer
FINEST, COARSEST = 0.4, 0.12  # cycles a pixel: sharpened and enlarged pixels stand above, the picture below
THRESHOLD = 2.8  # natural logarithm of a bin over its ring; clean photos stay below 2.3
ASKED_THRESHOLD = 1.5  # where somebody says that there is one
COARSE_THRESHOLD, COARSE_RATIO = 1.5, 0.5  # of coarser bins: so strong, the picture repeats; fine bins are harmonics
GRID_RATIO, GRID_WIDTH, AXIS = 0.6, 3.5 / WINDOW, 2.5 / WINDOW  # of grids of pixels: see _is_grid
DAMPED = 0.7  # excess from which a bin is damped
SMALLEST = 384  # shorter side of a copy that is searched for coarser texture

_Y, _X = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)[None]
_RADIUS = np.hypot(_Y, _X)
_RING = np.round(_RADIUS * WINDOW).astype(int)
_GRIDS = np.array([1 / 8, 1 / 4, 3 / 8, 1 / 3])  # harmonics of JPEG's blocks, and of enlarged pixels
_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)  # periodic: squared roots of two that overlap by half add to 1
_TAPER = np.sqrt(np.outer(_HANN, _HANN))


@dataclass(frozen=True, eq=False)
class Texture:
    """What repeats over a whole picture."""

    excess: float  # natural logarithm of the strongest bin over others of its radius
    reduction: int = 1  # it was found in a copy smaller by this
    gain: np.ndarray | None = None  # (WINDOW, WINDOW // 2 + 1), of each bin; None where there is no texture


def measure_texture(pixels: np.ndarray, threshold: float = THRESHOLD) -> Texture:
    """Searches a picture, and smaller copies of it, for periodic texture.

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
        threshold: of `Texture.excess`.
    """
    strongest, reduction = 0.0, 1
    grey = _grey(pixels)
    while reduction == 1 or min(grey.shape) // reduction >= SMALLEST:
        texture = _texture_of(_reduced(grey, reduction), reduction, threshold)
        if texture.gain is not None:
            return texture
        strongest, reduction = max(strongest, texture.excess), 2 * reduction
    return Texture(strongest)


def remove_texture(pixels: np.ndarray, texture: Texture) -> np.ndarray:
    """The picture without its texture, of the same type and size; the pixels themselves where there is none."""
    if texture.gain is None:
        return pixels
    limit = np.iinfo(pixels.dtype).max
    small = _reduced(pixels, texture.reduction)
    out = np.empty_like(pixels)
    for channel in range(pixels.shape[2]):
        plane = small[..., channel].astype(np.float32)
        change = _filtered(plane, texture.gain) - plane
        if texture.reduction > 1:
            change = cv2.resize(change, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        out[..., channel] = np.rint(np.clip(pixels[..., channel] + change, 0, limit))
    return out


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32 from 0 to 1."""
    return channels.mean(pixels) / np.iinfo(pixels.dtype).max


def _reduced(pixels: np.ndarray, by: int) -> np.ndarray:
    if by == 1:
        return pixels
    height, width = (side // by for side in pixels.shape[:2])
    return averaged(pixels, height, width)


def _texture_of(grey: np.ndarray, reduction: int, threshold: float) -> Texture:
    windows = _sampled(grey)
    if len(windows) < FEWEST:
        return Texture(0.0)
    windows = (windows - windows.mean((1, 2), keepdims=True)) * _TAPER**2
    common = np.quantile(np.log(np.abs(np.fft.rfft2(windows)) + 1e-3), COMMON, axis=0)
    excess = common - _of_rings(common)
    excess[_is_grid(excess)] = 0
    periods = PERIODS if reduction == 1 else PERIODS_REDUCED
    coarsest = max(COARSEST, periods / min(grey.shape))
    is_fine = (coarsest <= _RADIUS) & (_RADIUS <= FINEST)
    is_coarse = (_RADIUS > 2.5 / WINDOW) & (coarsest > _RADIUS)
    strongest = float(excess[is_fine].max(initial=0))
    coarse = float(excess[is_coarse].max(initial=0))
    if strongest < threshold or coarse > max(COARSE_THRESHOLD, COARSE_RATIO * strongest):
        return Texture(strongest)
    is_damped = is_fine & (cv2.dilate((excess > DAMPED).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    gain = np.where(is_damped, np.exp(-np.clip(excess, 0, None)), 1).astype(np.float32)
    return Texture(strongest, reduction, gain)


def _sampled(grey: np.ndarray) -> np.ndarray:
    """(N, WINDOW, WINDOW): windows with content, evenly spread."""
    if min(grey.shape) < WINDOW:
        return np.empty((0, WINDOW, WINDOW), np.float32)
    rows, columns = (
        np.unique(np.linspace(0, side - WINDOW, min(WINDOWS, 1 + (side - WINDOW) // (WINDOW // 2))).astype(int))
        for side in grey.shape
    )
    windows = np.stack([grey[y : y + WINDOW, x : x + WINDOW] for y in rows for x in columns])
    return windows[windows.std((1, 2)) > FLAT]


def _of_rings(spectrum: np.ndarray) -> np.ndarray:
    """The median of all bins with the same radius, at each of them."""
    medians = np.array([np.median(spectrum[ring == _RING]) for ring in range(_RING.max() + 1)])
    return medians[_RING]


def _is_grid(excess: np.ndarray) -> np.ndarray:
    """Bins of the grid of JPEG's blocks or of enlarged pixels: it is alike in both directions, at known frequencies."""
    rows = excess[: WINDOW // 2 + 1, :2].max(1)
    columns = excess[:2].max(0)
    both = np.minimum(rows, columns) > GRID_RATIO * np.maximum(rows, columns)
    near = np.abs(np.arange(WINDOW // 2 + 1)[:, None] / WINDOW - _GRIDS).min(1) < GRID_WIDTH
    is_grid = (both & near)[np.minimum(_RING, WINDOW // 2)]
    return is_grid & ((np.abs(_Y) < AXIS) | (_X < AXIS))


def _filtered(plane: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(H, W) float32 with the gain on the spectrum of each window; windows overlap by half."""
    step = WINDOW // 2
    height, width = plane.shape
    padded = np.pad(plane, ((step, step + -height % step), (step, step + -width % step)), "symmetric")
    out = np.zeros_like(padded)
    for top, band in _bands(padded, step):
        means = band.mean((1, 2), keepdims=True)
        spectrum = np.fft.rfft2((band - means) * _TAPER) * gain
        done = (np.fft.irfft2(spectrum, s=(WINDOW, WINDOW)).astype(np.float32) + means * _TAPER) * _TAPER
        for column, window in enumerate(done):
            left = column * step
            out[top : top + WINDOW, left : left + WINDOW] += window
    return out[step : step + height, step : step + width]


def _bands(padded: np.ndarray, step: int) -> Iterator[tuple[int, np.ndarray]]:
    """The windows of each row of windows."""
    columns = range(0, padded.shape[1] - WINDOW + 1, step)
    for top in range(0, padded.shape[0] - WINDOW + 1, step):
        yield top, np.stack([padded[top : top + WINDOW, left : left + WINDOW] for left in columns])
