"""Colours keep their meaning: whatever a file says about its colour space, the result looks the same in sRGB."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms

from calotype.picture import Picture, save
from calotype.picture.codecs.tiff import write_tiff
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profiles
from calotype.picture.metadata.exif import Exif, ExifEntry

FORMATS = ["jpeg", "png", "webp", "tiff", "bmp", "avif", "heic"]
LOSSY = ("jpeg", "avif", "heic")
D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
BT_2020 = (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)


def photo(height=40, width=48):
    """A smooth picture in sRGB, (H, W, 3) in [0, 1]: grey and strong colours, rather dark to bright."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    strength = 0.4 * y[:, :, None]
    hue = np.stack([np.cos(6.28 * (x - shift / 3)) for shift in range(3)], axis=2)
    return (0.2 + 0.65 * x[:, :, None] + strength * hue).clip(0.12, 0.98)


def matrix(primaries):
    white, *corners = np.array(primaries).reshape(4, 2)
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
    return xyz * np.linalg.solve(xyz, [white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])


def linear(samples):
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)


def srgb_curve(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def bt_709_curve(light):
    return np.where(light < 0.018054, 4.5 * light, 1.099297 * light**0.45 - 0.099297)


def pq_curve(light, white=203):
    root = (light * white / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def gamma(exponent):
    return lambda light: light ** (1 / exponent)


def encoded(primaries, curve, colour=None, bits=8):
    """The photo's numbers in another colour space with the same white."""
    light = linear(photo() if colour is None else colour) @ (np.linalg.inv(matrix(primaries)) @ matrix(SRGB)).T
    return np.rint(curve(light.clip(0, 1)) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, *chunks):
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(samples.dtype.newbyteorder(">")))
    head = struct.pack(">IIBBBBB", width, height, samples.itemsize * 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    data = chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def cicp(*codes):
    return chunk(b"cICP", bytes(codes))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", value))


def chrm(primaries):
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in primaries)))


def iccp(icc):
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))


def dcf(color_space=0xFFFF, index=b"R03\0", **root):
    """An EXIF block with a colour space, as cameras write it."""
    photo = {40961: exif_blocks.short(">", color_space)} if color_space is not None else {}
    interop = {1: ExifEntry(exif_blocks.ASCII, len(index), index)} if index else {}
    return exif_blocks.pack(Exif(">", root.get("root", {}), photo | root.get("photo", {}), {}, interop))


def ratios(*values):
    data = b"".join(struct.pack(">II", round(value * 10_000), 10_000) for value in values)
    return ExifEntry(exif_blocks.RATIONAL, len(values), data)


def chromatic(photo=None):
    """An EXIF block with AdobeRGB's white point and primaries."""
    return dcf(None, b"", root={318: ratios(*ADOBE[:2]), 319: ratios(*ADOBE[2:])}, photo=photo or {})


def pillow(samples, format, **options):
    out = io.BytesIO()
    Image.fromarray(samples).save(out, format, **options)
    return out.getvalue()


BEST = {
    "jpeg": {"quality": 100, "subsampling": 0},
    "webp": {"lossless": True},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
    "tiff": {},
    "png": {},
}


def heic(samples, codes=None, **options):
    out = io.BytesIO()
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
    nclx = dict(zip(names, codes, strict=True)) if codes else {"save_nclx_profile": False}
    image = pillow_heif.from_pillow(Image.fromarray(samples))
    image.save(out, quality=100, chroma=444, **nclx, **options)
    return out.getvalue()


def avif(samples, primaries=1, transfer=13, **options):
    data = pillow(samples, "avif", **BEST["avif"], **options)
    assert data.count(b"nclx\0\1\0\r") == ("icc_profile" not in options)
    return data.replace(b"nclx\0\1\0\r", b"nclx" + struct.pack(">HH", primaries, transfer))


def deep_avif(samples, primaries, transfer):
    codes = {"primaries": primaries, "transfer": transfer, "matrix": 9}
    return imagecodecs.avif_encode(samples, level=100, bitspersample=10, pixelformat="444", **codes)


ADOBE_18_ICC = profiles.rgb_profile("Adobe RGB, 1.8", ADOBE, (profiles.Curve(1.8),))
P3_ICC = profiles.rgb_profile("P3", P3, (profiles.SRGB_CURVE,))
ADOBE_22 = gamma(563 / 256)
EXIF = b"Exif\0\0"
R03 = {"exif": EXIF + dcf()}

# The ways of saying a colour space: format and way -> a function that returns the file
WAYS = {
    "png nothing": lambda: png(encoded(SRGB, srgb_curve)),
    "png sRGB": lambda: png(encoded(SRGB, srgb_curve), chunk(b"sRGB", b"\0")),
    "png iCCP": lambda: png(encoded(P3, srgb_curve), iccp(P3_ICC)),
    "png cICP P3": lambda: png(encoded(P3, srgb_curve), cicp(12, 13, 0, 1)),
    "png cICP BT.2020": lambda: png(encoded(BT_2020, bt_709_curve), cicp(9, 14, 0, 1)),
    "png cICP BT.709": lambda: png(encoded(SRGB, bt_709_curve), cicp(1, 1, 0, 1)),
    "png cICP unspecified": lambda: png(encoded(SRGB, gamma(2.2)), cicp(2, 2, 0, 1), gama(45_455)),
    "png cICP narrow": lambda: png(
        np.rint(16 + encoded(P3, srgb_curve) * (219 / 255)).astype(np.uint8), cicp(12, 13, 0, 0)
    ),
    "png cICP 16 bits linear": lambda: png(encoded(P3, gamma(1), bits=16), cicp(12, 8, 0, 1)),
    "png cICP before iCCP": lambda: png(encoded(P3, srgb_curve), iccp(ADOBE_18_ICC), cicp(12, 13, 0, 1)),
    "png iCCP before sRGB": lambda: png(encoded(P3, srgb_curve), iccp(P3_ICC), chunk(b"sRGB", b"\0"), gama(100_000)),
    "png sRGB before gAMA": lambda: png(encoded(SRGB, srgb_curve), gama(100_000), chrm(ADOBE), chunk(b"sRGB", b"\0")),
    "png damaged iCCP": lambda: png(encoded(P3, srgb_curve), iccp(b"nothing" * 30), chrm(P3)),
    "png gAMA 2.2": lambda: png(encoded(SRGB, gamma(2.2)), gama(45_455)),
    "png gAMA linear": lambda: png(encoded(SRGB, gamma(1), bits=16), gama(100_000)),
    "png gAMA cHRM": lambda: png(encoded(ADOBE, gamma(1.8)), gama(55_556), chrm(ADOBE)),
    "png cHRM": lambda: png(encoded(P3, srgb_curve), chrm(P3)),
    "png R03": lambda: png(encoded(ADOBE, ADOBE_22), chunk(b"eXIf", dcf())),
    "png PQ": lambda: png(encoded(BT_2020, pq_curve, bits=16), cicp(9, 16, 0, 1)),
    "png PQ by name": lambda: png(
        encoded(BT_2020, pq_curve, bits=16), chunk(b"iCCP", b"ITUR_2100_PQ_FULL\0\0" + zlib.compress(P3_ICC))
    ),
    "jpeg ICC": lambda: pillow(encoded(P3, srgb_curve), "jpeg", icc_profile=P3_ICC, **BEST["jpeg"]),
    "jpeg R03": lambda: pillow(encoded(ADOBE, ADOBE_22), "jpeg", **R03, **BEST["jpeg"]),
    "jpeg ColorSpace 2": lambda: pillow(encoded(ADOBE, ADOBE_22), "jpeg", exif=EXIF + dcf(2, b""), **BEST["jpeg"]),
    "jpeg ColorSpace 1": lambda: pillow(encoded(SRGB, srgb_curve), "jpeg", exif=EXIF + dcf(1), **BEST["jpeg"]),
    "jpeg ICC before R03": lambda: pillow(encoded(P3, srgb_curve), "jpeg", icc_profile=P3_ICC, **R03, **BEST["jpeg"]),
    "jpeg EXIF primaries": lambda: pillow(
        encoded(ADOBE, gamma(1.8)), "jpeg", exif=EXIF + chromatic({42240: ratios(1.8)}), **BEST["jpeg"]
    ),
    "tiff ICC": lambda: pillow(encoded(P3, srgb_curve), "tiff", icc_profile=P3_ICC),
    "tiff 16 bits ICC": lambda: tiff(encoded(P3, srgb_curve, bits=16), [(34675, 7, len(P3_ICC), P3_ICC, True)]),
    "tiff R03": lambda: tiff_with_exif(encoded(ADOBE, ADOBE_22), dcf()),
    "tiff primaries": lambda: tiff(encoded(ADOBE, ADOBE_22), adobe_tags()),
    "tiff TransferFunction": lambda: tiff(
        encoded(ADOBE, gamma(1.4)),
        [*adobe_tags(), (301, 3, 768, tuple(np.rint(np.linspace(0, 1, 256) ** 1.4 * 65_535).astype(int)) * 3, True)],
    ),
    "webp ICC": lambda: pillow(encoded(P3, srgb_curve), "webp", icc_profile=P3_ICC, **BEST["webp"]),
    "webp R03": lambda: pillow(encoded(ADOBE, ADOBE_22), "webp", **R03, **BEST["webp"]),
    "avif ICC": lambda: pillow(encoded(P3, srgb_curve), "avif", icc_profile=P3_ICC, **BEST["avif"]),
    "avif nclx sRGB": lambda: avif(encoded(SRGB, srgb_curve), exif=dcf()),
    "avif nclx P3": lambda: avif(encoded(P3, srgb_curve), 12),
    "avif nclx BT.2020": lambda: avif(encoded(BT_2020, bt_709_curve), 9, 14),
    "avif nclx PQ": lambda: deep_avif(encoded(BT_2020, pq_curve, bits=16) >> 6, 9, 16),
    "avif unspecified R03": lambda: avif(encoded(ADOBE, ADOBE_22), 2, 2, exif=dcf()),
    "heic ICC": lambda: heic(encoded(P3, srgb_curve), icc_profile=P3_ICC),
    "heic ICC before nclx": lambda: heic(encoded(P3, srgb_curve), (9, 14, 6, 1), icc_profile=P3_ICC),
    "heic nclx P3": lambda: heic(encoded(P3, srgb_curve), (12, 13, 6, 1)),
    "heic nclx narrow": lambda: heic(encoded(P3, srgb_curve), (12, 13, 1, 0)),
    "heic nclx BT.2020": lambda: heic(encoded(BT_2020, bt_709_curve), (9, 1, 9, 1)),
    "heic R03": lambda: heic(encoded(ADOBE, ADOBE_22), exif=dcf()),
}


def tiff(samples, tags):
    out = io.BytesIO()
    tifffile.imwrite(out, samples, photometric="rgb", extratags=tags, metadata=None)
    return out.getvalue()


def tiff_with_exif(samples, block):
    out = io.BytesIO()
    write_tiff(out, samples, None, None, exif_blocks.parse(block), None, None)
    return out.getvalue()


def adobe_tags():
    white, corners = (tuple(round(v * x) for v in values for x in (10_000, 0)) for values in (ADOBE[:2], ADOBE[2:]))
    white, corners = ([n or 10_000 for n in values] for values in (white, corners))
    return [(318, 5, 2, tuple(white), True), (319, 5, 6, tuple(corners), True)]


def opened(path, data):
    path.write_bytes(data)
    return Picture.open(path)


def rendered(path, format):
    """A result in sRGB, as other programs show it: their decoders, Little CMS, and EXIF where there is no profile."""
    image = pillow_heif.open_heif(path).to_pillow() if format == "heic" else None
    if format == "tiff":
        page = tifffile.TiffFile(path).pages[0]
        samples, icc, block = page.asarray(), page.tags.valueof(34675), None
        image = Image.fromarray(
            ((samples.astype(int) + 128) // 257).astype(np.uint8) if samples.itemsize > 1 else samples
        )
    else:
        image = image or Image.open(path)
        icc, block = image.info.get("icc_profile"), image.info.get("exif")
    if image.mode.startswith("I"):
        image = Image.fromarray(((np.asarray(image).astype(int) + 128) // 257).astype(np.uint8))
    if icc:
        image = ImageCms.profileToProfile(image, io.BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB")
    elif block:
        parsed = exif_blocks.parse(block.removeprefix(b"Exif\0\0"))
        assert not any(entry.data.startswith(b"R03") for entry in parsed.interop.values())
    return np.asarray(image.convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def files():
    """Each file is made once."""
    return {}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("way", WAYS)
def test_colours_keep_their_meaning(tmp_path, files, way, format):
    data = files[way] = files.get(way) or WAYS[way]()
    picture = opened(tmp_path / "in", data)
    save(picture, tmp_path / "out", format=format, quality=100)
    error = np.abs(rendered(tmp_path / "out", format) - photo() * 255).mean()
    losses = (way.split()[0] in LOSSY) + (format in LOSSY)  # of the encoders, which count twice where both lose
    assert error < (0.75, 1.5, 2.4)[losses]
