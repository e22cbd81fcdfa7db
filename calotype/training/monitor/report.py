"""The page about a training run: written from its metrics log alone, at every epoch and at the end. Opens offline."""

import re
from collections.abc import Mapping
from functools import lru_cache
from html import unescape
from pathlib import Path
from typing import Any

from PIL import Image

from calotype import html
from calotype.errors import CalotypeError
from calotype.files import write_atomic
from calotype.picture import Picture
from calotype.training.monitor import plot
from calotype.training.monitor.metrics_log import SECONDS, LoggedSample, MetricsLog

RUN = re.compile('<meta name="calotype-run" content="([^"]*)"')
SIDE = 320  # pixels of a sample's longer side in the page
MAX_SAMPLES = 24  # of one prompt in the page
VALIDATION = "loss/validation/epoch_average"
DERIVED = ("loss/average", "loss/epoch_average", "vae/average")  # of numbers that have a line already
NAMES = {
    "loss/current": "loss of each step",
    "vae/current": "loss of each step",
    VALIDATION: "validation loss",
    "lr/unet": "U-Net",
    "lr/vae": "autoencoder",
    "lr/textencoder": "text encoder",
}
BEST = {  # by kind of number: the one that should be low, its name in a sentence, and whose file is kept then
    "loss": (VALIDATION, "On the photos held back, the loss", "LoRA"),
    "Fréchet distance": ("Fréchet distance/forgeries", "The Fréchet distance", "forger"),
}
TITLES = {"loss": "Loss", "vae": "Autoencoder", "psnr": "Reconstruction, dB", "lr": "Learning rate"}


def place(folder: Path, name: str) -> Path:
    """`report.html`; or `NAME-report.html` where that is the report of another run, or no report of ours."""
    path = folder / "report.html"
    try:
        with path.open("rb") as file:
            match = RUN.search(file.read(4096).decode("utf-8", "replace"))
    except OSError:
        return folder / f"{name}-report.html" if path.exists() else path
    return path if match and unescape(match[1]) == name else folder / f"{name}-report.html"


def write(path: Path, log: MetricsLog, name: str, state: str) -> None:
    """Writes the page, whole or not at all.

    Args:
        state: a clause about where the run stands, such as "finished after 120 steps".
    Raises:
        CalotypeError: the disk is full, or the folder is closed.
    """
    time = in_words(log.last(SECONDS)) if log.numbers.get(SECONDS) else ""
    lead = f"{state} · {time}" if time else state
    page = html.render(
        "run.html",
        title=name,
        lead=lead[:1].upper() + lead[1:],
        plots=_plots(log),
        **_samples(log),
        **_plan(log, time),
    )
    write_atomic(path, page.encode("utf-8", "backslashreplace"))


def in_words(seconds: float) -> str:
    """
    >>> in_words(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plots(log: MetricsLog) -> list[dict[str, str]]:
    """One for each kind of number: the part of its name before the first slash."""
    kinds: dict[str, list[str]] = {}
    for name in log.numbers:
        if "/" in name and name not in DERIVED:
            kinds.setdefault(name.partition("/")[0], []).append(name)
    plots = []
    for kind in sorted(kinds, key=lambda kind: list(TITLES).index(kind) if kind in TITLES else len(TITLES)):
        title = TITLES.get(kind, kind)
        lines = [line for n, names in enumerate(_equal(log, kinds[kind])) for line in _lines(log, names, n % 3)]
        best = _best(log, *BEST[kind]) if kind in BEST else ""
        plots.append({"title": title, "best": best, "figure": plot.plot(title, lines)})
    return plots


def _equal(log: MetricsLog, names: list[str]) -> list[list[str]]:
    """Names grouped by equal numbers: one line would hide the next."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        groups.setdefault(tuple(log.numbers[name]), []).append(name)
    return list(groups.values())


def _lines(log: MetricsLog, names: list[str], colour: int) -> list[plot.Line]:
    first, points = names[0], log.numbers[names[0]]
    label = ", ".join(NAMES.get(name, name.partition("/")[2]) for name in names)
    if "/validation/" in first:
        best = log.least(first)
        return [plot.Line(label, points, colour, "dots", best[0] if best else None)]
    if first.startswith("lr/") or len(points) < 30:
        return [plot.Line(label, points, colour)]
    raw = plot.Line(label, points, colour, "raw")
    return [raw, plot.Line(f"{label.replace(' of each step', '')}, smoothed", plot.smoothed(points), colour)]


def _best(log: MetricsLog, number: str, name: str, whose: str) -> str:
    """A sentence about the step at which `number` was lowest; empty before the first."""
    best, file, step = log.least(number), log.facts.get("best file", ""), log.facts.get("best step")
    if best is None:
        return ""
    saved = f"after {_when(log, step)}" if isinstance(step, int) and step != best[0] else "then"
    kept = f"; {file} is the {whose} as it was {saved}" if file else ""
    return f"{name} was lowest {'after ' if best[0] else ''}{_when(log, best[0])}: {best[1]:.4f}{kept}."


def _when(log: MetricsLog, step: int) -> str:
    steps_of_epoch = log.facts.get("steps of an epoch")
    if step == 0:
        return "before the first step"
    is_epoch = steps_of_epoch and step % steps_of_epoch == 0
    return f"epoch {step // steps_of_epoch}, step {step}" if is_epoch else f"step {step}"


def _samples(log: MetricsLog) -> dict[str, Any]:
    """Each prompt with its pictures, in the order in which they were drawn."""
    prompts: dict[str, dict[int, LoggedSample]] = {}
    for sample in log.pictures:
        prompts.setdefault(sample.what, {})[sample.step] = sample
    if not prompts:
        return {"samples": []}
    best = (log.least(VALIDATION) or (None,))[0]
    steps = sorted({sample.step for sample in log.pictures})
    chosen = _chosen(steps, best)
    omitted = f" {len(chosen)} of {len(steps)} sets are shown here." if len(chosen) < len(steps) else ""
    folder = Path(log.pictures[0].picture).parent
    samples = [
        {
            "what": what,
            "how": next(iter(by_step.values())).how,
            "cells": [cell for step in chosen if step in by_step for cell in _cell(log, by_step[step], step == best)],
        }
        for what, by_step in prompts.items()
    ]
    return {"samples": samples, "samples_lead": f"Drawn on the way, kept in {folder}.{omitted}"}


def _chosen(steps: list[int], best: int | None) -> list[int]:
    """First, last and best, and as many of the others as fit, evenly spaced."""
    if len(steps) <= MAX_SAMPLES:
        return steps
    even = {steps[round(n * (len(steps) - 1) / (MAX_SAMPLES - 2))] for n in range(MAX_SAMPLES - 1)}
    return sorted(even | ({best} & set(steps)))


def _cell(log: MetricsLog, sample: LoggedSample, is_best: bool) -> list[dict[str, Any]]:
    """The picture of a sample; empty where the person deleted the file: the rest of the page is still of use."""
    path = log.path.parent / sample.picture
    try:
        jpeg, size = _thumbnail(path, path.stat().st_mtime_ns)
    except (OSError, CalotypeError):
        return []
    is_wide = size[0] >= 2 * size[1]
    return [{"jpeg": jpeg, "size": size, "when": _when(log, sample.step), "is_best": is_best, "is_wide": is_wide}]


@lru_cache(maxsize=1024)
def _thumbnail(path: Path, _changed: int) -> tuple[bytes, tuple[int, int]]:
    image = Image.fromarray(Picture.open(path).pixels)
    side = SIDE * max(1, round(image.width / image.height))  # pictures side by side: each as large as a single one
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return html.encode_jpeg(image), image.size


def _plan(log: MetricsLog, time: str) -> dict[str, list]:
    about = _table(log.facts.get("about"))
    about += [("time", time)] if time else []
    about += [("memory", f"{log.facts['memory'] / 2**30:.1f} GiB at most")] if log.facts.get("memory") else []
    options, changed = _table(log.facts.get("options")), _list(log.facts.get("changed"))
    return {
        "plan": _list(log.facts.get("plan")),
        "about": about,
        "chosen": [(name, value) for name, value in options if name in changed],
        "defaults": [(name, value) for name, value in options if name not in changed],
    }


def _list(value: Any) -> list[Any]:
    """A log on disk may hold anything."""
    return value if isinstance(value, list) else []


def _table(value: Any) -> list[tuple[str, str]]:
    return [(str(k), str(v)) for k, v in value.items()] if isinstance(value, Mapping) else []
