"""Files of LoRA, LoCon, LoHa and LoKr, as kohya, diffusers and peft name what is in them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from calotype.checkpoints.catalog import digest
from calotype.checkpoints.state import read_state
from calotype.errors import CalotypeError

# Endings of keys -> (what is added to the module's name, what the tensor is).
_ROLES = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    ".diff": "diff",
    ".diff_b": "diff_b",
    **{f".{name}": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{
        f".{name}": name
        for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    },
}
_OLD = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")  # diffusers before 0.20
_PARTS = (  # how keys begin -> the part of the model that they belong to
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("unet.", "unet"),
    ("base_model.model.unet.", "unet"),
    ("base_model.model.", ""),
)
_BASES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_TOO_LARGE = 1 << 28  # numbers in one tensor


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file would change, by part ("unet", "text_encoder", "text_encoder_2") and module name as written there."""

    name: str
    sha256: str
    short_hash: str  # as A1111 tells it: 12 digits of the hash of what follows the header
    base: str  # "SD 1.x", "SD 2.x", "SDXL", or empty where it cannot be told
    modules: Mapping[tuple[str, str], Mapping[str, Tensor]]
    metadata: Mapping[str, str]


def read_adapter(path: Path, name: str = "") -> Adapter:
    """Raises CalotypeError: unreadable, damaged, or no LoRA of a known kind."""
    state = read_state(path)
    modules: dict[tuple[str, str], dict[str, Tensor]] = {}
    strange = []
    for key, tensor in state.items():
        place = _place(key)
        if place is None or tensor.numel() > _TOO_LARGE:
            strange.append(key)
        else:
            modules.setdefault(place[:2], {})[place[2]] = tensor
    if not modules or all(set(parts) == {"alpha"} for parts in modules.values()):
        raise CalotypeError(f"{path} is no LoRA that Calotype knows: {len(state)} tensors, the first {min(state)[:80]}")
    if strange:
        raise CalotypeError(f"{path} has {len(strange)} tensors that no LoRA has, the first {strange[0][:80]}")
    metadata = _metadata(path)
    return Adapter(name or path.stem, digest(path), _short_hash(path), _base(modules, metadata), modules, metadata)


def _place(key: str) -> tuple[str, str, str] | None:
    """Part, module and role of a tensor, None for one that has no place in a LoRA."""
    if old := _OLD.search(key):
        layer = "to_out.0" if old[1] == "to_out" else old[1]
        module, role = f"{key[: old.start()]}.{layer}", old[2]
    else:
        ending = next((end for end in _ROLES if key.endswith(end)), None)
        if ending is None:
            return None
        module, role = key.removesuffix(ending), _ROLES[ending]
    for beginning, part in _PARTS:
        if module.startswith(beginning):
            return part or "unet", module.removeprefix(beginning), role
    return "unet", module, role


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _short_hash(path: Path) -> str:
    """Of the tensors alone, so that editing the metadata changes nothing."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".safetensors":
            file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _base(modules: Mapping[tuple[str, str], Mapping[str, Tensor]], metadata: Mapping[str, str]) -> str:
    """By the width of the words that its cross-attention takes, else by what kohya wrote."""
    for (part, module), tensors in modules.items():
        flat = module.replace(".", "_")
        if part == "unet" and flat.endswith(("attn2_to_k", "attn2_to_v")) and "down" in tensors:
            return _BASES.get(tensors["down"].shape[1], "")
    told = str(metadata.get("ss_base_model_version", "")).lower()
    known = {"sdxl": "SDXL", "sd_v1": "SD 1.x", "sd_v2": "SD 2.x"}
    return next((base for sign, base in known.items() if told.startswith(sign)), "")


def tags(adapter: Adapter, most: int = 10) -> list[str]:
    """The words that it was trained with most often, as kohya wrote them down."""
    try:
        counted = json.loads(adapter.metadata.get("ss_tag_frequency", "{}"))
        found: dict[str, int] = {}
        for folder in counted.values():
            for tag, count in folder.items():
                found[tag.strip()] = found.get(tag.strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError):
        return []
    return sorted(found, key=lambda tag: -found[tag])[:most]
