"""Loads LoRA files of every kind with the keys of sd-scripts, LyCORIS, ComfyUI, diffusers and peft."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.checkpoints.file_kinds import BUNDLED, wrong_kind_error
from calotype.checkpoints.header import data_start, metadata_of
from calotype.checkpoints.lora.peft_config import (
    PEFT,
    extras_of,
    is_without_alpha,
    rank_of_config,
    scale_of,
    settings_of,
)
from calotype.checkpoints.state_dict import check_finite, read_state
from calotype.checkpoints.store import digest
from calotype.checkpoints.textual_inversion import Embedding, vectors_in
from calotype.errors import CalotypeError, Message
from calotype.files import file_sha256

# Suffix of a key -> role of the tensor; the rest of the key is the name of the module.
_ROLES = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "w_norm": "diff",
    "b_norm": "diff_b",
    **{name: name for name in ("alpha", "scale", "dora_scale", "diff", "diff_b")},
    **{name: name for name in ("bias_indices", "bias_values", "bias_size")},
    **{f"hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{name: name for name in ("oft_blocks", "rescale", "on_input")},
    **{f"{name}.weight": f"{name}.weight" for name in ("a1", "a2", "b1", "b2", "bm")},
}
_ENDING = re.compile(rf"\.({'|'.join(map(re.escape, sorted(_ROLES, key=len, reverse=True)))})$")
_PEFT = re.compile(  # the name of the adapter may be part of the key
    r"\.(?:lora_(?P<half>A|B)(?:\.[^.]+)?\.weight|(?:lora_magnitude_vector|magnitude)(?:\.[^.]+){0,2})$"
)
_PEFT_SINGLE = re.compile(r"\.(ia3_l|oft_R|boft_R|boft_s)(?:\.[^.]+)?$")  # maybe with the adapter's name, or `weight`
_OLD = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")  # diffusers before 0.20
_PEFT_ROLES = {"A": "down", "B": "up", None: "magnitude"}
_PARTS = (  # key prefix -> part of the model
    ("lora_unet_", "unet"),
    ("oft_unet_", "unet"),
    ("lycoris_unet_", "unet"),
    ("lycoris_te1_", "text_encoder"),
    ("lycoris_te2_", "text_encoder_2"),
    ("lycoris_te_", "text_encoder"),
    ("lycoris_", "unet"),
    ("model.diffusion_model.", "unet"),  # as in a checkpoint
    ("diffusion_model.", "unet"),  # ComfyUI
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("unet.", "unet"),
)
_WRAPPED = re.compile(r"(?:module\.|base_model\.model\.)+")  # prefixes of parallel training and of peft
_BASES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_CROSS = ("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v")  # layers whose input are the text states


@dataclass(frozen=True, eq=False)
class Adapter:
    """Tensors of a file by part ("unet", "text_encoder", "text_encoder_2") and module name as stored."""

    name: str
    sha256: str
    short_hash: str  # as in A1111: 12 digits of the hash of the tensor data
    base: str  # "SD 1.x", "SD 2.x", "SDXL", or empty if unknown
    modules: Mapping[tuple[str, str], Mapping[str, Tensor]]
    metadata: Mapping[str, str]
    unknown: tuple[str, ...] = ()  # keys that belong to no kind of LoRA
    path: Path | None = None
    embeddings: tuple[Embedding, ...] = ()  # learned words of the file, which work while the LoRA is on
    bundled: Mapping[str, Tensor] = field(default_factory=dict)  # their tensors as stored


def read_adapter(path: Path, name: str = "", part: str = "") -> Adapter:
    """Loads a file of LoRA, LoCon, LoHa, LoKr, DoRA, IA3, GLoRA, OFT, BOFT or full differences.

    Args:
        part: of the model, where keys do not include it: peft has one file per part.

    Raises:
        CalotypeError: unreadable, damaged, or not a LoRA of a known kind.
    """
    state = read_state(path, is_checked=False)
    modules: dict[tuple[str, str], dict[str, Tensor]] = {}
    unknown = []
    bundled = {key: state.pop(key) for key in list(state) if key.startswith(BUNDLED)}
    ia3 = {key.removesuffix("on_input") + "weight" for key in state if key.endswith(".on_input")}
    for key, tensor in state.items():
        if parsed := _parse_key(key, is_ia3=key in ia3):
            modules.setdefault((part or parsed[0], parsed[1]), {})[parsed[2]] = tensor
        else:
            unknown.append(key)
    real = [tensors for tensors in modules.values() if tensors.keys() - {"alpha", "scale"}]
    if not real or 2 * len(unknown) > len(state):
        shapes = {key: tuple(tensor.shape) for key, tensor in (state | bundled).items()}
        raise wrong_kind_error(path, shapes, Message("a LoRA"))
    for tensors in modules.values():
        check_finite(tensors, path)
    metadata = metadata_of(path)
    _add_scales(modules, settings_of(path, metadata))
    base, hashes = _base(modules, metadata), (digest(path), _short_hash(path))
    embeddings = tuple(_bundled_embeddings(bundled, path, hashes))
    return Adapter(name or path.stem, *hashes, base, modules, metadata, tuple(unknown), path, embeddings, bundled)


def _bundled_embeddings(bundled: Mapping[str, Tensor], path: Path, hashes: tuple[str, str]) -> Iterator[Embedding]:
    """One for each word: `bundle_emb.WORD.` before the keys of its own file, the nested ones joined by a dot."""
    tensors_by_word: dict[str, dict[str, Any]] = {}
    for key, tensor in bundled.items():
        word, _, inner = key.removeprefix(BUNDLED).partition(".")
        outer, dot, name = inner.partition(".")
        tensors = tensors_by_word.setdefault(word, {})
        if dot:
            tensors.setdefault(outer, {})[name] = tensor
        else:
            tensors[inner] = tensor
    for word, tensors in tensors_by_word.items():
        yield Embedding(word, vectors_in(tensors, path), *hashes)


def _parse_key(key: str, is_ia3: bool = False) -> tuple[str, str, str] | None:
    """Part, module and role of a tensor; None for a key that is not of a LoRA.

    Args:
        is_ia3: the key is the `weight` of LyCORIS's IA3, which only the `on_input` beside it tells.
    """
    if is_ia3:
        module, role = key.removesuffix(".weight"), "weight"
    elif match := _OLD.search(key):
        module = f"{key[: match.start()]}.{match[1]}{'.0' if match[1] == 'to_out' else ''}"
        role = match[2]
    elif match := _ENDING.search(key):
        module, role = key[: match.start()], _ROLES[match[1]]
    elif match := _PEFT.search(key):
        module, role = key[: match.start()], _PEFT_ROLES[match["half"]]
    elif match := _PEFT_SINGLE.search(key):
        module, role = key[: match.start()], match[1]
    else:
        return None
    part, name = _split_part(_unwrapped(module))
    return part, _unwrapped(name), role


def _unwrapped(module: str) -> str:
    match = _WRAPPED.match(module)
    return module[match.end() :] if match else module


def _split_part(module: str) -> tuple[str, str]:
    """The part of the model and the module name; without a prefix the part follows from the name."""
    for prefix, part in _PARTS:
        if module.startswith(prefix):
            return part, module.removeprefix(prefix)
    is_text = module.startswith(("text_model.", "encoder.layers."))
    return "text_encoder" if is_text else "unet", module


def _add_scales(modules: Mapping[tuple[str, str], dict[str, Tensor]], settings: Mapping[str, Any]) -> None:
    """Adds tensors for what is only in peft's config: the scale of a layer, and how OFT and IA3 are computed."""
    for (part, module), tensors in modules.items() if settings else ():
        tensors |= {role: torch.tensor(value) for role, value in extras_of(settings, part, module, tensors).items()}
        if is_without_alpha(tensors):
            scale = scale_of(settings, part, module, rank_of_config(settings, part, module))
            if scale is not None:
                tensors["scale"] = torch.tensor(scale, dtype=torch.float64)
        if "down" in tensors and not tensors.keys() & {"alpha", "scale"}:
            scale = scale_of(settings, part, module, tensors["down"].shape[0] if tensors["down"].dim() else 0)
            if scale is not None:
                tensors["scale"] = torch.tensor(scale, dtype=torch.float64)  # so that scale * rank is alpha again


def _short_hash(path: Path) -> str:
    """Hash of the tensor data alone, so that editing the metadata does not change it."""
    return file_sha256(path, data_start(path))[:12]


def _base(modules: Mapping[tuple[str, str], Mapping[str, Tensor]], metadata: Mapping[str, str]) -> str:
    """By the width of the cross-attention input, otherwise by kohya's metadata."""
    for (part, module), tensors in modules.items():
        narrow = next((tensors[role] for role in ("down", "hada_w1_b") if role in tensors), None)
        if part == "unet" and module.endswith(_CROSS) and narrow is not None and narrow.dim() > 1:
            return _BASES.get(narrow.shape[1], "")
    version = str(metadata.get("ss_base_model_version", "")).lower()
    known = {"sdxl": "SDXL", "sd_v1": "SD 1.x", "sd_v2": "SD 2.x"}
    return next((base for sign, base in known.items() if version.startswith(sign)), "")


def read_folder(folder: Path) -> Adapter:
    """Loads a folder of peft: a subfolder for each part of the model (unet, text_encoder, text_encoder_2), or one part.

    Raises:
        CalotypeError: the folder has no such file, or as `read_adapter`.
    """
    parts = {part: _weights_of(folder / part, PEFT) for part in ("unet", "text_encoder", "text_encoder_2")}
    adapters = [read_adapter(path, folder.name, part) for part, path in parts.items() if path is not None]
    single_file = _weights_of(folder, PEFT) or _weights_of(folder, "pytorch_lora_weights")
    if not adapters and single_file is not None:
        adapters = [read_adapter(single_file, folder.name)]
    if not adapters:
        raise CalotypeError(
            "{folder} holds no LoRA: neither {peft}.safetensors nor a folder unet with one", folder=folder, peft=PEFT
        )
    modules = {key: tensors for adapter in adapters for key, tensors in adapter.modules.items()}
    metadata = {key: value for adapter in adapters for key, value in adapter.metadata.items()}
    embeddings = tuple(word for adapter in adapters for word in adapter.embeddings)
    bundled = {key: tensor for adapter in adapters for key, tensor in adapter.bundled.items()}
    unknown = tuple(key for adapter in adapters for key in adapter.unknown)
    base = next((adapter.base for adapter in adapters if adapter.base), "")
    whole = replace(adapters[0], embeddings=embeddings, bundled=bundled)
    return replace(whole, base=base, modules=modules, metadata=metadata, unknown=unknown, path=folder)


def _weights_of(folder: Path, name: str) -> Path | None:
    """peft and diffusers wrote .bin before .safetensors."""
    paths = (folder / f"{name}{suffix}" for suffix in (".safetensors", ".bin"))
    return next((path for path in paths if path.is_file()), None)
