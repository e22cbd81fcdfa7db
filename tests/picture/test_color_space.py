"""Colours keep their meaning: whatever a file says about its colour space, the result looks the same in sRGB."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pyjpegxl
import pytest
import tifffile
from PIL import Image, ImageCms

from calotype.picture import Picture, save
from calotype.picture.codecs.jxl import encode_jxl
from calotype.picture.codecs.tiff import write_tiff
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profiles
from calotype.picture.metadata.exif import Exif, ExifEntry
from tests.picture.more_formats import psd

FORMATS = ["jpeg", "png", "webp", "tiff", "bmp", "avif", "heic", "jxl"]
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
    "avif nclx narrow": lambda: avif(encoded(P3, srgb_curve), 12, range="limited"),
    "avif nclx BT.2020": lambda: avif(encoded(BT_2020, bt_709_curve), 9, 14),
    "avif nclx PQ": lambda: deep_avif(encoded(BT_2020, pq_curve, bits=16) >> 6, 9, 16),
    "avif unspecified R03": lambda: avif(encoded(ADOBE, ADOBE_22), 2, 2, exif=dcf()),
    "heic ICC": lambda: heic(encoded(P3, srgb_curve), icc_profile=P3_ICC),
    "heic ICC before nclx": lambda: heic(encoded(P3, srgb_curve), (9, 14, 6, 1), icc_profile=P3_ICC),
    "heic nclx P3": lambda: heic(encoded(P3, srgb_curve), (12, 13, 6, 1)),
    "heic nclx narrow": lambda: heic(encoded(P3, srgb_curve), (12, 13, 1, 0)),
    "heic nclx BT.2020": lambda: heic(encoded(BT_2020, bt_709_curve), (9, 1, 9, 1)),
    "heic R03": lambda: heic(encoded(ADOBE, ADOBE_22), exif=dcf()),
    "jxl nothing": lambda: encode_jxl(encoded(SRGB, srgb_curve), 100, None, None, None),
    "jxl sRGB before R03": lambda: encode_jxl(encoded(SRGB, srgb_curve), 100, None, dcf(), None),
    "jxl ICC": lambda: encode_jxl(encoded(P3, srgb_curve), 100, P3_ICC, None, None),
    "jxl 16 bits ICC": lambda: encode_jxl(encoded(P3, srgb_curve, bits=16), 100, P3_ICC, dcf(), None),
    "jxl linear": lambda: imagecodecs.jpegxl_encode(encoded(SRGB, gamma(1), bits=16), lossless=True),
    "jpeg in a JPEG XL": lambda: imagecodecs.jpegxl_encode_jpeg(WAYS["jpeg ICC"]()),
    "jp2 sRGB": lambda: jp2(encoded(SRGB, srgb_curve), b"\1\0\0\0\0\0\x10"),
    "jp2 ICC": lambda: jp2(encoded(P3, srgb_curve), b"\2\0\0" + P3_ICC),
    "jp2 16 bits ICC": lambda: jp2(encoded(P3, srgb_curve, bits=16), b"\2\0\0" + P3_ICC),
    "psd nothing": lambda: psd(encoded(SRGB, srgb_curve)),
    "psd ICC": lambda: psd(encoded(P3, srgb_curve), {1039: P3_ICC}),
    "psd 16 bits ICC": lambda: psd(encoded(P3, srgb_curve, bits=16), {1039: P3_ICC}),
    "psd R03": lambda: psd(encoded(ADOBE, ADOBE_22), {1058: dcf()}),
    "qoi sRGB": lambda: qoi(encoded(SRGB, srgb_curve), 0),
    "qoi linear": lambda: qoi(encoded(SRGB, gamma(1)), 1),
}


def jp2(samples, colr):
    """A JPEG 2000 with this colour box."""
    data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="jp2")
    box = struct.pack(">I", 8 + len(colr)) + b"colr" + colr
    start = data.index(b"jp2h")
    header = data[start - 4 : data.index(b"jp2c") - 4]
    old = header[header.index(b"colr") - 4 :]
    new = header.replace(old, box)
    return data.replace(header, struct.pack(">I", len(new)) + new[4:])


def qoi(samples, space):
    data = bytearray(imagecodecs.qoi_encode(np.ascontiguousarray(samples)))
    data[13] = space
    return bytes(data)


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
    if format == "jxl":
        samples, icc = imagecodecs.jpegxl_decode(path.read_bytes()), pyjpegxl.probe(path.read_bytes()).icc
        block = None
        image = Image.fromarray(samples if samples.itemsize == 1 else ((samples + 128.0) // 257).astype(np.uint8))
    elif format == "tiff":
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


@pytest.mark.many(plain=35)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("way", WAYS)
def test_colours_keep_their_meaning(tmp_path, files, way, format):
    data = files[way] = files.get(way) or WAYS[way]()
    picture = opened(tmp_path / "in", data)
    save(picture, tmp_path / "out", format=format, quality=100)
    error = np.abs(rendered(tmp_path / "out", format) - photo() * 255).mean()
    losses = (way.split()[0] in LOSSY) + (format in LOSSY)  # of the encoders, which count twice where both lose
    assert error < (0.75, 1.5, 2.4)[losses]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_keeps_its_meaning(tmp_path, format, bits):
    """Grey with a gamma of 1.8, which each format stores as grey with a profile, as RGB, or converted."""
    light = np.linspace(0.02, 1, 48)[None].repeat(40, axis=0)
    samples = np.rint(light ** (1 / 1.8) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    picture = opened(tmp_path / "in", png(samples, gama(55_556), chrm(ADOBE)))
    assert picture.pixels.shape == (40, 48, 1) and profiles.space_of(picture.metadata.icc) == "L"
    save(picture, tmp_path / "out", format=format, quality=100)
    error = np.abs(rendered(tmp_path / "out", format) - srgb_curve(light)[:, :, None] * 255)
    assert error.mean() < 1


def test_grey_with_a_profile_for_rgb_takes_its_curve(tmp_path):
    light = np.linspace(0.02, 1, 48)[None].repeat(40, axis=0)
    samples = np.rint(light ** (1 / 1.8) * 255).astype(np.uint8)
    picture = opened(tmp_path / "in", png(samples, iccp(ADOBE_18_ICC)))
    save(picture, tmp_path / "out", format="png")
    assert np.abs(rendered(tmp_path / "out", "png") - srgb_curve(light)[:, :, None] * 255).mean() < 0.6
    assert picture.notes == ()


@pytest.mark.parametrize("way", ["png sRGB", "png nothing", "avif nclx sRGB", "jpeg ColorSpace 1"])
def test_srgb_needs_no_profile(tmp_path, way):
    picture = opened(tmp_path / "in", WAYS[way]())
    assert picture.metadata.icc is None and picture.notes == ()


def test_a_profile_is_carried_as_it_is(tmp_path):
    picture = opened(tmp_path / "in", WAYS["jpeg ICC before R03"]())
    assert picture.metadata.icc == P3_ICC


def test_the_exif_of_the_result_does_not_contradict_its_colours(tmp_path):
    """An AVIF whose nclx says sRGB and whose EXIF says AdobeRGB: sRGB holds, also in a JPEG, which has only EXIF."""
    picture = opened(tmp_path / "in", WAYS["avif nclx sRGB"]())
    save(picture, tmp_path / "out", format="jpeg")
    parsed = exif_blocks.parse(Image.open(tmp_path / "out").info["exif"][6:])
    assert parsed.photo[40961] == exif_blocks.short(">", 1) and parsed.interop == {}


@pytest.mark.parametrize(
    ("chunks", "note"),
    [
        ([iccp(b"nothing" * 30)], "its colour profile is damaged and is left out"),
        ([cicp(200, 13, 0, 1)], "its colour codes 200/13 are unknown and left out"),
        ([chrm((0.3, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4))], "its colour primaries (PNG chromaticities) are impossible"),
        ([iccp(profiles.grey_profile("grey", profiles.Curve(1.8)))], "its colour profile is for other colours than"),
    ],
)
def test_what_is_unusable_is_said_and_srgb_holds(tmp_path, chunks, note):
    samples = encoded(SRGB, srgb_curve)
    picture = opened(tmp_path / "in", png(samples, *chunks))
    assert np.array_equal(picture.pixels, samples) and picture.metadata.icc is None
    assert len(picture.notes) == 1 and picture.notes[0].startswith(note)


@pytest.mark.parametrize("body", [b"", b"\x09", b"\x09\x10\x00", b"\x09\x10\x01\x01"])
def test_malformed_cicp_is_ignored(tmp_path, body):
    picture = opened(tmp_path / "in", png(encoded(P3, srgb_curve), chunk(b"cICP", body), chrm(P3)))
    assert picture.metadata.icc and picture.notes == ()


def test_hdr_within_an_icc_profile(tmp_path):
    """ICC 4.4 has an entry with the code points; the rest of such a profile is for programs that know no HDR."""
    entry = b"cicp\0\0\0\0" + bytes((9, 16, 0, 1))
    icc = profiles._profile("PQ", b"RGB ", {b"cicp": entry})
    picture = opened(tmp_path / "in", png(encoded(BT_2020, pq_curve, bits=16), iccp(icc)))
    save(picture, tmp_path / "out", format="png")
    assert np.abs(rendered(tmp_path / "out", "png") - photo() * 255).mean() < 0.75
    assert picture.notes == ("its HDR (PQ) is converted to SDR in Display P3: white is 203 cd/m2",)


def hlg_curve(light):
    """Light of a display, with 1 for 203 cd/m2 -> HLG, for greys."""
    scene = (light * 0.203) ** (1 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene, 1) - 0.28466892) + 0.55991073
    return np.where(scene <= 1 / 12, (3 * scene) ** 0.5, bright)


@pytest.mark.parametrize(("transfer", "curve"), [(16, pq_curve), (18, hlg_curve)])
def test_highlights_are_compressed_and_the_rest_stays(tmp_path, transfer, curve):
    light = np.linspace(0, 4.5, 480)[None].repeat(4, axis=0)  # up to 914 cd/m2
    samples = np.rint(curve(light) * 65_535).astype(np.uint16)
    picture = opened(tmp_path / "in", png(samples, cicp(9, transfer, 0, 1)))
    result = picture.pixels[0, :, 0] / 65_535
    assert picture.metadata.icc is None and (np.diff(result) >= 0).all()
    dark = light[0] < 0.35
    assert np.abs(result[dark] - srgb_curve(light[0][dark])).max() < 0.01
    assert 0.7 < result[np.searchsorted(light[0], 1)] < 0.95 and result[-1] > 0.99
    assert "highlights up to 9" in picture.notes[0] and picture.notes[0].endswith("are compressed as in BT.2390")


def test_hues_of_highlights_stay(tmp_path):
    light = np.array([[[4.0, 1.0, 0.5], [0.4, 0.1, 0.05]]]).repeat(8, axis=0)
    light = light @ (np.linalg.inv(matrix(BT_2020)) @ matrix(P3)).T
    picture = opened(tmp_path / "in", png(np.rint(pq_curve(light) * 65_535).astype(np.uint16), cicp(9, 16, 0, 1)))
    bright, dark = linear(picture.pixels[0] / 65_535)
    assert bright / bright[0] == pytest.approx(dark / dark[0], abs=0.01)
    assert bright[0] > 0.95


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (lambda: heic(encoded(P3, gamma(1)), (12, 8, 6, 1)), "Display P3"),
        (lambda: heic(encoded(P3, gamma(1)), (9, 8, 6, 1)), "BT.2020, sRGB"),
        (lambda: heic(encoded(P3, gamma(1)), (10, 8, 6, 1)), "CIE XYZ, sRGB"),
        (lambda: avif(encoded(P3, gamma(1)), 11, 8), "DCI-P3, sRGB"),
        (lambda: png(encoded(P3, gamma(1)), cicp(9, 10, 0, 1)), "BT.2020, sRGB"),
        (lambda: png(encoded(P3, gamma(1)), gama(100_000), chrm(P3)), "Display P3"),
        (lambda: png(encoded(ADOBE, gamma(1)), gama(100_000), chrm(ADOBE)), "Adobe RGB (1998), sRGB"),
        (lambda: heic(encoded(P3, srgb_curve), (12, 13, 6, 1)), "Display P3"),
        (lambda: heic(encoded(P3, srgb_curve), (9, 1, 9, 1)), "BT.2020, BT.709"),
    ],
)
def test_a_profile_is_named_by_its_primaries_and_curve(tmp_path, data, name):
    icc = opened(tmp_path / "in", data()).metadata.icc
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip() == name


@pytest.mark.many(plain=57)
@pytest.mark.parametrize("primaries", [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22])
@pytest.mark.parametrize("transfer", [1, 4, 5, 7, 8, 9, 10, 13, 14, 16, 17, 18])
def test_every_code_makes_a_profile_that_other_programs_take(tmp_path, primaries, transfer):
    picture = opened(tmp_path / "in", png(np.full((4, 4, 3), 255, np.uint8), cicp(primaries, transfer, 0, 1)))
    icc = picture.metadata.icc
    assert (icc is None) == ((primaries, transfer) == (1, 13) or (primaries == 1 and transfer in (8, 9, 10)))
    if icc:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        white = ImageCms.profileToProfile(
            Image.fromarray(picture.pixels), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert np.asarray(white).min() >= 254  # white stays white


@pytest.mark.parametrize("way", ["png iCCP", "png cICP 16 bits linear", "png R03", "png nothing"])
def test_a_picture_is_converted_to_srgb(tmp_path, way):
    picture = opened(tmp_path / "in", WAYS[way]()).in_srgb()
    assert picture.metadata.icc is None and picture.pixels.dtype == np.uint8
    assert np.abs(picture.pixels - photo() * 255).mean() < 0.75
