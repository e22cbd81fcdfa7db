"""The colour space of a picture's pixels: the one place that turns everything a file says about it into an ICC profile.

A file may say it by an ICC profile, by the code points of ITU-T H.273 (nclx in HEIC and AVIF, cICP in PNG), by PNG's
sRGB, gAMA and cHRM, or in its EXIF. Without any of them the pixels are sRGB, for which no profile is kept.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from calotype.picture import notes as about
from calotype.picture.alpha import by_rows
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import hdr
from calotype.picture.metadata import icc as profiles
from calotype.picture.metadata.exif import Directory, Exif
from calotype.picture.metadata.icc import P3_PRIMARIES, SRGB_CURVE, SRGB_PRIMARIES, Curve, Primaries

_D65, _C, _E = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)
_BT_601 = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
ADOBE_RGB: Primaries = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_CURVE = Curve(563 / 256)
_WIDE_GAMUT: Primaries = (0.3457, 0.3585, 0.7347, 0.2653, 0.1152, 0.8264, 0.1566, 0.0177)

# ITU-T H.273, table 2: ColourPrimaries
_PRIMARIES: dict[int, tuple[str, Primaries]] = {
    1: ("BT.709", SRGB_PRIMARIES),
    4: ("BT.470 System M", (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.601 625", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601 525", _BT_601),
    7: ("SMPTE 240M", _BT_601),
    8: ("Generic film", (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    10: ("CIE XYZ", (*_E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    11: ("DCI-P3", (0.314, 0.351, *P3_PRIMARIES[2:])),
    12: ("P3-D65", P3_PRIMARIES),
    22: ("EBU Tech 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
# ITU-T H.273, table 3: TransferCharacteristics. The inverse of each formula there; the camera curves of BT.709 and its
# kin are inverted, too, and not replaced by a display's curve.
_BT_709_CURVE = Curve(1 / 0.45, 1 / 1.09929682680944, 0.09929682680944 / 1.09929682680944, 1 / 4.5, 0.0812428582986)
_LINEAR = Curve(1.0)


def _logarithmic(decades: float) -> Curve:
    return Curve(table=(0, *(round(65_535 * 10 ** (decades * (x / 1023 - 1))) for x in range(1, 1024))))


_TRANSFERS: dict[int, tuple[str, Curve]] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), ("BT.709", _BT_709_CURVE)),
    4: ("gamma 2.2", Curve(2.2)),
    5: ("gamma 2.8", Curve(2.8)),
    7: ("SMPTE 240M", Curve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912)),
    8: ("linear", _LINEAR),
    9: ("logarithmic", _logarithmic(2.0)),
    10: ("logarithmic", _logarithmic(2.5)),
    13: ("sRGB", SRGB_CURVE),
    17: ("gamma 2.6", Curve(2.6)),
}
_NAMES = {(1, 1): "BT.709", (12, 13): "Display P3"}
_CAMERA_PRIMARIES = (("Adobe RGB (1998)", ADOBE_RGB), ("Wide Gamut", _WIDE_GAMUT))
_UNSPECIFIED = 2
_HDR = {16: "PQ", 18: "HLG"}

_COLOR_SPACE, _GAMMA, _INTEROP_INDEX = 40961, 42240, 1
_TRANSFER_FUNCTION, _WHITE_POINT, _CHROMATICITIES = 301, 318, 319


@dataclass(frozen=True)
class Cicp:
    """Code points of ITU-T H.273; 2 is unspecified."""

    primaries: int
    transfer: int
    is_full_range: bool = True  # of the decoded RGB samples: decoders of HEIC and AVIF always return full range

    @property
    def is_unspecified(self) -> bool:
        return self.primaries == self.transfer == _UNSPECIFIED


@dataclass(frozen=True)
class ColorTags:
    """What a file says about its colour space besides ICC profile and EXIF."""

    cicp: Cicp | None = None
    is_cicp_first: bool = False  # it replaces the ICC profile, as in PNG; in HEIC and AVIF the profile is used
    is_srgb: bool = False
    gamma: float | None = None  # exponent that encodes: 0.45455, 1.0 for linear samples
    chromaticities: Primaries | None = None


@dataclass(frozen=True)
class _Space:
    """Primaries (None: those of sRGB) and curves; or HDR; or a profile as found."""

    name: str = "sRGB"
    primaries: Primaries = SRGB_PRIMARIES
    curves: tuple[Curve, ...] = (SRGB_CURVE,)
    hdr: str = ""  # PQ, HLG
    icc: bytes | None = None
    is_full_range: bool = True

    @property
    def is_steep(self) -> bool:
        """Whether 8 bits are too few for dark colours, or networks would see a wrong contrast: linear samples, logs."""
        return not self.icc and not self.hdr and any(not 0.11 < curve.linear(0.5) < 0.35 for curve in self.curves)

    def with_srgb_curve(self) -> "_Space":
        """The same primaries, named by what they are, with the curve of sRGB."""
        named = (*_PRIMARIES.values(), *_CAMERA_PRIMARIES)
        name = next((name for name, known in named if np.allclose(self.primaries, known, atol=0.0015)), self.name)
        return replace(self, name="Display P3" if name == "P3-D65" else f"{name}, sRGB", curves=(SRGB_CURVE,))

    def profile(self, channels: int) -> bytes | None:
        """The profile for pixels with so many channels; None for sRGB. Raises ValueError for impossible primaries."""
        if self.icc is not None:
            return self.icc
        if self.curves == (SRGB_CURVE,) and (channels == 1 or np.allclose(self.primaries, SRGB_PRIMARIES, atol=0.0015)):
            return None
        if channels == 1:
            return profiles.grey_profile(self.name, self.curves[0])
        return profiles.rgb_profile(self.name, self.primaries, self.curves)


def resolved(
    colour: np.ndarray, icc: bytes | None, tags: ColorTags, exif: Exif | None
) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Pixels, the profile that they are in (None: sRGB), and notes.

    The pixels are the same array unless they were HDR or of narrow range. The first of these that is usable decides:
    cICP of a PNG, ICC profile, nclx, sRGB chunk, gAMA and cHRM, EXIF.

    Args:
        colour: (H, W, 1 or 3) uint8 or uint16.
        icc: the profile that the decoder returned with the pixels.
    """
    notes: list[str] = []
    channels = colour.shape[2]
    for space in _spaces(icc, tags, exif, channels, notes):
        try:
            profile = space.profile(channels)
        except ValueError:
            notes.append(about.IMPOSSIBLE_PRIMARIES.format(space=space.name))
            continue
        if not space.is_full_range:
            colour = _full_range(colour)
        if space.is_steep:
            colour, profile = _with_srgb_curve(colour, space), space.with_srgb_curve().profile(channels)
            notes.append(about.SRGB_CURVE.format(space=space.name))
        if space.hdr:
            colour, peak = hdr.to_sdr(colour, space.hdr, space.primaries)
            profile = None if channels == 1 else _display_p3()
            notes.append(_hdr_note(space.hdr, peak, channels))
        return colour, profile, tuple(notes)
    return colour, None, tuple(notes)


def _hdr_note(kind: str, peak: float, channels: int) -> str:
    """The note about tone mapping; `peak` is in cd/m2."""
    into = "SDR" if channels == 1 else "SDR in Display P3"
    template = about.HDR_COMPRESSED if peak > hdr.WHITE else about.HDR
    return template.format(transfer=kind, result=into, white=hdr.WHITE, peak=f"{peak:.0f}")


def _spaces(icc: bytes | None, tags: ColorTags, exif: Exif | None, channels: int, notes: list[str]) -> Iterator[_Space]:
    """What the file says, the decisive statement first; adds notes about statements that are not usable."""
    if tags.cicp and tags.is_cicp_first:
        yield from _of_cicp(tags.cicp, notes)
    if icc:
        yield from _of_icc(icc, channels, notes)
    if tags.cicp and not tags.is_cicp_first:
        yield from _of_cicp(tags.cicp, notes)
    if tags.is_srgb:
        yield _Space()
    yield from _of_gamma(tags)
    if exif:
        yield from _of_exif(exif)


def _of_cicp(cicp: Cicp, notes: list[str]) -> Iterator[_Space]:
    if cicp.is_unspecified:
        return
    primaries = _PRIMARIES.get(1 if cicp.primaries == _UNSPECIFIED else cicp.primaries)
    transfer = _TRANSFERS.get(13 if cicp.transfer == _UNSPECIFIED else cicp.transfer)
    if primaries is None or (transfer is None and cicp.transfer not in _HDR):
        notes.append(about.UNKNOWN_CODES.format(primaries=cicp.primaries, transfer=cicp.transfer))
        return
    space = _Space(primaries[0], primaries[1], is_full_range=cicp.is_full_range, hdr=_HDR.get(cicp.transfer, ""))
    if transfer is not None:
        name = _NAMES.get((cicp.primaries, cicp.transfer), f"{primaries[0]}, {transfer[0]}")
        space = replace(space, name=name, curves=(transfer[1],))
    yield space


def _of_icc(icc: bytes, channels: int, notes: list[str]) -> Iterator[_Space]:
    mode = profiles.space_of(icc)
    expected = {1: "L", 3: "RGB"}[channels]
    cicp = profiles.tag_of(icc, b"cicp") if mode == expected else None
    if cicp and len(cicp) >= 12 and cicp[9] in _HDR:
        yield from _of_cicp(Cicp(cicp[8], cicp[9], bool(cicp[11])), notes)
    is_usable = profiles.is_usable(icc)
    if is_usable and mode == expected:
        yield _Space(icc=icc)
    elif is_usable and (mode, expected) == ("RGB", "L") and (curve := profiles.tag_of(icc, b"rTRC")):
        yield _Space(icc=profiles.grey_profile("Grey of an RGB profile", curve))
    else:
        notes.append(
            "its colour profile is for other colours than the pixels' and is left out"
            if is_usable
            else "its colour profile is damaged and is left out"
        )


def _of_gamma(tags: ColorTags) -> Iterator[_Space]:
    if tags.gamma is None and tags.chromaticities is None:
        return
    space = _Space("PNG chromaticities", tags.chromaticities or SRGB_PRIMARIES)
    if tags.gamma is not None:
        exponent = 1 / tags.gamma
        space = replace(space, name=f"Gamma {exponent:.4g}", curves=(Curve(exponent),))
    yield space


def _of_exif(exif: Exif) -> Iterator[_Space]:
    """AdobeRGB by ColorSpace or by DCF's interoperability index R03; primaries and curves of EXIF and TIFF."""
    color_space = (_numbers(exif, exif.photo, _COLOR_SPACE) or [0])[0]
    index = exif.interop.get(_INTEROP_INDEX)
    if color_space == 1:
        yield _Space()
    if color_space == 2 or (index is not None and index.data.startswith(b"R03")):
        yield _Space("Adobe RGB (1998) compatible", ADOBE_RGB, (ADOBE_CURVE,))
    if color_space == 0xFFFD:
        yield _Space("Wide Gamut RGB", _WIDE_GAMUT, (ADOBE_CURVE,))
    white, corners = _numbers(exif, exif.root, _WHITE_POINT), _numbers(exif, exif.root, _CHROMATICITIES)
    curves = _exif_curves(exif)
    has_primaries = len(white) == 2 and len(corners) == 6
    primaries = (*white, *corners) if has_primaries else SRGB_PRIMARIES
    if has_primaries and not curves and np.allclose(primaries, ADOBE_RGB, atol=0.0015):
        curves = (ADOBE_CURVE,)
    if has_primaries or curves:
        yield _Space("EXIF colour space", primaries, curves or (SRGB_CURVE,))


def _exif_curves(exif: Exif) -> tuple[Curve, ...]:
    """From TransferFunction (one table or three), else from Gamma; empty where there is neither."""
    values = _numbers(exif, exif.root, _TRANSFER_FUNCTION)
    for count in (1, 3):
        length = len(values) // count
        if length * count == len(values) and length in (256, 65_536):
            tables = [values[at : at + length] for at in range(0, len(values), length)]
            thinned = [np.interp(np.linspace(0, 1, 4096), np.linspace(0, 1, length), table) for table in tables]
            tables = [table if length == 256 else np.rint(thin) for table, thin in zip(tables, thinned, strict=True)]
            curves = tuple(Curve(table=tuple(int(value) for value in table)) for table in tables)
            return curves[:1] if len(set(curves)) == 1 else curves
    gamma = _numbers(exif, exif.photo, _GAMMA)
    return (Curve(gamma[0]),) if gamma and 0.1 < gamma[0] < 10 else ()


def _numbers(exif: Exif, directory: Directory, tag: int) -> list[float]:
    """The values of an entry of integers or ratios; empty where it is missing or divides by zero."""
    entry = directory.get(tag)
    if entry is None:
        return []
    if entry.kind == exif_blocks.RATIONAL:
        flat = struct.unpack_from(f"{exif.order}{2 * entry.count}I", entry.data)
        return [over / under for over, under in zip(flat[::2], flat[1::2], strict=True)] if all(flat[1::2]) else []
    code = {1: "B", exif_blocks.SHORT: "H", exif_blocks.LONG: "I"}.get(entry.kind)
    return list(struct.unpack_from(f"{exif.order}{entry.count}{code}", entry.data)) if code else []


def _with_srgb_curve(colour: np.ndarray, space: _Space) -> np.ndarray:
    """The same light, in samples of sRGB's curve."""
    max_value = np.iinfo(colour.dtype).max
    codes = np.linspace(0, 1, max_value + 1)
    tables = [profiles.srgb_encoded(curve.linear(codes)) * max_value for curve in space.curves]
    table = np.stack([np.rint(table).astype(colour.dtype) for table in tables], axis=1)
    if len(tables) == 1 or colour.shape[2] == 1:
        return by_rows(lambda band: table[:, 0][band], colour)
    return by_rows(lambda band: np.stack([table[:, n][band[:, :, n]] for n in range(3)], axis=2), colour)


def _full_range(colour: np.ndarray) -> np.ndarray:
    """Samples from 16 to 235 of 255 (or their multiple in 16 bits) -> the full range."""
    unit = (np.iinfo(colour.dtype).max + 1) // 256
    table = np.rint((np.arange(256 * unit) - 16 * unit) * (np.iinfo(colour.dtype).max / (219 * unit)))
    table = table.clip(0, np.iinfo(colour.dtype).max).astype(colour.dtype)
    return by_rows(lambda band: table[band], colour)


def _display_p3() -> bytes:
    return profiles.rgb_profile("Display P3", P3_PRIMARIES, (SRGB_CURVE,))


def exif_in(icc: bytes | None, exif: Exif) -> Exif:
    """The entries as they are right for pixels in this profile: without one, none may say another than sRGB."""
    if icc is not None or all(space == _Space() for space in _of_exif(exif)):
        return exif
    root = {tag: entry for tag, entry in exif.root.items() if tag not in (_WHITE_POINT, _CHROMATICITIES)}
    photo = {tag: entry for tag, entry in exif.photo.items() if tag != _GAMMA}
    if _COLOR_SPACE in photo:
        photo[_COLOR_SPACE] = exif_blocks.short(exif.order, 1)
    interop = {} if _INTEROP_INDEX in exif.interop else exif.interop
    return replace(exif, root=root, photo=photo, interop=interop)
