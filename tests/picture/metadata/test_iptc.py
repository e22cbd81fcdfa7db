"""IPTC captions: as they are in JPEG and TIFF, as XMP elsewhere, in any character set."""

import hashlib
import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from calotype.picture import Metadata, Picture, save
from calotype.picture.metadata import iptc
from calotype.picture.metadata.xmp import DC, IPTC_CORE, PHOTOSHOP, Packet

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
WORDS = {5: "Großmutter", 25: "Hochzeit", 80: "李明", 90: "Köln", 116: "© 1921", 120: "婚礼 — “Rosa”", 118: "phone 5"}


def block(words=WORDS, charset="utf-8", declared=b"\x1b%G"):
    head = [(1, 90, declared)] if declared else []
    more = [(2, 25, "zweites".encode(charset)), (2, 55, b"19210703"), (2, 60, b"093400+0100")]
    return iptc.pack([*head, *((2, number, word.encode(charset)) for number, word in words.items()), *more])


def jpeg(captions, digest=None, step=60_000):
    """A JPEG with Photoshop resources, in as many segments as it takes."""
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "jpeg", quality=100)
    data = out.getvalue()
    resources = iptc.resources(iptc.Iptc(captions, digest))
    parts = [b"Photoshop 3.0\0" + resources[at : at + step] for at in range(0, len(resources), step)]
    segments = b"".join(b"\xff\xed" + struct.pack(">H", len(part) + 2) + part for part in parts)
    return data[:2] + segments + data[2:]


def opened(tmp_path, data):
    (tmp_path / "in").write_bytes(data)
    return Picture.open(tmp_path / "in")


@pytest.mark.parametrize("format", ["jpeg", "tiff", "png", "webp", "avif", "heic", "jxl"])
def test_captions_go_everywhere(tmp_path, format):
    picture = opened(tmp_path, jpeg(block()))
    notes = save(picture, tmp_path / "out", format=format)
    after = Picture.open(tmp_path / "out")
    if format in ("jpeg", "tiff"):
        assert notes == () and after.metadata.iptc.block == block()
        return
    assert len(notes) == 1 and "IPTC captions (2:118)" in notes[0]
    packet = Packet(after.metadata.xmp)
    items = {name: [item.firstChild.data for item in packet.find(DC, name)[0].items()] for name in ("title", "subject")}
    assert items == {"title": ["Großmutter"], "subject": ["Hochzeit", "zweites"]}
    assert [item.firstChild.data for item in packet.find(DC, "description")[0].items()] == ["婚礼 — “Rosa”"]
    assert packet.text(PHOTOSHOP, "City") == "Köln"
    assert packet.text(PHOTOSHOP, "DateCreated") == "1921-07-03T09:34:00+01:00"


@pytest.mark.parametrize(
    "charset, declared",
    [
        ("utf-8", b"\x1b%G"),
        ("utf-8", b""),
        ("latin-1", b""),
        ("latin-1", b"\x1b.A"),
        ("gb2312", b"\x1b$)A"),
        ("iso-8859-5", b"\x1b.L"),
        ("iso-8859-2", b"\x1b-B"),
    ],
)
def test_captions_in_any_character_set(charset, declared):
    word = {"gb2312": "婚礼", "iso-8859-5": "Москва", "iso-8859-2": "Łódź"}.get(charset, "Köln, Großmutter")
    found = iptc.texts(iptc.Iptc(block({120: word}, charset, declared)))
    assert (120, word) in found


def test_what_the_xmp_says_already_stays(tmp_path):
    packet = Packet()
    packet.add(DC, "title", ["newer"], "Alt")
    assert iptc.add_to(packet, [(5, "older"), (92, "Dom")]) == ()
    assert [item.firstChild.data for item in packet.find(DC, "title")[0].items()] == ["newer"]
    assert packet.text(IPTC_CORE, "Location") == "Dom"
    again = Packet(packet.serialized())
    assert again.text(IPTC_CORE, "Location") == "Dom"


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_a_right_digest_stays_right_and_places_are_stripped(tmp_path, format):
    digest = hashlib.md5(block()).digest()
    picture = opened(tmp_path, jpeg(block(), digest))
    save(picture, tmp_path / "out", format=format, strip_location=True)
    after = Picture.open(tmp_path / "out").metadata.iptc
    assert [number for number, _ in iptc.texts(after)] == [5, 25, 80, 116, 120, 118, 25, 55, 60]
    assert after.digest == hashlib.md5(after.block).digest() != digest
    assert "Köln".encode() not in (tmp_path / "out").read_bytes()
    other = opened(tmp_path, jpeg(block(), b"another program!"))
    save(other, tmp_path / "out", format=format)
    assert Picture.open(tmp_path / "out").metadata.iptc.digest == b"another program!"


def test_captions_longer_than_a_segment(tmp_path):
    words = {120: "long " * 30_000, 5: "after"}
    picture = opened(tmp_path, jpeg(block(words)))
    assert picture.notes == ()
    save(picture, tmp_path / "out", format="jpeg")
    assert dict(iptc.texts(Picture.open(tmp_path / "out").metadata.iptc))[5] == "after"


@pytest.mark.parametrize("kind", ["bytes", "words", "swapped words", "resources"])
def test_captions_of_a_tiff(tmp_path, kind):
    data = block() + bytes(-len(block()) % 4)
    tag = (33723, 7, len(data), data, True)
    if kind == "resources":
        data = iptc.resources(iptc.Iptc(block()))
        tag = (34377, 7, len(data), data, True)
    elif kind != "bytes":
        order = ">" if kind == "swapped words" else "<"
        tag = (33723, 4, len(data) // 4, struct.unpack(f"{order}{len(data) // 4}I", data), True)
    tifffile.imwrite(tmp_path / "in.tif", PIXELS, photometric="rgb", extratags=[tag])
    assert Picture.open(tmp_path / "in.tif").metadata.iptc.block == block()


def test_captions_and_texts_of_a_png(tmp_path):
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    raw = iptc.resources(iptc.Iptc(block({120: "Rosa"})))
    info.add_text("Raw profile type iptc", f"\niptc\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    info.add_itxt("Title", "Tante Rosa im Garten, 婚礼")
    info.add_text("Author", "K. Müller")
    info.add_text("Comment", "Sommer")
    Image.fromarray(PIXELS).save(out, "png", pnginfo=info)
    picture = opened(tmp_path, out.getvalue())
    assert picture.notes == ()
    save(picture, tmp_path / "out", format="jpeg")
    after = Picture.open(tmp_path / "out").metadata
    assert dict(iptc.texts(after.iptc))[120] == "Rosa" and after.comment == "Sommer"
    packet = Packet(after.xmp)
    found = {name: packet.find(DC, name)[0].items()[0].firstChild.data for name in ("title", "creator")}
    assert found == {"title": "Tante Rosa im Garten, 婚礼", "creator": "K. Müller"}


def test_damaged_captions_keep_what_is_before_the_damage(tmp_path):
    picture = opened(tmp_path, jpeg(block() + b"\x1c\x02\x78\x40\0short"))
    assert picture.notes == ("some of its IPTC captions are damaged and left out",)
    assert picture.metadata.iptc.block == block()
    assert opened(tmp_path, jpeg(b"\1\2\3 no captions")).metadata.iptc is None


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80), at=st.integers(0, 200))
def test_any_bytes_are_read(data, at):
    whole = block()
    spoilt = whole[:at] + data + whole[at + len(data) :]
    found, _ = iptc.read(spoilt)
    if found:
        packet = Packet()
        iptc.add_to(packet, iptc.texts(found))
        Packet(packet.serialized())
    iptc.in_resources(spoilt)
    iptc.in_resources(b"8BIM\x04\x04" + data)


def test_what_bmp_leaves_out_is_said(tmp_path):
    picture = Picture(PIXELS, metadata=Metadata(iptc=iptc.Iptc(block()), comment="Sommer"))
    assert save(picture, tmp_path / "out", format="bmp") == ("BMP has no place for IPTC, comment: left out",)
