"""ComfyUI: the graph of nodes in PNG's `prompt`, read from the saved picture back to the samplers and the models.

Files that have only the `workflow` of its editor are read through the graph that the editor makes of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calotype.dialects.comfyui_graph import MAX_LINKS, Graph, Link, Node, as_link
from calotype.dialects.comfyui_workflow import prompt_of
from calotype.dialects.emphasis import from_comfyui
from calotype.dialects.fields import as_integer, as_number, as_text, parse_object, shown
from calotype.dialects.parameters import Parameters, SecondPass
from calotype.tasks.prompts import LoraRef

LATENTS = ("latent_image", "latent", "samples", "latents")
PIXELS = ("images", "image", "pixels", *LATENTS, "any", "input")
MAX_OUTPUTS = 8  # saved pictures of a graph that are looked at
MAX_PASSES = 16
NEUTRAL = {"VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeTiled", "SaveImage", "PreviewImage", "Reroute"}
NEUTRAL |= {"SaveImageWebsocket", "Reroute (rgthree)", "SplitSigmas", "CLIPSetLastLayer"}
SIDE_LINKS = {
    "vae",
    "model",
    "clip",
    "upscale_model",
    "control_net",
    "clip_vision",
    "optional_vae",
    "positive",
    "negative",
}
SCHEDULER_KINDS = {"karras": "karras", "polyexponential": "exponential", "exponential": "exponential"}
SCHEDULER_KINDS |= {"alignyoursteps": "align your steps", "beta": "beta", "sdturbo": "sgm uniform", "vp": "normal"}
TEXTS = ("text", "text_g", "prompt", "clip_l", "t5xxl", "clip_g", "text_l", "positive_prompt", "string")
LATENT_UPSCALERS = {"nearest-exact": "Latent (nearest-exact)", "bilinear": "Latent", "area": "Latent"}
LATENT_UPSCALERS |= {"bicubic": "Latent (bicubic)", "bislerp": "Latent (bicubic)"}
_MODELS = ("ckpt_name", "unet_name", "base_ckpt_name", "model_name")


def read(texts: Mapping[str, str], size: tuple[int, int] | None = None) -> Parameters | None:
    """The parameters of the sampler that the picture came from; None if there is no such graph.

    Args:
        size: height and width of the picture, which tell several saved pictures apart.
    """
    for keyword in ("prompt", "workflow"):
        data = parse_object(texts.get(keyword, "")) or {}
        data = prompt_of(data) if isinstance(data.get("nodes"), list) else data
        if parameters := _read(Graph(data), size):
            return parameters
    return None


def _read(graph: Graph, size: tuple[int, int] | None) -> Parameters | None:
    outputs = [_path(graph, node.link(*PIXELS)) for node in graph.nodes.values() if _is_output(node)]
    samplers = [(node,) for node in graph.nodes.values() if _is_sampler(node)]
    begun = [path for path in outputs if path and _is_sampler(path[-1])] or samplers
    chains = [_chain_from(graph, path) for path in begun[:MAX_OUTPUTS]]
    if not chains:
        return None
    candidates = [_GraphReader(graph, chain, size) for chain in chains]
    matching = [reader for reader in candidates if size and reader.expected_size == size]
    return max(matching or candidates, key=lambda reader: len(reader.chain.passes)).parameters()


@dataclass(frozen=True)
class _Pass:
    """A sampler, and the nodes between it and what it starts from, the nearest first."""

    sampler: Node
    before: tuple[Node, ...]


@dataclass(frozen=True)
class _Chain:
    """From a saved picture back to its beginning: the last pass is the first in `passes`."""

    after: tuple[Node, ...]  # nodes between the last sampler and the saved picture
    passes: tuple[_Pass, ...]
    start: Node | None  # an empty latent or a loaded picture


def _is_output(node: Node) -> bool:
    kind = node.kind.lower()
    return ("save" in kind or "preview" in kind) and node.link(*PIXELS) is not None


def _is_sampler(node: Node) -> bool:
    if {"sampler", "sigmas"} <= node.inputs.keys():
        return True
    has_settings = {"sampler_name", "steps"} <= node.inputs.keys()
    return has_settings and (node.link(*LATENTS) is not None or node.link("image", "images") is None)


def _loads_picture(node: Node) -> bool:
    kind = node.kind.lower()
    return ("load" in kind and "image" in kind) or isinstance(node.inputs.get("image"), str)


def _chain_from(graph: Graph, nodes: tuple[Node, ...]) -> _Chain:
    """From the nodes up to the last sampler, which is the last of them, back to the beginning."""
    after, passes = nodes[:-1], []
    while nodes and _is_sampler(nodes[-1]) and len(passes) < MAX_PASSES:
        sampler = nodes[-1]
        nodes = _path(graph, sampler.link(*LATENTS), {found.sampler.name for found in passes} | {sampler.name})
        passes.append(_Pass(sampler, tuple(node for node in nodes if not _is_sampler(node))))
    return _Chain(after, tuple(passes), nodes[-1] if nodes else None)


def _path(graph: Graph, link: Link | None, passed: set[str] | None = None) -> tuple[Node, ...]:
    """The nodes from a link up to the next sampler, or to a node that pictures begin with."""
    visited, beginning = set(passed or ()), ()
    stack: list[tuple[Link, tuple[Node, ...]]] = [(link, ())] if link else []
    while stack:
        link, path = stack.pop()
        node = graph.at(link)
        if node is None or node.name in visited or len(path) > MAX_LINKS:
            continue
        visited.add(node.name)
        path = (*path, node)
        if _is_sampler(node):
            return path
        preferred = node.link(*PIXELS)
        if preferred is None and {"width", "height"} <= node.inputs.keys():  # an empty latent
            beginning = beginning or path
            continue
        rest = [link for name, value in node.inputs.items() if name not in SIDE_LINKS and (link := as_link(value))]
        beginning = beginning or (path if not (preferred or rest) else ())
        stack += [(link, path) for link in reversed([preferred] if preferred else rest)]
    return beginning


def _as_link(value: Any) -> Link | None:
    from calotype.dialects.comfyui_graph import as_link

    return as_link(value)


@dataclass
class _GraphReader:
    graph: Graph
    chain: _Chain
    size: tuple[int, int] | None
    unfollowed: dict[str, str] = field(default_factory=dict)

    def parameters(self) -> Parameters:
        first, last = self._first_and_last()
        settings = self._settings(first)
        width, height = self._first_size()
        hires = self._second_pass(last) if last else None
        latents = [node for found in self.chain.passes for node in found.before]
        self._name_ignored_nodes([*self.chain.after, *(node for node in latents if node is not self.chain.start)], last)
        is_from_picture = self.chain.start is not None and _loads_picture(self.chain.start)
        strength = settings.pop("strength")
        if strength is not None and strength < 1 and not is_from_picture:
            self.unfollowed["denoise"] = f"{strength:g}"
        batch = as_integer(self.graph.value(self.chain.start, "batch_size")) if self.chain.start else None
        if batch and batch > 1:
            self.unfollowed["batch_size"] = str(batch)
        return Parameters(
            program="ComfyUI",
            **settings,
            width=width,
            height=height,
            vae=self._vae(),
            hires=hires,
            is_from_picture=is_from_picture,
            strength=strength if is_from_picture else None,
            emphasis="no-norm" if re.search(r"(?<!\\)\(", settings["prompt"] + settings["negative"]) else "original",
            unfollowed=self.unfollowed,
        )

    @property
    def expected_size(self) -> tuple[int, int] | None:
        """Height and width of the saved picture, as far as the graph tells them."""
        width, height = self._first_size()
        if not (width and height):
            return None
        *_, enlarged = self._enlarged((width, height))
        return enlarged[::-1]

    def _enlarged(self, size: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        """Whether the size is known, and width and height after all nodes that change them."""
        is_known = True
        between = [node for found in reversed(self.chain.passes) for node in reversed(found.before)]
        for node in [*between, *reversed(self.chain.after)]:
            if node is self.chain.start:
                continue
            width, height = (as_integer(self.graph.value(node, name)) for name in ("width", "height"))
            factor = as_number(self.graph.value(node, "scale_by", "upscale_by", "rescale_factor"))
            if "upscale" in node.kind.lower() or "scale" in node.kind.lower():
                if width or height:
                    size = width or round(size[0] * height / size[1]), height or round(size[1] * width / size[0])
                elif factor:
                    size = round(size[0] * factor), round(size[1] * factor)
                else:
                    is_known = False
        return is_known, size

    def _first_and_last(self) -> tuple[_Pass, _Pass | None]:
        """The pass that begins, and one after it that draws the picture again; parts of one pass are joined."""
        *later, first = self.chain.passes
        later = [found for found in later if not self._continues(found, first)]
        for found in later[:-1]:
            self._name(found.sampler)
        return first, (later[-1] if later else None)

    def _continues(self, found: _Pass, first: _Pass) -> bool:
        """Whether a sampler takes over the latents of another before their last step, without new noise."""
        is_continued = found.sampler.inputs.get("add_noise") in ("disable", False)
        if is_continued and self._model(found) != self._model(first):
            start = as_integer(self.graph.value(found.sampler, "start_at_step"))
            self.unfollowed["Refiner"] = self._model(found)
            self.unfollowed["Refiner switch at"] = "" if start is None else f"step {start}"
        return is_continued

    def _settings(self, found: _Pass) -> dict[str, Any]:
        graph, sampler = self.graph, found.sampler
        guider = graph.at(sampler.link("guider")) or sampler
        noise = graph.at(sampler.link("noise"))
        sigmas = graph.nearest(sampler.link("sigmas"), "steps")
        timing = sigmas or sampler
        model, loras, rescale = self._models(guider.link("model") or sampler.link("model") or timing.link("model"))
        positive = guider.link("positive", "conditioning", "cond1")
        guidance = graph.value(guider, "cfg", "cfg_conds", "guidance")
        seed = graph.value(noise, "noise_seed", "seed") if noise else graph.value(sampler, "seed", "noise_seed")
        return {
            "prompt": from_comfyui(self._text(positive, "positive")),
            "negative": from_comfyui(self._text(guider.link("negative"), "negative")),
            "model": model,
            "loras": tuple(loras),
            "rescale": rescale,
            "seed": as_integer(seed),
            "steps": as_integer(graph.value(timing, "steps")),
            "sampler": self._sampler_name(sampler),
            "schedule": self._schedule(timing),
            "guidance": as_number(guidance) if guidance is not None else 1.0 if guider is not sampler else None,
            "clip_skip": self._clip_skip(positive),
            "strength": as_number(graph.value(timing, "denoise")),
        }

    def _sampler_name(self, sampler: Node) -> str:
        if name := as_text(self.graph.value(sampler, "sampler_name")):
            return name
        node = self.graph.at(sampler.link("sampler"))
        if node is None:
            return ""
        named = as_text(self.graph.value(node, "sampler_name"))
        return named or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.kind.removeprefix("Sampler")).lower()

    def _schedule(self, node: Node) -> str:
        if name := as_text(self.graph.value(node, "scheduler")):
            return name
        kind = node.kind.lower()
        return next((name for start, name in SCHEDULER_KINDS.items() if kind.startswith(start)), "normal")

    def _model(self, found: _Pass) -> str:
        guider = self.graph.at(found.sampler.link("guider")) or found.sampler
        loader = self.graph.nearest(guider.link("model"), *_MODELS)
        return as_text(self._file(loader, *_MODELS)) or "" if loader else ""

    def _models(self, link: Link | None) -> tuple[str, list[LoraRef], float | None]:
        """The checkpoint, the LoRAs in the order they are loaded, and the guidance rescale."""
        loras: list[LoraRef] = []
        model, rescale, visited = "", None, set()
        while (node := self.graph.at(link)) and node.name not in visited and len(visited) < MAX_LINKS:
            visited.add(node.name)
            found = self._loras_of(node)
            loras = [*found, *loras]
            if name := self._file(node, *_MODELS):
                model = as_text(name) or ""
                break
            if node.kind == "RescaleCFG":
                rescale = as_number(self.graph.value(node, "multiplier"))
            elif not found and node.kind not in NEUTRAL and "lora" not in node.kind.lower():
                self._name(node)
            link = node.link("model", "") or next(iter(node.links()), None)
        return model, loras, rescale

    def _loras_of(self, node: Node) -> list[LoraRef]:
        """The LoRAs that a node loads: one, or several in numbered inputs."""
        loras = []
        for name in node.inputs:
            value = self.graph.value(node, name)
            if isinstance(value, dict) and value.get("on") is not False and as_text(value.get("lora")):
                strength = as_number(value.get("strength"))
                clip = as_number(value.get("strengthTwo"))
                loras.append(_lora(value["lora"], strength, strength if clip is None else clip))
            elif match := re.fullmatch(r"lora_name(_\d+)?|lora_(\d+)(?:_name)?|lora_(\d+)", name):
                number = match[1] or f"_{match[2] or match[3]}" if name != "lora_name" else ""
                unet = self._number(node, f"strength_model{number}", f"model_weight{number}", "lora_model_strength")
                unet = self._number(node, f"strength{number}", f"lora_wt{number}") if unet is None else unet
                text = self._number(node, f"strength_clip{number}", f"clip_weight{number}", "lora_clip_strength")
                is_model_only = "modelonly" in node.kind.lower().replace("_", "").replace(" ", "")
                file = self._file(node, name)
                if as_text(file) and file != "None" and str(node.inputs.get(f"switch{number}", "On")) != "Off":
                    loras.append(_lora(file, unet, 0.0 if is_model_only else unet if text is None else text))
        return loras

    def _number(self, node: Node, *names: str) -> float | None:
        return as_number(self.graph.value(node, *names))

    def _file(self, node: Node, *names: str) -> Any:
        """A file's name; some loaders store it as {"content": name, "image": ...}."""
        value = self.graph.value(node, *names)
        return value.get("content") if isinstance(value, dict) else value

    def _vae(self) -> str:
        for node in self.chain.after:
            if link := node.link("vae", "optional_vae"):
                loader = self.graph.nearest(link, "vae_name", *_MODELS)
                name = as_text(self._file(loader, "vae_name")) if loader else None
                return "" if name in (None, "Baked VAE", "None", "baked VAE") else name
        return ""

    def _clip_skip(self, link: Link | None) -> int | None:
        node = self.graph.nearest(link, "stop_at_clip_layer", "clip_skip")
        layer = as_number(self.graph.value(node, "stop_at_clip_layer", "clip_skip")) if node else None
        return int(-layer) if layer is not None and -13 < layer < -1 else None

    def _text(self, link: Link | None, side: str, visited: set[str] | None = None) -> str:
        """The prompt of a conditioning; `side` chooses between the two that some nodes pass on."""
        node, visited = self.graph.at(link), set() if visited is None else visited
        if node is None or node.name in visited or len(visited) > MAX_LINKS:
            return ""
        visited.add(node.name)
        kind = node.kind.lower()
        if "zeroout" in kind:
            return ""
        if {"positive", "negative"} <= node.inputs.keys():
            if inner := node.link(side):
                self._name(node)
                return self._text(inner, side, visited) or as_text(self.graph.value(node, side)) or ""
            return as_text(self.graph.value(node, side)) or ""
        if any(name in node.inputs for name in TEXTS) and not node.link("conditioning"):
            return self._encoded(node)
        several = [node.link(f"conditioning{end}") for end in ("_1", "_2", "_to", "_from", "_3", "_4")]
        parts = [self._text(inner, side, visited) for inner in several if inner]
        if parts:
            return self._composed(kind, [part for part in parts if part])
        if not (kind.startswith("reroute") or node.kind in NEUTRAL):
            self._name(node)
        inner = node.link("conditioning", side, "")
        following = (
            [inner]
            if inner
            else [link for name, value in node.inputs.items() if (link := as_link(value)) and name not in SIDE_LINKS]
        )
        return next(filter(None, (self._text(link, side, visited) for link in following[:4])), "")

    def _composed(self, kind: str, parts: list[str]) -> str:
        """ConditioningCombine averages predictions, as AND does with equal weights; ConditioningConcat is BREAK."""
        if "concat" in kind or len(parts) < 2:
            return " BREAK ".join(parts)
        return " AND ".join(f"{part} :{1 / len(parts):.3g}" for part in parts)

    def _encoded(self, node: Node) -> str:
        """The text of a node that encodes one; a second encoder's other text is not followed."""
        texts = {name: as_text(self.graph.value(node, name)) for name in TEXTS if name in node.inputs}
        known = {name: text.strip() for name, text in texts.items() if text is not None}
        if not known:
            self.unfollowed[node.kind] = "its text is not stored"
            return ""
        first = next((text for text in known.values() if text), "")
        self.unfollowed |= {name: shown(text) for name, text in known.items() if text and text != first}
        return first

    def _first_size(self) -> tuple[int | None, int | None]:
        start = self.chain.start
        if start is None:
            return None, None
        sides = [as_integer(self.graph.value(start, name, f"empty_latent_{name}")) for name in ("width", "height")]
        if None in sides:
            text = as_text(self.graph.value(start, "dimensions", "resolution", "aspect_ratio")) or ""
            match = re.search(r"(\d{2,5})\s*[x×]\s*(\d{2,5})", text)
            sides = [int(match[1]), int(match[2])] if match else [None, None]
        return sides[0], sides[1]

    def _second_pass(self, found: _Pass) -> SecondPass:
        settings = self._settings(found)
        first = self._first_size()
        is_known, enlarged = self._enlarged(first) if all(first) else (False, first)
        if not is_known and self.size and all(first):
            enlarged = self.size[::-1]
        strength = settings["strength"]
        steps = settings["steps"]
        if steps and strength:  # ComfyUI runs all of them, A1111 the part that the strength says
            steps = -(-steps * 1000 // round(min(strength, 1) * 1000)) if strength >= 0.001 else steps
        return SecondPass(
            width=enlarged[0],
            height=enlarged[1],
            steps=steps,
            strength=1.0 if strength is None else min(strength, 1.0),
            upscaler=self._upscaler(found),
            prompt=settings["prompt"],
            negative=settings["negative"],
            sampler=settings["sampler"],
            schedule=settings["schedule"],
            guidance=settings["guidance"],
            model=settings["model"],
            seed=settings["seed"],
        )

    def _upscaler(self, found: _Pass) -> str:
        for node in found.before:
            if link := node.link("upscale_model"):
                loader = self.graph.nearest(link, "model_name")
                return as_text(self._file(loader, "model_name")) or "Lanczos" if loader else "Lanczos"
        for node in found.before:
            method = as_text(self.graph.value(node, "upscale_method"))
            if method:
                return LATENT_UPSCALERS.get(method, "Latent") if node.link("samples") else "Lanczos"
        return "Latent"

    def _name_ignored_nodes(self, nodes: list[Node], last: _Pass | None) -> None:
        """Names the nodes on the chain that nothing follows."""
        followed = {node.name for node in last.before} if last else set()
        for node in nodes:
            is_upscaler = node.name in followed and "scale" in node.kind.lower()
            if node.kind not in NEUTRAL and not is_upscaler and not node.kind.lower().startswith("reroute"):
                self._name(node)

    def _name(self, node: Node) -> None:
        literals = {name: value for name, value in node.literals().items() if value not in (None, "")}
        self.unfollowed[node.kind] = shown(", ".join(f"{name}: {shown(value)}" for name, value in literals.items()))


def _lora(name: Any, unet: float | None, text: float | None) -> LoraRef:
    return LoraRef(as_text(name) or "", 1.0 if text is None else text, 1.0 if unet is None else unet)
