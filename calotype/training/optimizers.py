"""Optimizers by the names that sd-scripts' users know."""

import ast
import importlib
from typing import Any

import torch

from calotype.errors import CalotypeError
from calotype.options import nearest

# name: module, class, what to install where it is missing, and settings of its own
KNOWN: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "AdamW": ("torch.optim", "AdamW", "", {}),
    "SGDNesterov": ("torch.optim", "SGD", "", {"nesterov": True, "momentum": 0.9}),
    "AdaFactor": ("torch.optim", "Adafactor", "", {}),
    "AdamW8bit": ("bitsandbytes.optim", "AdamW8bit", "bitsandbytes", {}),
    "Lion": ("lion_pytorch", "Lion", "lion-pytorch", {}),
    "Lion8bit": ("bitsandbytes.optim", "Lion8bit", "bitsandbytes", {}),
    "Prodigy": ("prodigyopt", "Prodigy", "prodigyopt", {}),
    "DAdaptation": ("dadaptation", "DAdaptAdam", "dadaptation", {}),
    "DAdaptAdam": ("dadaptation", "DAdaptAdam", "dadaptation", {}),
    "DAdaptLion": ("dadaptation", "DAdaptLion", "dadaptation", {}),
    "AdamWScheduleFree": ("schedulefree", "AdamWScheduleFree", "schedulefree", {}),
}


def optimizer_named(name: str, groups: list[dict[str, Any]], args: str = "") -> torch.optim.Optimizer:
    """An optimizer over groups with `lr` and `initial_lr`.

    Args:
        args: its settings as "weight_decay=0.1 betas=(0.9,0.99)".

    Raises:
        CalotypeError: unknown, not installed, or settings that it does not take.
    """
    known = {one.lower(): one for one in KNOWN}
    if name.lower() not in known:
        raise CalotypeError(f"no optimizer is named {name}{nearest(name, KNOWN)}; there are {', '.join(KNOWN)}")
    module, cls, package, own = KNOWN[known[name.lower()]]
    try:
        made = getattr(importlib.import_module(module), cls)
    except ImportError:
        raise CalotypeError(f"the optimizer {name} is not installed: pip install {package}") from None
    settings = own | arguments(args)
    if cls == "AdamW" and module == "torch.optim":
        settings.setdefault("fused", True)
    try:
        return made(groups, **settings)
    except (TypeError, ValueError) as fault:
        raise CalotypeError(f"the optimizer {name} does not take {args!r}: {fault}") from None


def arguments(text: str) -> dict[str, Any]:
    """ "a=1 b=(0.9,0.99)" as data. Raises CalotypeError for anything else."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        try:
            if not equals:
                raise ValueError
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise CalotypeError(
                f"--optimizer-args is such as weight_decay=0.1 betas=(0.9,0.99), not {word!r}"
            ) from None
    return found
