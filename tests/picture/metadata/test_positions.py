"""Positions in metadata stay on what they mark: the pixels are marked, too, and both are turned and enlarged."""

import io
import re

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from calotype.picture import Picture, save
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import families, positions
from calotype.picture.metadata.exif import Exif, short
from calotype.picture.metadata.families import Blocks, Target
from calotype.picture.metadata.geometry import Geometry, composed
from calotype.picture.metadata.xmp import EXIF, Packet
from calotype.picture.picture import upright

NAMESPACES = """xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
 xmlns:acdsee-rs="http://ns.acdsee.com/regions/" xmlns:acdsee-stArea="http://ns.acdsee.com/sType/Area#"
 xmlns:acdsee-stDim="http://ns.acdsee.com/sType/Dimensions#" xmlns:MP="http://ns.microsoft.com/photo/1.2/"
 xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:apple-fi="http://ns.apple.com/faceinfo/1.0/" """


def packet(body, attributes=""):
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" {NAMESPACES} {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>"""


def regions(box, size, applied=None):
    """The same box in every dialect; box is left, top, width, height in pixels, sizes are height, width."""
    left, top, w, h = box
    height, width = size
    applied = applied or size
    x, y, rw, rh = (left + w / 2) / width, (top + h / 2) / height, w / width, h / height
    corners = ((left, top), (left + w, top + h))
    vertices = "".join(
        f'<rdf:li rdf:parseType="Resource"><Iptc4xmpExt:rbX>{cx}</Iptc4xmpExt:rbX>'
        f"<Iptc4xmpExt:rbY>{cy}</Iptc4xmpExt:rbY></rdf:li>"
        for cx, cy in corners
    )
    return packet(
        f"""<mwg-rs:Regions rdf:parseType="Resource">
<mwg-rs:AppliedToDimensions stDim:w="{applied[1]}" stDim:h="{applied[0]}" stDim:unit="pixel"/>
<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Eileen" mwg-rs:Type="Face">
<mwg-rs:Area stArea:x="{x}" stArea:y="{y}" stArea:w="{rw}" stArea:h="{rh}" stArea:unit="normalized"/>
<mwg-rs:Extensions apple-fi:AngleInfoRoll="270" apple-fi:ConfidenceLevel="99"/></rdf:Description></rdf:li>
<rdf:li rdf:parseType="Resource"><mwg-rs:Type>Pet</mwg-rs:Type><mwg-rs:Area rdf:parseType="Resource">
<stArea:x>{left + w / 2}</stArea:x><stArea:y>{top + h / 2}</stArea:y><stArea:w>{w}</stArea:w><stArea:h>{h}</stArea:h>
<stArea:unit>pixel</stArea:unit></mwg-rs:Area></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
<acdsee-rs:Regions rdf:parseType="Resource">
<acdsee-rs:AppliedToDimensions acdsee-stDim:w="{width}" acdsee-stDim:h="{height}"/>
<acdsee-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">
<acdsee-rs:DLYArea acdsee-stArea:x="{x}" acdsee-stArea:y="{y}" acdsee-stArea:w="{rw}" acdsee-stArea:h="{rh}"/>
</rdf:li></rdf:Bag></acdsee-rs:RegionList></acdsee-rs:Regions>
<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag><rdf:li rdf:parseType="Resource">
<MPReg:Rectangle>{left / width}, {top / height}, {rw}, {rh}</MPReg:Rectangle>
<MPReg:PersonDisplayName>Eileen</MPReg:PersonDisplayName></rdf:li></rdf:Bag></MPRI:Regions></MP:RegionInfo>
<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li rdf:parseType="Resource">
<Iptc4xmpExt:RegionBoundary Iptc4xmpExt:rbShape="rectangle" Iptc4xmpExt:rbUnit="relative"
 Iptc4xmpExt:rbX="{left / width}" Iptc4xmpExt:rbY="{top / height}" Iptc4xmpExt:rbW="{rw}" Iptc4xmpExt:rbH="{rh}"/>
</rdf:li>
<rdf:li rdf:parseType="Resource"><Iptc4xmpExt:RegionBoundary rdf:parseType="Resource">
<Iptc4xmpExt:rbShape>polygon</Iptc4xmpExt:rbShape><Iptc4xmpExt:rbUnit>pixel</Iptc4xmpExt:rbUnit>
<Iptc4xmpExt:rbVertices><rdf:Seq>{vertices}</rdf:Seq></Iptc4xmpExt:rbVertices>
</Iptc4xmpExt:RegionBoundary></rdf:li></rdf:Bag></Iptc4xmpExt:ImageRegion>
<exif:SubjectArea><rdf:Seq><rdf:li>{left + w // 2}</rdf:li><rdf:li>{top + h // 2}</rdf:li>
<rdf:li>{w}</rdf:li><rdf:li>{h}</rdf:li></rdf:Seq></exif:SubjectArea>""",
        f'crs:CropLeft="{left / width}" crs:CropTop="{top / height}" crs:CropRight="{(left + w) / width}" '
        f'crs:CropBottom="{(top + h) / height}"',
    )


def boxes(xmp, size):
    """Every box of a packet of `regions`, by dialect, as left, top, width, height in pixels."""
    height, width = size

    def numbers(pattern):
        found = re.findall(pattern, xmp, re.DOTALL)
        return [[float(number) for number in (row if isinstance(row, tuple) else (row,))] for row in found]

    def around(x, y, w, h):
        return [x - w / 2, y - h / 2, w, h]

    def pixels(row):
        return [n * side for n, side in zip(row, (width, height, width, height), strict=True)]

    number = r"([-\d.]+)"
    found = {}
    for space in ("stArea", "acdsee-stArea"):
        (row,) = numbers(rf' {space}:x="{number}" {space}:y="{number}" {space}:w="{number}" {space}:h="{number}"')
        found[space] = pixels(around(*row))
    (row,) = numbers(rf"<stArea:x>{number}</stArea:x><stArea:y>{number}<.*?w>{number}<.*?h>{number}<")
    found["in pixels"] = around(*row)
    (row,) = numbers(rf"Rectangle>{number}, {number}, {number}, {number}<")
    found["Microsoft"] = pixels(row)
    (row,) = numbers(
        rf'rbX="{number}" Iptc4xmpExt:rbY="{number}" Iptc4xmpExt:rbW="{number}" Iptc4xmpExt:rbH="{number}"'
    )
    found["IPTC"] = pixels(row)
    corners = numbers(rf"rbX>{number}<.*?rbY>{number}<")
    (x0, y0), (x1, y1) = corners
    found["IPTC polygon"] = [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]
    left, top, right, bottom = (
        numbers(rf'crs:Crop{side}="{number}"')[0][0] for side in ("Left", "Top", "Right", "Bottom")
    )
    found["Camera Raw"] = pixels([left, top, right - left, bottom - top])
    found["SubjectArea"] = around(*[row[0] for row in numbers(rf"<rdf:li>{number}</rdf:li>")])
    return found


def box_of(pixels):
    """Left, top, width, height of the white part."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_regions_stay_on_their_pixels(orientation, data):
    height, width = data.draw(st.tuples(st.integers(8, 60), st.integers(8, 60)).filter(lambda s: s[0] != s[1]))
    w, h = 2 * data.draw(st.integers(1, width // 4)), 2 * data.draw(st.integers(1, height // 4))
    left, top = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    scale = data.draw(st.sampled_from([1, 2, 3, 4]))
    stored = np.zeros((height, width), np.uint8)
    stored[top : top + h, left : left + w] = 255
    area = short(">", left + w // 2, top + h // 2, w, h)
    blocks = Blocks(
        Exif(">", photo={positions.SUBJECT_AREA: area}), Packet(regions((left, top, w, h), (height, width)))
    )

    assert families.upright(blocks, Geometry.turned((height, width), orientation)) == ()
    shown = upright(stored, orientation)
    result = shown.repeat(scale, axis=0).repeat(scale, axis=1)
    notes = families.update(blocks, Geometry(shown.shape, result.shape), Target("png", *result.shape[::-1]), False)
    assert notes == ()
    wanted = box_of(result)
    xmp = blocks.packet.serialized().decode()
    for dialect, box in boxes(xmp, result.shape).items():
        assert box == pytest.approx(wanted, abs=1e-4), dialect
    x, y, area_w, area_h = blocks.exif.numbers("photo", positions.SUBJECT_AREA)
    assert [x - area_w / 2, y - area_h / 2, area_w, area_h] == wanted
    assert f'stDim:w="{result.shape[1]}" stDim:h="{result.shape[0]}"' in xmp
    assert ("AngleInfoRoll" in xmp) == (orientation == 1)


def test_regions_of_the_picture_as_displayed_are_not_turned():
    """Some programs write regions for the turned picture: AppliedToDimensions has its sides."""
    xmp = regions((10, 20, 8, 6), (96, 120), applied=(120, 96))
    blocks = Blocks(packet=Packet(xmp))
    families.upright(blocks, Geometry.turned((96, 120), 6))
    text = blocks.packet.serialized().decode()
    assert re.search(r'stArea:x="([\d.]+)"', text)[1] == re.search(r'stArea:x="([\d.]+)"', xmp)[1]
    assert 'stDim:w="96" stDim:h="120"' in text


def test_what_does_not_fit_another_shape_is_left_out_and_said():
    xmp = regions((10, 20, 8, 6), (96, 120))
    blocks = Blocks(Exif(photo={positions.SUBJECT_AREA: short("<", 4, 4)}), Packet(xmp))
    notes = families.update(blocks, Geometry((96, 120), (96, 100)), Target("png", 100, 96), False)
    assert notes == ("its regions did not fit the result, which has another shape, and are left out",)
    assert not blocks.exif.photo and blocks.packet.is_empty
    assert families.update(blocks, Geometry((96, 120), (96, 100)), Target("png", 100, 96), False) == ()


@pytest.mark.parametrize("size", [(480, 641), (333, 1000), (1, 7)])
@pytest.mark.parametrize("scale", [0.25, 0.37, 1.5, 2, 4])
def test_rounding_a_size_is_no_other_shape(size, scale):
    after = tuple(max(1, round(side * scale)) for side in size)
    assert Geometry(size, after).is_uniform
    assert not Geometry((480, 640), (480, 600)).is_uniform


PANORAMA = (
    "CroppedAreaImageWidthPixels",
    "CroppedAreaImageHeightPixels",
    "FullPanoWidthPixels",
    "FullPanoHeightPixels",
)
PANORAMA += ("CroppedAreaLeftPixels", "CroppedAreaTopPixels")


def panorama(values, as_elements):
    if as_elements:
        return packet("".join(f"<GPano:{k}>{v}</GPano:{k}>" for k, v in zip(PANORAMA, values, strict=True)))
    return packet("", " ".join(f'GPano:{k}="{v}"' for k, v in zip(PANORAMA, values, strict=True)))


@pytest.mark.parametrize("as_elements", [False, True])
@pytest.mark.parametrize(
    "before, after, orientation, values, wanted",
    [
        ((96, 192), (192, 384), 1, (192, 96, 192, 96, 0, 0), (384, 192, 384, 192, 0, 0)),
        ((50, 200), (75, 300), 1, (200, 50, 401, 201, 101, 75), (300, 75, 602, 302, 152, 112)),
        ((96, 192), (24, 48), 1, (192, 96, 400, 200, 100, 40), (48, 24, 100, 50, 25, 10)),
        ((96, 192), (96, 192), 3, (192, 96, 400, 200, 100, 40), (192, 96, 400, 200, 108, 64)),
        ((96, 192), (192, 96), 6, (192, 96, 400, 200, 100, 40), (96, 192, 200, 400, 64, 100)),
        ((96, 192), (192, 96), 6, (96, 192, 200, 400, 64, 100), (96, 192, 200, 400, 64, 100)),  # as displayed
    ],
)
def test_panoramas_are_scaled(before, after, orientation, values, wanted, as_elements):
    tree = Packet(panorama(values, as_elements))
    positions.move_panorama(tree, Geometry(before, after, orientation))
    assert tuple(int(tree.text(positions.GPANO, name)) for name in PANORAMA) == wanted


def test_resolutions_of_the_sensor_keep_the_size_of_the_sensor():
    photo = {
        tag: exif_blocks.ratio("<", value) for tag, value in zip(positions.FOCAL_PLANE, (4000.0, 3000.0), strict=True)
    }
    tree = Packet(packet("", 'exif:FocalPlaneXResolution="4000/1" exif:FocalPlaneYResolution="3000/1"'))
    blocks = Blocks(Exif(photo=photo), tree)
    families.upright(blocks, Geometry.turned((100, 200), 8))
    families.update(blocks, Geometry((200, 100), (400, 200)), Target("png", 200, 400), False)
    assert [blocks.exif.numbers("photo", tag) for tag in positions.FOCAL_PLANE] == [[6000.0], [8000.0]]
    assert blocks.packet.text(EXIF, "FocalPlaneXResolution") == "6000000/1000"


def test_a_map_keeps_its_coordinates():
    """GeoTIFF: half the metres per pixel, and the known point at twice the pixels."""
    root = {
        positions.PIXEL_SCALE: positions._doubles(Exif(), [10.0, 10.0, 0.0]),
        positions.TIE_POINTS: positions._doubles(Exif(), [3.0, 5.0, 0.0, 440_720.0, 3_751_320.0, 0.0]),
        34735: short("<", 1, 1, 0, 0),
    }
    blocks = Blocks(Exif(root=root))
    families.update(blocks, Geometry((10, 10), (20, 20)), Target("tiff", 20, 20), False)
    assert blocks.exif.numbers("root", positions.PIXEL_SCALE) == [5.0, 5.0, 0.0]
    assert blocks.exif.numbers("root", positions.TIE_POINTS) == [6.0, 10.0, 0.0, 440_720.0, 3_751_320.0, 0.0]
    families.update(blocks, Geometry((20, 20), (20, 20)), Target("tiff", 20, 20), True)
    assert not blocks.exif.root


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("second", range(1, 9))
def test_orientations_compose_as_pixels_do(first, second):
    pixels = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(upright(upright(pixels, first), second), upright(pixels, composed(first, second)))


def file_of(format, pixels, block, xmp):
    """A file by the libraries' own writers."""
    out = io.BytesIO()
    if format == "heic":
        file = pillow_heif.HeifFile()
        file.add_frombytes("RGB", pixels.shape[1::-1], pixels.tobytes())
        file.save(out, exif=block, xmp=xmp, quality=100)
        return out.getvalue()
    exif, options = b"Exif\0\0" + block, {"xmp": xmp}
    if format == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    if format == "tiff":
        exif, options = Image.Exif(), {}
        exif.load(block)
        exif[700] = xmp
    Image.fromarray(pixels).save(out, format, exif=exif, **options)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif", "heic"])
def test_a_file_of_any_format_and_orientation(tmp_path, format, orientation):
    """Opened, enlarged and saved: the regions lie on the white part of the picture."""
    box, size = (24, 8, 48, 24), (64, 96)
    stored = np.zeros((*size, 3), np.uint8)
    stored[8:32, 24:72] = 255
    subject = {positions.SUBJECT_AREA: short("<", 48, 20, 48, 24)}
    block = exif_blocks.pack(Exif(root={274: short("<", orientation)}, photo=subject))
    (tmp_path / "in").write_bytes(file_of(format, stored, block, regions(box, size).encode()))
    picture = Picture.open(tmp_path / "in")
    save(picture.then(picture.pixels.repeat(2, 0).repeat(2, 1)), tmp_path / "out", format="png")
    result = Picture.open(tmp_path / "out")
    assert result.pixels.shape == ((192, 128, 3) if orientation >= 5 else (128, 192, 3))
    wanted = box_of(result.pixels[:, :, 1] > 127)
    for dialect, found in boxes(result.metadata.xmp.decode(), result.pixels.shape[:2]).items():
        assert found == pytest.approx(wanted, abs=1e-4), dialect
    x, y, w, h = exif_blocks.parse(result.metadata.exif).numbers("photo", 37396)
    assert [x - w / 2, y - h / 2, w, h] == wanted


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
def test_the_orientation_may_stand_in_the_xmp_alone(tmp_path, orientation):
    stored = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(stored).save(out, "tiff", tiffinfo={700: packet("", f'tiff:Orientation="{orientation}"').encode()})
    data = out.getvalue()
    (tmp_path / "in.tif").write_bytes(data)
    picture = Picture.open(tmp_path / "in.tif")
    np.testing.assert_array_equal(picture.pixels, upright(stored, orientation))
    assert b'tiff:Orientation="1"' in picture.metadata.xmp
    out = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(stored).save(
        out, "webp", lossless=True, exif=exif, xmp=packet("", f'tiff:Orientation="{orientation}"')
    )
    (tmp_path / "in.webp").write_bytes(out.getvalue())
    np.testing.assert_array_equal(Picture.open(tmp_path / "in.webp").pixels, upright(stored, 3))
