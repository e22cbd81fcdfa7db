"""peft's config of a LoRA, which has the scale of its layers where the file has no alpha tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        alpha = settings.get(f"{prefix}lora_alpha") if alpha is None else alpha
        if isinstance(alpha, int | float) and alpha > 0 and rank > 0:
            return alpha / (rank**0.5 if settings.get(f"{prefix}use_rslora") else rank)
    return None


def _of_module(pattern: Any, module: str) -> Any:
    """The patterns are module names or their suffixes."""
    if not isinstance(pattern, dict):
        return None
    return next((alpha for end, alpha in pattern.items() if module == end or module.endswith(f".{end}")), None)
