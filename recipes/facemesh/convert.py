"""Converts a graph model of TensorFlow.js to one safetensors file with the graph in its header.

    python recipes/facemesh/convert.py MODEL.json OUT.safetensors NAME=NODE...

NAME=NODE: the outputs to keep; what only others need is left out. `calotype/models/graph.py` describes the form.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PASSED = ("Identity", "Reshape")  # the reader flattens outputs itself


def main(model: str, out: str, *outputs: str) -> None:
    data = json.loads(Path(model).read_text("utf-8"))
    nodes = {node["name"]: node for node in data["modelTopology"]["node"]}
    constants = read_constants(data["weightsManifest"], Path(model).parent)
    graph = Graph(nodes, constants)
    kept = {name: graph.add(node) for name, node in (text.split("=") for text in outputs)}
    (entry,) = (node for node in nodes.values() if node["op"] == "Placeholder")
    side = int(entry["attr"]["shape"]["shape"]["dim"][1]["size"])
    header = json.dumps({"side": side, "nodes": graph.steps, "outputs": kept}, separators=(",", ":"))
    save_file(graph.weights, out, {"graph": header, "format": "pt"})


def read_constants(manifest: list, folder: Path) -> dict[str, np.ndarray]:
    """The weights, in the number format of the file: they lie one after another."""
    found = {}
    for group in manifest:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        at = 0
        for spec in group["weights"]:
            dtype = np.dtype(spec.get("quantization", spec)["dtype"])
            end = at + dtype.itemsize * int(np.prod(spec["shape"], dtype=int))
            found[spec["name"]] = np.frombuffer(data[at:end], dtype).reshape(spec["shape"])
            at = end
        assert at == len(data)
    return found


class Graph:
    """The nodes that were added so far, each after its inputs, with numbers for names."""

    def __init__(self, nodes: dict[str, dict], constants: dict[str, np.ndarray]):
        self.steps: list[dict] = []
        self.weights: dict[str, np.ndarray] = {}
        self._nodes, self._constants = nodes, constants
        self._numbers: dict[str, int] = {}

    def add(self, name: str) -> int:
        """Adds a node and what it needs; returns its number. The picture is number 0."""
        node = self._nodes[name]
        if node["op"] == "Placeholder":
            return 0
        if node["op"] in PASSED:
            return self.add(node["input"][0])
        if name not in self._numbers:
            inputs = [self.add(source) for source in node["input"] if source not in self._constants]
            constants = [self._constants[source] for source in node["input"] if source in self._constants]
            number = self._numbers[name] = len(self.steps) + 1
            self.steps.append({"inputs": inputs, **self._step(node, number, constants)})
        return self._numbers[name]

    def _step(self, node: dict, number: int, constants: list[np.ndarray]) -> dict:
        attr = node.get("attr", {})
        if node["op"] in ("_FusedConv2D", "DepthwiseConv2dNative"):
            return self._convolution(node, number, constants)
        if node["op"] == "Prelu":
            self._keep(number, "slope", constants[0].reshape(-1))
            return {"op": "prelu"}
        if node["op"] == "MaxPool":
            assert attr["ksize"] == attr["strides"] and decoded(attr["padding"]["s"]) == "VALID"
            return {"op": "max_pool", "size": int(attr["ksize"]["list"]["i"][1])}
        if node["op"] == "Pad":
            assert not constants[0][:3].any() and not constants[0][3, 0]  # zeros behind the last channel
            return {"op": "pad_channels", "count": int(constants[0][3, 1])}
        if node["op"] == "ConcatV2":
            assert constants[0] in (3, -1)
            return {"op": "concat"}
        return {"op": {"AddV2": "add", "Sigmoid": "sigmoid"}[node["op"]]}

    def _convolution(self, node: dict, number: int, constants: list[np.ndarray]) -> dict:
        attr = node["attr"]
        stride = int(attr["strides"]["list"]["i"][1])
        is_same = decoded(attr["padding"]["s"]) == "SAME"
        assert all(int(n) == 1 for n in attr["dilations"]["list"]["i"])
        step = {"op": "conv", "stride": stride, "padding": "same" if is_same else "valid"}
        if node["op"] == "DepthwiseConv2dNative":  # height, width, channels, 1
            assert constants[0].shape[3] == 1
            self._keep(number, "weight", constants[0].transpose(2, 3, 0, 1))
            return step | {"groups": constants[0].shape[2]}
        fused = [decoded(text) for text in attr["fused_ops"]["list"]["s"]]
        assert fused in (["BiasAdd"], ["BiasAdd", "Prelu"])
        self._keep(number, "weight", constants[0].transpose(3, 2, 0, 1))  # height, width, in, out
        self._keep(number, "bias", constants[1].reshape(-1))
        if "Prelu" in fused:
            self._keep(number, "slope", constants[2].reshape(-1))
        return step | {"groups": 1}

    def _keep(self, number: int, part: str, values: np.ndarray) -> None:
        self.weights[f"{number}.{part}"] = np.ascontiguousarray(values)


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
