"""XMP packets: read without trust, changed in few places, everything else kept as it was."""

import re
from collections.abc import Callable
from xml.dom import minidom
from xml.parsers.expat import ExpatError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
_XMLNS = "http://www.w3.org/2000/xmlns/"
OURS = "http://ns.calotype.org/1.0/"

_SIZES = {(EXIF, "PixelXDimension"): 0, (EXIF, "PixelYDimension"): 1, (TIFF, "ImageWidth"): 0, (TIFF, "ImageLength"): 1}
_PLACES = {"City", "State", "Country", "Location", "CountryCode", "CountryName", "ProvinceState", "Sublocation"}
_PLACES |= {"LocationCreated", "LocationShown", "WorldRegion", "LocationName"}
_DEEPEST = 100
_MOST_BYTES = 4 << 20  # a tree takes some fifty times as much memory
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = (
    f'{_BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def upright(packet: bytes) -> bytes:
    """The packet with tiff:Orientation, where it has one, set to 1.

    Raises:
        ValueError: the packet cannot be read, or is not to be trusted.
    """
    tree = _tree(packet)
    if not _set(tree, {(TIFF, "Orientation"): "1"}):
        return packet
    return _written(tree)


def rewritten(packet: bytes | None, width: int, height: int, is_place_stripped: bool, record: str) -> bytes | None:
    """The packet for a result: sizes that are told are these, our record is in it (an empty one removes it).

    Raises:
        ValueError: the packet cannot be read.
    """
    if packet is None and not record:
        return None
    tree = _tree(packet or _EMPTY.encode())
    _set(tree, {name: str((width, height)[at]) for name, at in _SIZES.items()})
    _drop(tree, lambda space, name: space == OURS and name == "record")
    if is_place_stripped:
        _drop(tree, lambda space, name: name in _PLACES or name.lower().startswith("gps"))
    if record:
        _add_record(tree, record)
    return _written(tree)


def record_in(packet: bytes) -> str | None:
    """The record that `rewritten` put in, None where there is none. Raises ValueError for a packet out of order."""
    for node in _tree(packet).getElementsByTagNameNS(OURS, "record"):
        return "".join(child.data for child in node.childNodes if child.nodeType in (child.TEXT_NODE, 4))
    return None


def _tree(packet: bytes) -> minidom.Document:
    if len(packet) > _MOST_BYTES:
        raise ValueError("an XMP packet of this size")
    text = _text(packet)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("entities in XMP")
    try:
        tree = minidom.parseString(text.encode())
    except (ExpatError, LookupError, AttributeError, TypeError) as fault:
        raise ValueError(f"XMP that is no XML: {fault}") from fault
    level: list[minidom.Node] = [tree]
    for _ in range(_DEEPEST):  # minidom recurses; what real programs write is some ten levels deep
        level = [child for node in level for child in node.childNodes]
        if not level:
            return tree
    raise ValueError("XMP nested too deeply")


def _text(packet: bytes) -> str:
    """Decoded by us, so that no declared encoding can hide anything from the check for entities."""
    packet = packet.strip(b"\0 \t\r\n") if b"\0" not in packet[:64].strip(b"\0") else packet
    wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
    text = packet.decode(wide.get(packet[:2], "utf-8-sig")).strip("\ufeff\0 \t\r\n")
    return re.sub(r"^<\?xml\s[^>]*\?>", "", text)


def _written(tree: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in tree.childNodes).encode()


def _elements(tree: minidom.Document) -> list[minidom.Element]:
    return list(tree.getElementsByTagName("*"))


def _set(tree: minidom.Document, values: dict[tuple[str, str], str]) -> bool:
    """Sets properties that are there, written as attributes or as elements; tells whether it met any."""
    is_met = False
    for element in _elements(tree):
        for (space, name), value in values.items():
            if element.hasAttributeNS(space, name):
                element.getAttributeNodeNS(space, name).value = value
                is_met = True
            if (element.namespaceURI, element.localName) == (space, name):
                _fill(tree, element, value)
                is_met = True
    return is_met


def _fill(tree: minidom.Document, element: minidom.Element, value: str) -> None:
    element.childNodes[:] = []
    element.appendChild(tree.createTextNode(value))


def _drop(tree: minidom.Document, is_unwanted: Callable[[str | None, str], bool]) -> None:
    for element in _elements(tree):
        for space, name in list(element.attributes.keysNS()):
            if space != _XMLNS and is_unwanted(space, name or ""):
                element.removeAttributeNS(space, name)
        is_root = element is tree.documentElement
        if not is_root and is_unwanted(element.namespaceURI, element.localName or element.tagName):
            element.parentNode.removeChild(element)


def _add_record(tree: minidom.Document, record: str) -> None:
    home = tree.getElementsByTagNameNS(RDF, "RDF")
    if not home:
        raise ValueError("XMP without RDF")
    about = tree.createElementNS(RDF, "rdf:Description")
    about.setAttribute("xmlns:rdf", RDF)
    about.setAttribute("rdf:about", "")
    about.setAttribute("xmlns:calotype", OURS)
    element = tree.createElementNS(OURS, "calotype:record")
    _fill(tree, element, _storable(record))
    about.appendChild(element)
    home[0].appendChild(about)


def _storable(record: str) -> str:
    """Characters that XML cannot hold become JSON escapes, which mean the same inside JSON strings."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda m: f"\\u{ord(m[0]):04x}", record)
