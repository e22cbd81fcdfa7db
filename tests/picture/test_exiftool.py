"""Results read by exiftool, which knows more of metadata than anything of ours: one photo with everything, each format.

Debian: `apt-get install libimage-exiftool-perl`. Without it these tests are skipped.
"""

import io
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

from calotype.picture import Picture, save
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import iptc
from calotype.picture.metadata.exif import Exif, ExifEntry, long, ratio, short, text

pytestmark = [
    pytest.mark.exiftool,
    pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed"),
]
FORMATS = ("jpeg", "png", "tiff", "webp", "heic", "avif", "jxl")
SIZE, BOX = (64, 96), (24, 8, 48, 24)  # stored height, width; left, top, width, height
CAPTIONS = [(1, 90, b"\x1b%G"), (2, 5, "婚礼".encode()), (2, 25, b"Hochzeit"), (2, 90, "Köln".encode())]
CAPTIONS += [(2, 120, "Großmutter".encode()), (2, 55, b"19210703")]
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
 xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
 xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:drone="http://www.dji.com/drone-dji/1.0/"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 tiff:Orientation="6" exif:PixelXDimension="96" exif:PixelYDimension="64" tiff:BitsPerSample="16"
 GPano:FullPanoWidthPixels="200" GPano:FullPanoHeightPixels="100" GPano:CroppedAreaImageWidthPixels="96"
 GPano:CroppedAreaImageHeightPixels="64" GPano:CroppedAreaLeftPixels="10" GPano:CroppedAreaTopPixels="20"
 GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="552" hdrgm:Version="1.0" drone:GpsLatitude="+50.94"
 xmpMM:DocumentID="xmp.did:1921" dc:format="image/x-canon-cr2">
<xmpMM:History><rdf:Seq><rdf:li stEvt:action="saved" stEvt:when="2020-05-05"/></rdf:Seq></xmpMM:History>
<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="96" stDim:h="64" stDim:unit="pixel"/>
<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Eileen" mwg-rs:Type="Face">
<mwg-rs:Area stArea:x="0.5" stArea:y="0.3125" stArea:w="0.5" stArea:h="0.375" stArea:unit="normalized"/>
</rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag><rdf:li MPReg:Rectangle="0.25, 0.125, 0.5, 0.375"
 MPReg:PersonDisplayName="Eileen"/></rdf:Bag></MPRI:Regions></MP:RegionInfo>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
# A maker's note as Canon's: one directory whose values are found by offsets from the start of the block.
OWNER = b"Mathilde Schmidt\0\0"


def canon_note(at):
    return struct.pack("<HHHII", 1, 9, 2, len(OWNER), at + 18) + bytes(4) + OWNER


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What exiftool reads in the results, by format, with and without the location, and the notes."""
    folder = tmp_path_factory.mktemp("exiftool")
    stored = np.zeros((*SIZE, 3), np.uint8)
    stored[8:32, 24:72] = 255
    root = {271: text("Canon"), 272: text("Canon EOS 5D"), 274: short("<", 6), 306: text("1954:07:03 12:00:00")}
    root |= {282: ratio("<", 300.0), 283: ratio("<", 200.0), 296: short("<", 2), 258: short("<", 16)}
    root[40091] = ExifEntry(1, 10, "Rosa\0".encode("utf-16-le"))
    photo = {36867: text("1954:07:03 12:00:00"), 37396: short("<", 48, 20, 48, 24), 42016: text("0123456789abcdef" * 2)}
    photo |= {40962: long("<", 96), 40963: long("<", 64), 41486: ratio("<", 100.0), 41487: ratio("<", 50.0)}
    photo |= {41488: short("<", 2), 37500: ExifEntry(7, 36, canon_note(0))}
    gps = {1: text("N"), 2: ExifEntry(5, 3, struct.pack("<6I", 50, 1, 56, 1, 0, 1))}
    exif = Exif("<", root, photo, gps)
    at = exif_blocks.pack(exif).index(canon_note(0))
    photo[37500] = ExifEntry(7, 36, canon_note(at))
    out = io.BytesIO()
    Image.fromarray(stored).save(out, "jpeg", quality=100, exif=b"Exif\0\0" + exif_blocks.pack(exif), xmp=XMP.encode())
    resources = b"Photoshop 3.0\0" + iptc.resources(iptc.Iptc(iptc.pack(CAPTIONS)))
    data = out.getvalue()
    data = data[:2] + b"\xff\xed" + struct.pack(">H", len(resources) + 2) + resources + data[2:]
    (folder / "in.jpg").write_bytes(data)
    picture = Picture.open(folder / "in.jpg")
    result = picture.then(picture.pixels.repeat(2, 0).repeat(2, 1))
    notes = {}
    for format in FORMATS:
        for is_stripped in (False, True):
            name = f"{format}-{is_stripped}"
            notes[name] = save(result, folder / name, format=format, strip_location=is_stripped, record='{"n": 1}')
    command = ["exiftool", "-json", "-struct", "-G1", "-a", "-n", *notes]
    check = ["exiftool", "-validate", "-warning", "-error", "-a", *notes]
    listed = json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True, encoding="utf-8").stdout)
    return {row["SourceFile"]: row for row in listed} | {
        "notes": notes,
        "read": picture.notes,
        "faults": subprocess.run(check, cwd=folder, capture_output=True, check=True, encoding="utf-8").stdout,
    }


@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_finds_what_is_carried(read, format):
    row = read[f"{format}-False"]
    assert row["IFD0:Make"] == "Canon" and row["ExifIFD:DateTimeOriginal"] == "1954:07:03 12:00:00"
    assert row["IFD0:XPTitle"] == "Rosa" and row["ExifIFD:ImageUniqueID"] == "0123456789abcdef" * 2
    assert row["Canon:OwnerName"] == "Mathilde Schmidt"  # its offset counts from the start of the block
    assert row["GPS:GPSLatitude"] == pytest.approx(50 + 56 / 60)
    assert row["XMP-xmpMM:History"] == [{"Action": "saved", "When": "2020:05:05"}]
    assert row["XMP-xmpMM:DocumentID"] == "xmp.did:1921"
    assert float(row["XMP-drone-dji:GPSLatitude"]) == 50.94
    title, keywords, city, description = (
        ("IPTC:ObjectName", "IPTC:Keywords", "IPTC:City", "IPTC:Caption-Abstract")
        if format in ("jpeg", "tiff")
        else ("XMP-dc:Title", "XMP-dc:Subject", "XMP-photoshop:City", "XMP-dc:Description")
    )
    assert row[title] == "婚礼" and row[city] == "Köln" and row[description] == "Großmutter"
    assert row[keywords] in ("Hochzeit", ["Hochzeit"])


@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_finds_what_was_turned_and_scaled(read, format):
    row = read[f"{format}-False"]
    assert row.get("IFD0:Orientation", 1) == row["XMP-tiff:Orientation"] == 1
    assert (row["ExifIFD:ExifImageWidth"], row["ExifIFD:ExifImageHeight"]) == (128, 192)
    assert (row["XMP-exif:ExifImageWidth"], row["XMP-exif:ExifImageHeight"]) == (128, 192)
    assert (row["IFD0:XResolution"], row["IFD0:YResolution"], row["IFD0:ResolutionUnit"]) == (200, 300, 2)
    assert (row["ExifIFD:FocalPlaneXResolution"], row["ExifIFD:FocalPlaneYResolution"]) == (100, 200)
    assert row["ExifIFD:SubjectArea"] == "88 96 48 96"
    regions = row["XMP-mwg-rs:RegionInfo"]
    assert regions["AppliedToDimensions"] == {"W": 128, "H": 192, "Unit": "pixel"}
    area = {"X": 0.6875, "Y": 0.5, "W": 0.375, "H": 0.5, "Unit": "normalized"}
    assert regions["RegionList"] == [{"Name": "Eileen", "Type": "Face", "Area": area}]
    assert row["XMP-MP:RegionInfoMP"]["Regions"][0]["Rectangle"] == "0.5, 0.25, 0.375, 0.5"
    panorama = {name: row[f"XMP-GPano:{name}"] for name in ("FullPanoWidthPixels", "CroppedAreaImageWidthPixels")}
    assert panorama == {"FullPanoWidthPixels": 200, "CroppedAreaImageWidthPixels": 128}
    assert (row["XMP-GPano:CroppedAreaLeftPixels"], row["XMP-GPano:CroppedAreaTopPixels"]) == (32, 20)
    assert row["XMP-dc:Format"] == f"image/{format}"


@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_finds_nothing_that_is_not_there(read, format):
    row = read[f"{format}-False"]
    for name in row:
        assert not name.startswith(("XMP-GCamera", "XMP-hdrgm", "IFD1", "XMP-Container")), name
        assert name != "XMP-tiff:BitsPerSample"
    assert read["read"] == (
        "its video (motion photo) is not carried over",
        "its gain map (HDR) is not carried over",
    )
    assert read["notes"][f"{format}-False"] == ()


@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_finds_no_place_after_strip_location(read, format):
    row = read[f"{format}-True"]
    text = json.dumps(row, ensure_ascii=False)
    for word in ("GPS", "Köln", "50.9", "City", "MakerNote", "Mathilde"):
        assert word not in text
    assert row["ExifIFD:DateTimeOriginal"] == "1954:07:03 12:00:00" and "婚礼" in text


def test_exiftool_finds_no_fault_in_the_structure(read):
    """No offsets out of place, unknown types, unordered entries; that required entries are missing is the source's."""
    harmless = (
        "Missing required",
        "ExifImageWidth is not allowed",
        "ExifImageHeight is not allowed",
        "xpacket wrapper",
    )
    found = [line.partition(": ")[2] for line in read["faults"].splitlines() if line.startswith(("Warning", "Error"))]
    assert len(found) > 10  # exiftool was asked to check
    faults = {fault for fault in found if not any(words in fault for words in harmless)}
    assert faults <= {"Invalid value for IFD0 tag 0x0103 Compression"}  # of EXIF's own list; deflate is TIFF's
