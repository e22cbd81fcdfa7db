"""What happens to each kind of metadata on the way from a file into a result: `FAMILIES`, by which every format is
read and written. What it does not name is carried as it is. docs/metadata.md shows the table.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from calotype.picture import notes as about
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata import positions
from calotype.picture.metadata.exif import MAKER_NOTE, ORIENTATION, Exif
from calotype.picture.metadata.geometry import Geometry
from calotype.picture.metadata.iptc import Iptc
from calotype.picture.metadata.xmp import DC, EXIF, PHOTOSHOP, TIFF, XMP, Field, Packet
from calotype.suffixes import MEDIA_TYPES

_SIZES = {("root", 256): 0, ("root", 257): 1, ("photo", 40962): 0, ("photo", 40963): 1}  # 0: width, 1: height
_SIZES |= {("interop", 4097): 0, ("interop", 4098): 1}
_SIZES_XMP = {
    (EXIF, "PixelXDimension"): 0,
    (EXIF, "PixelYDimension"): 1,
    (TIFF, "ImageWidth"): 0,
    (TIFF, "ImageLength"): 1,
}
_COMPONENTS = 37121  # ComponentsConfiguration
# Tags of the first directory that describe how a file stores its pixels.
_STORAGE = frozenset(
    {254, 255, *range(258, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 343), 347, 400}
    | {*range(512, 522), *range(529, 533), 559, 700, 33421, 33422, 33723, 34377, 34675, *range(50700, 65536)}
) - {318, 319, 52545}
_LAYERS, _CREDENTIALS = 37724, 52545  # of a TIFF
VIDEO_NOTE = "its video (motion photo) is not carried over"
GAIN_MAP_NOTE = "its gain map (HDR) is not carried over"
DEPTH_MAP_NOTE = "its depth map is not carried over"
CREDENTIALS_NOTE = "its Content Credentials (C2PA) are not carried over"
LAYERS_NOTE = "its layers are not carried over"
_GOOGLE = "http://ns.google.com/photos/1.0/"
_DYNAMIC_DEPTH = r"http://ns\.(google\.com/photos/dd|xdm\.org/photos)/1\.0/"


@dataclass(frozen=True)
class Target:
    """What a result's metadata say about the result itself."""

    format: str
    width: int
    height: int
    dpi: tuple[float, float] | None = None


@dataclass
class Blocks:
    """The metadata of one picture, which the functions here change."""

    exif: Exif = field(default_factory=Exif)
    packet: Packet | None = None
    iptc: Iptc | None = None

    @property
    def orientation(self) -> int:
        """From the EXIF, else from the XMP; 1 where neither has a valid one."""
        for found in (str(self.exif.number(ORIENTATION)), self.packet.text(TIFF, "Orientation") if self.packet else ""):
            if found in tuple("12345678"):
                return int(found)
        return 1


@dataclass(frozen=True)
class Match:
    """XMP properties and fields: regular expressions that namespace, name and value match in full."""

    space: str
    name: str = ".*"
    value: str | None = None

    def covers(self, space: str, name: str) -> bool:
        """Whether properties of this name may match."""
        return _is_full_match(self.name, name) and _is_full_match(self.space, space)

    def __call__(self, found: Field) -> bool:
        is_covered = self.covers(found.space, found.name)
        return is_covered and (self.value is None or re.fullmatch(self.value, found.value) is not None)


@lru_cache(maxsize=10_000)
def _is_full_match(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


Move = Callable[[Blocks, Geometry], None]
Update = Callable[[Blocks, Target], None]
ANY = frozenset(range(1 << 16))


@dataclass(frozen=True)
class Family:
    """One row of the table."""

    name: str
    fate: str  # carried, changed or dropped
    what: str
    exif: tuple[tuple[str, Collection[int]], ...] = ()  # directories and their tags
    xmp: tuple[Match, ...] = ()
    iptc: Collection[int] = ()  # datasets of record 2
    note: str = ""  # added where something of a dropped family was found
    move: Move | None = None  # at reading, when the picture is turned, and at writing, when it was scaled
    update: Update | None = None  # at writing
    is_location: bool = False  # removed by the option strip_location


def upright(blocks: Blocks, geometry: Geometry) -> tuple[str, ...]:
    """Changes the metadata as read into those of the upright picture, without dropped families; returns notes."""
    notes = []
    for family in FAMILIES:
        if family.fate == "dropped" and _drop(blocks, family) and family.note:
            notes.append(family.note)
    for family in FAMILIES:
        if family.move and not geometry.is_identity:
            family.move(blocks, geometry)
    if ORIENTATION in blocks.exif.root:
        blocks.exif = exif_blocks.with_entries(
            blocks.exif, "root", {ORIENTATION: exif_blocks.short(blocks.exif.order, 1)}
        )
    if blocks.packet:
        blocks.packet.set(TIFF, "Orientation", "1")
    return tuple(notes)


def update(blocks: Blocks, geometry: Geometry, target: Target, strip_location: bool) -> tuple[str, ...]:
    """Changes the metadata of an upright picture into those of a result; returns notes."""
    notes = []
    for family in FAMILIES:
        if family.move and not geometry.is_identity:
            if geometry.is_uniform:
                family.move(blocks, geometry)
            elif _drop(blocks, family):
                notes.append(about.UNFIT_FAMILY.format(family=family.name))
        if family.update:
            family.update(blocks, target)
        if strip_location and family.is_location:
            _drop(blocks, family)
    return tuple(notes)


def _drop(blocks: Blocks, family: Family) -> bool:
    """Removes a family; returns whether there was something of it."""
    before = blocks.exif
    for directory, tags in family.exif:
        blocks.exif = exif_blocks.without(blocks.exif, directory, tags)
    is_found = blocks.exif is not before
    if blocks.packet and any(match.covers(*name) for match in family.xmp for name in blocks.packet.names):
        for found in list(blocks.packet.fields()):
            if any(match(found) for match in family.xmp):
                found.remove()
                is_found = True
    if blocks.iptc and family.iptc:
        blocks.iptc = captions.without(blocks.iptc, family.iptc)
    return is_found


def _set_sizes(blocks: Blocks, target: Target) -> None:
    sides = (target.width, target.height)
    for (directory, tag), side in _SIZES.items():
        if tag in getattr(blocks.exif, directory):
            entry = exif_blocks.long(blocks.exif.order, sides[side])
            blocks.exif = exif_blocks.with_entries(blocks.exif, directory, {tag: entry})
    if blocks.packet:
        for (space, name), side in _SIZES_XMP.items():
            blocks.packet.set(space, name, str(sides[side]))


def _set_resolution(blocks: Blocks, target: Target) -> None:
    if blocks.packet and target.dpi:
        for name, value in zip(("XResolution", "YResolution"), target.dpi, strict=True):
            blocks.packet.set(TIFF, name, f"{round(value * 10_000)}/10000")
        blocks.packet.set(TIFF, "ResolutionUnit", "2")


def _move_resolution(blocks: Blocks, geometry: Geometry) -> None:
    blocks.exif = positions.swap_resolution(blocks.exif, geometry)


def _move_focal_plane(blocks: Blocks, geometry: Geometry) -> None:
    blocks.exif = positions.move_focal_plane(blocks.exif, geometry)
    if blocks.packet:
        positions.move_focal_plane_xmp(blocks.packet, geometry)


def _set_components(blocks: Blocks, target: Target) -> None:
    """Y, Cb, Cr in a JPEG; no other format has a place for it."""
    is_there = _COMPONENTS in blocks.exif.photo
    blocks.exif = exif_blocks.without(blocks.exif, "photo", {_COMPONENTS})
    if is_there and target.format == "jpeg":
        entry = exif_blocks.ExifEntry(exif_blocks.UNDEFINED, 4, b"\1\2\3\0")
        blocks.exif = exif_blocks.with_entries(blocks.exif, "photo", {_COMPONENTS: entry})


def _set_mime(blocks: Blocks, target: Target) -> None:
    if blocks.packet:
        blocks.packet.set(DC, "format", MEDIA_TYPES[target.format])


def _move_regions(blocks: Blocks, geometry: Geometry) -> None:
    blocks.exif = positions.move_subject(blocks.exif, geometry)
    if blocks.packet:
        positions.move_subject_xmp(blocks.packet, geometry)
        positions.forget_face_angles(blocks.packet, geometry)
        positions.move_regions(blocks.packet, geometry)


def _move_panorama(blocks: Blocks, geometry: Geometry) -> None:
    if blocks.packet:
        positions.move_panorama(blocks.packet, geometry)


def _move_map(blocks: Blocks, geometry: Geometry) -> None:
    if geometry.orientation == 1:
        blocks.exif = positions.scale_map(blocks.exif, geometry)
    else:  # a turned map has no scale per axis
        blocks.exif = exif_blocks.without(blocks.exif, "root", _MAP)


_MAP = frozenset({positions.PIXEL_SCALE, positions.TIE_POINTS, positions.TRANSFORMATION, 33920, 34735, 34736, 34737})
_PLACE_PARTS = ("latitude", "longitude", "longtitude", "altitude", "geohash", "geotag", "geolocation", "country")
_PLACE_WORDS = {"gps", "city", "location", "sublocation", "province", "venue", "district", "town", "village", "street"}
_PLACE_WORDS |= {"geo", "county", "postcode"}
_PLACE_NAMES = {"state", "provincestate", "stateprovince", "worldregion", "place", "placename", "address", "mapdatum"}
_PLACE_NAMES |= {"lat", "lon", "long", "lng"}
_NO_PLACE = re.compile(r"SubjectLocation|CiAdr.*|CreatorContactInfo")  # a place in the picture; the author's address
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class _Places(Match):
    """Coordinates and names of places, in whichever namespace."""

    def covers(self, space: str, name: str) -> bool:
        lower = name.lower()
        if _NO_PLACE.fullmatch(name):
            return False
        if (space, name) == (DC, "coverage") or "wgs84_pos" in space or lower in _PLACE_NAMES:
            return True
        words = {word.lower() for word in _WORD.findall(name)}
        is_named = not words.isdisjoint(_PLACE_WORDS) or lower.startswith(("gps", "location"))
        return is_named or any(part in lower for part in _PLACE_PARTS)


_ABOUT_GPS = re.compile(r"(?i)gps(?!.*(latitude|longitude|area|position|coord|location)).*")  # how, when
_COORDINATES, _AREA = (2, 4, 20, 22), 28  # of EXIF's GPS: latitude, longitude, those of the destination; a name


def has_location(blocks: Blocks) -> bool:
    """Whether coordinates or names of places are in it; GPS entries without any, as cameras write indoors, are none."""
    family = next(family for family in FAMILIES if family.name == "location")
    if any(any(blocks.exif.numbers("gps", tag)) for tag in _COORDINATES):
        return True
    if (area := blocks.exif.gps.get(_AREA)) and area.data[8:].strip(b"\0 "):
        return True
    for found in blocks.packet.fields() if blocks.packet else ():
        if found.value and not _ABOUT_GPS.fullmatch(found.name) and any(match(found) for match in family.xmp):
            return True
    return any(number in family.iptc for number, _ in captions.texts(blocks.iptc)) if blocks.iptc else False


FAMILIES = (
    Family(
        "orientation",
        "changed",
        "applied to the pixels, then 1; the XMP's is used where the EXIF has none, HEIC and AVIF have their own",
        exif=(("root", {ORIENTATION}),),
        xmp=(Match(TIFF, "Orientation"),),
    ),
    Family(
        "sizes",
        "changed",
        "set to the result's",
        exif=(("root", {256, 257}), ("photo", {40962, 40963}), ("interop", {4097, 4098})),
        xmp=(Match(EXIF, "Pixel[XY]Dimension"), Match(TIFF, "Image(Width|Length)")),
        update=_set_sizes,
    ),
    Family(
        "resolution",
        "changed",
        "the value in dots per inch stays, also when the picture is enlarged; x and y change places with the sides",
        exif=(),
        move=_move_resolution,
        update=_set_resolution,
    ),
    Family(
        "resolutions of the sensor",
        "changed",
        "FocalPlaneXResolution and FocalPlaneYResolution are scaled and change places with the sides",
        exif=(("photo", set(positions.FOCAL_PLANE)),),
        xmp=(Match(EXIF, "FocalPlane[XY]Resolution"),),
        move=_move_focal_plane,
    ),
    Family(
        "storage",
        "dropped",
        "how the source stores its pixels, such as compression and bits per sample; the result says that itself",
        exif=(("root", _STORAGE), ("photo", {37122, 59932, 59933}), ("interop", {4096})),
        xmp=(
            Match(TIFF, "BitsPerSample|Compression|PhotometricInterpretation|SamplesPerPixel|PlanarConfiguration"),
            Match(TIFF, "YCbCr(SubSampling|Positioning)|Strip.*|Tile.*|RowsPerStrip"),
            Match(EXIF, "CompressedBitsPerPixel|ComponentsConfiguration"),
            Match(PHOTOSHOP, "ColorMode|ICCProfile"),
        ),
    ),
    Family(
        "format",
        "changed",
        "dc:format is set to the result's type, ComponentsConfiguration to that of a JPEG",
        update=lambda blocks, target: (_set_mime(blocks, target), _set_components(blocks, target))[0],
    ),
    Family(
        "regions",
        "changed",
        "faces and other regions (MWG, ACDSee, Microsoft, IPTC), SubjectArea, SubjectLocation and Camera Raw's crop are"
        " turned and scaled with the pixels; dropped with a note where the result has another shape",
        exif=(("photo", {positions.SUBJECT_AREA, positions.SUBJECT_LOCATION}),),
        xmp=(
            Match(positions.MWG, "Regions"),
            Match(positions.ACDSEE, "Regions"),
            Match(positions.MICROSOFT, "RegionInfo"),
            Match(positions.IPTC_EXT, "ImageRegion"),
            Match(EXIF, "Subject(Area|Location)"),
            Match(positions.CAMERA_RAW, "Crop.*|HasCrop"),
        ),
        move=_move_regions,
    ),
    Family(
        "panorama sizes",
        "changed",
        "the sizes and places of GPano are turned and scaled; dropped with a note where the result has another shape",
        xmp=(Match(positions.GPANO),),
        move=_move_panorama,
    ),
    Family(
        "map coordinates",
        "changed",
        "the scale and the known points of a GeoTIFF are scaled; dropped where the picture is turned",
        exif=(("root", _MAP),),
        move=_move_map,
        is_location=True,
    ),
    Family(
        "thumbnails",
        "dropped",
        "they show the source; programs make their own",
        xmp=(Match(XMP, "Thumbnails"), Match(XMP + "g/img/", ".*")),
    ),
    Family(
        "motion photo",
        "dropped",
        "the video behind the picture is not carried, nor are the fields that refer to it",
        xmp=(
            Match(".*", "MotionPhoto.*|MicroVideo.*|OLivePhoto.*"),
            Match(".*/container/item/|.*/dd/1.0/item/", "Semantic", "MotionPhoto"),
        ),
        note=VIDEO_NOTE,
    ),
    Family(
        "gain map",
        "dropped",
        "the picture that makes it HDR fits the old pixels only",
        xmp=(
            Match("http://ns.adobe.com/hdr-gain-map/1.0/"),
            Match("http://ns.apple.com/(HDRGainMap|HDRToneMap|pixeldatainfo)/1.0/"),
            Match(".*/container/item/|.*/dd/1.0/item/", "Semantic", "(?i)gainmap"),
        ),
        note=GAIN_MAP_NOTE,
    ),
    Family(
        "depth map",
        "dropped",
        "depth maps and what belongs to them (GDepth, GFocus, GImage, Dynamic Depth, Apple's) fit the old pixels only",
        xmp=(
            Match(_GOOGLE + "(depthmap|focus|image)/"),
            Match(_DYNAMIC_DEPTH + "(device|camera|depthmap|image|imagingmodel|profile|pose|vendorinfo|appinfo)s?/"),
            Match(
                "http://ns.apple.com/(depthData|depthBlurEffect|portraitEffectsMatte|semanticSegmentationMatte)/1.0/"
            ),
            Match("http://ns.(xiaomi|miui).com/photos/1.0/camera/", "XMPMeta"),
            Match(".*/container/item/|.*/dd/1.0/item/", "Semantic", "(?i)depth(map)?|confidence(map)?|segmentation.*"),
        ),
        note=DEPTH_MAP_NOTE,
    ),
    Family(
        "appended files",
        "dropped",
        "the list of the files behind the picture (GContainer), which are not carried",
        xmp=(Match(_GOOGLE + "container/|http://ns.google.com/photos/dd/1.0/container/"),),
    ),
    Family(
        "content credentials",
        "dropped",
        "C2PA's signature is valid for the source's bytes only",
        exif=(("root", {_CREDENTIALS}),),
        xmp=(Match("http://purl.org/dc/terms/", "provenance"),),
        note=CREDENTIALS_NOTE,
    ),
    Family(
        "layers",
        "dropped",
        "Photoshop's layers in a PSD or TIFF, whose sum is the picture",
        exif=(("root", {_LAYERS}),),
        note=LAYERS_NOTE,
    ),
    Family(
        "extended XMP",
        "carried",
        "read into one packet; divided again where a JPEG's segment is too short for it",
    ),
    Family(
        "maker's note",
        "carried",
        "as it is and at its old offset, from which it counts; dropped with a note where that is too far away",
        exif=(("photo", {MAKER_NOTE}),),
        xmp=(Match(_GOOGLE + "camera/", "(?i)hdrp_?makernote|hdrplusmakernote|shot_log_data"),),
        is_location=True,
    ),
    Family(
        "location",
        "carried",
        "GPS, coordinates and names of places in any namespace; the option strip_location removes it, with the maker's"
        " note and the coordinates of a map, and keeps the author's address",
        exif=(("gps", ANY),),
        xmp=(_Places(".*"),),
        iptc={26, 27, 90, 92, 95, 100, 101},
        is_location=True,
    ),
    Family(
        "history",
        "carried",
        "xmpMM and photoshop history, dates and identifiers are those of the photo; EXIF's Software becomes Calotype",
    ),
    Family(
        "IPTC captions",
        "carried",
        "as they are (IIM) in JPEG and TIFF; elsewhere as XMP, where the XMP has no such property yet",
    ),
    Family(
        "comments",
        "carried",
        "a JPEG's and a PNG's comment as such, elsewhere as EXIF's UserComment if it is free; only text that has"
        " parameters of an image generator becomes PNG's `parameters`",
    ),
    Family(
        "generation parameters",
        "carried",
        "PNG's `parameters` and the comment that has them; the texts of ComfyUI, InvokeAI, NovelAI and Easy Diffusion"
        " as they are in PNG, left out elsewhere with a note",
    ),
)


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, fate and explanation of each family, for the documentation."""
    return ((family.name, family.fate, family.what) for family in FAMILIES)
