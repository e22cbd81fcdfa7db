"""Loads files of LoRA, LoCon, LoHa and LoKr with the keys of kohya, diffusers and peft."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.checkpoints.header import data_start, metadata_of
from calotype.checkpoints.lora.peft_config import PEFT, scale_of, settings_of
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError

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
}
_ENDING = re.compile(rf"\.({'|'.join(map(re.escape, sorted(_ROLES, key=len, reverse=True)))})$")
_PEFT = re.compile(  # the name of the adapter may be part of the key
    r"\.lora_(?:(?P<half>A|B)(?:\.\w+)?\.weight|magnitude_vector(?:\.\w+){0,2})$"
)
_OLD = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")  # diffusers before 0.20
_PEFT_ROLES = {"A": "down", "B": "up", None: "magnitude"}
_PARTS = (  # key prefix -> part of the model
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("unet.", "unet"),
)
_WRAPPED = "base_model.model."  # prefix of all names in peft
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


def read_adapter(path: Path, name: str = "", part: str = "") -> Adapter:
    """Loads a file of LoRA, LoCon, LoHa, LoKr, DoRA or full differences, with the keys of kohya, diffusers or peft.

    Args:
        part: of the model, where keys do not include it: peft has one file per part.

    Raises:
        CalotypeError: unreadable, damaged, or not a LoRA of a known kind.
    """
    state = read_state(path)
    modules: dict[tuple[str, str], dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in state.items():
        if parsed := _parse_key(key):
            modules.setdefault((part or parsed[0], parsed[1]), {})[parsed[2]] = tensor
        else:
            unknown.append(key)
    real = [tensors for tensors in modules.values() if tensors.keys() - {"alpha", "scale"}]
    if not real or 2 * len(unknown) > len(state):
        first = min(unknown or state)[:80]
        raise CalotypeError(
            "{path} is not a LoRA that Calotype knows: {count} tensors, such as {first}",
            path=path,
            count=len(state),
            first=first,
        )
    metadata = metadata_of(path)
    _add_scales(modules, settings_of(path, metadata))
    base, hashes = _base(modules, metadata), (digest(path), _short_hash(path))
    return Adapter(name or path.stem, *hashes, base, modules, metadata, tuple(unknown), path)


def _parse_key(key: str) -> tuple[str, str, str] | None:
    """Part, module and role of a tensor; None for a key that is not of a LoRA."""
    if match := _OLD.search(key):
        module = f"{key[: match.start()]}.{match[1]}{'.0' if match[1] == 'to_out' else ''}"
        role = match[2]
    elif match := _ENDING.search(key):
        module, role = key[: match.start()], _ROLES[match[1]]
    elif match := _PEFT.search(key):
        module, role = key[: match.start()], _PEFT_ROLES[match["half"]]
    else:
        return None
    return (*_split_part(module.removeprefix(_WRAPPED)), role)


def _split_part(module: str) -> tuple[str, str]:
    """The part of the model and the module name; without a prefix the part follows from the name."""
    for prefix, part in _PARTS:
        if module.startswith(prefix):
            return part, module.removeprefix(prefix)
    is_text = module.startswith(("text_model.", "encoder.layers."))
    return "text_encoder" if is_text else "unet", module


def _add_scales(modules: Mapping[tuple[str, str], dict[str, Tensor]], settings: Mapping[str, Any]) -> None:
    """Adds a scale tensor to layers whose scale is only in the config."""
    for (part, module), tensors in modules.items() if settings else ():
        if "down" in tensors and not tensors.keys() & {"alpha", "scale"}:
            scale = scale_of(settings, part, module, tensors["down"].shape[0] if tensors["down"].dim() else 0)
            if scale is not None:
                tensors["scale"] = torch.tensor(scale, dtype=torch.float64)  # so that scale * rank is alpha again


def _short_hash(path: Path) -> str:
    """Hash of the tensor data alone, so that editing the metadata does not change it."""
    with path.open("rb") as file:
        file.seek(data_start(path))
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


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
    files = {part: folder / part / f"{PEFT}.safetensors" for part in ("unet", "text_encoder", "text_encoder_2")}
    adapters = [read_adapter(path, folder.name, part) for part, path in files.items() if path.is_file()]
    single_files = [folder / f"{PEFT}.safetensors", folder / "pytorch_lora_weights.safetensors"]
    adapters = adapters or [read_adapter(path, folder.name) for path in single_files if path.is_file()][:1]
    if not adapters:
        raise CalotypeError(
            "{folder} holds no LoRA: neither {peft}.safetensors nor a folder unet with one", folder=folder, peft=PEFT
        )
    modules = {key: tensors for adapter in adapters for key, tensors in adapter.modules.items()}
    metadata = {key: value for adapter in adapters for key, value in adapter.metadata.items()}
    unknown = tuple(key for adapter in adapters for key in adapter.unknown)
    base = next((adapter.base for adapter in adapters if adapter.base), "")
    return replace(adapters[0], base=base, modules=modules, metadata=metadata, unknown=unknown, path=folder)
