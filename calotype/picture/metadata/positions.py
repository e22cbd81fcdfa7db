"""Positions in a picture that its metadata hold: turned and scaled with the pixels."""

import re
import struct
from dataclasses import replace
from xml.dom import minidom

from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata.exif import Exif, ExifEntry
from calotype.picture.metadata.geometry import Affine, Geometry
from calotype.picture.metadata.xmp import EXIF, Field, Packet

MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
ACDSEE = "http://ns.acdsee.com/regions/"
AREAS = ("http://ns.adobe.com/xmp/sType/Area#", "http://ns.acdsee.com/sType/Area#")
DIMENSIONS = ("http://ns.adobe.com/xap/1.0/sType/Dimensions#", "http://ns.acdsee.com/sType/Dimensions#")
MICROSOFT = "http://ns.microsoft.com/photo/1.2/"
MICROSOFT_REGION = "http://ns.microsoft.com/photo/1.2/t/Region#"
APPLE_FACES = "http://ns.apple.com/faceinfo/1.0/"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
GPANO = "http://ns.google.com/photos/1.0/panorama/"
CAMERA_RAW = "http://ns.adobe.com/camera-raw-settings/1.0/"

SUBJECT_AREA, SUBJECT_LOCATION = 37396, 41492
FOCAL_PLANE = (41486, 41487)  # pixels per unit, x and y
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264  # GeoTIFF

Fields = dict[str, Field]  # of one structure, by local name


def move_subject(exif: Exif, geometry: Geometry) -> Exif:
    """SubjectArea and SubjectLocation: a point, a circle or a box around its centre."""
    entries = {}
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
        values = exif.numbers("photo", tag)
        if len(values) >= 2:
            moved = [max(0, min(round(value), 0xFFFFFFFF)) for value in _subject(values, geometry.pixels)]
            kind = exif_blocks.short if max(moved) < 1 << 16 else exif_blocks.long
            entries[tag] = kind(exif.order, *moved)
    return exif_blocks.with_entries(exif, "photo", entries)


def move_subject_xmp(packet: Packet, geometry: Geometry) -> None:
    for name in ("SubjectArea", "SubjectLocation"):
        for field in packet.find(EXIF, name):
            items = [Field(item.parentNode, item) for item in field.items()]
            values = [_number(item.value) for item in items]
            if len(values) >= 2 and None not in values:
                for item, value in zip(items, _subject(values, geometry.pixels), strict=False):
                    item.set(str(max(0, round(value))))


def _subject(values: list[float], pixels: Affine) -> list[float]:
    """x, y; x, y, diameter; or x, y, width, height."""
    x, y, *size = values[:4]
    if len(size) == 2:
        return [*pixels.point(x, y), *pixels.extent(*size)]
    return [*pixels.point(x, y), *(pixels.length(value) for value in size)]


def move_focal_plane(exif: Exif, geometry: Geometry) -> Exif:
    """FocalPlaneXResolution and FocalPlaneYResolution: with the width in pixels they tell the sensor's width."""
    x, y = (exif.numbers("photo", tag) for tag in FOCAL_PLANE)
    if not x or not y:
        return exif
    values = geometry.pixels.extent(x[0], y[0])
    entries = {tag: exif_blocks.ratio(exif.order, value) for tag, value in zip(FOCAL_PLANE, values, strict=True)}
    return exif_blocks.with_entries(exif, "photo", entries)


def move_focal_plane_xmp(packet: Packet, geometry: Geometry) -> None:
    x, y = (packet.find(EXIF, f"FocalPlane{axis}Resolution") for axis in "XY")
    if not x or not y or (width := _number(x[0].value)) is None or (height := _number(y[0].value)) is None:
        return
    for field, value in zip((x[0], y[0]), geometry.pixels.extent(width, height), strict=True):
        field.set(f"{round(value * 1000)}/1000")


def scale_map(exif: Exif, geometry: Geometry) -> Exif:
    """GeoTIFF: metres per pixel, and the pixels whose coordinates are known."""
    x, y = geometry.pixels.xx, geometry.pixels.yy
    entries = {}
    if len(values := exif.numbers("root", PIXEL_SCALE)) >= 2:
        entries[PIXEL_SCALE] = _doubles(exif, [values[0] / x, values[1] / y, *values[2:]])
    if (values := exif.numbers("root", TIE_POINTS)) and len(values) % 6 == 0:
        entries[TIE_POINTS] = _doubles(exif, [v * (x, y, 1, 1, 1, 1)[n % 6] for n, v in enumerate(values)])
    if len(values := exif.numbers("root", TRANSFORMATION)) == 16:
        entries[TRANSFORMATION] = _doubles(exif, [v / (x, y, 1, 1)[n % 4] for n, v in enumerate(values)])
    return exif_blocks.with_entries(exif, "root", entries)


def _doubles(exif: Exif, values: list[float]) -> ExifEntry:
    return ExifEntry(12, len(values), struct.pack(f"{exif.order}{len(values)}d", *values))


def swap_resolution(exif: Exif, geometry: Geometry) -> Exif:
    if not geometry.swaps_axes:
        return exif
    tags = (exif_blocks.X_RESOLUTION, exif_blocks.Y_RESOLUTION)
    swapped = {new: exif.root[old] for new, old in zip(tags, reversed(tags), strict=True) if old in exif.root}
    return replace(exif, root={tag: entry for tag, entry in exif.root.items() if tag not in tags} | swapped)


def move_regions(packet: Packet, geometry: Geometry) -> None:
    """Regions of MWG (Lightroom, digiKam, Apple), ACDSee, Microsoft and IPTC, and Camera Raw's crop."""
    spaces = {MWG, ACDSEE, MICROSOFT_REGION, IPTC_EXT, CAMERA_RAW, *AREAS}
    if spaces.isdisjoint(space for space, _ in packet.names):
        return
    structures = _structures(packet)
    upright = [owner for owner in structures if _is_displayed(owner, structures, geometry)]
    for owner, fields in structures.items():
        if not any(_is_within(owner, region) for region in upright):
            for move in (_move_area, _move_dimensions, _move_rectangle, _move_boundary, _move_crop):
                move(owner, fields, geometry, structures)


Structures = dict[minidom.Element, dict[tuple[str, str], Field]]


def _structures(packet: Packet) -> Structures:
    """The fields of every structure, by namespace and name. A description within a structure is the structure."""
    found: Structures = {}
    for field in packet.fields():
        found.setdefault(field.owner, {})[field.space, field.name] = field
    return found


def _is_within(element: minidom.Node | None, ancestor: minidom.Element) -> bool:
    while element is not None:
        if element is ancestor:
            return True
        element = element.parentNode
    return False


def _is_displayed(owner: minidom.Element, structures: Structures, geometry: Geometry) -> bool:
    """Whether regions refer to the picture as displayed: their size has its sides the other way round than stored."""
    names = {(space, "AppliedToDimensions") for space in (MWG, ACDSEE)}
    if not geometry.swaps_axes or not (applied := structures[owner].keys() & names):
        return False
    node = structures[owner][applied.pop()].node
    for inner, fields in structures.items():
        size = _pair(fields, "w", "h", DIMENSIONS)
        if size and _is_within(inner, node):
            stored, displayed = (_proportion(*geometry.before[::-1]), _proportion(*geometry.before))
            return abs(_proportion(*size) - displayed) < 0.02 < abs(_proportion(*size) - stored)
    return False


def _proportion(width: float, height: float) -> float:
    return width / (width + height) if width + height > 0 else 0.5


def _pair(fields: dict[tuple[str, str], Field], first: str, second: str, spaces: tuple[str, ...]):
    """Two numbers of a structure, None where one of them is missing."""
    for space in spaces:
        a, b = fields.get((space, first)), fields.get((space, second))
        if a and b and (x := _number(a.value)) is not None and (y := _number(b.value)) is not None:
            return x, y
    return None


def _of_space(fields: dict[tuple[str, str], Field], spaces: tuple[str, ...]) -> Fields:
    return {name: field for (space, name), field in fields.items() if space in spaces}


def _move_area(_: minidom.Element, fields: dict, geometry: Geometry, __: Structures) -> None:
    """MWG: a centre, and the size of a box or the diameter of a circle, as fractions or in pixels."""
    own = _of_space(fields, AREAS)
    centre = _pair(fields, "x", "y", AREAS)
    if centre is None:
        return
    map_ = geometry.pixels if "unit" in own and own["unit"].value == "pixel" else geometry.relative
    _put(own, "x", "y", map_.point(*centre))
    if size := _pair(fields, "w", "h", AREAS):
        _put(own, "w", "h", map_.extent(*size))
    if "d" in own and map_ is geometry.pixels and (diameter := _number(own["d"].value)) is not None:
        own["d"].set(_text(map_.length(diameter)))  # a fraction is of the shorter side


def _move_dimensions(owner: minidom.Element, fields: dict, geometry: Geometry, _: Structures) -> None:
    names = {(space, "AppliedToDimensions") for space in (MWG, ACDSEE)}
    size = _pair(fields, "w", "h", DIMENSIONS)
    if size is None or not any((node.namespaceURI, node.localName) in names for node in _ancestors(owner)):
        return
    width, height = geometry.pixels.extent(*size)
    _put(_of_space(fields, DIMENSIONS), "w", "h", (round(width), round(height)))


def _ancestors(node: minidom.Node | None):
    while node is not None and node.nodeType == node.ELEMENT_NODE:
        yield node
        node = node.parentNode


def _move_rectangle(_: minidom.Element, fields: dict, geometry: Geometry, __: Structures) -> None:
    """Microsoft: `left, top, width, height` as fractions."""
    field = fields.get((MICROSOFT_REGION, "Rectangle"))
    values = [_number(part) for part in field.value.split(",")] if field else []
    if field and len(values) == 4 and None not in values:
        field.set(", ".join(_text(value) for value in geometry.relative.box(*values)))


def _move_boundary(owner: minidom.Element, fields: dict, geometry: Geometry, structures: Structures) -> None:
    """IPTC: a corner and a size, a centre and a radius, or the corners of a polygon; as fractions or in pixels."""
    own = _of_space(fields, (IPTC_EXT,))
    at = _pair(fields, "rbX", "rbY", (IPTC_EXT,))
    if at is None:
        return
    lines = (structures.get(node, {}) for node in _ancestors(owner))
    unit = next((found[IPTC_EXT, "rbUnit"].value for found in lines if (IPTC_EXT, "rbUnit") in found), "relative")
    map_ = geometry.pixels if unit == "pixel" else geometry.relative
    if size := _pair(fields, "rbW", "rbH", (IPTC_EXT,)):
        left, top, width, height = map_.box(*at, *size)
        _put(own, "rbX", "rbY", (left, top))
        _put(own, "rbW", "rbH", (width, height))
        return
    _put(own, "rbX", "rbY", map_.point(*at))
    if "rbRx" in own and (radius := _number(own["rbRx"].value)) is not None:
        if unit == "pixel":
            radius = map_.length(radius)
        elif geometry.swaps_axes:  # a fraction of the width
            radius *= geometry.before[1] / geometry.before[0]
        own["rbRx"].set(_text(radius))


def _move_crop(_: minidom.Element, fields: dict, geometry: Geometry, __: Structures) -> None:
    """Camera Raw: four sides as fractions."""
    own = _of_space(fields, (CAMERA_RAW,))
    start, end = (
        _pair(fields, *names, (CAMERA_RAW,)) for names in (("CropLeft", "CropTop"), ("CropRight", "CropBottom"))
    )
    if start and end:
        left, top, width, height = geometry.relative.box(*start, end[0] - start[0], end[1] - start[1])
        _put(own, "CropLeft", "CropTop", (left, top))
        _put(own, "CropRight", "CropBottom", (left + width, top + height))


def forget_face_angles(packet: Packet, geometry: Geometry) -> None:
    """Apple's angles of a face hold for the picture as the camera stored it."""
    if geometry.orientation != 1:
        for space, name in packet.names:
            if space == APPLE_FACES and name.startswith("AngleInfo"):
                for field in packet.find(space, name):
                    field.remove()


def move_panorama(packet: Packet, geometry: Geometry) -> None:
    """Sizes and places of a panorama: the whole, the part that the picture is, and the largest part without gaps."""
    if all(space != GPANO for space, _ in packet.names):
        return
    for fields in _structures(packet).values():
        own = _of_space(fields, (GPANO,))
        full = _pair(fields, "FullPanoWidthPixels", "FullPanoHeightPixels", (GPANO,))
        part = _pair(fields, "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels", (GPANO,))
        if geometry.swaps_axes and (part or full) == geometry.before:
            continue  # width and height are those of the picture as displayed
        pixels, turn = geometry.pixels, geometry.relative
        width, height = pixels.extent(*(full or part or (0, 0)))
        full_size = (round(width), round(height))
        _put(own, "FullPanoWidthPixels", "FullPanoHeightPixels", full_size)
        _move_box(own, "LargestValidInteriorRect{}", "LargestValidInteriorRect{}", pixels, geometry.after[::-1])
        pixels = replace(pixels, x0=turn.x0 * width, y0=turn.y0 * height)
        _move_box(own, "CroppedArea{}Pixels", "CroppedAreaImage{}Pixels", pixels, full_size)


def _move_box(own: Fields, place: str, size: str, map_: Affine, max_size: tuple[int, int]) -> None:
    """A box in whole pixels, within a width and height."""
    names = [place.format("Left"), place.format("Top"), size.format("Width"), size.format("Height")]
    values = [_number(own[name].value) if name in own else None for name in names]
    if values[2] is None or values[3] is None:
        return
    left, top, width, height = (round(n) for n in map_.box(values[0] or 0, values[1] or 0, values[2], values[3]))
    moved = (max(0, min(left, max_size[0] - width)), max(0, min(top, max_size[1] - height)), width, height)
    for name, value in zip(names, moved, strict=True):
        if name in own:
            own[name].set(str(value))


def _put(own: Fields, first: str, second: str, values: tuple[float, float]) -> None:
    for name, value in zip((first, second), values, strict=True):
        if name in own:
            own[name].set(_text(value))


def _number(text: str) -> float | None:
    """A number, or a fraction as XMP writes rationals; None where it is none."""
    match = re.fullmatch(r"\s*([+-]?\d*\.?\d+(?:[eE][+-]?\d+)?|[+-]?\d+\.)(?:/(\d+))?\s*", text)
    if match is None:
        return None
    under = float(match[2]) if match[2] else 1.0
    value = float(match[1]) / under if under else 0.0
    return value if abs(value) < 1e12 else None


def _text(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") if value != round(value) else str(round(value))
