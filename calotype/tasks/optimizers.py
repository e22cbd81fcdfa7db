"""Optimizers by sd-scripts' names, and the packages that others may be imported from. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import nearest, shown


@dataclass(frozen=True)
class OptimizerSource:
    """Module and class of an optimizer."""

    module: str
    name: str
    package: str = ""  # to install if it is missing
    settings: dict[str, Any] = field(default_factory=dict)
    plain: str = ""  # if it needs CUDA: the same optimizer with full-precision state


def _bitsandbytes(name: str, plain: str, **settings: Any) -> OptimizerSource:
    return OptimizerSource("bitsandbytes.optim", name, "bitsandbytes", settings, plain)


def _dadaptation(name: str, module: str = "dadaptation") -> OptimizerSource:
    return OptimizerSource(module, name, "dadaptation")


_NESTEROV = {"nesterov": True, "momentum": 0.9}
KNOWN: dict[str, OptimizerSource] = {
    "AdamW": OptimizerSource("torch.optim", "AdamW"),
    "AdamW8bit": _bitsandbytes("AdamW8bit", "AdamW"),
    "PagedAdamW": _bitsandbytes("PagedAdamW", "AdamW"),
    "PagedAdamW8bit": _bitsandbytes("PagedAdamW8bit", "AdamW"),
    "PagedAdamW32bit": _bitsandbytes("PagedAdamW32bit", "AdamW"),
    "Lion": OptimizerSource("lion_pytorch", "Lion", "lion-pytorch"),
    "Lion8bit": _bitsandbytes("Lion8bit", "Lion"),
    "PagedLion8bit": _bitsandbytes("PagedLion8bit", "Lion"),
    "SGDNesterov": OptimizerSource("torch.optim", "SGD", "", _NESTEROV),
    "SGDNesterov8bit": _bitsandbytes("SGD8bit", "SGDNesterov", **_NESTEROV),
    "DAdaptation": _dadaptation("DAdaptAdamPreprint", "dadaptation.experimental"),
    "DAdaptAdamPreprint": _dadaptation("DAdaptAdamPreprint", "dadaptation.experimental"),
    "DAdaptAdaGrad": _dadaptation("DAdaptAdaGrad"),
    "DAdaptAdam": _dadaptation("DAdaptAdam"),
    "DAdaptAdan": _dadaptation("DAdaptAdan"),
    "DAdaptAdanIP": _dadaptation("DAdaptAdanIP", "dadaptation.experimental"),
    "DAdaptLion": _dadaptation("DAdaptLion"),
    "DAdaptSGD": _dadaptation("DAdaptSGD"),
    "Prodigy": OptimizerSource("prodigyopt", "Prodigy", "prodigyopt"),
    "AdaFactor": OptimizerSource("transformers.optimization", "Adafactor", "transformers"),
    "AdamWScheduleFree": OptimizerSource("schedulefree", "AdamWScheduleFree", "schedulefree"),
    "RAdamScheduleFree": OptimizerSource("schedulefree", "RAdamScheduleFree", "schedulefree"),
    "SGDScheduleFree": OptimizerSource("schedulefree", "SGDScheduleFree", "schedulefree"),
}
# Packages that module.Class may be imported from: importing a module runs its code, so any module would be unsafe.
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


def find_optimizer(name: str) -> OptimizerSource | None:
    """By a key of KNOWN, ignoring case."""
    return next((source for key, source in KNOWN.items() if key.lower() == name.lower()), None)


def package_of(module: str) -> str | None:
    """The package to install for a module that optimizers may be imported from; None for any other module."""
    return next((name for top, name in PACKAGES.items() if f"{module}.".startswith(f"{top}.")), None)


def check_known(name: str) -> None:
    """Raises CalotypeError for a name that is neither in KNOWN nor in a module of PACKAGES."""
    if not find_optimizer(name) and package_of(name.rpartition(".")[0] or "torch.optim") is None:
        raise unknown_optimizer(name)


def unknown_optimizer(name: str) -> CalotypeError:
    return CalotypeError(
        "no optimizer is named {name}{hint}; there are {names}",
        name=name if name.isprintable() else shown(name),
        hint=nearest(name, KNOWN),
        names=", ".join(KNOWN),
    )
