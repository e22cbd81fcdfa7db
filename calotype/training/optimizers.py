"""Optimizers by the names that sd-scripts' users know."""

import ast
import contextlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from typing import Any

import torch

from calotype.errors import CalotypeError
from calotype.options import nearest


@dataclass(frozen=True)
class Known:
    """Where an optimizer comes from."""

    module: str
    name: str
    package: str = ""  # what to install where it is missing
    settings: dict[str, Any] = field(default_factory=dict)
    plain: str = ""  # for one that needs CUDA: the same, with its memory in full


def _eight(name: str, plain: str, **settings: Any) -> Known:
    return Known("bitsandbytes.optim", name, "bitsandbytes", settings, plain)


def _adapting(name: str, module: str = "dadaptation") -> Known:
    return Known(module, name, "dadaptation")


_NESTEROV = {"nesterov": True, "momentum": 0.9}
KNOWN: dict[str, Known] = {
    "AdamW": Known("torch.optim", "AdamW"),
    "AdamW8bit": _eight("AdamW8bit", "AdamW"),
    "PagedAdamW": _eight("PagedAdamW", "AdamW"),
    "PagedAdamW8bit": _eight("PagedAdamW8bit", "AdamW"),
    "PagedAdamW32bit": _eight("PagedAdamW32bit", "AdamW"),
    "Lion": Known("lion_pytorch", "Lion", "lion-pytorch"),
    "Lion8bit": _eight("Lion8bit", "Lion"),
    "PagedLion8bit": _eight("PagedLion8bit", "Lion"),
    "SGDNesterov": Known("torch.optim", "SGD", "", _NESTEROV),
    "SGDNesterov8bit": _eight("SGD8bit", "SGDNesterov", **_NESTEROV),
    "DAdaptation": _adapting("DAdaptAdamPreprint", "dadaptation.experimental"),
    "DAdaptAdamPreprint": _adapting("DAdaptAdamPreprint", "dadaptation.experimental"),
    "DAdaptAdaGrad": _adapting("DAdaptAdaGrad"),
    "DAdaptAdam": _adapting("DAdaptAdam"),
    "DAdaptAdan": _adapting("DAdaptAdan"),
    "DAdaptAdanIP": _adapting("DAdaptAdanIP", "dadaptation.experimental"),
    "DAdaptLion": _adapting("DAdaptLion"),
    "DAdaptSGD": _adapting("DAdaptSGD"),
    "Prodigy": Known("prodigyopt", "Prodigy", "prodigyopt"),
    "AdaFactor": Known("transformers.optimization", "Adafactor", "transformers"),
    "AdamWScheduleFree": Known("schedulefree", "AdamWScheduleFree", "schedulefree"),
    "RAdamScheduleFree": Known("schedulefree", "RAdamScheduleFree", "schedulefree"),
    "SGDScheduleFree": Known("schedulefree", "SGDScheduleFree", "schedulefree"),
}
ONE_RATE = ("dadapt", "prodigy")  # they find the rate themselves, one for all parts


def fitting(name: str, device: torch.device) -> tuple[str, str]:
    """The optimizer to take on a device, and a sentence where it is another one than asked for."""
    known = _known(name)
    if known is None or not known.plain or (device.type == "cuda" and importlib.util.find_spec("bitsandbytes")):
        return name, ""
    return known.plain, f"{name} needs CUDA and bitsandbytes; {known.plain} is taken, which only takes more memory"


def is_schedule_free(name: str) -> bool:
    return name.lower().endswith("schedulefree")


def optimizer_named(name: str, groups: list[dict[str, Any]], args: str = "") -> torch.optim.Optimizer:
    """An optimizer over groups with `lr` and `initial_lr`.

    Args:
        name: a key of KNOWN, in any case, a class of torch.optim, or module.Class of what is installed.
        args: its settings as "weight_decay=0.1 betas=(0.9,0.99)".

    Raises:
        CalotypeError: unknown, not installed, or settings that it does not take.
    """
    known = _known(name)
    settings = arguments(args)
    if known is None:
        made = _foreign(name)
    else:
        try:
            made = getattr(importlib.import_module(known.module), known.name)
        except ImportError:
            raise CalotypeError(
                "the optimizer {name} is not installed: pip install {package}", name=name, package=known.package
            ) from None
        settings = known.settings | settings
    if made is torch.optim.AdamW:
        settings.setdefault("fused", True)
    if name.lower().startswith(ONE_RATE) and len({group["lr"] for group in groups}) > 1:
        raise CalotypeError(
            "{name} finds one rate for all; give {option:unet_lr} and {option:text_encoder_lr} the same, usually 1",
            name=name,
        )
    if known is not None and known.name == "Adafactor":
        settings = {"relative_step": True} | settings
        if settings.get("warmup_init"):
            settings["relative_step"] = True
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some say there what they do
            optimizer = made(groups, **settings)
    except (TypeError, ValueError) as fault:
        raise CalotypeError(
            "the optimizer {name} does not take {args!r}: {fault}", name=name, args=args, fault=fault
        ) from None
    learning(optimizer, True)
    return optimizer


def learning(optimizer: torch.optim.Optimizer, is_on: bool) -> None:
    """Schedule-free optimizers learn with other weights than they answer with; all others stay as they are."""
    switch = getattr(optimizer, "train" if is_on else "eval", None)
    if callable(switch):
        switch()


def _known(name: str) -> Known | None:
    return next((known for key, known in KNOWN.items() if key.lower() == name.lower()), None)


def _foreign(name: str) -> type[torch.optim.Optimizer]:
    module, _, cls = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "torch.optim"), cls, None)
    except (ImportError, ValueError):
        raise CalotypeError(
            "the optimizer {name} is not installed: there is no module {module}", name=name, module=module
        ) from None
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
        return found
    raise CalotypeError(
        "no optimizer is named {name}{hint}; there are {names}",
        name=name,
        hint=nearest(name, KNOWN),
        names=", ".join(KNOWN),
    )


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
                "{option:optimizer_args} is such as weight_decay=0.1 betas=(0.9,0.99), not {word!r}", word=word
            ) from None
    return found
