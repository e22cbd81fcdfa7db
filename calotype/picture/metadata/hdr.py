"""HDR (PQ and HLG, BT.2100) converted to SDR.

The light of a display is computed in cd/m2, HLG for one of 1,000 cd/m2. `WHITE`, BT.2408's reference for graphics and
diffuse white, becomes white. The primaries become Display P3, colours outside of which are clipped. Where the brightest
pixels exceed white, the largest of each pixel's three channels is compressed by the curve of BT.2390 (section 5.4.1),
and the other two by the same factor, so that hues stay; a picture without such pixels keeps its values.
"""

import numpy as np

from calotype.picture.alpha import by_rows
from calotype.picture.metadata.icc import P3_PRIMARIES, Primaries, rgb_to_d50, rgb_to_xyz, srgb_encoded

WHITE = 203  # cd/m2
_HLG_PEAK = 1000  # cd/m2
_BAND = 1 << 20  # pixels counted at a time
_HIGHLIGHTS = 1e-3  # part of the pixels that may be brighter than what counts as the brightest


def to_sdr(colour: np.ndarray, kind: str, primaries: Primaries) -> tuple[np.ndarray, float]:
    """(H, W, 1 or 3) uint8 or uint16 samples -> the same in Display P3 (or grey), and their brightness in cd/m2.

    Args:
        kind: "PQ" or "HLG".
    """
    max_value = np.iinfo(colour.dtype).max
    codes = np.linspace(0, 1, max_value + 1)
    luminance = rgb_to_xyz(primaries)[1].astype(np.float32)
    to_p3 = (np.linalg.inv(rgb_to_d50(P3_PRIMARIES)) @ rgb_to_d50(primaries)).astype(np.float32)
    light = (_pq_light(codes) if kind == "PQ" else _hlg_scene(codes)).astype(np.float32)
    brightest = _brightest(colour)
    peak = float(_pq_light(brightest) if kind == "PQ" else _HLG_PEAK * _hlg_scene(brightest) ** 1.2)
    points = _pq_light(np.linspace(0, 1, 4096))
    factors = _compressed(points, peak) / np.maximum(points, 1e-6) / WHITE

    def converted(band: np.ndarray) -> np.ndarray:
        linear = light[band]
        if kind == "HLG":
            y = linear @ luminance if linear.shape[2] == 3 else linear[:, :, 0]
            linear = linear * (_HLG_PEAK * y[:, :, None] ** 0.2)
        linear = (linear @ to_p3.T if linear.shape[2] == 3 else linear).clip(0)
        linear = linear * np.interp(linear.max(axis=2), points, factors)[:, :, None].astype(np.float32)
        return np.rint(srgb_encoded(linear.clip(0, 1)) * max_value).astype(colour.dtype)

    return by_rows(converted, colour), peak


def _brightest(colour: np.ndarray) -> float:
    """The largest sample, in [0, 1], with a thousandth of the pixels left out."""
    max_value = int(np.iinfo(colour.dtype).max)
    counts = np.zeros(max_value + 1, np.int64)
    rows = max(1, _BAND // colour.shape[1])
    for top in range(0, len(colour), rows):
        counts += np.bincount(colour[top : top + rows].max(axis=2).ravel(), minlength=max_value + 1)
    brighter = counts[::-1].cumsum()[::-1]  # pixels at least as bright as this code
    return np.flatnonzero(brighter > _HIGHLIGHTS * brighter[0])[-1] / max_value


def _compressed(light: np.ndarray, peak: float) -> np.ndarray:
    """The curve of BT.2390: light in cd/m2 from 0 to `peak` -> 0 to WHITE."""
    if peak <= WHITE:
        return np.minimum(light, WHITE)
    max_code = _pq_code(np.array(WHITE)) / _pq_code(np.array(peak))
    knee = 1.5 * max_code - 0.5
    x = np.minimum(_pq_code(light) / _pq_code(np.array(peak)), 1)
    t = (x - knee) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * max_code
    return _pq_light(np.where(x < knee, x, bent) * _pq_code(np.array(peak)))


def _pq_light(code: np.ndarray | float) -> np.ndarray:
    """BT.2100's EOTF: a PQ sample in [0, 1] -> cd/m2."""
    root = np.asarray(code, float) ** (32 / 2523)
    return 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def _pq_code(light: np.ndarray) -> np.ndarray:
    """cd/m2 -> a PQ sample in [0, 1]."""
    root = (light / 10_000) ** (2610 / 16384)
    return ((107 / 128 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)


def _hlg_scene(code: np.ndarray | float) -> np.ndarray:
    """BT.2100's inverse OETF: an HLG sample in [0, 1] -> light of the scene, in [0, 1]."""
    code = np.asarray(code, float)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
