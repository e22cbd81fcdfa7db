"""The report of a training run as an HTML page, written from its metrics log alone; it opens offline."""

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
SIDE = 320  # pixels of a sample's longer side in the report
MAX_SAMPLES = 24  # of one prompt in the report
VALIDATION = "loss/validation/epoch_average"
DERIVED = ("loss/average", "loss/epoch_average", "vae/average")  # averages of metrics that are plotted already
NAMES = {
    "loss/current": "loss of each step",
    "vae/current": "loss of each step",
    VALIDATION: "validation loss",
    "lr/unet": "U-Net",
    "lr/vae": "autoencoder",
    "lr/textencoder": "text encoder",
    "loss/forger": "generator loss of each step",  # this and the following keys are as logs of all versions have them
    "realness/pictures": "real images",
    "realness/forgeries": "generated images",
    "told apart/pairs": "pairs",
    "Fréchet distance/forgeries": "generated images",
    "diversity/forgeries, of the pictures'": "generated images",
}
BEST = {  # by kind: the metric to minimize, its name in a sentence, and the network of the best file
    "loss": (VALIDATION, "The validation loss", "LoRA"),
    "Fréchet distance": ("Fréchet distance/forgeries", "The Fréchet distance", "generator"),
}
TITLES = {"loss": "Loss", "vae": "Autoencoder", "psnr": "Reconstruction, dB", "lr": "Learning rate"}
TITLES |= {"Fréchet distance": "Fréchet distance"}
TITLES |= {"realness": "Discriminator's outputs", "told apart": "Real images ranked above generated ones"}
TITLES |= {"diversity": "Diversity relative to that of the real images", "penalty": "Gradient penalty"}
TITLES |= {"precision and recall": "Precision and recall"}


def report_path(folder: Path, name: str) -> Path:
    """`report.html`; or `NAME-report.html` if that is the report of another run, or another file."""
    path = folder / "report.html"
    try:
        with path.open("rb") as file:
            match = RUN.search(file.read(4096).decode("utf-8", "replace"))
    except OSError:
        return folder / f"{name}-report.html" if path.exists() else path
    return path if match and unescape(match[1]) == name else folder / f"{name}-report.html"


def write_report(path: Path, log: MetricsLog, name: str, state: str) -> None:
    """Writes the report atomically.

    Args:
        state: state of the run, e.g. "finished after 120 steps".
    Raises:
        CalotypeError: the disk is full, or the folder is not writable.
    """
    time = format_duration(log.last(SECONDS)) if log.numbers.get(SECONDS) else ""
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


def format_duration(seconds: float) -> str:
    """
    >>> format_duration(75)
    '1 min 15 s'
    """
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds_left} s" if minutes else f"{seconds_left} s"
    )


def _plots(log: MetricsLog) -> list[dict[str, str]]:
    """One plot for each kind of metric: the part of its name before the first slash."""
    kinds: dict[str, list[str]] = {}
    for name in log.numbers:
        if "/" in name and name not in DERIVED:
            kinds.setdefault(name.partition("/")[0], []).append(name)
    plots = []
    for kind in sorted(kinds, key=lambda kind: list(TITLES).index(kind) if kind in TITLES else len(TITLES)):
        title = TITLES.get(kind, kind)
        lines = [line for n, names in enumerate(_group_equal(log, kinds[kind])) for line in _lines(log, names, n % 3)]
        best = _best(log, *BEST[kind]) if kind in BEST else ""
        plots.append({"title": title, "best": best, "figure": plot.plot(title, lines)})
    return plots


def _group_equal(log: MetricsLog, names: list[str]) -> list[list[str]]:
    """Names grouped by equal values, since one line would hide the other."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        groups.setdefault(tuple(log.numbers[name]), []).append(name)
    return list(groups.values())


def _lines(log: MetricsLog, names: list[str], colour: int) -> list[plot.Line]:
    metric, points = names[0], log.numbers[names[0]]
    label = ", ".join(NAMES.get(name, name.partition("/")[2]) for name in names)
    if "/validation/" in metric:
        best = log.minimum(metric)
        return [plot.Line(label, points, colour, "dots", best[0] if best else None)]
    if metric.startswith("lr/") or len(points) < 30:
        return [plot.Line(label, points, colour)]
    raw = plot.Line(label, points, colour, "raw")
    return [raw, plot.Line(f"{label.replace(' of each step', '')}, smoothed", plot.smoothed(points), colour)]


def _best(log: MetricsLog, number: str, name: str, network: str) -> str:
    """A sentence about the minimum of `number`; empty if it has no values."""
    best, file, step = log.minimum(number), log.facts.get("best file", ""), log.facts.get("best step")
    if best is None:
        return ""
    when_saved = f"after {_position(log, step)}" if isinstance(step, int) and step != best[0] else "then"
    file_note = f"; {file} is the {network} as it was {when_saved}" if file else ""
    return f"{name} was lowest {'after ' if best[0] else ''}{_position(log, best[0])}: {best[1]:.4f}{file_note}."


def _position(log: MetricsLog, step: int) -> str:
    steps_of_epoch = log.facts.get("steps of an epoch")
    if step == 0:
        return "before the first step"
    is_epoch = steps_of_epoch and step % steps_of_epoch == 0
    return f"epoch {step // steps_of_epoch}, step {step}" if is_epoch else f"step {step}"


def _samples(log: MetricsLog) -> dict[str, Any]:
    """The samples of each prompt, by step."""
    prompts: dict[str, dict[int, LoggedSample]] = {}
    for sample in log.pictures:
        prompts.setdefault(sample.what, {})[sample.step] = sample
    if not prompts:
        return {"samples": []}
    best = (log.minimum(VALIDATION) or (None,))[0]
    steps = sorted({sample.step for sample in log.pictures})
    selected = _select_steps(steps, best)
    omitted = f" {len(selected)} of {len(steps)} sets are shown here." if len(selected) < len(steps) else ""
    folder = Path(log.pictures[0].picture).parent
    samples = [
        {
            "what": what,
            "how": next(iter(by_step.values())).how,
            "cells": [
                cell for step in selected if step in by_step for cell in _cells(log, by_step[step], step == best)
            ],
        }
        for what, by_step in prompts.items()
    ]
    return {"samples": samples, "samples_lead": f"Drawn during training, saved in {folder}.{omitted}"}


def _select_steps(steps: list[int], best: int | None) -> list[int]:
    """The first, last and best steps, and evenly spaced ones between, at most MAX_SAMPLES."""
    if len(steps) <= MAX_SAMPLES:
        return steps
    selected = {steps[round(n * (len(steps) - 1) / (MAX_SAMPLES - 2))] for n in range(MAX_SAMPLES - 1)}
    return sorted(selected | ({best} & set(steps)))


def _cells(log: MetricsLog, sample: LoggedSample, is_best: bool) -> list[dict[str, Any]]:
    """The picture of a sample; empty if the file was deleted."""
    path = log.path.parent / sample.picture
    try:
        jpeg, size = _thumbnail(path, path.stat().st_mtime_ns)
    except (OSError, CalotypeError):
        return []
    is_wide = size[0] >= 2 * size[1]
    return [{"jpeg": jpeg, "size": size, "when": _position(log, sample.step), "is_best": is_best, "is_wide": is_wide}]


@lru_cache(maxsize=1024)
def _thumbnail(path: Path, _changed: int) -> tuple[bytes, tuple[int, int]]:
    image = Image.fromarray(Picture.open(path).pixels)
    side = SIDE * max(1, round(image.width / image.height))  # strips of pictures: each as large as a single one
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
    """A list, or an empty one, since a log file may contain anything."""
    return value if isinstance(value, list) else []


def _table(value: Any) -> list[tuple[str, str]]:
    return [(str(k), str(v)) for k, v in value.items()] if isinstance(value, Mapping) else []
