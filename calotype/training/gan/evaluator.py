"""Evaluation of a GAN during training: snapshots from fixed latents, metrics, discriminator scores, the film."""

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
from calotype.training.gan.metrics import BATCH_SIZE as FEATURE_BATCH
from calotype.training.gan.metrics import GanMetrics
from calotype.training.monitor import contact_sheet as contact
from calotype.training.monitor.monitor import Monitor

SHEET_SIZE, COLUMNS = 40, 8  # generated pictures of a sheet
SCORED = 8  # real and generated pictures on the sheet of scores
MIN_SAMPLES, MAX_SAMPLES = 64, 400  # generated pictures for the metrics: as many as real ones, within this range
BATCH_SIZE = 32  # max pictures generated at once, but not more than in a training step
UNBALANCED_STEPS = 300  # consecutive steps with a discriminator loss below MIN_LOSS that end the run
MIN_LOSS = 0.01  # discriminator loss below which the generator gets no useful gradients
MIN_DIVERSITY = 0.15  # relative to that of the real pictures; below it the generator has collapsed
COLLAPSED_SNAPSHOTS = 3  # consecutive snapshots
METRIC_NAMES = {  # names in the metrics log
    "frechet": "Fréchet distance/forgeries",
    "precision": "precision and recall/precision",
    "recall": "precision and recall/recall",
    "diversity": "diversity/forgeries, of the pictures'",
}
SHEET = re.compile(r"(verdicts-)?[0-9]{8}\.png")
FIRST_FRAME, EACH_FRAME, LAST_FRAME = 0.6, 0.2, 3.0  # seconds of the film


def snapshot_steps(steps: int, count: int) -> list[int]:
    """The steps with a snapshot, denser at the beginning; 0 and the last step are included."""
    return sorted({round(steps * (n / (count - 1)) ** 1.5) for n in range(count)})


def _is_good(frechet: float, diversity: float) -> bool:
    return math.isfinite(frechet) and diversity >= MIN_DIVERSITY


class GanEvaluator:
    """Called after every step; it never changes the training."""

    def __init__(
        self,
        task: TrainGan,
        monitor: Monitor,
        generator: Generator,
        discriminator: Discriminator,
        images: Images,
        half: bool,
        save_generator: Callable[[str, int], Path],
    ):
        """Args: save_generator: saves the generator under a name, with its number of steps."""
        self.task, self.monitor, self.generator, self.discriminator = task, monitor, generator, discriminator
        self.images, self.half, self._save_generator = images, half, save_generator
        self.snapshot_steps = set(snapshot_steps(task.steps, task.snapshots))
        rng = torch.Generator().manual_seed(task.seed)
        self.latents = torch.randn(
            min(MAX_SAMPLES, max(MIN_SAMPLES, len(images))), generator.shape.latent, generator=rng
        )
        order = torch.randperm(len(images), generator=rng)
        self._compute_metrics = GanMetrics(lambda: map(images.batch, order[:MAX_SAMPLES].split(FEATURE_BATCH)))
        self._scored = order[:SCORED]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last snapshot, also of an earlier part of a resumed run."""
        return {name: round(self.monitor.metrics_log.last(logged), 4) for name, logged in METRIC_NAMES.items()}

    @property
    def last_good(self) -> int:
        """The step of the last snapshot whose generator was saved; 0 if none."""
        series = (self.monitor.metrics_log.numbers.get(METRIC_NAMES[name], ()) for name in ("frechet", "diversity"))
        steps = (step for (step, d), (_, v) in zip(*series, strict=True) if _is_good(d, v) and step)
        return max(steps, default=0)

    def mark_changed(self, done: int) -> None:
        """Learning rate, gamma or length change at this step: checks for failure ignore earlier steps."""
        self.monitor.metrics_log.fact("changed after", done)

    @property
    def _since(self) -> int:
        return self.monitor.metrics_log.facts.get("changed after", 0)

    @property
    def best(self) -> Message | None:
        """A note about the best snapshot; None if none was saved."""
        name, step = (self.monitor.metrics_log.facts.get(f"best {fact}") for fact in ("file", "step"))
        if not name:
            return None
        return Message(
            "the generator with the lowest Fréchet distance, of step {step}, is saved as {path}",
            step=step,
            path=self.task.output_dir / name,
        )

    def delete_sheets(self) -> None:
        """Deletes the sheets of an earlier run."""
        for path in self._folder.glob("*.png"):
            if SHEET.fullmatch(path.name):
                path.unlink()

    def evaluate(self, done: int) -> Iterator[Progress | Note]:
        """Evaluates after `done` steps. Raises CalotypeError if training has failed."""
        self._check_discriminator(done)
        if done not in self.snapshot_steps:
            return
        first, *more = self.latents.split(FEATURE_BATCH)
        fake = self.sample(first)
        metrics = self._compute_metrics(itertools.chain([fake], map(self.sample, more)))
        self.monitor.log_metrics({logged: getattr(metrics, name) for name, logged in METRIC_NAMES.items()})
        yield self.monitor.sampled([self._save_sheets(done, fake[:SHEET_SIZE])])
        if done and _is_good(metrics.frechet, metrics.diversity):
            self._save_generator(self.task.output_name, done)
            if self._is_best(done):
                self.monitor.log_best_file(self._save_generator(f"{self.task.output_name}-best", done))
        self._check_diversity(done)
        yield note(
            "step {step}: Fréchet distance {frechet:.3g}, precision {precision:.2f}, recall {recall:.2f}, "
            "diversity {diversity:.2f}",
            step=done,
            frechet=metrics.frechet,
            precision=metrics.precision,
            recall=metrics.recall,
            diversity=metrics.diversity,
        )

    @torch.no_grad()
    def sample(self, latents: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], on the CPU."""
        device = next(self.generator.parameters()).device
        batches = latents.split(min(BATCH_SIZE, self.task.train_batch_size))
        return torch.cat([self.generator(batch.to(device)).float().cpu() for batch in batches]).clamp(-1, 1)

    # ------------------------------------------------------------------ metrics

    def _is_best(self, done: int) -> bool:
        return (self.monitor.metrics_log.minimum("Fréchet distance/forgeries") or (done,))[0] == done

    def _check_discriminator(self, done: int) -> None:
        """Raises CalotypeError if the discriminator has won, so that the generator does not learn any more."""
        recent = self.monitor.metrics_log.numbers.get("loss/current", ())[-UNBALANCED_STEPS:]
        losses = [value for step, value in recent if step > self._since]
        if len(losses) == UNBALANCED_STEPS and max(losses) < MIN_LOSS:
            raise CalotypeError(
                "the discriminator has won: for {count} steps, up to step {step}, it recognized every generated "
                "picture; {remains}; resume by the same command with a higher {option:gamma} or a lower "
                "{option:learning_rate}, or start a new run with {option:augment} color,translation,cutout",
                count=UNBALANCED_STEPS,
                step=done,
                remains=self.remains(),
            )

    def _check_diversity(self, done: int) -> None:
        """Raises CalotypeError if the generated pictures stay all alike (mode collapse)."""
        series = self.monitor.metrics_log.numbers["diversity/forgeries, of the pictures'"]
        recent = [value for step, value in series if step > max(self.task.steps // 20, self._since)][
            -COLLAPSED_SNAPSHOTS:
        ]
        if len(recent) == COLLAPSED_SNAPSHOTS and not any(value >= MIN_DIVERSITY for value in recent):
            raise CalotypeError(
                "the generator has collapsed: at step {step} its pictures are all alike, for the {count}rd snapshot in "
                "a row; {remains}; resume by the same command with a higher {option:gamma} or a lower "
                "{option:learning_rate}, or start a new run with more pictures",
                step=done,
                count=COLLAPSED_SNAPSHOTS,
                remains=self.remains(),
            )

    def remains(self) -> Message:
        """A clause about the saved weights of a failed run."""
        path = self.task.output_dir / f"{self.task.output_name}.safetensors"
        if path.is_file():
            return Message("the last good generator is saved as {path}", path=path)
        return Message("no good generator was saved")

    # ------------------------------------------------------------------ pictures

    @property
    def _folder(self) -> Path:
        return self.task.output_dir / f"{self.task.output_name}-snapshots"

    def _save_sheets(self, done: int, fake: Tensor) -> np.ndarray:
        """Saves the sheet of generated pictures, and that of scores; returns the first."""
        fake = contact.pixels_of(fake)
        sheet = contact.grid(fake, COLUMNS)
        path = self._folder / f"{done:08d}.png"
        contact.save_png(sheet, path)
        what = "images generated from the same latents at every snapshot"
        self.monitor.log_sample(path, what, f"seed {self.task.seed}, running mean", sheet, 0)
        real = self.images.batch(self._scored)
        scored = contact.score_sheet(contact.pixels_of(real), fake[:SCORED], self._scores(real, done))
        path = self._folder / f"verdicts-{done:08d}.png"
        contact.save_png(scored, path)
        what = "the discriminator's outputs on real and generated images"
        self.monitor.log_sample(path, what, "how likely each is real, beside the mean of the other kind", scored, 1)
        return sheet

    @torch.no_grad()
    def _scores(self, real: Tensor, done: int) -> tuple[list[float], list[float]]:
        """The discriminator's scores, relative to all pictures of the other kind, 0 to 1."""
        device = next(self.discriminator.parameters()).device
        fake = self.sample(self.latents[:SCORED])
        real_logits, fake_logits = (self.discriminator(x.to(device)).float().cpu() for x in (real, fake))
        return tuple(
            torch.sigmoid(a[:, None] - b[None]).mean(1).tolist()
            for a, b in ((real_logits, fake_logits), (fake_logits, real_logits))
        )

    # ------------------------------------------------------------------ the film

    def write_films(self) -> Iterator[Progress | Note]:
        """Writes the timeline film from the sheets of all snapshots; returns its paths."""
        distances = dict(self.monitor.metrics_log.numbers.get("Fréchet distance/forgeries", ()))
        steps = [step for step in sorted(distances) if (self._folder / f"{step:08d}.png").is_file()]
        writers = {self.task.output_dir / f"{self.task.output_name}.gif": film.gif}
        if film.can_mp4():
            writers[self.task.output_dir / f"{self.task.output_name}.mp4"] = film.mp4
        else:
            yield note(film.missing())
        with contextlib.ExitStack() as films:
            open_films = [films.enter_context(open_film(path)) for path, open_film in writers.items()]
            for n, step in enumerate(steps, 1):
                frame, seconds = (
                    self._frame(step, distances[step]),
                    LAST_FRAME if n == len(steps) else FIRST_FRAME if n == 1 else EACH_FRAME,
                )
                for add_frame in open_films:
                    add_frame(frame, seconds)
                yield Progress(n, len(steps), "frames")
        return tuple(writers)

    def _frame(self, step: int, distance: float) -> np.ndarray:
        total = self.task.steps
        image_count = step * self.task.train_batch_size
        metric = f"Frechet distance {distance:.3g}"  # the font has no é
        caption = f"step {step:,} of {total:,}  ·  {image_count:,} pictures seen  ·  {metric}"
        return contact.film_frame(Picture.open(self._folder / f"{step:08d}.png").pixels, caption, step / total)
