"""Optimizers by the names that sd-scripts' users know."""

import ast
import contextlib
import importlib
import importlib.util
import sys
from typing import Any

import torch

from calotype.errors import CalotypeError, Message, Remedy
from calotype.options import shown
from calotype.tasks.optimizers import find_optimizer, package_of, unknown_optimizer

__all__ = ["arguments", "fitting", "is_schedule_free", "learning", "optimizer_named"]

ONE_RATE = ("dadapt", "prodigy")  # they find the rate themselves, one for all parts


def fitting(name: str, device: torch.device) -> tuple[str, Message | None]:
    """The optimizer to take on a device, and a sentence where it is another one than asked for."""
    entry = find_optimizer(name)
    if entry is None or not entry.plain or (device.type == "cuda" and importlib.util.find_spec("bitsandbytes")):
        return name, None
    sentence = "{name} needs CUDA and bitsandbytes; {plain} is taken, which only takes more memory"
    return entry.plain, Message(sentence, name=name, plain=entry.plain)


def is_schedule_free(name: str) -> bool:
    return name.lower().endswith("schedulefree")


def optimizer_named(name: str, groups: list[dict[str, Any]], args: str = "") -> torch.optim.Optimizer:
    """An optimizer over groups with `lr` and `initial_lr`.

    Args:
        name: a key of KNOWN, in any case, a class of torch.optim, or module.Class of one of the PACKAGES.
        args: its settings as "weight_decay=0.1 betas=(0.9,0.99)".

    Raises:
        CalotypeError: unknown, not installed, or settings that it does not take. No module is imported by a name that
            is not in the table.
    """
    entry = find_optimizer(name)
    settings = arguments(args)
    if entry is None:
        made = _foreign(name)
    else:
        made = getattr(_module(entry.module, name, entry.package), entry.name)
        settings = entry.settings | settings
    if made is torch.optim.AdamW:
        settings.setdefault("fused", True)
    if name.lower().startswith(ONE_RATE) and len({group["lr"] for group in groups}) > 1:
        raise CalotypeError(
            "{name} finds one rate for all; give {option:unet_lr} and {option:text_encoder_lr} the same, usually 1",
            name=name,
        )
    if entry is not None and entry.name == "Adafactor":
        settings = {"relative_step": True} | settings
        if settings.get("warmup_init"):
            settings["relative_step"] = True
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some say there what they do
            optimizer = made(groups, **settings)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as fault:
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


def _foreign(name: str) -> type[torch.optim.Optimizer]:
    """A class of torch.optim, or module.Class of one of the packages that optimizers may come from."""
    module, _, cls = name.rpartition(".")
    package = package_of(module or "torch.optim")
    found = getattr(_module(module or "torch.optim", name, package), cls, None) if package else None
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
        return found
    raise unknown_optimizer(name)


def _module(module: str, name: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, ValueError):
        raise CalotypeError(
            "the optimizer {name} is not installed: {remedy}", name=name, remedy=Remedy("install_packages", package)
        ) from None


def arguments(text: str) -> dict[str, Any]:
    """ "a=1 b=(0.9,0.99)" as data. Raises CalotypeError for anything else."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        try:
            if not equals:
                raise ValueError
            found[key] = ast.literal_eval(value)
        except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):  # MemoryError: brackets, too deep
            raise CalotypeError(
                "{option:optimizer_args} is such as weight_decay=0.1 betas=(0.9,0.99), not {word}", word=shown(word)
            ) from None
    return found
