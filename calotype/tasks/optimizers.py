"""Optimizers by the names that sd-scripts' users know, and the packages that others may come from. No torch here."""

from dataclasses import dataclass, field
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import nearest, shown


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
# What module.Class may come from: a module is imported by its name alone, and an import runs what it holds.
PACKAGES = {
    "torch.optim": "torch",
    "bitsandbytes": "bitsandbytes",
    "lion_pytorch": "lion-pytorch",
    "prodigyopt": "prodigyopt",
    "dadaptation": "dadaptation",
    "schedulefree": "schedulefree",
    "transformers.optimization": "transformers",
    "pytorch_optimizer": "pytorch_optimizer",
}


def known(name: str) -> Known | None:
    """By a key of KNOWN in any case."""
    return next((found for key, found in KNOWN.items() if key.lower() == name.lower()), None)


def package_of(module: str) -> str | None:
    """The package, as one installs it, of a module that optimizers may come from; None for any other module."""
    return next((name for top, name in PACKAGES.items() if f"{module}.".startswith(f"{top}.")), None)


def check_known(name: str) -> None:
    """Raises CalotypeError for a name that is no key of KNOWN, and whose module none of the packages has."""
    if not known(name) and package_of(name.rpartition(".")[0] or "torch.optim") is None:
        raise unknown(name)


def unknown(name: str) -> CalotypeError:
    return CalotypeError(
        "no optimizer is named {name}{hint}; there are {names}",
        name=name if name.isprintable() else shown(name),
        hint=nearest(name, KNOWN),
        names=", ".join(KNOWN),
    )
