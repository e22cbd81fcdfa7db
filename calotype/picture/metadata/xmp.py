"""XMP packets: read as untrusted input; a few properties are changed, everything else stays as it is."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from xml.dom import minidom
from xml.parsers.expat import ExpatError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
IPTC_CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
OURS = "http://ns.calotype.org/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_XML = "http://www.w3.org/XML/1998/namespace"
_PREFIXES = {
    DC: "dc",
    TIFF: "tiff",
    EXIF: "exif",
    XMP: "xmp",
    PHOTOSHOP: "photoshop",
    IPTC_CORE: "Iptc4xmpCore",
    OURS: "calotype",
}

_MAX_DEPTH = 100
_MAX_BYTES = 64 << 20
_MAX_MARKUP = 50_000  # tags and attributes; a DOM tree takes a kilobyte for each
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = (
    f'{_BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@dataclass(frozen=True, eq=False)
class Field:
    """A property, or a field of a structure, whether written as an attribute or as an element."""

    owner: minidom.Element
    node: minidom.Attr | minidom.Element

    @property
    def space(self) -> str:
        return self.node.namespaceURI or ""

    @property
    def name(self) -> str:
        return self.node.localName or self.node.nodeName

    @property
    def value(self) -> str:
        """The text of a simple value."""
        if self.node.nodeType == self.node.ATTRIBUTE_NODE:
            return self.node.value.strip()
        return "".join(child.data for child in self.node.childNodes if child.nodeType in (3, 4)).strip()

    def set(self, value: str) -> None:
        if self.node.nodeType == self.node.ATTRIBUTE_NODE:
            self.node.value = value
        else:
            _fill(self.node, value)

    def items(self) -> list[minidom.Element]:
        """The items of an array."""
        if self.node.nodeType == self.node.ATTRIBUTE_NODE:
            return []
        return list(self.node.getElementsByTagNameNS(RDF, "li"))

    def remove(self) -> None:
        if self.node.nodeType == self.node.ATTRIBUTE_NODE:
            if self.owner.hasAttributeNS(self.space or None, self.name):
                self.owner.removeAttributeNode(self.node)
        elif self.node.parentNode is not None:
            self.node.parentNode.removeChild(self.node)


class Packet:
    """A parsed packet, which its methods change.

    Raises:
        ValueError: the packet cannot be parsed, has no RDF, is too large or nested too deeply, or has entities.
    """

    def __init__(self, data: bytes | str | None = None):
        self.tree = _tree(data.encode() if isinstance(data, str) else _EMPTY.encode() if data is None else data)
        rdf = next(iter(self.tree.getElementsByTagNameNS(RDF, "RDF")), None)
        if rdf is None:
            raise ValueError("XMP without RDF")
        self.rdf: minidom.Element = rdf
        self.names = {(field.space, field.name) for field in self.fields()}  # that occur, or did before a removal

    def serialized(self) -> bytes:
        return "".join(node.toxml() for node in self.tree.childNodes).encode()

    @property
    def is_empty(self) -> bool:
        return next(self.fields(), None) is None

    def fields(self) -> Iterator[Field]:
        """Every property and field at any depth, of all namespaces but those of RDF and XML."""
        root = self.tree.documentElement
        for element in list(self.tree.getElementsByTagName("*")):
            for attribute in _attributes(element):
                yield Field(element, attribute)
            if element is not root and element.namespaceURI != RDF:
                yield Field(element.parentNode, element)

    def find(self, space: str, name: str) -> list[Field]:
        if (space, name) not in self.names:
            return []
        return [field for field in self.fields() if (field.space, field.name) == (space, name)]

    def has(self, space: str, name: str) -> bool:
        return any(field.value or field.items() for field in self.find(space, name))

    def text(self, space: str, name: str) -> str:
        """The first simple value of this name, empty where there is none."""
        return next((field.value for field in self.find(space, name)), "")

    def set(self, space: str, name: str, value: str) -> None:
        """Sets a simple value wherever it exists."""
        for field in self.find(space, name):
            field.set(value)

    def add(self, space: str, name: str, values: Collection[str], kind: str = "text") -> None:
        """Adds a property in place of one without a value; `kind` is text, or an RDF array: Bag, Seq or Alt."""
        for field in self.find(space, name):
            field.remove()
        self.names.add((space, name))
        description = self._description(space)
        element = self.tree.createElementNS(space, f"{_PREFIXES[space]}:{name}")
        description.appendChild(element)
        if kind == "text":
            _fill(element, "\n".join(values))
            return
        array = self.tree.createElementNS(RDF, f"rdf:{kind}")
        element.appendChild(array)
        for value in values:
            item = self.tree.createElementNS(RDF, "rdf:li")
            if kind == "Alt":
                item.setAttributeNS(_XML, "xml:lang", "x-default")
            _fill(item, value)
            array.appendChild(item)

    def _description(self, space: str) -> minidom.Element:
        """A new description in which the namespace has its usual prefix."""
        description = _new_description(self.tree, _subject(self.rdf), {f"xmlns:{_PREFIXES[space]}": space})
        self.rdf.appendChild(description)
        return description

    def merge(self, extended: "Packet | None") -> None:
        """Takes in the properties of the extended packet of a JPEG, and removes the reference to it."""
        for field in self.find(_NOTE, "HasExtendedXMP"):
            field.remove()
        if extended is None:
            return
        for child in list(extended.rdf.childNodes):
            if child.nodeType != child.ELEMENT_NODE:
                continue
            copy = self.tree.importNode(child, True)
            for name, value in _namespaces(extended.rdf).items():
                if not copy.hasAttribute(name):
                    copy.setAttribute(name, value)
            self.rdf.appendChild(copy)
        self.names |= extended.names

    def split(self, max_bytes: int) -> tuple[bytes, bytes | None]:
        """The packet; one that is too long for a JPEG's segment without its largest properties, and these as a second.

        Raises:
            ValueError: too long even so.
        """
        packet = self.serialized()
        if len(packet) <= max_bytes:
            return packet, None
        target = Packet()
        moved = target.rdf
        moved.childNodes[:] = []
        length = len(packet)
        for owner, node in sorted(self._properties(), key=lambda pair: -len(_source(pair[1]))):
            if length <= max_bytes - 500:  # for the reference to the extended packet
                break
            description = _new_description(target.tree, _subject(self.rdf), _namespaces(owner))
            length -= len(_source(node).encode())
            if node.nodeType == node.ATTRIBUTE_NODE:
                description.setAttributeNS(node.namespaceURI, node.name, node.value)
                owner.removeAttributeNode(node)
            else:
                description.appendChild(target.tree.importNode(node, True))
                owner.removeChild(node)
            moved.appendChild(description)
        extended = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{moved.toxml()}</x:xmpmeta>'.encode()
        reference = _new_description(self.tree, _subject(self.rdf), {"xmlns:xmpNote": _NOTE})
        reference.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", extended_id(extended))
        self.rdf.appendChild(reference)
        packet = self.serialized()
        if len(packet) > max_bytes:
            raise ValueError("XMP of this size")
        return packet, extended

    def _properties(self) -> Iterator[tuple[minidom.Element, minidom.Node]]:
        """The properties of the packet itself, not their fields."""
        for description in self.rdf.childNodes:
            if description.nodeType == description.ELEMENT_NODE:
                yield from ((description, node) for node in _attributes(description))
                yield from ((description, node) for node in description.childNodes if node.nodeType == 1)


def record_in(packet: bytes) -> str | None:
    """The record that `with_record` added, None where there is none. Raises ValueError as `Packet` does."""
    return next((field.value for field in Packet(packet).find(OURS, "record")), None)


def set_record(packet: Packet, record: str) -> None:
    """Replaces our record, or removes it where `record` is empty."""
    for field in packet.find(OURS, "record"):
        field.remove()
    if record:
        packet.add(OURS, "record", [_escaped(record)])


def _attributes(element: minidom.Element) -> list[minidom.Attr]:
    """Those that are properties."""
    found = [element.attributes.item(n) for n in range(element.attributes.length)]
    return [attribute for attribute in found if attribute.namespaceURI not in (None, RDF, _XMLNS, _XML)]


def _new_description(tree: minidom.Document, subject: str, namespaces: Mapping[str, str]) -> minidom.Element:
    description = tree.createElementNS(RDF, "rdf:Description")
    for name, value in {**namespaces, "xmlns:rdf": RDF}.items():
        description.setAttribute(name, value)
    description.setAttributeNS(RDF, "rdf:about", subject)
    return description


def extended_id(extended: bytes) -> str:
    """The name by which the packet of a JPEG refers to an extended packet."""
    return hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()


def extended_reference(packet: bytes) -> str:
    """The name of the extended packet that a packet refers to, empty where there is none."""
    found = re.search(rb"HasExtendedXMP(?:\s*=\s*[\"']|>)\s*([0-9A-Fa-f]{32})", packet)
    return found[1].decode().upper() if found else ""


def _subject(rdf: minidom.Element) -> str:
    """What the packet's properties are about: all of them say the same, usually nothing."""
    for child in rdf.childNodes:
        if child.nodeType == child.ELEMENT_NODE and child.hasAttributeNS(RDF, "about"):
            return child.getAttributeNS(RDF, "about")
    return ""


def _namespaces(element: minidom.Node) -> dict[str, str]:
    """The declarations of prefixes that hold within an element."""
    found: dict[str, str] = {}
    while element is not None and element.nodeType == element.ELEMENT_NODE:
        for name, value in element.attributes.items():
            if name == "xmlns" or name.startswith("xmlns:"):
                found.setdefault(name, value)
        element = element.parentNode
    return found


def _source(node: minidom.Node) -> str:
    return node.value if node.nodeType == node.ATTRIBUTE_NODE else node.toxml()


def texts(packet: bytes) -> dict[str, str]:
    """The properties by their names without namespace, as text; of a property that occurs twice, the first.

    Empty if the packet cannot be parsed.
    """
    try:
        tree = _tree(packet)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for element in tree.getElementsByTagName("*"):
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
    if text.count("<") + text.count("=") > _MAX_MARKUP:
        raise ValueError("XMP with so many elements")
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


def _fill(element: minidom.Element, value: str) -> None:
    element.childNodes[:] = []
    text = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", value)  # XML has no place for the rest
    element.appendChild(element.ownerDocument.createTextNode(text))


def _escaped(record: str) -> str:
    """Characters that XML cannot hold become JSON escapes, which mean the same inside JSON strings."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda m: f"\\u{ord(m[0]):04x}", record)
