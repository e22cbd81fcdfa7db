"""The page about a training run: made from its diary alone, at every epoch and at the end. Opens offline."""

import io
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from calotype import __version__
from calotype import html as paper
from calotype.errors import CalotypeError
from calotype.files import write_atomic
from calotype.picture import Picture
from calotype.training.monitor import plot
from calotype.training.monitor.metrics_log import SECONDS, LoggedSample, MetricsLog

RUN = '<meta name="calotype-run" content="'
SIDE = 320  # pixels of a sample's longer side in the page
MOST = 24  # samples of one prompt in the page; more are chosen from
VALIDATION = "loss/validation/epoch_average"
DERIVED = ("loss/average", "loss/epoch_average", "vae/average")  # other views of what is drawn already
NAMES = {
    "loss/current": "loss of each step",
    "vae/current": "loss of each step",
    VALIDATION: "validation loss",
    "lr/unet": "U-Net",
    "lr/vae": "autoencoder",
    "lr/textencoder": "text encoder",
}
BEST = {  # by kind of number: which one is low at its best, what it is called, and whose file is kept then
    "loss": (VALIDATION, "On the photos held back, the loss", "LoRA"),
    "Fréchet distance": ("Fréchet distance/forgeries", "The Fréchet distance", "forger"),
}
TITLES = {"loss": "Loss", "vae": "Autoencoder", "psnr": "Reconstruction, dB", "lr": "Learning rate"}

STYLE = """
.prompt { margin: 28px 0 0; } .prompt p { margin: 0; }
ol.sheet { list-style: none; margin: 12px 0 0; padding: 0; display: grid; gap: 14px 12px;
  grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); }
ol.sheet img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--line); }
ol.sheet li { font-size: 14px; line-height: 1.5; color: var(--soft); }
ol.sheet li { position: relative; } ol.sheet b { position: absolute; top: 6px; left: 6px; color: var(--card);
  background: var(--accent); border-radius: 9px; padding: 0 8px; font-size: 13px; font-weight: 600; }
ol.sheet li.wide { grid-column: span 3; }
@media (max-width: 500px) { ol.sheet li.wide { grid-column: 1 / -1; } }
article > h2 + p { margin-top: 8px; }
ul.plan { padding-left: 20px; margin: 12px 0 20px; } dd { font-variant-numeric: tabular-nums; }
dl { grid-template-columns: minmax(110px, 240px) 1fr; }
@media print { ol.sheet { grid-template-columns: repeat(6, 1fr); } ol.sheet li { break-inside: avoid; } }
"""


def place(folder: Path, name: str) -> Path:
    """`report.html`; or `NAME-report.html` where that is the report of another run, or no report of ours."""
    path = folder / "report.html"
    try:
        with path.open("rb") as file:
            is_own = f'{RUN}{escape(name)}"'.encode() in file.read(4096)
    except OSError:
        is_own = not path.exists()
    return path if is_own else folder / f"{name}-report.html"


def write(path: Path, diary: MetricsLog, name: str, state: str) -> None:
    """Writes the page, whole or not at all.

    Args:
        state: a clause about where the run stands, such as "finished after 120 steps".
    Raises:
        CalotypeError: the disk is full, or the folder is closed.
    """
    parts = [f'{RUN}{escape(name)}">\n', *_plots(diary), _samples(diary), _plan(diary)]
    lead = " · ".join([state, *([in_words(diary.last(SECONDS))] if diary.numbers.get(SECONDS) else [])])
    first = paper.head(name, lead[:1].upper() + lead[1:], __version__, plot.STYLE + STYLE)
    first = first.replace("<title>", parts.pop(0) + "<title>", 1)
    write_atomic(path, (first + "".join(parts) + paper.foot(__version__)).encode("utf-8", "backslashreplace"))


def in_words(seconds: float) -> str:
    """
    >>> in_words(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plots(diary: MetricsLog) -> list[str]:
    """One for each kind of number: the part of its name before the first stroke."""
    kinds: dict[str, list[str]] = {}
    for name in diary.numbers:
        if "/" in name and name not in DERIVED:
            kinds.setdefault(name.partition("/")[0], []).append(name)
    order = sorted(kinds, key=lambda kind: list(TITLES).index(kind) if kind in TITLES else len(TITLES))
    found = []
    for kind in order:
        title = TITLES.get(kind, kind)
        lines = [line for n, names in enumerate(_alike(diary, kinds[kind])) for line in _lines(diary, names, n % 3)]
        told = _best(diary, *BEST[kind]) if kind in BEST else ""
        found.append(f"<article>\n<h2>{escape(title)}</h2>\n{told}{plot.plot(title, lines)}</article>\n")
    return found


def _alike(diary: MetricsLog, names: list[str]) -> list[list[str]]:
    """Names whose numbers are the same together: one line would hide the other."""
    found: dict[tuple, list[str]] = {}
    for name in names:
        found.setdefault(tuple(diary.numbers[name]), []).append(name)
    return list(found.values())


def _lines(diary: MetricsLog, names: list[str], colour: int) -> list[plot.Line]:
    name, points = names[0], diary.numbers[names[0]]
    told = ", ".join(NAMES.get(one, one.partition("/")[2]) for one in names)
    if "/validation/" in name:
        best = diary.least(name)
        return [plot.Line(told, points, colour, "dots", best[0] if best else None)]
    if name.startswith("lr/") or len(points) < 30:
        return [plot.Line(told, points, colour)]
    raw = plot.Line(told, points, colour, "raw")
    return [raw, plot.Line(f"{told.replace(' of each step', '')}, smoothed", plot.smoothed(points), colour)]


def _best(diary: MetricsLog, number: str, name: str, whose: str) -> str:
    best, file, step = diary.least(number), diary.facts.get("best file", ""), diary.facts.get("best step")
    if best is None:
        return ""
    then = f"after {escape(_when(diary, step))}" if isinstance(step, int) and step != best[0] else "then"
    kept = f"; {escape(str(file))} is the {whose} as it was {then}" if file else ""
    when = f"{'after ' if best[0] else ''}{escape(_when(diary, best[0]))}"
    return f"<p>{name} was lowest {when}: {best[1]:.4f}{kept}.</p>\n"


def _when(diary: MetricsLog, step: int) -> str:
    each = diary.facts.get("steps of an epoch")
    if step == 0:
        return "before the first step"
    return f"epoch {step // each}, step {step}" if each and step % each == 0 else f"step {step}"


def _samples(diary: MetricsLog) -> str:
    """Each prompt with its pictures, in the order in which they were drawn."""
    groups: dict[str, dict[int, LoggedSample]] = {}
    for shown in diary.pictures:
        groups.setdefault(shown.what, {})[shown.step] = shown
    if not groups:
        return ""
    best = (diary.least(VALIDATION) or (None,))[0]
    steps = sorted({shown.step for shown in diary.pictures})
    chosen = _chosen(steps, best)
    left = f" {len(chosen)} of {len(steps)} sets are shown here." if len(chosen) < len(steps) else ""
    folder = escape(str(Path(diary.pictures[0].picture).parent))
    parts = [f'<article>\n<h2>Samples</h2>\n<p class="soft">Drawn on the way, kept in {folder}.{left}</p>\n']
    for what, shown in groups.items():
        cells = "".join(_cell(diary, shown[step], step == best) for step in chosen if step in shown)
        how = next(iter(shown.values())).how
        parts.append(
            f'<section class="prompt"><p>{escape(what) or "(no words)"}</p><p class="soft">{escape(how)}</p>\n'
            f'<ol class="sheet">{cells}</ol></section>\n'
        )
    return "".join(parts) + "</article>\n"


def _chosen(steps: list[int], best: int | None) -> list[int]:
    """First, last and best, and of the others so many that they fit, evenly spread."""
    if len(steps) <= MOST:
        return steps
    even = {steps[round(n * (len(steps) - 1) / (MOST - 2))] for n in range(MOST - 1)}
    return sorted(even | ({best} & set(steps)))


def _cell(diary: MetricsLog, shown: LoggedSample, is_best: bool) -> str:
    path = diary.path.parent / shown.picture
    try:
        jpeg, (width, height) = _thumbnail(path, path.stat().st_mtime_ns)
    except (OSError, CalotypeError):  # the person threw it away: the rest of the page still is worth having
        return ""
    when = _when(diary, shown.step)
    mark = "<b>best</b>" if is_best else ""
    wide = ' class="wide"' if width >= 2 * height else ""
    return (
        f'<li{wide}><img src="{paper.data_uri(jpeg)}" width="{width}" height="{height}" '
        f'alt="{escape(shown.what)}, {escape(when)}">{escape(when)}{mark}</li>'
    )


@lru_cache(maxsize=1024)
def _thumbnail(path: Path, _changed: int) -> tuple[bytes, tuple[int, int]]:
    image = Image.fromarray(Picture.open(path).pixels)
    side = SIDE * max(1, round(image.width / image.height))  # pictures side by side: each as large as a single one
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=86, optimize=True)
    return file.getvalue(), image.size


def _plan(diary: MetricsLog) -> str:
    facts = diary.facts
    told = "".join(f"<li>{escape(str(line))}</li>" for line in _list(facts.get("plan")))
    about = _table(facts.get("about"))
    about += [("time", in_words(diary.last(SECONDS)))] if diary.numbers.get(SECONDS) else []
    about += [("memory", f"{facts['memory'] / 2**30:.1f} GiB at most")] if facts.get("memory") else []
    options, changed = _table(facts.get("options")), _list(facts.get("changed"))
    own = [(name, value) for name, value in options if name in changed]
    rest = [(name, value) for name, value in options if name not in changed]
    return f"""<article>
<h2>The plan</h2>
<ul class="plan">{told}</ul>
{paper.pairs(about)}
<h3>Options that were chosen</h3>
{paper.pairs(own) if own else '<p class="soft">none: everything is as Calotype has it by itself</p>'}
{paper.details(rest, "All other options")}
</article>
"""


def _list(value: Any) -> list[Any]:
    """What a diary on disk holds may be anything."""
    return value if isinstance(value, list) else []


def _table(value: Any) -> list[tuple[str, str]]:
    return [(str(k), str(v)) for k, v in value.items()] if isinstance(value, Mapping) else []
