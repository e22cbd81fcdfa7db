"""XMP packets: read as untrusted input; a few properties are changed, everything else stays as it is."""

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
_LOCATION_NAMES = {"City", "State", "Country", "Location", "CountryCode", "CountryName", "ProvinceState", "Sublocation"}
_LOCATION_NAMES |= {"LocationCreated", "LocationShown", "WorldRegion", "LocationName"}
_MAX_DEPTH = 100
_MAX_BYTES = 4 << 20  # a DOM tree takes some fifty times as much memory
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = (
    f'{_BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def upright(packet: bytes) -> bytes:
    """The packet with tiff:Orientation, where it has one, set to 1.

    Raises:
        ValueError: the packet cannot be parsed, is too large or nested too deeply, or has entities.
    """
    tree = _tree(packet)
    if not _set(tree, {(TIFF, "Orientation"): "1"}):
        return packet
    return _serialized(tree)


def updated(packet: bytes | None, width: int, height: int, strip_location: bool, record: str) -> bytes | None:
    """The packet for a result: existing sizes updated, our record added (an empty one removes it).

    Raises:
        ValueError: the packet cannot be parsed.
    """
    if packet is None and not record:
        return None
    tree = _tree(packet or _EMPTY.encode())
    _set(tree, {name: str((width, height)[at]) for name, at in _SIZES.items()})
    _drop(tree, lambda space, name: space == OURS and name == "record")
    if strip_location:
        _drop(tree, lambda space, name: name in _LOCATION_NAMES or name.lower().startswith("gps"))
    if record:
        _add_record(tree, record)
    return _serialized(tree)


def record_in(packet: bytes) -> str | None:
    """The record that `updated` added, None where there is none. Raises ValueError as `upright` does."""
    for node in _tree(packet).getElementsByTagNameNS(OURS, "record"):
        return "".join(child.data for child in node.childNodes if child.nodeType in (child.TEXT_NODE, 4))
    return None


def texts(packet: bytes) -> dict[str, str]:
    """The properties by their names without namespace, as text; of a property that occurs twice, the first.

    Empty if the packet cannot be parsed.
    """
    try:
        tree = _tree(packet)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for element in _elements(tree):
        for (space, name), value in element.attributes.itemsNS():
            if space not in (_XMLNS, RDF, None):
                found.setdefault(name, value)
        if element.namespaceURI not in (RDF, OURS, None):
            text = "".join(node.data for node in _descendants(element) if node.nodeType in (node.TEXT_NODE, 4))
            found.setdefault(element.localName or "", text.strip())
    return {name: text for name, text in found.items() if text}


def _descendants(element: minidom.Element) -> list[minidom.Node]:
    """The nodes below in document order, of the first item of a list of languages only."""
    nodes: list[minidom.Node] = []
    stack = [*reversed(element.childNodes)]
    while stack:
        node = stack.pop()
        nodes.append(node)
        children = list(node.childNodes)
        items = [child for child in children if child.localName == "li"]
        stack += reversed([child for child in children if child not in items[1:]] if items else children)
    return nodes


def _tree(packet: bytes) -> minidom.Document:
    if len(packet) > _MAX_BYTES:
        raise ValueError("an XMP packet of this size")
    text = _text(packet)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("entities in XMP")
    try:
        tree = minidom.parseString(text.encode())
    except (ExpatError, LookupError, AttributeError, TypeError) as fault:
        raise ValueError(f"XMP that is no XML: {fault}") from fault
    level: list[minidom.Node] = [tree]
    for _ in range(_MAX_DEPTH):  # minidom recurses; real packets are some ten levels deep
        level = [child for node in level for child in node.childNodes]
        if not level:
            return tree
    raise ValueError("XMP nested too deeply")


def _text(packet: bytes) -> str:
    """Decoded here, so that a declared encoding cannot hide entities from the check."""
    packet = packet.strip(b"\0 \t\r\n") if b"\0" not in packet[:64].strip(b"\0") else packet
    wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
    text = packet.decode(wide.get(packet[:2], "utf-8-sig")).strip("\ufeff\0 \t\r\n")
    return re.sub(r"^<\?xml\s[^>]*\?>", "", text)


def _serialized(tree: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in tree.childNodes).encode()


def _elements(tree: minidom.Document) -> list[minidom.Element]:
    return list(tree.getElementsByTagName("*"))


def _set(tree: minidom.Document, values: dict[tuple[str, str], str]) -> bool:
    """Sets properties that exist, as attributes or as elements; returns whether it found any."""
    is_found = False
    for element in _elements(tree):
        for (space, name), value in values.items():
            if element.hasAttributeNS(space, name):
                element.getAttributeNodeNS(space, name).value = value
                is_found = True
            if (element.namespaceURI, element.localName) == (space, name):
                _fill(tree, element, value)
                is_found = True
    return is_found


def _fill(tree: minidom.Document, element: minidom.Element, value: str) -> None:
    element.childNodes[:] = []
    element.appendChild(tree.createTextNode(value))


def _drop(tree: minidom.Document, should_drop: Callable[[str | None, str], bool]) -> None:
    for element in _elements(tree):
        for space, name in list(element.attributes.keysNS()):
            if space != _XMLNS and should_drop(space, name or ""):
                element.removeAttributeNS(space, name)
        is_root = element is tree.documentElement
        if not is_root and should_drop(element.namespaceURI, element.localName or element.tagName):
            element.parentNode.removeChild(element)


def _add_record(tree: minidom.Document, record: str) -> None:
    rdf = tree.getElementsByTagNameNS(RDF, "RDF")
    if not rdf:
        raise ValueError("XMP without RDF")
    description = tree.createElementNS(RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", RDF)
    description.setAttribute("rdf:about", "")
    description.setAttribute("xmlns:calotype", OURS)
    element = tree.createElementNS(OURS, "calotype:record")
    _fill(tree, element, _escaped(record))
    description.appendChild(element)
    rdf[0].appendChild(description)


def _escaped(record: str) -> str:
    """Characters that XML cannot hold become JSON escapes, which mean the same inside JSON strings."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda m: f"\\u{ord(m[0]):04x}", record)
