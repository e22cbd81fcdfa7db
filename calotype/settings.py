"""Settings: what holds for a whole run, read once at the door and handed down."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import about, option, read, visible


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are kept, what computes, and what is too much."""

    TITLE = "This computer"

    home: Path = option(Path("~/.calotype"), "folder for fetched models and lists", env="CALOTYPE_HOME", is_path=True)
    device: str = option("auto", "what computes: auto, cpu, cuda, cuda:1, mps", env="CALOTYPE_DEVICE")
    precision: str = option(
        "auto",
        "number format of the networks; auto takes the quickest that this device has",
        choices=("auto", "float32", "bfloat16", "float16"),
        env="CALOTYPE_PRECISION",
    )
    compile: str = option(
        "auto",
        "compile the network that draws (with CUDA graphs); auto: on CUDA, where the job is long enough to repay it",
        choices=("auto", "on", "off"),
        env="CALOTYPE_COMPILE",
    )
    threads: int = option(0, "processor threads; 0 takes all cores", least=0, most=1024, env="CALOTYPE_THREADS")
    memory: float = option(
        0.0, "memory to use at most, in GiB; 0 measures what is free", least=0, most=1e6, env="CALOTYPE_MEMORY"
    )
    max_pixels: int = option(
        250_000_000,
        "refuse pictures that declare more pixels than this",
        least=1,
        most=2**40,
        env="CALOTYPE_MAX_PIXELS",
    )
    offline: bool = option(False, "never use the network", env="CALOTYPE_OFFLINE")

    @classmethod
    def gather(cls, given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> "Settings":
        """From the environment, then from what was given at the door (None: not given).

        Raises:
            CalotypeError: a value that cannot be read.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for spec in visible(cls):
            text = environ.get(about(spec).env, "")
            if text:
                values[spec.name] = _switch(about(spec).env, text) if spec.type is bool else text
        values |= {name: value for name, value in (given or {}).items() if value is not None}
        settings = read(cls, values)
        return read(cls, {**vars(settings), "home": settings.home.expanduser()})


def _switch(name: str, text: str) -> bool:
    """What an environment variable says; a word that is neither yes nor no must not pass for one."""
    for words, meant in ((("1", "true", "yes", "on"), True), (("0", "false", "no", "off"), False)):
        if text.lower() in words:
            return meant
    raise CalotypeError("{name} is 1 or 0, not {text!r}", name=name, text=text)
