"""What a file tells besides pixels goes from any format into any other that can hold it."""

import io
import itertools
import json
import struct

import numpy as np
import pillow_heif
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import calotype
from calotype.picture import Metadata, Picture, read_record, save
from calotype.picture.metadata import exif, families, xmp
from calotype.picture.metadata.geometry import Geometry
from calotype.picture.metadata.icc import space_of, srgb

HOLDERS = ("jpeg", "png", "webp", "tiff", "avif", "heic")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
RECORD = json.dumps({"task": "restore", "said": "é 照片 <&\"' ]]>\n\t", "n": [1, 2.5]}, ensure_ascii=False)
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 tiff:Orientation="6" exif:PixelXDimension="9" exif:GPSLatitude="48,51.5N" photoshop:City="Paris">
<exif:PixelYDimension>9</exif:PixelYDimension><exif:GPSLongitude>2,17.6E</exif:GPSLongitude>
<photoshop:Country>France</photoshop:Country>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Grand-mère &amp; moi</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def block(orientation=6, order="<"):
    """An Exif block with a date, a camera, a place, a maker's note and a thumbnail, as Pillow writes it."""
    told = Image.Exif()
    told.endian = order
    told[274], told[271], told[306], told[282], told[283] = orientation, "Agfa", "1954:07:03 12:00:00", 72.0, 72.0
    told.get_ifd(0x8769).update({36867: "1954:07:03 12:00:00", 40962: 9, 40963: 9, 37500: b"note" * 5, 33434: 0.008})
    told.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 36.0)})
    return told.tobytes().removeprefix(b"Exif\0\0")


def written(format, **told):
    """A file by Pillow (or tifffile) with these told: exif, xmp, icc_profile, dpi."""
    pillow_heif.register_heif_opener()
    out, name = io.BytesIO(), {"heic": "heif"}.get(format, format)
    if "exif" in told:
        told["exif"] = b"Exif\0\0" + told["exif"] if format == "jpeg" else told["exif"]
    if format == "png" and "xmp" in told:
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", told.pop("xmp").decode())
        told["pnginfo"] = info
    if format == "tiff":
        parsed = Image.Exif()
        if "exif" in told:
            parsed.load(told.pop("exif"))
        if "xmp" in told:
            parsed[700] = told.pop("xmp")
        told["exif"] = parsed
    Image.fromarray(PIXELS).save(out, name, **told)
    return out.getvalue()


def opened(tmp_path, data, name="source"):
    (tmp_path / name).write_bytes(data)
    return Picture.open(tmp_path / name)


def updated(packet, before=(1, 1), after=(1, 1), strip_location=False):
    """The packet of a result."""
    blocks = families.Blocks(packet=xmp.Packet(packet))
    families.update(blocks, Geometry(before, after), families.Target("png", *after[::-1]), strip_location)
    return blocks.packet.serialized()


def exif_of(path):
    """What Pillow, not we, finds in the saved file."""
    pillow_heif.register_heif_opener()
    with Image.open(path) as image:
        told = image.getexif()
        return dict(told), dict(told.get_ifd(0x8769)), dict(told.get_ifd(0x8825))


@pytest.mark.parametrize("source, target", list(itertools.product(HOLDERS, HOLDERS)))
def test_exif_xmp_and_resolution_go_everywhere(tmp_path, source, target):
    packet = (
        XMP.replace(b'Orientation="6"', b'Orientation="1"') if source == "heic" else XMP
    )  # its writer would turn it
    before = opened(tmp_path, written(source, exif=block(1), xmp=packet, dpi=(240, 240)))
    save(before, tmp_path / "out", format=target, record=RECORD)
    root, photo, gps = exif_of(tmp_path / "out")
    assert root[271] == "Agfa" and root[306] == "1954:07:03 12:00:00"
    assert root[305] == f"Calotype {calotype.__version__}"
    assert root.get(274, 1) == 1
    assert photo[36867] == "1954:07:03 12:00:00" and photo[37500] == b"note" * 5
    assert (photo[40962], photo[40963]) == (64, 40)
    assert float(photo[33434]) == pytest.approx(0.008)
    assert gps[1] == "N" and [float(v) for v in gps[2]] == [48.0, 51.0, 30.0]
    after = Picture.open(tmp_path / "out")
    assert "Grand-mère &amp; moi" in after.metadata.xmp.decode()
    assert b'Orientation="1"' in after.metadata.xmp and b'PixelXDimension="64"' in after.metadata.xmp
    wanted = 72 if source in ("webp", "avif", "heic") else 240  # these can tell it by EXIF only
    assert after.metadata.dpi == pytest.approx((wanted, wanted), abs=0.02)
    assert read_record(tmp_path / "out") == RECORD


@pytest.mark.parametrize("target", HOLDERS)
def test_location_is_stripped(tmp_path, target):
    before = opened(tmp_path, written("jpeg", exif=block(), xmp=XMP))
    save(before, tmp_path / "out", format=target, strip_location=True, record=RECORD)
    root, photo, gps = exif_of(tmp_path / "out")
    assert gps == {} and 37500 not in photo and photo[36867] and root[271] == "Agfa"
    after = Picture.open(tmp_path / "out")
    packet = after.metadata.xmp
    for word in (b"GPS", b"Paris", b"France", b"48,51"):
        assert word not in packet
        assert word not in (tmp_path / "out").read_bytes()
    assert "Grand-mère" in packet.decode()


def test_a_place_is_found_however_it_is_written():
    packet = (
        XMP.replace(b"photoshop:", b"ps:")
        .replace(b"xmlns:photoshop", b"xmlns:ps")
        .replace(
            b"<dc:title>",
            b'<ext:LocationShown xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><rdf:Bag><rdf:li>'
            b"<rdf:Description><ext:City>Lyon</ext:City></rdf:Description></rdf:li></rdf:Bag></ext:LocationShown><dc:title>",
        )
    )
    stripped = updated(packet, strip_location=True)
    assert not any(word in stripped for word in (b"Lyon", b"Paris", b"France", b"GPS"))


@pytest.mark.parametrize("target", ["jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"])
def test_profiles_are_carried(tmp_path, target):
    wide = bytearray(srgb())
    wide[24:36] = bytes(12)  # not the bytes we would write ourselves
    before = opened(tmp_path, written("png", icc_profile=bytes(wide)))
    np.testing.assert_array_equal(before.pixels, PIXELS)
    save(before, tmp_path / "out", format=target)
    assert Picture.open(tmp_path / "out").metadata.icc == bytes(wide)


def grey_profile():
    """Grey with a gamma of 1: nothing else makes so plain whether it was honoured."""
    data = bytearray(srgb()[:128])
    data[16:20] = b"GRAY"
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + bytes.fromhex("0000f6d6000100000000d32d"))]
    tags += [(b"kTRC", b"curv" + bytes(8)), (b"desc", b"desc" + bytes(8) + bytes([0] * 79) + b"\0")]
    table, body = len(tags).to_bytes(4, "big"), b""
    for name, value in tags:
        at = 128 + 4 + 12 * len(tags) + len(body)
        table += name + at.to_bytes(4, "big") + len(value).to_bytes(4, "big")
        body += value + b"\0" * (-len(value) % 4)
    data += table + body
    data[:4] = len(data).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_profile_is_honoured_where_grey_cannot_stay(tmp_path, dtype):
    icc = grey_profile()
    assert space_of(icc) == "L"
    most = np.iinfo(dtype).max
    before = Picture(np.full((8, 8, 1), most // 5, dtype), metadata=Metadata(icc))
    save(before, tmp_path / "a.png", format="png")
    assert Picture.open(tmp_path / "a.png").metadata.icc == icc
    save(before, tmp_path / "a.webp", format="webp", quality=100)
    after = Picture.open(tmp_path / "a.webp")
    assert after.metadata.icc == srgb()
    assert abs(int(after.pixels[0, 0, 0]) - 124) <= 2  # linear 0.2 is 0.485 in sRGB


def test_a_profile_for_other_pixels_is_dropped_and_said(tmp_path):
    for icc, why in (
        (grey_profile(), "for other colours"),
        (b"not a profile" * 20, "is damaged"),
        (srgb()[:300], "damaged"),
    ):
        picture = opened(tmp_path, written("png", icc_profile=icc))
        assert picture.metadata.icc is None
        assert len(picture.notes) == 1 and why in picture.notes[0]


def test_a_jpegs_profile_is_joined_from_its_parts(tmp_path):
    """photoprism #3843 is about parts that do not fit together: what is missing is said, never lost in silence."""
    data, cut = written("jpeg"), len(srgb()) // 2
    parts = [srgb()[:cut], srgb()[cut:]]

    def with_parts(*numbered):
        bodies = (b"ICC_PROFILE\0" + bytes([number, count]) + body for number, count, body in numbered)
        return data[:2] + b"".join(b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body for body in bodies) + data[2:]

    whole = [(1, 2, parts[0]), (2, 2, parts[1])]
    for numbered in (whole, whole[::-1], [*whole, whole[0]], [(0, 0, srgb())]):
        picture = opened(tmp_path, with_parts(*numbered))
        assert (picture.metadata.icc, picture.notes) == (srgb(), ())
    for numbered in (whole[:1], whole[1:], [(1, 1, b"")]):
        picture = opened(tmp_path, with_parts(*numbered))
        assert picture.metadata.icc is None
        assert picture.notes == (("its colour profile is damaged and is left out",) if numbered[0][2] else ())


def test_our_srgb_has_no_clock_in_it():
    made = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
    assert made.profile.creation_date.year == 1999
    assert made.profile.xcolor_space.strip() == "RGB"


def test_thumbnails_do_not_survive(tmp_path):
    plain = exif.parse(block())
    packed = bytearray(exif.pack(plain))
    second = len(packed) + len(packed) % 2
    link = 8 + 2 + 12 * (len(plain.root) + 2)
    packed = packed.ljust(second, b"\0") + b"\1\0" + b"\x01\x02\x04\0\x01\0\0\0" + (second + 18).to_bytes(4, "little")
    packed += bytes(4) + b"\xff\xd8THUMBNAIL\xff\xd9"
    packed[link : link + 4] = second.to_bytes(4, "little")
    before = opened(tmp_path, written("jpeg", exif=bytes(packed)))
    assert b"THUMBNAIL" in (tmp_path / "source").read_bytes()
    assert b"THUMBNAIL" not in before.metadata.exif
    save(before, tmp_path / "out", format="jpeg")
    assert b"THUMBNAIL" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_entries_keep_their_types(order):
    told = exif.parse(block(order=order))
    assert told.order == order and not told.is_damaged
    assert told.photo[37500] == exif.ExifEntry(told.photo[37500].kind, 20, b"note" * 5)
    assert exif.parse(exif.pack(told)) == told


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif", "heic"])
@pytest.mark.parametrize("damage", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01", b"garbage" * 9])
def test_malformed_exif_does_not_lose_the_picture(tmp_path, format, damage):
    told = exif.parse(block())
    del told.root[274]  # AVIF's writer would take it out of the block
    good = exif.pack(told)
    data = written(format, exif=good)
    bad = damage.ljust(len(good), b"\xee") if damage else bytes(len(good))
    assert format == "png" or good in data
    # a chunk's checksum would show the change
    data = _png_with_exif(bad) if format == "png" else data.replace(good, bad)
    picture = opened(tmp_path, data)
    assert picture.pixels.shape == PIXELS.shape
    assert any("EXIF" in note for note in picture.notes)
    save(picture, tmp_path / "out", format="jpeg")
    assert Picture.open(tmp_path / "out").notes == ()


def _png_with_exif(bad):
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "png", exif=b"Exif\0\0" + bad)
    return out.getvalue()


def test_one_bad_entry_does_not_take_the_others(tmp_path):
    good = exif.parse(block())
    packed = bytearray(exif.pack(good))
    row = 10 + 12 * sorted({*good.root, 34665, 34853}).index(306)
    packed[row + 8 : row + 12] = b"\xff\xff\xff\x7f"  # the date points out of the block
    picture = opened(tmp_path, written("jpeg", exif=bytes(packed)))
    kept = exif.parse(picture.metadata.exif)
    assert 306 not in kept.root and kept.root[271].data == b"Agfa\0" and kept.gps
    assert picture.notes == ("some entries of its EXIF are damaged and left out",)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_block_parses_or_says_value_error(data):
    base = bytearray(block(order=data.draw(st.sampled_from("<>"))))
    for at in data.draw(st.lists(st.integers(0, len(base) - 1), max_size=20)):
        base[at] = data.draw(st.integers(0, 255))
    try:
        told = exif.parse(bytes(base[: data.draw(st.integers(0, len(base)))]))
    except ValueError:
        return
    again = exif.parse(exif.pack(told))
    assert (again.root, again.photo, again.gps, again.interop) == (told.root, told.photo, told.gps, told.interop)


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;">]>' + XMP,
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'.encode("utf-16"),
        '<?xml version="1.0" encoding="cp037"?><x/>'.encode("cp037"),
        b"<x>" * 5000 + b"</x>" * 5000,
        b"<unclosed",
        b"\xff\xfe\xff",
        b"",
        b"<x xmlns:a='u'/>" * 2,
        b"<x/>" + b" " * (5 << 20) + b".",
        b"<x xmlns='urn:without-rdf'/>",
    ],
)
def test_xmp_is_not_trusted(packet, tmp_path):
    with pytest.raises(ValueError):
        xmp.Packet(packet or b" ")
    if packet and len(packet) < 60_000:
        picture = opened(tmp_path, written("jpeg", xmp=packet))
        assert picture.pixels.shape == PIXELS.shape
        save(picture, tmp_path / "out", format="jpeg", record=RECORD)
        assert read_record(tmp_path / "out") == RECORD


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_xmp_in_other_encodings(encoding):
    assert "Grand-mère" in xmp.Packet(XMP.decode().lstrip().encode(encoding)).serialized().decode()


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200))
def test_any_record_comes_back(text):
    record = json.dumps({"said": text}, ensure_ascii=False)
    packet = xmp.Packet()
    xmp.set_record(packet, record)
    assert json.loads(xmp.record_in(packet.serialized())) == {"said": text}


def test_the_last_record_replaces_the_one_before(tmp_path):
    save(Picture(PIXELS), tmp_path / "one", format="png", record='{"n":1}')
    save(Picture.open(tmp_path / "one"), tmp_path / "two", format="jpeg", record='{"n":2}')
    assert read_record(tmp_path / "two") == '{"n":2}'
    save(Picture.open(tmp_path / "two"), tmp_path / "three", format="tiff")
    assert read_record(tmp_path / "three") is None


def test_what_bmp_leaves_out_is_said(tmp_path):
    before = opened(tmp_path, written("jpeg", exif=block(), xmp=XMP, icc_profile=srgb(), dpi=(300, 300)))
    notes = save(before, tmp_path / "out", format="bmp", record=RECORD)
    assert notes == (
        "BMP has no place for a colour profile: converted to sRGB",
        "BMP has no place for EXIF, XMP, record: left out",
    )
    after = Picture.open(tmp_path / "out")
    assert after.metadata == Metadata(dpi=(300.0, 300.0))
    assert read_record(tmp_path / "out") is None


def test_a_note_too_long_for_jpeg_is_dropped_and_said(tmp_path):
    told = exif.parse(block())
    told.photo[37500] = exif.ExifEntry(7, 70_000, bytes(70_000))
    before = Picture(PIXELS, metadata=Metadata(exif=exif.pack(told), xmp=XMP))
    notes = save(before, tmp_path / "out", format="jpeg", record=RECORD)
    assert notes == ("the maker's note is too long for JPEG and left out",)
    assert exif_of(tmp_path / "out")[0][271] == "Agfa"
    assert save(before, tmp_path / "out", format="png", record=RECORD) == ()


def test_xmp_too_long_for_a_segment_is_extended(tmp_path):
    """A JPEG's packet of more than 64 KB goes on in extended segments, and is one packet again elsewhere."""
    record = json.dumps("x" * 150_000)
    before = Picture(PIXELS, metadata=Metadata(xmp=XMP))
    assert save(before, tmp_path / "out", format="jpeg", record=record) == ()
    data = (tmp_path / "out").read_bytes()
    assert data.count(b"http://ns.adobe.com/xmp/extension/\0") == 3
    assert read_record(tmp_path / "out") == record
    after = Picture.open(tmp_path / "out")
    assert after.notes == () and b"HasExtendedXMP" not in after.metadata.xmp
    assert "Grand-mère" in after.metadata.xmp.decode()
    assert save(after, tmp_path / "again", format="png", record=record) == ()
    assert read_record(tmp_path / "again") == record
    at = data.index(b"http://ns.adobe.com/xmp/extension/\0") + 200
    (tmp_path / "out").write_bytes(data[:at] + b"?" + data[at + 1 :])
    broken = Picture.open(tmp_path / "out")
    assert broken.notes == ("its extended XMP is damaged and left out",)
    assert "Grand-mère" in broken.metadata.xmp.decode()


def test_resolution_turns_with_the_picture(tmp_path):
    picture = opened(tmp_path, written("tiff", exif=block(6), dpi=(100, 200)))
    assert picture.pixels.shape == (64, 40, 3)
    assert picture.metadata.dpi == (200.0, 100.0)


def test_tiff_in_centimetres(tmp_path):
    tifffile.imwrite(tmp_path / "cm.tif", PIXELS, photometric="rgb", resolution=(100, 100), resolutionunit="centimeter")
    assert Picture.open(tmp_path / "cm.tif").metadata.dpi == pytest.approx((254, 254))


def test_layout_of_a_tiff_does_not_leak_into_exif(tmp_path):
    before = opened(tmp_path, written("tiff", exif=block(1), xmp=XMP, icc_profile=srgb()))
    save(before, tmp_path / "out.jpg", format="jpeg")
    root, _, _ = exif_of(tmp_path / "out.jpg")
    assert set(root) <= {271, 274, 282, 283, 296, 305, 306, 34665, 34853}
