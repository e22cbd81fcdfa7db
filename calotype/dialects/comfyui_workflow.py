"""ComfyUI's workflow, the graph as its editor stores it, as the graph of nodes that it stores as `prompt`.

A node's values are a list without names, `widgets_values`. Newer files name them in the node's inputs; for the nodes of
older ones they are known by class. Of others the values have numbers: "widget 1".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from calotype.dialects.comfyui_graph import MAX_NODES

MAX_DEPTH = 8  # of subgraphs in each other
MAX_STEPS = 60  # from an input to its origin, through nodes that only pass on
_CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")  # what happens to a seed after a run
_MUTED, _BYPASSED = 2, 4  # modes of nodes
_INPUT, _OUTPUT = "-10", "-20"  # the nodes of a subgraph that stand for its own inputs and outputs
_VIRTUAL = {"Note", "MarkdownNote", "PrimitiveNode", "Reroute", "SetNode", "GetNode"}  # known to the editor alone
WIDGETS = {  # names of the values of a node, in the order of `widgets_values`
    "AlignYourStepsScheduler": ("model_type", "steps", "denoise"),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "BetaSamplingScheduler": ("steps", "alpha", "beta"),
    "CFGGuider": ("cfg",),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl", "empty_padding"),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CheckpointLoader": ("config_name", "ckpt_name"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "ConditioningAverage": ("conditioning_to_strength",),
    "ConditioningSetArea": ("width", "height", "x", "y", "strength"),
    "ConditioningSetTimestepRange": ("start", "end"),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength", "start_percent", "end_percent"),
    "ControlNetLoader": ("control_net_name",),
    "DualCFGGuider": ("cfg_conds", "cfg_cond2_negative"),
    "DualCLIPLoader": ("clip_name1", "clip_name2", "type"),
    "Efficient Loader": (
        *("ckpt_name", "vae_name", "clip_skip", "lora_name", "lora_model_strength", "lora_clip_strength", "positive"),
        *("negative", "token_normalization", "weight_interpretation", "empty_latent_width", "empty_latent_height"),
        "batch_size",
    ),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "ExponentialScheduler": ("steps", "sigma_max", "sigma_min"),
    "FluxGuidance": ("guidance",),
    "FreeU": ("b1", "b2", "s1", "s2"),
    "FreeU_V2": ("b1", "b2", "s1", "s2"),
    "HyperTile": ("tile_size", "swap_size", "max_depth", "scale_depth"),
    "ImageScale": ("upscale_method", "width", "height", "crop"),
    "ImageScaleBy": ("upscale_method", "scale_by"),
    "ImageScaleToTotalPixels": ("upscale_method", "megapixels"),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSampler (Efficient)": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step"),
        "return_with_leftover_noise",
    ),
    "KSamplerSelect": ("sampler_name",),
    "KarrasScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "LoadImage": ("image",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "ModelSamplingDiscrete": ("sampling", "zsnr"),
    "PolyexponentialScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "PrimitiveBoolean": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveInt": ("value",),
    "PrimitiveNode": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "RandomNoise": ("noise_seed",),
    "RescaleCFG": ("multiplier",),
    "SDTurboScheduler": ("steps", "denoise"),
    "SamplerCustom": ("add_noise", "noise_seed", "cfg"),
    "SaveImage": ("filename_prefix",),
    "SplitSigmas": ("step",),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UpscaleModelLoader": ("model_name",),
    "VAELoader": ("vae_name",),
    "VPScheduler": ("steps", "beta_d", "beta_min", "eps_s"),
}


def prompt_of(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes by their names, with `class_type` and `inputs`; empty if it is no workflow.

    Nodes that are muted, bypassed or only pass on are left out, and subgraphs are replaced by their nodes.
    """
    definitions = workflow.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {graph["id"]: _Parts(graph) for graph in _objects(listed) if isinstance(graph.get("id"), str)}
    prompt: dict[str, Any] = {}
    for scope in _Scope(_Parts(workflow), subgraphs, [MAX_NODES]).all():
        for number, node in scope.nodes.items():
            is_active = node.get("mode") not in (_MUTED, _BYPASSED)
            if is_active and node["type"] not in _VIRTUAL and number not in scope.insides and len(prompt) < MAX_NODES:
                prompt[scope.prefix + number] = {"class_type": node["type"], "inputs": scope.inputs(node)}
    return prompt


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


class _Parts:
    """Nodes and links of the workflow or of a subgraph, by their numbers."""

    def __init__(self, graph: Mapping[str, Any]):
        nodes = [node for node in _objects(graph.get("nodes")) if isinstance(node.get("id"), int | str)]
        self.nodes = {str(node["id"]): node for node in nodes[:MAX_NODES] if isinstance(node.get("type"), str)}
        self.origins: dict[str, tuple[str, int]] = {}  # of a link: the node it comes from, and the output there
        self.ends: dict[int, tuple[str, int]] = {}  # the same of what reaches the outputs of a subgraph
        self.names = [str(entry.get("name")) for entry in _objects(graph.get("inputs"))]
        links = graph.get("links")
        for link in links if isinstance(links, list) else []:
            number, origin, slot, target, target_slot = _link(link)
            if isinstance(slot, int):
                self.origins[str(number)] = str(origin), slot
                if str(target) == _OUTPUT and isinstance(target_slot, int):
                    self.ends[target_slot] = str(origin), slot


def _link(link: Any) -> Sequence[Any]:
    """Number, origin and its output, target and its input: a list in most files, an object in subgraphs."""
    if isinstance(link, dict):
        return [link.get(name) for name in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    return link[:5] if isinstance(link, list) and len(link) >= 5 else [None] * 5


class _Scope:
    """The workflow, or one use of a subgraph in it.

    Args:
        budget: a list of the number of nodes that may still be looked at, which all scopes share.
        outer: where the subgraph is used, by this node.
    """

    def __init__(
        self,
        parts: _Parts,
        subgraphs: Mapping[str, _Parts],
        budget: list[int],
        outer: "_Scope | None" = None,
        outer_node: Mapping[str, Any] | None = None,
    ):
        self.parts, self.nodes, self.outer, self.outer_node = parts, parts.nodes, outer, outer_node or {}
        self.depth: int = outer.depth + 1 if outer else 0
        self.prefix: str = f"{outer.prefix}{self.outer_node.get('id')}:" if outer else ""
        self.insides: dict[str, _Scope] = {}
        self._found: dict[str, Any] = {}
        self._setters = {_first(node): node for node in self.nodes.values() if node["type"] == "SetNode"}
        budget[0] -= 1 + len(self.nodes)
        for number, node in self.nodes.items():
            inner = subgraphs.get(node["type"])
            if inner and self.depth < MAX_DEPTH and budget[0] > 0:
                self.insides[number] = _Scope(inner, subgraphs, budget, self, node)

    def all(self) -> Iterator["_Scope"]:
        yield self
        for inside in self.insides.values():
            yield from inside.all()

    def inputs(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Values by their names, and links to other nodes as `prompt` has them."""
        found = named_widgets(node)
        for entry in _objects(node.get("inputs")):
            value = self._origin(entry.get("link"))
            if value is not None:
                found[str(entry.get("name"))] = value
        return found

    def _origin(self, link: Any, steps: int = 0) -> Any:
        """What a link brings: [node, output], or a value; None where it leads nowhere."""
        key = str(link)
        if link is None or key not in self.parts.origins or steps > MAX_STEPS:
            return None
        if key not in self._found:
            self._found[key] = None  # a cycle ends here
            self._found[key] = self._output(*self.parts.origins[key], steps + 1)
        return self._found[key]

    def _output(self, number: str, slot: int, steps: int) -> Any:
        if number == _INPUT and self.outer:
            return self.outer._given(self.outer_node, self.parts.names, slot, steps)
        node = self.nodes.get(number)
        if node is None or node.get("mode") == _MUTED:
            return None
        if node.get("mode") == _BYPASSED:
            return self._passed_on(node, slot, steps)
        if node["type"] == "Reroute":
            return self._origin(_link_of(node), steps)
        if node["type"] == "PrimitiveNode":
            return _first(node)
        if node["type"] == "GetNode":
            return self._stored(_first(node), steps)
        inside = self.insides.get(number)
        if inside:
            return inside._output(*inside.parts.ends[slot], steps + 1) if slot in inside.parts.ends else None
        return [self.prefix + number, slot]

    def _given(self, node: Mapping[str, Any], names: Sequence[str], slot: int, steps: int) -> Any:
        """What the use of a subgraph gives for one of its inputs."""
        if not 0 <= slot < len(names):
            return None
        entry = next((entry for entry in _objects(node.get("inputs")) if entry.get("name") == names[slot]), {})
        value = self._origin(entry.get("link"), steps)
        return named_widgets(node).get(names[slot]) if value is None else value

    def _passed_on(self, node: Mapping[str, Any], slot: int, steps: int) -> Any:
        """A bypassed node passes on its first input of the type of the output."""
        outputs = _objects(node.get("outputs"))
        kind = outputs[slot].get("type") if 0 <= slot < len(outputs) else None
        same = [entry for entry in _objects(node.get("inputs")) if entry.get("type") == kind]
        return self._origin(next((entry["link"] for entry in same if entry.get("link") is not None), None), steps)

    def _stored(self, name: Any, steps: int) -> Any:
        """What the SetNode of that name stores, here or where the subgraph is used."""
        if name in self._setters:
            return self._origin(_link_of(self._setters[name]), steps)
        return self.outer._stored(name, steps) if self.outer else None


def _link_of(node: Mapping[str, Any]) -> Any:
    return next((entry.get("link") for entry in _objects(node.get("inputs"))), None)


def _first(node: Mapping[str, Any]) -> Any:
    """The value of a node that has one."""
    values = node.get("widgets_values")
    value = values[0] if isinstance(values, list) and values else None
    return value if isinstance(value, str | int | float) else None


def named_widgets(node: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a node by their names: as the node lists them, as its class has them, or by numbers."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return {str(name): value for name, value in values.items()}
    if not isinstance(values, list):
        return {}
    listed = [str(entry.get("name")) for entry in _objects(node.get("inputs")) if isinstance(entry.get("widget"), dict)]
    found, count = _assigned(listed, values)
    if listed and len(found) == len(listed) and len(values) - count <= 1:  # maybe one more, as of an upload button
        return found
    if names := WIDGETS.get(str(node.get("type"))):
        return _assigned(names, values)[0]
    return {f"widget {number}": value for number, value in enumerate(values, 1) if value is not None}


def _assigned(names: Sequence[str], values: Sequence[Any]) -> tuple[dict[str, Any], int]:
    """Values by names in their order, and how many; behind a seed stands what happens to it after a run."""
    found, at = {}, 0
    for name in names:
        if at >= len(values):
            break
        found[name], at = values[at], at + 1
        is_seed = "seed" in name or name == "value"
        if is_seed and at < len(values) and (values[at] is None or values[at] in _CONTROLS):
            at += 1
    return found, at
