"""What a war of forger and expert shows on its way: the same forgeries again and again, figures, verdicts, the film."""

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calotype.errors import CalotypeError, Message
from calotype.models.gan import Discriminator, Generator
from calotype.picture import Picture
from calotype.picture import video as film
from calotype.tasks import Note, Progress, TrainGan, note
from calotype.training.data.squares import Images
from calotype.training.gan.metrics import TOGETHER as LOOKED
from calotype.training.gan.metrics import Measure
from calotype.training.monitor import contact_sheet as contact
from calotype.training.monitor.monitor import Monitor

SHOWN, COLUMNS = 40, 8  # forgeries of a sheet
JUDGED = 8  # of each kind on the sheet of verdicts
LEAST_MEASURED, MEASURED = 64, 400  # forgeries that figures are taken of: as many as pictures, within these
TOGETHER = 32  # forgeries that are drawn at once, where a step has as many
ONE_SIDED = 300  # steps in a row in which the expert tells all apart, without doubt, before the war is called off
DOUBTLESS = 0.01  # the expert's loss below which it has no doubt left
SAME = 0.15  # diversity, as a share of the real pictures', below which forgeries are all alike
TWICE = 3  # snapshots in a row
FIGURES = {  # by the diary's names
    "frechet": "Fréchet distance/forgeries",
    "precision": "precision and recall/precision",
    "recall": "precision and recall/recall",
    "diversity": "diversity/forgeries, of the pictures'",
}
SHEET = re.compile(r"(verdicts-)?[0-9]{8}\.png")
FIRST, EACH, LAST = 0.6, 0.2, 3.0  # seconds of the film


def moments(steps: int, count: int) -> list[int]:
    """The steps after which forgeries are drawn: 0, closely at first, where most happens, and the last."""
    return sorted({round(steps * (n / (count - 1)) ** 1.5) for n in range(count)})


def _is_good(frechet: float, diversity: float) -> bool:
    return math.isfinite(frechet) and diversity >= SAME


class GanEvaluator:
    """Asked after every step. Nothing that it does changes what is learnt."""

    def __init__(
        self,
        task: TrainGan,
        watch: Monitor,
        forger: Generator,
        expert: Discriminator,
        gallery: Images,
        half: bool,
        keep: Callable[[str, int], Path],
    ):
        """Args: keep: writes the forger under a name, after so many steps."""
        self.task, self.watch, self.forger, self.expert = task, watch, forger, expert
        self.gallery, self.half, self._keep = gallery, half, keep
        self.moments = set(moments(task.steps, task.snapshots))
        chance = torch.Generator().manual_seed(task.seed)
        self.latents = torch.randn(
            min(MEASURED, max(LEAST_MEASURED, len(gallery))), forger.shape.latent, generator=chance
        )
        some = torch.randperm(len(gallery), generator=chance)
        self._measure = Measure(lambda: map(gallery.batch, some[:MEASURED].split(LOOKED)))
        self._judged = some[:JUDGED]

    @property
    def figures(self) -> dict[str, float]:
        """Of the last snapshot, also where that was before the run was stopped."""
        return {name: round(self.watch.metrics_log.last(told), 4) for name, told in FIGURES.items()}

    @property
    def last_good(self) -> int:
        """The step of the last snapshot whose forger was kept; 0 where none was."""
        told = (self.watch.metrics_log.numbers.get(FIGURES[name], ()) for name in ("frechet", "diversity"))
        good = (step for (step, d), (_, v) in zip(*told, strict=True) if _is_good(d, v) and step)
        return max(good, default=0)

    def changed(self, done: int) -> None:
        """Rate, gamma or length are others from this step on: what was before does not tell who wins."""
        self.watch.metrics_log.fact("changed after", done)

    @property
    def _since(self) -> int:
        return self.watch.metrics_log.facts.get("changed after", 0)

    @property
    def best(self) -> Message | None:
        """Which of the snapshots' forgers was best; None where none was kept."""
        name, step = (self.watch.metrics_log.facts.get(f"best {what}") for what in ("file", "step"))
        if not name:
            return None
        return Message(
            "by Fréchet distance the forger was best after step {step}: {path}",
            step=step,
            path=self.task.output_dir / name,
        )

    def cleared(self) -> None:
        """At the beginning: sheets of an earlier run go."""
        for path in self._folder.glob("*.png"):
            if SHEET.fullmatch(path.name):
                path.unlink()

    def after(self, done: int) -> Iterator[Progress | Note]:
        """What is due after `done` steps. Raises CalotypeError where one side has won."""
        self._check_expert(done)
        if done not in self.moments:
            return
        first, *others = self.latents.split(LOOKED)
        forged = self.drawn(first)
        figures = self._measure(itertools.chain([forged], map(self.drawn, others)))
        self.watch.log_metrics({told: getattr(figures, name) for name, told in FIGURES.items()})
        self._sheet(done, forged[:SHOWN])
        if done and _is_good(figures.frechet, figures.diversity):
            self._keep(self.task.output_name, done)
            if self._is_best(done):
                self.watch.log_best_file(self._keep(f"{self.task.output_name}-best", done))
        self._check_diversity(done)
        yield note(
            "step {step}: Fréchet distance {frechet:.3g}, precision {precision:.2f}, recall {recall:.2f}, "
            "diversity {diversity:.2f}",
            step=done,
            frechet=figures.frechet,
            precision=figures.precision,
            recall=figures.recall,
            diversity=figures.diversity,
        )

    @torch.no_grad()
    def drawn(self, latents: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], on the CPU."""
        device = next(self.forger.parameters()).device
        parts = latents.split(min(TOGETHER, self.task.train_batch_size))
        return torch.cat([self.forger(some.to(device)).float().cpu() for some in parts]).clamp(-1, 1)

    # ------------------------------------------------------------------ figures

    def _is_best(self, done: int) -> bool:
        return (self.watch.metrics_log.minimum("Fréchet distance/forgeries") or (done,))[0] == done

    def _check_expert(self, done: int) -> None:
        """The expert has won outright: nothing that the forger draws is taken for real, and it learns no more."""
        recent = self.watch.metrics_log.numbers.get("loss/current", ())[-ONE_SIDED:]
        losses = [value for step, value in recent if step > self._since]
        if len(losses) == ONE_SIDED and max(losses) < DOUBTLESS:
            raise CalotypeError(
                "the expert has won: for {count} steps, up to step {step}, it told every forgery apart; {remains}; the "
                "same command goes on with a higher {option:gamma} or a lower {option:learning_rate}; or begin anew "
                "with {option:augment} color,translation,cutout",
                count=ONE_SIDED,
                step=done,
                remains=self.remains(),
            )

    def _check_diversity(self, done: int) -> None:
        """Forgeries are all alike (mode collapse), and do not come apart again."""
        told = self.watch.metrics_log.numbers["diversity/forgeries, of the pictures'"]
        recent = [value for step, value in told if step > max(self.task.steps // 20, self._since)][-TWICE:]
        if len(recent) == TWICE and not any(value >= SAME for value in recent):
            raise CalotypeError(
                "the forger has collapsed: at step {step} its pictures are all alike, for the {count}rd snapshot in a "
                "row; {remains}; the same command goes on with a higher {option:gamma} or a lower "
                "{option:learning_rate}; or begin anew with more pictures",
                step=done,
                count=TWICE,
                remains=self.remains(),
            )

    def remains(self) -> Message:
        """What is kept of a run that failed, as a clause."""
        path = self.task.output_dir / f"{self.task.output_name}.safetensors"
        if path.is_file():
            return Message("the last good forger is kept as {path}", path=path)
        return Message("nothing good came of it")

    # ------------------------------------------------------------------ pictures

    @property
    def _folder(self) -> Path:
        return self.task.output_dir / f"{self.task.output_name}-snapshots"

    def _sheet(self, done: int, forged: Tensor) -> None:
        forged = contact.pixels_of(forged)
        sheet = contact.grid(forged, COLUMNS)
        path = self._folder / f"{done:08d}.png"
        contact.save_png(sheet, path)
        what = "the same forgeries at every snapshot"
        self.watch.log_sample(path, what, f"seed {self.task.seed}, running mean", sheet, 0)
        real = self.gallery.batch(self._judged)
        judged = contact.score_sheet(contact.pixels_of(real), forged[:JUDGED], self._marks(real, done))
        path = self._folder / f"verdicts-{done:08d}.png"
        contact.save_png(judged, path)
        what = "the expert's verdicts on pictures and forgeries"
        self.watch.log_sample(path, what, "how likely each is real, beside the mean of the other kind", judged, 1)

    @torch.no_grad()
    def _marks(self, real: Tensor, done: int) -> tuple[list[float], list[float]]:
        """The expert compares: each picture with all forgeries, each forgery with all pictures; 0 to 1."""
        device = next(self.expert.parameters()).device
        forged = self.drawn(self.latents[:JUDGED])
        one, other = (self.expert(x.to(device)).float().cpu() for x in (real, forged))
        return tuple(torch.sigmoid(a[:, None] - b[None]).mean(1).tolist() for a, b in ((one, other), (other, one)))

    # ------------------------------------------------------------------ the film

    def filmed(self) -> Iterator[Progress | Note]:
        """The timeline film from the sheets of all snapshots; returns where it lies."""
        told = dict(self.watch.metrics_log.numbers.get("Fréchet distance/forgeries", ()))
        steps = [step for step in sorted(told) if (self._folder / f"{step:08d}.png").is_file()]
        made = {self.task.output_dir / f"{self.task.output_name}.gif": film.gif}
        if film.can_mp4():
            made[self.task.output_dir / f"{self.task.output_name}.mp4"] = film.mp4
        else:
            yield note(film.missing())
        with contextlib.ExitStack() as films:
            shown = [films.enter_context(begun(path)) for path, begun in made.items()]
            for n, step in enumerate(steps, 1):
                frame, seconds = self._frame(step, told[step]), LAST if n == len(steps) else FIRST if n == 1 else EACH
                for show in shown:
                    show(frame, seconds)
                yield Progress(n, len(steps), "frames")
        return tuple(made)

    def _frame(self, step: int, distance: float) -> np.ndarray:
        total = self.task.steps
        seen = step * self.task.train_batch_size
        told = f"Frechet distance {distance:.3g}"  # the font has no é
        caption = f"step {step:,} of {total:,}  ·  {seen:,} pictures seen  ·  {told}"
        return contact.film_frame(Picture.open(self._folder / f"{step:08d}.png").pixels, caption, step / total)
