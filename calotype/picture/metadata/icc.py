"""ICC profiles: reading what is needed of them, building small ones, and conversion to sRGB.

Profiles built here are version 4, of the matrix and curve kind, the same bytes for the same arguments.
"""

import io
import struct
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from calotype.picture.alpha import by_rows

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")  # profiles of pixels; the others convert or name colours
_DATE = struct.pack(">6H", 1999, 10, 18, 0, 0, 0)  # of the sRGB standard
_D50 = (0.9642, 1.0, 0.8249)  # XYZ of the white of every profile
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Primaries = tuple[float, float, float, float, float, float, float, float]  # x, y of white, red, green, blue


@dataclass(frozen=True)
class Curve:
    """Converts a sample in [0, 1] to linear light: (a x + b)^gamma from d on, c x below it; or a table."""

    gamma: float = 1.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    table: tuple[int, ...] = ()  # 2 to 4096 values of 16 bits, evenly spaced; replaces the formula

    def linear(self, samples: np.ndarray) -> np.ndarray:
        """Linear light of samples in [0, 1]."""
        if self.table:
            return np.interp(samples, np.linspace(0, 1, len(self.table)), np.array(self.table) / 65_535)
        return np.where(samples < self.d, self.c * samples, np.maximum(self.a * samples + self.b, 0) ** self.gamma)

    @classmethod
    def of(cls, data: bytes) -> "Curve | None":
        """From the data of a profile's curve, `curv` or `para`; None where it is neither."""
        kind, count = data[:4], int.from_bytes(data[8:12], "big")
        if kind == b"curv" and count <= 65_536 and len(data) >= 12 + 2 * count:
            if count < 2:
                return cls(int.from_bytes(data[12:14], "big") / 256 if count else 1.0)
            return cls(table=struct.unpack_from(f">{count}H", data, 12))
        function = int.from_bytes(data[8:10], "big")
        if kind != b"para" or function > 4 or len(data) < 12 + 4 * (number := (1, 3, 4, 5, 7)[function]):
            return None
        gamma, *rest = (value / 65_536 for value in struct.unpack_from(f">{number}i", data, 12))
        a, b, c, d = (*rest[:4], *(1.0, 0.0, 0.0, 0.0)[len(rest[:4]) :])
        if function in (1, 2):  # below the straight line's end they are 0, or a constant, which photos have no use for
            return cls(gamma, a, b, 0.0, -b / a if a else 0.0)
        return cls(gamma, a, b, c, d)


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB_PRIMARIES: Primaries = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_PRIMARIES: Primaries = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def srgb_encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> samples in [0, 1] by sRGB's curve."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def space_of(icc: bytes) -> str | None:
    """The Pillow mode of the pixels a profile is for; None if it is broken or for another colour space."""
    is_valid = len(icc) >= 132 and icc[36:40] == b"acsp" and int.from_bytes(icc[:4], "big") <= len(icc)
    return _SPACES.get(icc[16:20]) if is_valid and icc[12:16] in _CLASSES else None


@lru_cache(16)
def is_usable(icc: bytes) -> bool:
    """Whether Little CMS can convert from this profile."""
    mode = space_of(icc)
    return mode is not None and to_srgb(icc, mode) is not None


def tag_of(icc: bytes, name: bytes) -> bytes | None:
    """The data of an entry of a profile, None where there is none."""
    count = min(int.from_bytes(icc[128:132], "big"), 256)
    for at in range(132, 132 + 12 * count, 12):
        if icc[at : at + 4] == name and at + 12 <= len(icc):
            offset, size = struct.unpack_from(">II", icc, at + 4)
            return icc[offset : offset + size] if offset + size <= len(icc) else None
    return None


def light_of(icc: bytes | None, channels: int, dtype: np.dtype) -> np.ndarray:
    """(channels, 256 or 65536): the linear light, 0 to 1, of each sample value, by the curves of a profile; by sRGB's
    where it has none."""
    names = ((b"kTRC", b"gTRC"),) if channels == 1 else ((b"rTRC",), (b"gTRC",), (b"bTRC",))  # grey stored as RGB, too
    tags = [next((tag for name in each if icc and (tag := tag_of(icc, name))), None) for each in names]
    curves = [Curve.of(tag) if tag else None for tag in tags]
    samples = np.linspace(0, 1, np.iinfo(dtype).max + 1)
    light = np.stack([(curve or SRGB_CURVE).linear(samples) for curve in curves])
    return np.maximum.accumulate(np.nan_to_num(light).clip(0, 1), axis=1)


@cache
def srgb() -> bytes:
    """The sRGB profile. Little CMS writes the current time into it; replaced by the date of the standard."""
    from PIL import ImageCms

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = _DATE
    return bytes(data)


def rgb_to_d50(primaries: Primaries) -> np.ndarray:
    """(3, 3): linear RGB -> XYZ adapted to D50. Raises ValueError if the primaries span no colours."""
    return _to_d50(np.array(primaries[:2])) @ rgb_to_xyz(primaries)


def rgb_to_xyz(primaries: Primaries) -> np.ndarray:
    """(3, 3): linear RGB -> XYZ with the white's own Y = 1. Raises ValueError if the primaries span no colours."""
    white, *corners = np.array(primaries, float).reshape(4, 2)
    if not np.isfinite(primaries).all() or white[1] <= 0 or any(corner[1] < -1 for corner in corners):
        raise ValueError("primaries without colours")
    columns = np.array([(x, y, 1 - x - y) for x, y in corners]).T
    if abs(np.linalg.det(columns)) < 1e-4:
        raise ValueError("primaries on one line")
    return columns * np.linalg.solve(columns, _xyz(white))


def _xyz(xy: np.ndarray) -> np.ndarray:
    return np.array([xy[0], xy[1], 1 - xy[0] - xy[1]]) / xy[1]


def _to_d50(white: np.ndarray) -> np.ndarray:
    """(3, 3): XYZ under a white (x, y) -> XYZ under D50, by Bradford's adaptation."""
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz(white))
    return np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """(..., 3): CIE Lab under D50 -> sRGB in [0, 1], clipped."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array(_D50)
    to_rgb = np.linalg.inv(rgb_to_d50(SRGB_PRIMARIES))
    return srgb_encoded((xyz @ to_rgb.T).clip(0, 1))


def rgb_profile(name: str, primaries: Primaries, curves: tuple[Curve, ...]) -> bytes:
    """A profile for RGB pixels; `curves` are one, or one for each channel.

    Raises:
        ValueError: the primaries span no colours.
    """
    columns = rgb_to_d50(primaries).T
    entries = {b"chad": b"sf32\0\0\0\0" + _fixed(*_to_d50(np.array(primaries[:2])).flat)}
    for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True):
        entries[tag] = b"XYZ \0\0\0\0" + _fixed(*column)
    for tag, curve in zip((b"rTRC", b"gTRC", b"bTRC"), curves * 3 if len(curves) == 1 else curves, strict=True):
        entries[tag] = _curve(curve)
    return _profile(name, b"RGB ", entries)


def grey_profile(name: str, curve: Curve | bytes) -> bytes:
    """A profile for grey pixels; `curve` may be the data of another profile's curve."""
    return _profile(name, b"GRAY", {b"kTRC": curve if isinstance(curve, bytes) else _curve(curve)})


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65_536)) for value in values)


def _curve(curve: Curve) -> bytes:
    if curve.table:
        return b"curv\0\0\0\0" + struct.pack(f">I{len(curve.table)}H", len(curve.table), *curve.table)
    if (curve.a, curve.b, curve.d) == (1, 0, 0):
        return b"para\0\0\0\0\0\0\0\0" + _fixed(curve.gamma)
    return b"para\0\0\0\0\0\3\0\0" + _fixed(curve.gamma, curve.a, curve.b, curve.c, curve.d)


def _text(words: str) -> bytes:
    data = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(data), 28) + data


def _profile(name: str, space: bytes, entries: dict[bytes, bytes]) -> bytes:
    described = {b"desc": _text(name), b"cprt": _text("No copyright"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50)}
    entries = described | entries
    body, table, places = b"", b"", {}
    start = 128 + 4 + 12 * len(entries)
    for tag, data in entries.items():
        if data not in places:  # equal curves are stored once
            places[data] = start + len(body)
            body += data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += tag + struct.pack(">II", places[data], len(data))
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x04200000, b"mntr", space, b"XYZ ")
    head += _DATE + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(entries)) + table + body


def in_srgb(samples: np.ndarray, icc: bytes) -> np.ndarray:
    """(H, W, 1 or 3) 8-bit samples in a profile -> the same shape in sRGB."""
    channels = samples.shape[2]
    transform = to_srgb(icc, {1: "L", 3: "RGB"}[channels])
    if transform is None:
        return samples

    def converted(band: np.ndarray) -> np.ndarray:
        image = Image.fromarray(band[:, :, 0] if channels == 1 else np.ascontiguousarray(band))
        return np.asarray(transform(image))[:, :, :channels]

    return by_rows(converted, samples)


def to_srgb(icc: bytes | None, mode: str):
    """A function from a Pillow image of this mode to an sRGB one; None where no profile fits."""
    from PIL import ImageCms

    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif icc is not None and space_of(icc) == mode:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        else:
            return None
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def to_rgb(image: Image.Image) -> Image.Image:
        return ImageCms.applyTransform(image, transform)

    return to_rgb
