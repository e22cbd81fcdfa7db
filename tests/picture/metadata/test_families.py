"""What happens to each kind of metadata, as the table says it."""

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.picture import Metadata, Picture, save
from calotype.picture.codecs import segments
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import families, iptc, xmp
from calotype.picture.metadata.exif import Exif, ExifEntry, long, short, text
from calotype.picture.metadata.families import Blocks, Target
from calotype.picture.metadata.geometry import Geometry
from calotype.picture.metadata.xmp import Packet

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
GOOGLE = "http://ns.google.com/photos/1.0/"


def packet(body="", **spaces):
    declared = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in spaces.items())
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" {declared}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>"""


def jpeg(*extra, **options):
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "jpeg", quality=100, **options)
    data = out.getvalue()
    return data[:2] + b"".join(segments._segment(marker, body) for marker, body in extra) + data[2:]


def opened(tmp_path, data):
    (tmp_path / "in").write_bytes(data)
    return Picture.open(tmp_path / "in")


def directory(semantic):
    return (
        '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">'
        '<Container:Item Item:Semantic="Primary"/></rdf:li>'
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{semantic}" Item:Length="552"/></rdf:li>'
        "</rdf:Seq></Container:Directory>"
    )


CONTAINER = {"Container": GOOGLE + "container/", "Item": GOOGLE + "container/item/"}
LEFT_OUT = {
    families.VIDEO_NOTE: [
        packet("<C:MicroVideo>1</C:MicroVideo><C:MicroVideoOffset>552</C:MicroVideoOffset>", C=GOOGLE + "camera/"),
        packet("<O:OLivePhotoVersion>2</O:OLivePhotoVersion>", O="http://ns.oplus.com/photos/1.0/camera/"),
        packet(directory("MotionPhoto"), **CONTAINER),
    ],
    families.GAIN_MAP_NOTE: [
        packet("<h:GainMapMax>2.3</h:GainMapMax>", h="http://ns.adobe.com/hdr-gain-map/1.0/"),
        packet("<a:HDRGainMapVersion>65536</a:HDRGainMapVersion>", a="http://ns.apple.com/HDRGainMap/1.0/"),
        packet(directory("GainMap"), **CONTAINER),
    ],
    families.DEPTH_MAP_NOTE: [
        packet("<G:Format>RangeInverse</G:Format><G:Data>/9j/</G:Data>", G=GOOGLE + "depthmap/"),
        packet("<G:Data>/9j/</G:Data>", G=GOOGLE + "image/"),
        packet("<D:Cameras/>", D="http://ns.google.com/photos/dd/1.0/device/"),
        packet(directory("Depth"), **CONTAINER),
    ],
    families.CREDENTIALS_NOTE: [packet("<t:provenance>self#jumbf=c2pa</t:provenance>", t="http://purl.org/dc/terms/")],
}


@pytest.mark.parametrize("note, source", [(note, source) for note, sources in LEFT_OUT.items() for source in sources])
def test_what_a_result_does_not_hold_is_dropped_and_said(tmp_path, note, source):
    source = source.replace("</rdf:Description>", "<k:keep xmlns:k='urn:k'>kept</k:keep></rdf:Description>")
    picture = opened(tmp_path, jpeg(xmp=source.encode()))
    assert picture.notes == (note,)
    left = [(field.space, field.name) for field in Packet(picture.metadata.xmp).fields()]
    assert left == [("urn:k", "keep")]


def test_parts_behind_and_before_the_picture_are_said(tmp_path):
    gain_map = (0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))
    credentials = (0xEB, b"JP\0\1\0\0\0\1\0\0\0\x40jumb\0\0\0\x20jumdc2pa" + bytes(20))
    video = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + bytes(40)
    picture = opened(tmp_path, jpeg(gain_map, credentials) + video)
    assert picture.notes == (families.GAIN_MAP_NOTE, families.CREDENTIALS_NOTE, families.VIDEO_NOTE)


PLACES = {
    "http://www.dji.com/drone-dji/1.0/": ("GpsLatitude", "Longitude", "GpsLongtitude", "AbsoluteAltitude", "Latitude"),
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": ("LocationShown", "LocationCreated", "WorldRegion", "ProvinceState"),
    "http://ns.adobe.com/photoshop/1.0/": ("City", "State", "Country"),
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": ("Location", "CountryCode"),
    "http://ns.adobe.com/exif/1.0/": ("GPSLatitude", "GPSTimeStamp"),
    "http://www.w3.org/2003/01/geo/wgs84_pos#": ("lat", "long", "alt"),
    "http://purl.org/dc/elements/1.1/": ("coverage",),
    "urn:anybody": ("latitude", "gps_position", "sublocation", "countryName", "geohash", "PlaceName", "venueName"),
    GOOGLE + "camera/": ("hdrp_makernote",),
}
NO_PLACES = {
    "http://ns.adobe.com/exif/1.0/": ("SubjectLocation", "Flash"),
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": ("CiAdrCity", "CiAdrCtry"),
    "urn:anybody": ("velocity", "Opacity", "Alternative", "Longest", "PlacedXResolution", "DocumentState", "Belonging"),
}


@pytest.mark.parametrize("as_attributes", [False, True])
def test_places_are_stripped_in_any_namespace(as_attributes):
    properties, declared = [], {}
    for number, (space, names) in enumerate([*PLACES.items(), *NO_PLACES.items()]):
        declared[f"n{number}"] = space
        properties += [(f"n{number}", name) for name in names]
    source = packet("".join(f"<{p}:{n}>Lyon 45.7</{p}:{n}>" for p, n in properties), **declared)
    if as_attributes:
        names = " ".join(f'{p}:{n}="Lyon 45.7"' for p, n in properties)
        source = packet(**declared).replace('rdf:about=""', f'rdf:about="" {names}')
    blocks = Blocks(Exif(gps={2: long("<", 1)}, photo={exif_blocks.MAKER_NOTE: text("Lyon")}), Packet(source))
    families.update(blocks, Geometry((1, 1), (1, 1)), Target("png", 1, 1), True)
    left = {(field.space, field.name) for field in blocks.packet.fields()}
    assert left == {(space, name) for space, names in NO_PLACES.items() for name in names}
    assert not blocks.exif.gps and not blocks.exif.photo


def test_a_place_in_a_structure_goes_with_it(tmp_path):
    shown = '<rdf:Bag><rdf:li rdf:parseType="Resource"><i:City>Lyon</i:City></rdf:li></rdf:Bag>'
    space = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    source = packet(f"<i:LocationShown>{shown}</i:LocationShown>", i=space).encode()
    for format in ("jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"):
        save(opened(tmp_path, jpeg(xmp=source)), tmp_path / "out", format=format, strip_location=True)
        assert b"Lyon" not in (tmp_path / "out").read_bytes()


def test_sizes_are_those_of_the_result():
    exif = Exif(
        root={256: long("<", 9), 257: long("<", 9)},
        photo={40962: short("<", 9), 40963: short("<", 9)},
        interop={4097: short("<", 9), 4098: short("<", 9), 1: text("R98")},
    )
    spaces = {"exif": xmp.EXIF, "tiff": xmp.TIFF, "dc": xmp.DC}
    sizes = "<exif:PixelXDimension>9</exif:PixelXDimension><exif:PixelYDimension>9</exif:PixelYDimension>"
    sizes += (
        "<tiff:ImageWidth>9</tiff:ImageWidth><tiff:ImageLength>9</tiff:ImageLength><dc:format>image/x-raw</dc:format>"
    )
    sizes += "<tiff:XResolution>72/1</tiff:XResolution><tiff:ResolutionUnit>3</tiff:ResolutionUnit>"
    blocks = Blocks(exif, Packet(packet(sizes, **spaces)))
    families.update(blocks, Geometry((9, 9), (18, 18)), Target("webp", 18, 18, (300, 300)), False)
    for directory_name in ("root", "photo", "interop"):
        values = [blocks.exif.numbers(directory_name, tag) for tag in getattr(blocks.exif, directory_name) if tag != 1]
        assert values == [[18], [18]]
    found = {field.name: field.value for field in blocks.packet.fields()}
    assert found == {
        **dict.fromkeys(("PixelXDimension", "PixelYDimension", "ImageWidth", "ImageLength"), "18"),
        "format": "image/webp",
        "XResolution": "3000000/10000",
        "ResolutionUnit": "2",
    }


NOTE = b"\x02\0\x01\0\x02\0\x05\0\0\0" + bytes(100) + b"camera's own"  # as Canon's: offsets count from the block


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [0, 401, 3000])
def test_a_makers_note_keeps_its_offset(tmp_path, order, before, format):
    """What stands before it in the block may grow or shrink."""
    root = {271: text("Canon"), **({270: text("x" * before)} if before else {})}
    exif = Exif(order, root, {36867: text("1954:07:03 12:00:00"), 37500: ExifEntry(7, len(NOTE), NOTE)})
    source = exif_blocks.pack(exif)
    at = source.index(NOTE)
    save(opened(tmp_path, jpeg(exif=b"Exif\0\0" + source)), tmp_path / "out", format=format)
    data = (tmp_path / "out").read_bytes()
    block = data if format == "tiff" else Picture.open(tmp_path / "out").metadata.exif
    assert block[at : at + len(NOTE)] == NOTE
    parsed = exif_blocks.parse(block)
    assert parsed.note_offset == at and parsed.photo[37500].data == NOTE and not parsed.is_damaged
    assert parsed.photo[36867] == exif.photo[36867] and parsed.root[271] == exif.root[271]
    with Image.open(tmp_path / "out") if format not in ("heic", "jxl") else io.BytesIO() as image:
        if format not in ("heic", "jxl"):
            assert bytes(image.getexif().get_ifd(0x8769)[37500]) == NOTE


def test_a_note_that_cannot_keep_its_offset_is_dropped_and_said(tmp_path):
    for note, is_kept in ((NOTE, False), (b"FUJIFILM" + NOTE, True)):
        head = Exif(root={271: text("x")}, photo={37500: ExifEntry(7, len(note), note)}, note_offset=0)
        far = exif_blocks.pack(Exif(root={270: text("y" * 70_000), **head.root}, photo=head.photo))
        out = io.BytesIO()
        Image.fromarray(PIXELS).save(out, "png", exif=b"Exif\0\0" + far)
        picture = opened(tmp_path, out.getvalue())
        assert (37500 in exif_blocks.parse(picture.metadata.exif).photo) == is_kept
        assert picture.notes == (() if is_kept else ("its maker's note is too far away to be carried over",))


def test_pointers_in_a_wrong_directory_are_no_entries():
    """A GPS directory below the photo's, as some programs write it, is found, and no stale pointer is carried."""
    gps = Exif(gps={1: text("N")}, root={271: text("Agfa")})
    data = bytearray(exif_blocks.pack(Exif(root={271: text("Agfa")}, photo={34853: long("<", 0), 306: text("x")})))
    at = len(data)
    data += exif_blocks.pack_directories(Exif(root=gps.gps), at)
    row = data.index((34853).to_bytes(2, "little"))
    data[row + 8 : row + 12] = at.to_bytes(4, "little")
    parsed = exif_blocks.parse(bytes(data))
    assert parsed.gps == gps.gps and set(parsed.photo) == {306}


def test_the_first_readable_exif_of_several_is_used(tmp_path):
    good = exif_blocks.pack(Exif(">", {271: text("Agfa")}))
    broken = b"Exif\0\0MM\0*\0\0\xff\xff"
    picture = opened(tmp_path, jpeg((0xE1, broken), (0xE1, b"Exif\0\0" + good)))
    assert exif_blocks.parse(picture.metadata.exif).root[271] == text("Agfa")


EXIF_SPACE = {"exif": "http://ns.adobe.com/exif/1.0/"}


@pytest.mark.parametrize(
    "is_place, blocks",
    [
        (False, {}),
        # photoprism #736: a camera without a fix writes these
        (False, {"gps": {1: text(""), 2: ExifEntry(5, 0, b""), 9: text("V"), 29: text("2020:12:20")}}),
        (False, {"gps": {2: ExifEntry(5, 3, bytes(24)), 4: ExifEntry(5, 3, bytes(24))}}),
        (True, {"gps": {2: ExifEntry(5, 1, b"\x2e\0\0\0\1\0\0\0")}}),
        (True, {"gps": {28: ExifEntry(7, 12, b"ASCII\0\0\0Chur")}}),
        # photoprism #4106: a place in the XMP alone
        (True, {"xmp": packet("<exif:GPSLatitude>46,30.5N</exif:GPSLatitude>", **EXIF_SPACE)}),
        (False, {"xmp": packet("<exif:GPSVersionID>2.3.0.0</exif:GPSVersionID>", **EXIF_SPACE)}),
        (False, {"xmp": packet("<exif:GPSLatitude> </exif:GPSLatitude>", **EXIF_SPACE)}),
        (True, {"xmp": packet("<p:City>Chur</p:City>", p="http://ns.adobe.com/photoshop/1.0/")}),
        (True, {"iptc": iptc.Iptc(iptc.pack([(2, 90, b"Chur")]))}),
        (False, {"iptc": iptc.Iptc(iptc.pack([(2, 120, b"Chur")]))}),
    ],
)
def test_a_place_is_said_where_there_is_one(is_place, blocks):
    packet = Packet(blocks["xmp"].encode()) if "xmp" in blocks else None
    found = Blocks(Exif(gps=blocks.get("gps", {})), packet, blocks.get("iptc"))
    assert families.has_location(found) is is_place
    families.update(found, Geometry((8, 8), (8, 8)), Target("jpeg", 8, 8), strip_location=True)
    assert not families.has_location(found)


def with_exif(format, block):
    """A picture whose container has this block as it is."""
    if format == "jpeg":
        return jpeg((0xE1, b"Exif\0\0" + block))
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, format, exif=b"Exif\0\0II*\0" + bytes(8))
    data = out.getvalue()
    at = data.index(b"eXIf" if format == "png" else b"EXIF")
    if format == "png":
        length = int.from_bytes(data[at - 4 : at], "big")
        body = b"eXIf" + block
        new = len(block).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        return data[: at - 4] + new + data[at + 8 + length :]
    body = data[8:at] + b"EXIF" + len(block).to_bytes(4, "little") + block + bytes(len(block) % 2)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_exif_is_read_however_often_its_header_is_repeated(tmp_path, format, times):
    """stable-diffusion-webui #496 wrote it twice: the entries were lost, and the turn of the picture."""
    block = exif_blocks.pack(Exif(">", {271: text("Agfa"), 274: short(">", 6)}))
    picture = opened(tmp_path, with_exif(format, b"Exif\0\0" * times + block))
    assert exif_blocks.parse(picture.metadata.exif).root[271] == text("Agfa")
    assert picture.pixels.shape == (24, 16, 3) and picture.notes == ()


def test_a_comment_stays_a_comment(tmp_path):
    words = "Aunt Rosa, summer 1961. Steps: to the garden"
    infotext = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
    for comment, is_infotext in ((words, False), (infotext, True)):
        block = exif_blocks.pack(exif_blocks.with_comment(Exif(), comment))
        picture = opened(tmp_path, jpeg(exif=b"Exif\0\0" + block))
        assert picture.metadata.infotext == (infotext if is_infotext else "")
        save(picture, tmp_path / "out.png", format="png")
        with Image.open(tmp_path / "out.png") as image:
            assert image.text.get("parameters") == (infotext if is_infotext else None)
        after = Picture.open(tmp_path / "out.png")
        assert exif_blocks.comment(exif_blocks.parse(after.metadata.exif)) == comment


@pytest.mark.parametrize("words", ["Aunt Rosa", "Großmutter 婚礼"])
def test_a_files_own_comment_goes_everywhere(tmp_path, words):
    before = opened(tmp_path, jpeg(comment=words.encode()))
    for format in ("jpeg", "png", "webp", "tiff", "avif", "heic", "jxl"):
        assert save(before, tmp_path / "out", format=format) == ()
        after = Picture.open(tmp_path / "out").metadata
        comment = exif_blocks.comment(exif_blocks.parse(after.exif))
        assert (after.comment or comment) == words
    latin = opened(tmp_path, jpeg(comment="Großmutter".encode("latin-1")))
    assert latin.metadata.comment == "Großmutter"
    assert opened(tmp_path, jpeg(comment=b"CREATOR: gd-jpeg v1.0, quality = 75")).metadata.comment == ""


def test_the_second_comment_is_said_where_there_is_no_place(tmp_path):
    block = exif_blocks.pack(exif_blocks.with_comment(Exif(), "first"))
    picture = Picture(PIXELS, metadata=Metadata(exif=block, comment="second"))
    assert save(picture, tmp_path / "out", format="png") == ()
    assert save(picture, tmp_path / "out", format="webp") == ("WebP has no place for its second comment: left out",)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
@pytest.mark.parametrize("key, start", [("exif", b"Exif\0\0"), ("APP1", b"Exif\0\0"), ("exif", b"")])
def test_exif_in_hexadecimal_text_of_a_png(tmp_path, kind, key, start):
    from PIL import PngImagePlugin

    raw = start + exif_blocks.pack(Exif(">", {271: text("Agfa"), 274: short(">", 6)}))
    words, info, out = f"\nexif\n{len(raw):8}\n{raw.hex()}\n", PngImagePlugin.PngInfo(), io.BytesIO()
    add = info.add_itxt if kind == "iTXt" else info.add_text
    add(f"Raw profile type {key}", words, zip=kind == "zTXt")
    Image.fromarray(PIXELS).save(out, "png", pnginfo=info)
    picture = opened(tmp_path, out.getvalue())
    assert picture.pixels.shape == (24, 16, 3)
    assert exif_blocks.parse(picture.metadata.exif).root[271] == text("Agfa")


def test_an_extended_depth_map_is_dropped_and_the_rest_kept(tmp_path):
    """Camera applications put the depth map, which is large, into the extended packet, together with small things."""
    spaces = {"GDepth": GOOGLE + "depthmap/", "k": "urn:k"}
    parts = f"<GDepth:Format>RangeInverse</GDepth:Format><GDepth:Data>{'A' * 90_000}</GDepth:Data>"
    parts += f"<k:keep>{'k' * 70_000}</k:keep>"
    main, extended = Packet(packet(parts, **spaces)).split(segments.MAX_XMP)
    assert len(main) <= segments.MAX_XMP and b"AAAA" in extended and b"kkkk" in extended
    written = segments.write_segments(main, extended, None)
    data = jpeg()
    picture = opened(tmp_path, data[:2] + written + data[2:])
    assert picture.notes == (families.DEPTH_MAP_NOTE,)
    assert [(field.name, len(field.value)) for field in Packet(picture.metadata.xmp).fields()] == [("keep", 70_000)]


def test_layers_and_credentials_of_a_tiff_are_said(tmp_path):
    import tifffile

    tags = [(37724, 7, 40, b"Adobe Photoshop Document Data Block\0LMsk", True), (52545, 7, 8, b"jumbc2pa", True)]
    tifffile.imwrite(tmp_path / "in.tif", PIXELS, photometric="rgb", extratags=tags)
    assert Picture.open(tmp_path / "in.tif").notes == (families.CREDENTIALS_NOTE, "its layers are not carried over")


def test_the_page_that_is_used_has_its_own_metadata(tmp_path):
    import tifffile

    photo = np.repeat(np.repeat(PIXELS, 4, 0), 4, 1)
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        more = {"photometric": "rgb", "metadata": None}
        turned = [(274, 3, 1, 3, True)]
        file.write(PIXELS, subfiletype=1, description="preview", resolution=(72, 72), resolutionunit=2, **more)
        file.write(photo, description="Wedding", resolution=(600, 300), resolutionunit=2, extratags=turned, **more)
    picture = Picture.open(tmp_path / "in.tif")
    np.testing.assert_array_equal(picture.pixels, photo[::-1, ::-1])
    assert picture.metadata.dpi == (600, 300)
    assert exif_blocks.parse(picture.metadata.exif).root[270] == text("Wedding")


def test_the_table_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \| (carried|changed|dropped) \| (.+?) \|$", page, re.MULTILINE)
    assert rows == list(families.rows())
