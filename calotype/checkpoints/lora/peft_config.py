"""peft's config of a LoRA, which has the scale of its layers where the file has no alpha tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.checkpoints.lora.multiplicative import LIMIT, TERMS
from calotype.errors import CalotypeError

PEFT = "adapter_model"  # file name of peft's weights; adapter_config.json is in the same folder
DIFFUSERS = "lora_adapter_metadata"  # metadata key under which diffusers stores the same
_LARGEST = 1 << 20  # bytes


def settings_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's config; diffusers prefixes keys by the part of the model, as in `unet.lora_alpha`. Empty if missing.

    Raises:
        CalotypeError: it is damaged.
    """
    config_path = path.with_name("adapter_config.json")
    try:
        if DIFFUSERS in metadata:
            settings, source = json.loads(metadata[DIFFUSERS]), path
        elif path.stem == PEFT and config_path.is_file() and config_path.stat().st_size <= _LARGEST:
            settings, source = json.loads(config_path.read_text("utf-8")), config_path
        else:
            return {}
    except (ValueError, RecursionError, OSError):
        raise CalotypeError("the settings of the LoRA {path} are damaged; fetch or copy it again", path=path) from None
    if not isinstance(settings, dict):
        raise CalotypeError("the settings of the LoRA {path} are damaged; fetch or copy it again", path=source)
    return settings


def scale_of(settings: Mapping[str, Any], component: str, module: str, rank: int) -> float | None:
    """alpha / rank (alpha / sqrt(rank) for rsLoRA) of a module; None if the config does not define it."""
    for prefix in (f"{component}.", ""):
        alpha = _of_module(settings.get(f"{prefix}alpha_pattern"), module)
        for name in ("lora_alpha", "alpha"):  # `alpha` of LoHa and LoKr
            alpha = settings.get(f"{prefix}{name}") if alpha is None else alpha
        if isinstance(alpha, int | float) and alpha > 0 and rank > 0:
            return alpha / (rank**0.5 if settings.get(f"{prefix}use_rslora") else rank)
    return None


def is_without_alpha(tensors: Mapping[str, Tensor]) -> bool:
    """LoHa and LoKr without an alpha in the file: peft divides the alpha of its config by the rank of its config."""
    return any(role.startswith(("hada_", "lokr_")) for role in tensors) and not tensors.keys() & {"alpha", "scale"}


def rank_of_config(settings: Mapping[str, Any], component: str, module: str) -> int:
    """The rank of a module by the config; 0 if it does not define it."""
    for prefix in (f"{component}.", ""):
        rank = _of_module(settings.get(f"{prefix}rank_pattern"), module)
        rank = settings.get(f"{prefix}r") if rank is None else rank
        if isinstance(rank, int) and rank > 0:
            return rank
    return 0


def extras_of(
    settings: Mapping[str, Any], component: str, module: str, tensors: Mapping[str, Tensor]
) -> dict[str, float]:
    """What peft's OFT and IA3 need besides their tensors, by role."""
    found: dict[str, float] = {}
    for prefix in ("", f"{component}."):  # the second one takes precedence
        if "oft_R" in tensors:
            is_series = settings.get(f"{prefix}use_cayley_neumann")
            if isinstance(is_series, bool):
                terms = settings.get(f"{prefix}num_cayley_neumann_terms")
                found[TERMS] = (terms if isinstance(terms, int) else 5) if is_series else 0
            limit = settings.get(f"{prefix}eps")
            if settings.get(f"{prefix}coft") and isinstance(limit, int | float):
                found[LIMIT] = float(limit)
        if "ia3_l" in tensors:
            names = settings.get(f"{prefix}feedforward_modules")
            if isinstance(names, list):
                found["on_input"] = any(module == name or module.endswith(f".{name}") for name in names)
    return found


def _of_module(pattern: Any, module: str) -> Any:
    """The patterns are module names or their suffixes."""
    if not isinstance(pattern, dict):
        return None
    return next((alpha for end, alpha in pattern.items() if module == end or module.endswith(f".{end}")), None)
