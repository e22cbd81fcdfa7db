"""The graph of nodes that ComfyUI stores as `prompt`: untrusted, so it may have cycles, gaps and wrong types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calotype.dialects.fields import as_text

MAX_NODES = 2000
MAX_LINKS = 200  # followed one after another
MAX_TEXT = 100_000  # characters of a text that nodes join
_TEXTS = ("text", "string")
LITERALS = ("value", "seed", "noise_seed", "int", "float", "number", "string", "text", "prompt", "Value")


@dataclass(frozen=True)
class Link:
    """The output `slot` of another node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    name: str
    kind: str  # the class, such as KSampler
    inputs: Mapping[str, Any]

    def link(self, *names: str) -> Link | None:
        """The first of these inputs that comes from another node."""
        return next((link for name in names if (link := as_link(self.inputs.get(name)))), None)

    def links(self) -> list[Link]:
        return [link for value in self.inputs.values() if (link := as_link(value))]

    def literals(self) -> dict[str, Any]:
        """The inputs that are values."""
        return {name: value for name, value in self.inputs.items() if as_link(value) is None}


def as_link(value: Any) -> Link | None:
    """A link is written ["12", 0]."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)):
        return None
    return Link(str(value[0]), value[1]) if isinstance(value[0], str | int) else None


class Graph:
    """The nodes by their names."""

    def __init__(self, data: Mapping[str, Any]):
        self.nodes = {
            str(name): Node(str(name), str(node["class_type"]), node["inputs"])
            for name, node in list(data.items())[:MAX_NODES]
            if isinstance(node, dict)
            and isinstance(node.get("class_type"), str)
            and isinstance(node.get("inputs"), dict)
        }
        self._texts: dict[str, str] = {}

    def at(self, link: Link | None) -> Node | None:
        return self.nodes.get(link.node) if link else None

    def value(self, node: Node, *names: str) -> Any:
        """The value of the first of these inputs that is there, through links to primitive nodes."""
        for name in names:
            if name in node.inputs:
                return self._value(node, name)
        return None

    def _value(self, node: Node, name: str) -> Any:
        visited = set()
        for _ in range(MAX_LINKS):
            value = node.inputs.get(name)
            link = as_link(value)
            if link is None:
                return value
            source = self.at(link)
            if source is None or source.name in visited:
                return None
            visited.add(source.name)
            joined = self._joined(source)
            if joined is not None:
                return joined
            node, name = source, _literal_name(source, name)
        return None

    def _joined(self, node: Node) -> str | None:
        """The text of a node that concatenates texts; each is worked out once."""
        if "concat" not in node.kind.lower() or not any(name.lower().startswith(_TEXTS) for name in node.inputs):
            return None
        if node.name not in self._texts:
            self._texts[node.name] = ""  # a cycle ends here
            if len(self._texts) > MAX_LINKS:
                return ""
            names = [name for name in node.inputs if name.lower().startswith(_TEXTS)]
            parts = [as_text(self._value(node, name)) or "" for name in names[:32]]
            delimiter = node.inputs.get("delimiter", node.inputs.get("separator", ""))
            joined = (delimiter if isinstance(delimiter, str) else "").join(part for part in parts if part)
            self._texts[node.name] = joined[:MAX_TEXT]
        return self._texts[node.name]

    def nearest(self, link: Link | None, *names: str) -> Node | None:
        """The nearest node above a link that has one of these inputs."""
        visited: set[str] = set()
        pending = [link] if link else []
        for link in pending:
            node = self.at(link)
            if node is None or node.name in visited:
                continue
            if any(name in node.inputs for name in names):
                return node
            visited.add(node.name)
            pending += node.links()
        return None


def _literal_name(node: Node, name: str) -> str:
    """The input of a primitive node that holds its value: of the same name, a usual one, or its only one."""
    for candidate in (name, *LITERALS):
        if candidate in node.inputs:
            return candidate
    linked = [key for key in node.inputs if as_link(node.inputs[key])]
    return next(iter(linked or node.inputs), name)
