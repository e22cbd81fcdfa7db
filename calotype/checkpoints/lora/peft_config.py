"""The strength of a LoRA where its file does not tell it tensor by tensor: the settings that peft writes beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError

PEFT = "adapter_model"  # the name that peft gives its files; adapter_config.json lies beside them
DIFFUSERS = "lora_adapter_metadata"  # where diffusers keeps the same within the file
_LARGEST = 1 << 20  # bytes


def settings_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's settings; diffusers' begin with the part of the model, such as `unet.lora_alpha`. Empty where none are.

    Raises:
        CalotypeError: they are damaged.
    """
    beside = path.with_name("adapter_config.json")
    try:
        if DIFFUSERS in metadata:
            settings, source = json.loads(metadata[DIFFUSERS]), path
        elif path.stem == PEFT and beside.is_file() and beside.stat().st_size <= _LARGEST:
            settings, source = json.loads(beside.read_text("utf-8")), beside
        else:
            return {}
    except (ValueError, RecursionError, OSError):
        raise CalotypeError("the settings of the LoRA {path} are damaged; fetch or copy it again", path=path) from None
    if not isinstance(settings, dict):
        raise CalotypeError("the settings of the LoRA {path} are damaged; fetch or copy it again", path=source)
    return settings


def scale_of(settings: Mapping[str, Any], component: str, module: str, rank: int) -> float | None:
    """alpha / rank (its square root with rsLoRA) as the settings have it for a module; None where they tell nothing."""
    for prefix in (f"{component}.", ""):
        alpha = _of_module(settings.get(f"{prefix}alpha_pattern"), module)
        alpha = settings.get(f"{prefix}lora_alpha") if alpha is None else alpha
        if isinstance(alpha, int | float) and alpha > 0 and rank > 0:
            return alpha / (rank**0.5 if settings.get(f"{prefix}use_rslora") else rank)
    return None


def _of_module(pattern: Any, module: str) -> Any:
    """The patterns are module names, whole or their end."""
    if not isinstance(pattern, dict):
        return None
    return next((alpha for end, alpha in pattern.items() if module == end or module.endswith(f".{end}")), None)
