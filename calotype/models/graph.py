"""Small convolutional networks that come as a graph, not as code.

A file of them is safetensors with the graph as JSON under "graph" of its header:

    {"side": 192, "outputs": {"mesh": 57}, "nodes": [{"op": "conv", "inputs": [0], "stride": 2, ...}, ...]}

Node n (from 1; 0 is the picture) takes the outputs of earlier nodes; its tensors are "n.weight" and the like.
`recipes/facemesh` writes such files from TensorFlow.js's graph models.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from calotype.errors import CalotypeError

MAX_NODES = 10_000


class GraphNetwork(nn.Module):
    """`network(x)`: (N, 3, side, side) -> its outputs by name, (N, values) each, in the order height, width, channel.

    Computed in float32.
    """

    def __init__(self, plan: dict[str, Any], tensors: dict[str, Tensor]):
        """Raises ValueError, KeyError or TypeError for a plan that isn't one, or tensors that don't belong to it."""
        super().__init__()
        self.side, self.outputs = int(plan["side"]), {str(name): int(n) for name, n in plan["outputs"].items()}
        self._nodes = [dict(node) for node in plan["nodes"]]
        known = {f"{n}.{part}" for n in range(1, len(self._nodes) + 1) for part in ("weight", "bias", "slope")}
        if len(self._nodes) > MAX_NODES or not tensors.keys() <= known:
            raise ValueError("not the tensors of this graph")
        for n, node in enumerate(self._nodes, 1):
            if node["op"] not in OPERATIONS or not all(0 <= int(source) < n for source in node["inputs"]):
                raise ValueError(f"node {n} is not in order")
        if not all(0 <= n <= len(self._nodes) for n in self.outputs.values()):
            raise ValueError("an output is no node")
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor.float())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        values = [x]
        for n, node in enumerate(self._nodes, 1):
            parts = {part: getattr(self, f"{n}_{part}", None) for part in ("weight", "bias", "slope")}
            values.append(OPERATIONS[node["op"]](node, parts, [values[source] for source in node["inputs"]]))
        return {name: values[n].permute(0, 2, 3, 1).flatten(1) for name, n in self.outputs.items()}


def _conv(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    (x,), weight, stride = inputs, parts["weight"], node["stride"]
    if node["padding"] == "same":
        x = _padded(x, weight.shape[2:], stride)
    y = functional.conv2d(x, weight, parts["bias"], stride, groups=node["groups"])
    return y if parts["slope"] is None else functional.prelu(y, parts["slope"])


def _padded(x: Tensor, kernel: tuple[int, int], stride: int) -> Tensor:
    """Padded as TensorFlow's SAME: an odd pixel goes to the right and below."""
    pads: list[int] = []
    for size, length in ((x.shape[3], kernel[1]), (x.shape[2], kernel[0])):
        total = max(0, (-(-size // stride) - 1) * stride + length - size)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


def _prelu(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return functional.prelu(inputs[0], parts["slope"])


def _max_pool(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return functional.max_pool2d(inputs[0], node["size"])


def _pad_channels(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return functional.pad(inputs[0], (0, 0, 0, 0, 0, node["count"]))


def _add(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return inputs[0] + inputs[1]


def _concat(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return torch.cat(inputs, 1)


def _sigmoid(node: dict[str, Any], parts: dict[str, Tensor | None], inputs: list[Tensor]) -> Tensor:
    return inputs[0].sigmoid()


OPERATIONS: dict[str, Callable[[dict[str, Any], dict[str, Tensor | None], list[Tensor]], Tensor]] = {
    "conv": _conv,
    "prelu": _prelu,
    "max_pool": _max_pool,
    "pad_channels": _pad_channels,
    "add": _add,
    "concat": _concat,
    "sigmoid": _sigmoid,
}


def read_graph(path: Path) -> GraphNetwork:
    """Raises CalotypeError if the file cannot be read as such a network."""
    try:
        with safe_open(path, "pt") as file:
            plan = json.loads(file.metadata()["graph"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no container
        return GraphNetwork(plan, tensors).eval()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CalotypeError("{path} cannot be read as a network with its graph; install it again", path=path) from None
