"""Settings of a process, read once by the interface and passed on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import about, option, read, visible


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Home folder, device, precision and limits."""

    TITLE = "This computer"

    home: Path = option(
        Path("~/.calotype"), "folder for downloaded models and lists", env="CALOTYPE_HOME", is_path=True
    )
    device: str = option("auto", "device: auto, cpu, cuda, cuda:1, mps", env="CALOTYPE_DEVICE")
    precision: str = option(
        "auto",
        "precision of the networks; auto: the fastest that the device supports; int8: of photo-x2 and "
        "photo-x4 on the processor, others as auto",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        env="CALOTYPE_PRECISION",
    )
    compile: str = option(
        "auto",
        "torch.compile the U-Net (with CUDA graphs); auto: on CUDA, if the task is long enough to pay off",
        choices=("auto", "on", "off"),
        env="CALOTYPE_COMPILE",
    )
    threads: int = option(0, "CPU threads; 0: all cores", min=0, max=1024, env="CALOTYPE_THREADS")
    memory: float = option(0.0, "memory limit in GiB; 0: the free memory", min=0, max=1e6, env="CALOTYPE_MEMORY")
    max_pixels: int = option(
        250_000_000,
        "refuse pictures that declare more pixels than this",
        min=1,
        max=2**40,
        env="CALOTYPE_MAX_PIXELS",
    )
    offline: bool = option(False, "never use the network", env="CALOTYPE_OFFLINE")

    @classmethod
    def gather(cls, given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> "Settings":
        """From the environment, overridden by `given` (None: not given).

        Raises:
            CalotypeError: an invalid value.
        """
        settings = gathered(cls, given, environ)
        return read(cls, {**vars(settings), "home": settings.home.expanduser()})


def gathered(cls: type, given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Any:
    """Options from the environment, by the `env` of each, overridden by `given` (None: not given).

    Raises:
        CalotypeError: an invalid value.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for spec in visible(cls):
        text = environ.get(about(spec).env, "")
        if text:
            values[spec.name] = _switch(about(spec).env, text) if spec.type is bool else text
    return read(cls, values | {name: value for name, value in (given or {}).items() if value is not None})


def _switch(name: str, text: str) -> bool:
    """The boolean value of an environment variable. Raises CalotypeError for anything but yes or no."""
    for words, meant in ((("1", "true", "yes", "on"), True), (("0", "false", "no", "off"), False)):
        if text.lower() in words:
            return meant
    raise CalotypeError("{name} is 1 or 0, not {text!r}", name=name, text=text)
