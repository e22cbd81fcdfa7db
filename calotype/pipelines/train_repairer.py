"""Training of a network that finds scratches, hairs and dust: the loop, in plain sight."""

import contextlib
import copy
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_network import load
from calotype.errors import CalotypeError, Message, plural
from calotype.files import check_folder, make_folder, run_lock, write_atomic
from calotype.models.network import is_mixed
from calotype.models.repairer import Repairer, saved_state
from calotype.ops.color import to_pixels, to_uint8_rgb
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, note
from calotype.tasks.training_repair import TrainRepairer
from calotype.training.data.dataset import split_validation
from calotype.training.data.patches import HighRes, open_images
from calotype.training.monitor.monitor import SECONDS, Monitor, option_facts, tensorboard_folder
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.repair.losses import Figures, repair_loss
from calotype.training.repair.pairs import Pairs, make_pairs
from calotype.training.run.fingerprint import Fingerprint, hashed_options
from calotype.training.run.result import TrainResult
from calotype.training.run.resume import load_optimizer, state_path, weights_under
from calotype.training.run.trainer_state import Snapshot, TrainerState

WARMUP = 100  # steps
FINAL_RATE = 0.01  # of the learning rate, as a fraction of the first
WEIGHT_DECAY, MAX_GRAD_NORM = 1e-2, 1.0
TESTS = 48  # validation patches
SHOWN = 4  # of them in a sample picture
UNHASHED = ("output_dir", "output_name", "photos", "model", "save_state_every", "save_state", "dry_run")
FREE = ("learning_rate", "max_train_steps", "minutes", "validation_split", "validate_every")


def train_repairer(task: TrainRepairer, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: no photos, a network or another run of that name, a state that does not fit, no room on disk, a
            loss that is NaN.
    """
    _check_free(task)
    torch.manual_seed(task.seed)  # of new weights; later randomness comes from the seed and the step
    network, name, sha256 = _network(task, models)
    photos: list[HighRes] = []
    for event in open_images(task.photos, models.settings.max_pixels, task.output_dir):
        if isinstance(event, HighRes):
            photos.append(event)
        else:
            yield event
    training, validation = split_validation(tuple(photos), task.validation_split if len(photos) > 1 else 0.0, task.seed)
    logs, notes = tensorboard_folder(task)
    run = RepairRun(task, network, (training, validation), models.device, [name, sha256], logs)
    yield from map(note, [*notes, *run.plan])
    if task.dry_run:
        return
    with run_lock(task.output_dir, task.output_name):
        _check_free(task)  # a run may have ended meanwhile
        yield from run.train()


def _check_free(task: TrainRepairer) -> None:
    """Raises CalotypeError if a finished run has left a file of this name, and there is no state to resume from."""
    check_folder(task.output_dir)
    path = _result_path(task)
    if os.path.exists(path) and not os.path.exists(state_path(task)):
        raise CalotypeError(
            "{path} is there already, from a run that ended; give another {option:output_name}", path=path
        )


def _result_path(task: TrainRepairer) -> Path:
    return task.output_dir / f"{task.output_name}.safetensors"


def _network(task: TrainRepairer, models: Models) -> tuple[Repairer, str, str]:
    """The network to train, its name, and the sha256 of its file."""
    if task.model == "none":
        return Repairer(task.widths), f"new network, {task.channels} channels", ""
    loaded = load(models.store.find(task.model, kind="repair"))
    if not isinstance(loaded.module, Repairer):
        raise CalotypeError(
            "{model} is no network that finds scratches; give such a one, or none", option="model", model=loaded.name
        )
    return loaded.module, loaded.name, loaded.sha256


class RepairRun:
    """One run."""

    def __init__(
        self,
        task: TrainRepairer,
        network: Repairer,
        photos: tuple[Sequence[HighRes], Sequence[HighRes]],
        device: torch.device,
        origin: Sequence[str],
        logs: Path | None,
    ):
        """Args:
        photos: to train on, and for validation.
        origin: the network's name and sha256.
        """
        self.task, self.device, self.origin, self.logs = task, device, origin, logs
        self.training, self.validation = photos
        self.areas = {photo.path: math.prod(photo.pixels.shape[:2]) for photo in (*self.training, *self.validation)}
        self.is_mixed = is_mixed(task.mixed_precision, device)
        placed = {"device": device, "memory_format": torch.channels_last}
        self.network = network.float().to(**placed).train().requires_grad_(True)
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), task.learning_rate, weight_decay=WEIGHT_DECAY)
        self.state = TrainerState(task, self._fingerprint, self._snapshot)

    @property
    def plan(self) -> list[Message]:
        parameters = sum(p.numel() for p in self.network.parameters())
        return [
            Message(
                "{pictures} to train on, {validation} for validation",
                pictures=plural(len(self.training), "1 picture", "{count} pictures"),
                validation=len(self.validation),
            ),
            Message(
                "{network}: {millions:.1f} million trainable parameters",
                network=self.origin[0],
                millions=parameters / 1e6,
            ),
            Message(
                "{steps}; batches of {patches} of {side} pixels",
                steps=plural(self.task.max_train_steps, "1 step", "{count} steps"),
                patches=plural(self.task.train_batch_size, "1 patch", "{count} patches"),
                side=self.task.patch_size,
            ),
        ]

    # ------------------------------------------------------------------ the loop

    def train(self) -> Iterator[Progress | Note | TrainResult]:
        task, state, total = self.task, self.state, self.task.max_train_steps
        if found := state.load():
            state.check_length(found.file, total)
            self._load(found.file.weights)
            load_optimizer(self.optimizer, found.file.optimizer)
            state.resume(found.file)
            yield note(state.resumed_message(total))
        about = {"computed": f"on {self.device.type}, in {'bfloat16 mixed precision' if self.is_mixed else 'float32'}"}
        facts = {"plan": list(map(str, self.plan)), "about": about, **option_facts(task)}
        monitor = Monitor(task.output_dir, task.output_name, (state.step, total, 0), self.device, facts, self.logs)
        try:
            with state.saved_on_interrupt():
                if not state.is_complete:
                    yield from self._evaluate(monitor)
                    state.is_complete = True
                for step in range(state.step, total):
                    progress = self._progress(step, monitor)
                    with state.update():
                        rate = self._rate(step, progress)
                        loss = self._step(step, rate, progress)
                        is_evaluated = (step + 1) % task.validate_every == 0 or step + 1 == total
                        state.count(loss, is_complete=not is_evaluated)
                        event = monitor.log_step(state.step, loss, {"network": rate})
                    if state.is_diverged:
                        raise CalotypeError(
                            "the loss is NaN since step {step}: the rate {rate:g} is too high; give a lower "
                            "{option:learning_rate}",
                            step=state.first_nonfinite,
                            rate=task.learning_rate,
                        )
                    yield event
                    if not state.is_complete:
                        yield from self._evaluate(monitor)
                        state.is_complete = True
                    state.save_if_due(total)
                    if progress >= 1:
                        yield note(
                            "the {minutes:g} minutes are over after {steps} of {total} steps",
                            minutes=task.minutes,
                            steps=state.step,
                            total=total,
                        )
                        break
                if task.save_state:
                    state.save()
                path = self._save()
                monitor.finish()
        finally:
            monitor.close()
        state.close(keep=task.save_state)
        yield note("report: {path}", path=monitor.path)
        yield TrainResult(path, tuple(state.losses), len(self.training), monitor.path)

    def _progress(self, step: int, monitor: Monitor) -> float:
        """Of the run, 0 to 1: by its steps, or by its time where that is limited and further."""
        by_steps = step / self.task.max_train_steps
        if not self.task.minutes:
            return by_steps
        return min(1.0, max(by_steps, monitor.metrics_log.last(SECONDS, 0.0) / (60 * self.task.minutes)))

    def _rate(self, step: int, progress: float) -> float:
        falling = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.task.learning_rate * min(1.0, (step + 1) / WARMUP) * falling

    def _step(self, step: int, rate: float, progress: float) -> float:
        """One update of the weights, unless the gradient is NaN. All randomness comes from the seed and the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pairs = self._pairs(self.training, f"{self.task.seed} {step}", self.task.train_batch_size)
        taught = progress if self.task.model == "none" else 1.0
        loss = repair_loss(self._logits(self.network, pairs.marked), pairs, taught)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRAD_NORM)
        if not torch.isfinite(norm):
            return math.nan
        self.optimizer.step()
        decay = ema_decay_at(self.task.ema_decay, step)
        update_ema(self.ema, self.network, decay)
        _update_statistics(self.ema, self.network, decay)
        return float(loss.detach())

    def _pairs(self, photos: Sequence[HighRes], seed: str, count: int) -> Pairs:
        """Of parts of the photos that are all equally likely: a large photo is chosen more often."""
        areas = [self.areas[photo.path] for photo in photos]

        def pick(rng: random.Random) -> np.ndarray:
            return to_uint8_rgb(rng.choices(photos, areas)[0].pixels)

        return make_pairs(pick, count, self.task.patch_size, seed).to(self.device)

    def _logits(self, network: nn.Module, marked: Tensor) -> Tensor:
        x = marked.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16) if self.is_mixed else contextlib.nullcontext():
            return network(x).float()

    # ------------------------------------------------------------------ validation

    @cached_property
    def tests(self) -> list[Pairs]:
        photos = self.validation or self.training
        count = self.task.train_batch_size
        return [self._pairs(photos, f"validation {n}", count) for n in range(math.ceil(TESTS / count))]

    @torch.no_grad()
    def _evaluate(self, monitor: Monitor) -> Iterator[Progress | Note]:
        figures, shown = Figures(), []
        for pairs in self.tests:
            logits = self._logits(self.ema, pairs.marked)
            figures.add(logits, pairs)
            shown = shown or [pairs.marked, *(x.expand(-1, 3, -1, -1) for x in (logits.sigmoid(), pairs.mask))]
        monitor.log_metrics({"Marks/precision": figures.precision, "Marks/recall": figures.recall})
        yield note(
            "step {step}: precision {precision:.2f}, recall {recall:.2f} of what is damaged",
            step=self.state.step,
            precision=figures.precision,
            recall=figures.recall,
        )
        yield monitor.sampled([self._write_sample(monitor, shown)])
        monitor.write_report()

    def _write_sample(self, monitor: Monitor, rows: Sequence[Tensor]) -> np.ndarray:
        """Damaged patches, where the network finds marks, and where they are, below each other."""
        sheet = torch.cat([torch.cat(list(row[:SHOWN].cpu()), 2) for row in rows], 1)
        pixels = to_pixels(sheet, like=np.empty((1, 1, 3), np.uint8))
        folder = self.task.output_dir / "sample"
        make_folder(folder)
        path = folder / f"{self.task.output_name}_{self.state.step:06d}_00.png"
        save(Picture(pixels), path, format="png")
        monitor.log_sample(path, "validation", "damaged, found, true", pixels, 0)
        return pixels

    # ------------------------------------------------------------------ files

    def _save(self) -> Path:
        state = {key: value.detach().cpu().contiguous() for key, value in saved_state(self.ema).items()}
        facts = {"trained on": self.origin[0], "steps": self.state.step, "by": f"Calotype {__version__}"}
        make_folder(self.task.output_dir)
        path = _result_path(self.task)
        write_atomic(path, serialize(state, {"calotype": json.dumps(facts)}))
        return path

    def _fingerprint(self) -> Fingerprint:
        options = {k: v for k, v in hashed_options(self.task, UNHASHED).items() if not k.startswith("log")}
        hashes = [photo.sha256 for photo in self.training]
        return Fingerprint(options, [hashes, self.origin[1], self.is_mixed], FREE)

    def _snapshot(self) -> Snapshot | None:
        weights = {
            f"{name}.{key}": value
            for name, network in (("network", self.network), ("mean", self.ema))
            for key, value in network.state_dict().items()
        }
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            return None
        return Snapshot(weights, self.optimizer.state_dict())

    def _load(self, weights: dict[str, Tensor]) -> None:
        try:
            self.network.load_state_dict(weights_under(weights, "network"))
            self.ema.load_state_dict(weights_under(weights, "mean"))
        except (RuntimeError, KeyError):
            raise CalotypeError(
                "{where} is the state of other networks; delete it to begin anew", where=self.state.path
            ) from None


def _update_statistics(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Averages the statistics of the normalisation as `update_ema` does weights."""
    for mean, own in zip(ema.buffers(), network.buffers(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(own, 1 - decay)
        else:
            mean.copy_(own)
