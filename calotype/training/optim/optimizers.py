"""Optimizers by sd-scripts' names."""

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
from calotype.tasks.training import split_arguments

__all__ = ["arguments", "available_optimizer", "create_optimizer", "is_schedule_free", "set_train_mode"]

SINGLE_LR = ("dadapt", "prodigy")  # they estimate the learning rate, one for all parameter groups


def available_optimizer(name: str, device: torch.device) -> tuple[str, Message | None]:
    """The optimizer to use on a device, and a message if it replaces the requested one."""
    entry = find_optimizer(name)
    if entry is None or not entry.plain or (device.type == "cuda" and importlib.util.find_spec("bitsandbytes")):
        return name, None
    template = "{name} needs CUDA and bitsandbytes; {plain} is used instead, which needs more memory"
    return entry.plain, Message(template, name=name, plain=entry.plain)


def is_schedule_free(name: str) -> bool:
    return name.lower().endswith("schedulefree")


def create_optimizer(name: str, groups: list[dict[str, Any]], args: str = "") -> torch.optim.Optimizer:
    """Creates an optimizer over parameter groups with `lr` and `initial_lr`.

    Args:
        name: a key of KNOWN, in any case, a class of torch.optim, or module.Class of one of the PACKAGES.
        args: its arguments, e.g. "weight_decay=0.1 betas=(0.9,0.99)".

    Raises:
        CalotypeError: unknown, not installed, or invalid arguments. Only modules in the table are imported.
    """
    entry = find_optimizer(name)
    settings = arguments(args)
    if entry is None:
        optimizer_class = _optimizer_class(name)
    else:
        optimizer_class = getattr(_module(entry.module, name, entry.package), entry.name)
        settings = entry.settings | settings
    if optimizer_class is torch.optim.AdamW:
        settings.setdefault("fused", True)
    if name.lower().startswith(SINGLE_LR) and len({group["lr"] for group in groups}) > 1:
        raise CalotypeError(
            "{name} estimates one learning rate; give {option:unet_lr} and {option:text_encoder_lr} the same",
            name=name,
        )
    if entry is not None and entry.name == "Adafactor":
        settings = {"relative_step": True} | settings
        if settings.get("warmup_init"):
            settings["relative_step"] = True
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some optimizers print
            optimizer = optimizer_class(groups, **settings)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CalotypeError(
            "the optimizer {name} does not take {args!r}: {fault}", name=name, args=args, fault=error
        ) from None
    set_train_mode(optimizer, True)
    return optimizer


def set_train_mode(optimizer: torch.optim.Optimizer, is_on: bool) -> None:
    """Switches schedule-free optimizers between training and evaluation weights; other optimizers do nothing."""
    switch = getattr(optimizer, "train" if is_on else "eval", None)
    if callable(switch):
        switch()


def _optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """A class of torch.optim, or module.Class of one of the allowed packages."""
    module, _, cls = name.rpartition(".")
    package = package_of(module or "torch.optim")
    optimizer_class = getattr(_module(module or "torch.optim", name, package), cls, None) if package else None
    if isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer):
        return optimizer_class
    raise unknown_optimizer(name)


def _module(module: str, name: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, ValueError):
        raise CalotypeError(
            "the optimizer {name} is not installed: {remedy}", name=name, remedy=Remedy("install_packages", package)
        ) from None


def arguments(text: str) -> dict[str, Any]:
    """Parses "a=1 b=(0.9,0.99)". Raises CalotypeError for anything else."""
    found = {}
    for word in split_arguments(text):
        key, equals, value = word.partition("=")
        try:
            if not equals:
                raise ValueError
            found[key] = ast.literal_eval(value)
        except (
            MemoryError,
            RecursionError,
            SyntaxError,
            TypeError,
            ValueError,
        ):  # MemoryError: nested too deeply
            raise CalotypeError(
                "{option:optimizer_args} looks like weight_decay=0.1 betas=(0.9,0.99), not {word}", word=shown(word)
            ) from None
    return found
