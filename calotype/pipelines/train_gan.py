"""Training of a GAN: the loop, in plain sight. R3GAN (Huang et al., NeurIPS 2024), see models/gan.py."""

import copy
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints import open_gan as gan
from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError, Message, duration, listed
from calotype.files import check_folder, make_folder, run_lock
from calotype.models.gan import Discriminator, Generator, Shape
from calotype.models.network import is_bfloat16_quick
from calotype.tasks import Note, Progress, TrainGan, note
from calotype.training.data.squares import Images, of_demo, of_folder
from calotype.training.gan.evaluator import GanEvaluator
from calotype.training.gan.losses import (
    augment,
    discriminator_loss,
    ema_decay,
    generator_loss,
    gradient_penalty,
    parse_augmentations,
    random_flip,
)
from calotype.training.monitor.monitor import Monitor, memory_in_use, option_facts, peak_memory, tensorboard_folder
from calotype.training.optim.ema import update_ema
from calotype.training.optim.grad_scale import all_finite
from calotype.training.run.estimate import gibibytes
from calotype.training.run.fingerprint import Fingerprint, hashed_options
from calotype.training.run.result import TrainResult
from calotype.training.run.resume import load_optimizer, state_path, weights_under
from calotype.training.run.trainer_state import Snapshot, TrainerState

GAMMA = 10.0  # at 64 pixels; at 2, R3GAN's for large sets, the discriminator of a small set outruns the generator
MAX_SMALL_CHANNELS = 128  # of networks so small that threads lose more by waiting for each other than they gain
FEW_IMAGES = 5000  # below which the discriminator would overfit without augmentation
FINAL_RATE = 0.1  # of learning rate and penalty, as fractions of the initial ones
UNHASHED = ("output_dir", "output_name", "photos", "snapshots", "save_state_every", "save_state", "dry_run")  # and logs
FREE = ("learning_rate", "gamma", "max_train_steps")  # may differ when a run is resumed


def train_gan(task: TrainGan, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: too few pictures, a generator or another run of that name, a state that does not fit, no room
            on disk, a loss that is NaN, or a training in which one network has won.
    """
    _check_free(task)
    images = None
    for event in _images(task, models):
        if isinstance(event, Images):
            images = event
        else:
            yield event
    logs, notes = tensorboard_folder(task)
    yield from map(note, notes)
    run = GanRun(task, images, models.device, logs)
    threads = torch.get_num_threads()
    is_small = max(run.generator.shape.widths) <= MAX_SMALL_CHANNELS
    try:
        if models.device.type == "cpu" and not models.settings.threads and is_small:
            torch.set_num_threads(1)
        if task.dry_run:
            yield from run.estimate(models.free_memory(models.device))
            return
        with run_lock(task.output_dir, task.output_name):
            _check_free(task)  # a run may have ended meanwhile
            yield from run.train()
    finally:
        torch.set_num_threads(threads)


def _images(task: TrainGan, models: Models) -> Iterator[Progress | Note | Images]:
    if task.demo:
        yield of_demo(task.resolution)
        return
    free = models.free_memory(torch.device("cpu"))
    yield from of_folder(task.photos, task.resolution, free, models.settings.max_pixels, task.output_dir)


def _check_free(task: TrainGan) -> None:
    """Raises CalotypeError if a finished run has left files of this name, and there is no state to resume from."""
    check_folder(task.output_dir)
    names = [f"{task.output_name}{end}" for end in (".safetensors", "-best.safetensors", ".gif", ".mp4")]
    found = [name for name in names if os.path.exists(task.output_dir / name)]  # also of names that cannot exist
    if not found or state_path(task).exists():
        return
    if len(found) == 1:
        raise CalotypeError(
            "{folder} holds {name} of an earlier run; give another {option:output_name}, or delete it",
            folder=task.output_dir,
            name=found[0],
        )
    raise CalotypeError(
        "{folder} holds {names} of an earlier run; give another {option:output_name}, or delete them",
        folder=task.output_dir,
        names=listed(found, " and "),
    )


class GanRun:
    """One run."""

    def __init__(self, task: TrainGan, images: Images, device: torch.device, logs: Path | None):
        self.task, self.images, self.device, self.logs = task, images, device, logs
        self.is_bfloat16 = uses_bfloat16(task, device)
        self.gamma = task.gamma or GAMMA * (task.resolution / 64) ** 2
        self.augment = parse_augmentations(task.augment) if task.augment != "auto" else self._default_augmentations()
        self.penalty_count = max(1, round(task.train_batch_size * task.penalty_share))
        torch.manual_seed(task.seed)  # of the initial weights
        shape = Shape.preset(task.resolution, task.channels)
        self.generator, self.discriminator = (_placed(network(shape), device) for network in (Generator, Discriminator))
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        groups = [{"params": list(network.parameters())} for network in (self.generator, self.discriminator)]
        self.optimizer = torch.optim.Adam(groups, lr=task.learning_rate, betas=(0.0, 0.99), fused=device.type != "mps")
        self.state = TrainerState(task, self._fingerprint, self._snapshot)

    def _default_augmentations(self) -> list[str]:
        if self.task.demo:  # with colours it would take longer
            return ["translation"]
        return ["color", "translation"] if len(self.images) < FEW_IMAGES else []

    # ------------------------------------------------------------------ the loop

    def train(self) -> Iterator[Progress | Note | TrainResult]:
        task, state = self.task, self.state
        resumed = self._resume()
        plan = list(self._plan())
        yield from map(note, resumed or plan)
        monitor = self._monitor(plan)
        evaluator = GanEvaluator(
            task, monitor, self.ema, self.discriminator, self.images, self.is_bfloat16, self._save_snapshot
        )
        if state.step and self.is_changed:
            evaluator.mark_changed(state.step)
        try:
            with state.saved_on_interrupt():
                if state.step == 0:
                    evaluator.delete_sheets()
                    yield from evaluator.evaluate(0)
                elif not state.is_complete:
                    yield from evaluator.evaluate(state.step)
                    state.is_complete = True
                for step in range(state.step, task.steps):
                    with state.update():
                        metrics, is_finite = self._step(step)
                        state.count(is_finite=is_finite)
                        rates = {"both": self.optimizer.param_groups[0]["lr"]}
                        event = monitor.log_step(state.step, **metrics, lrs=rates)
                    if state.is_diverged:
                        raise self._diverged(evaluator)
                    yield event
                    yield from evaluator.evaluate(state.step)
                    state.is_complete = True
                    state.save_if_due(task.steps)
                film = yield from evaluator.write_films()
                path, warning = self._finish(evaluator)
                yield from map(note, filter(None, (warning, evaluator.best)))
                if task.save_state:
                    state.save()
                monitor.finish()
        finally:
            monitor.close()
        state.close(keep=task.save_state)
        if task.save_state:
            yield note("{path} is kept: the same command learns on with more {option:max_train_steps}", path=state.path)
        yield note("report: {path}", path=monitor.path)
        extra = {"film": [str(path) for path in film], **evaluator.metrics}
        yield TrainResult(path, (), len(self.images), monitor.path, extra)

    def _diverged(self, evaluator: GanEvaluator) -> CalotypeError:
        values = {"step": self.state.first_nonfinite, "remains": evaluator.remains()}
        if not self.is_bfloat16:
            return CalotypeError(
                "the loss or its gradients are NaN since step {step}; {remains}; the same command goes on with "
                "a lower {option:learning_rate} or a higher {option:gamma}",
                **values,
            )
        return CalotypeError(
            "the loss or its gradients are NaN since step {step}; {remains}; the same command goes on with a "
            "lower {option:learning_rate} or a higher {option:gamma}, or begin anew with {option:mixed_precision} no",
            **values,
        )

    def _finish(self, evaluator: GanEvaluator) -> tuple[Path, Message | None]:
        """Saves the generator; returns its file, and a message if it is not the generator of the last step."""
        name = self.task.output_name
        path = self.task.output_dir / f"{name}.safetensors"
        if evaluator.last_good == self.task.steps:
            return self._save_generator(name, self.task.steps), None
        if evaluator.last_good and path.is_file():
            return path, Message(
                "at the end the generated pictures are all alike; {path} is the last good generator, of step {step}; "
                "raise {option:gamma}, lower {option:learning_rate} or add pictures",
                path=path,
                step=evaluator.last_good,
            )
        path = self._save_generator(name, self.task.steps)
        return path, Message(
            "the generated pictures have been all alike at every snapshot; {path} is the generator of the last step",
            path=path,
        )

    def _step(self, step: int) -> tuple[dict[str, float], bool]:
        """Trains the discriminator, then the generator. All randomness comes from the seed and the step.

        Returns:
            the metrics, with the discriminator's `loss`; whether all losses and gradients are finite.
        """
        task, count = self.task, self.task.train_batch_size
        generator = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
        rng = random.Random(f"{task.seed} {step}")
        factor = 1 - (1 - FINAL_RATE) * step / task.steps
        for group in self.optimizer.param_groups:
            group["lr"] = task.learning_rate * factor

        self.discriminator.requires_grad_(True)
        both = augment(torch.cat([self._real(generator, rng), self._fake(generator)]), self.augment, generator)
        with self._autocast():
            logits = self.discriminator(both)
        real, fake = logits.float().chunk(2)
        n = self.penalty_count
        penalized = torch.cat([both[:n], both[count : count + n]])
        slope = gradient_penalty(self.discriminator, penalized)  # R1 and R2
        loss = discriminator_loss(real, fake)
        is_finite = self._update(self.discriminator, loss + self.gamma * factor * slope)
        metrics = {
            "loss": loss.item(),
            "realness/pictures": real.mean().item(),
            "realness/forgeries": fake.mean().item(),
            "told apart/pairs": float((real > fake).float().mean()),
        }

        self.discriminator.requires_grad_(False)
        real = self._real(generator, rng)
        fake = self._fake(generator, requires_grad=True)
        with self._autocast():
            logits = self.discriminator(augment(torch.cat([real, fake]), self.augment, generator))
        loss = generator_loss(*logits.float().chunk(2))
        is_finite = self._update(self.generator, loss) and is_finite
        update_ema(self.ema, self.generator, ema_decay(int(task.ema_kimg * 1000), count, (step + 1) * count))
        metrics |= {"loss/forger": loss.item(), "penalty/mean squared slope": slope.item()}
        return metrics, is_finite

    def _real(self, generator: torch.Generator, rng: random.Random) -> Tensor:
        indices = torch.randint(0, len(self.images), (self.task.train_batch_size,), generator=generator)
        x = self.images.batch(indices).to(self.device)
        return random_flip(x, rng) if self.task.flip_aug else x

    def _fake(self, generator: torch.Generator, requires_grad: bool = False) -> Tensor:
        size = (self.task.train_batch_size, self.generator.shape.latent)
        latents = torch.randn(*size, generator=generator).to(self.device)
        with torch.set_grad_enabled(requires_grad), self._autocast():
            return self.generator(latents).float()

    def _update(self, network: nn.Module, loss: Tensor) -> bool:
        """Updates the weights unless the loss, its gradients or their squares, which Adam keeps, are not finite."""
        is_finite = math.isfinite(loss.item())
        if is_finite:
            loss.backward()
            is_finite = all_finite([p.grad for p in network.parameters() if p.grad is not None], power=2)
        if is_finite:
            self.optimizer.step()  # only the network that has gradients
        self.optimizer.zero_grad(set_to_none=True)
        return is_finite

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bfloat16)

    # ------------------------------------------------------------------ the plan

    def _plan(self) -> Iterator[Message]:
        task, shape = self.task, self.generator.shape
        generator, discriminator = (
            sum(p.numel() for p in network.parameters()) / 1e6 for network in (self.generator, self.discriminator)
        )
        epochs = task.steps * task.train_batch_size / len(self.images)
        yield Message(
            "{count} pictures to train on, as squares of {side} pixels", count=len(self.images), side=shape.side
        )
        yield Message(
            "{steps} steps of batch size {batch}, about {epochs:.0f} epochs",
            steps=task.steps,
            batch=task.train_batch_size,
            epochs=epochs,
        )
        yield Message(
            "generator with {generator:.1f} and discriminator with {discriminator:.1f} million parameters, in {dtype}; "
            "gamma {gamma:g}; augmented by {augmentations}",
            generator=generator,
            discriminator=discriminator,
            dtype=self._dtype,
            gamma=self.gamma,
            augmentations=", ".join(self.augment) or Message("nothing"),
        )

    def estimate(self, free: int) -> Iterator[Note]:
        """The plan, with the time and memory that it takes: measured on steps that are not kept.

        Args:
            free: bytes of free memory.
        """
        resumed = self._resume()
        yield from map(note, [*self._plan(), *resumed])
        before, peak_before, seconds = memory_in_use(self.device), peak_memory(self.device), math.inf
        for step in range(2):  # the first one is slower
            start = time.monotonic()
            self._step(step)
            seconds = min(seconds, time.monotonic() - start)
        peak = peak_memory(self.device)
        needed = max(0, (peak if peak > peak_before else memory_in_use(self.device)) - before)
        yield note(
            "memory expected: {needed} besides the pictures and networks; {free} are free",
            needed=gibibytes(needed),
            free=gibibytes(free),
        )
        yield note(
            "time expected: about {time}, and that of {snapshots} snapshots",
            time=duration(seconds * (self.task.steps - self.state.step)),
            snapshots=self.task.snapshots,
        )

    def _monitor(self, plan: list[Message]) -> Monitor:
        task, version = self.task, torch.__version__.partition("+")[0]
        about = {"computed": f"on {self.device.type}, in {self._dtype}, with torch {version}"}
        facts = {"plan": list(map(str, plan)), "about": about, **option_facts(task)}
        steps = (self.state.step, task.steps, 0)
        return Monitor(task.output_dir, task.output_name, steps, self.device, facts, self.logs)

    @property
    def _dtype(self) -> str:
        return "bfloat16" if self.is_bfloat16 else "float32"

    # ------------------------------------------------------------------ files

    def _save_generator(self, name: str, steps: int) -> Path:
        """Writes the generator's EMA. Raises CalotypeError if its weights are NaN."""
        if not all_finite(list(self.ema.parameters())):
            raise CalotypeError("the generator's weights are NaN, and are not saved; lower {option:learning_rate}")
        make_folder(self.task.output_dir)
        path = self.task.output_dir / f"{name}.safetensors"
        metadata = {"calotype.version": __version__, "calotype.steps": str(steps), "calotype.seed": str(self.task.seed)}
        gan.write(path, self.ema, {**metadata, "calotype.pictures": str(len(self.images))})
        return path

    def _save_snapshot(self, name: str, steps: int) -> Path:
        """The generator after a step. A state file shows from then on whose file it is."""
        if not self.state.path.exists():
            self.state.save()
        return self._save_generator(name, steps)

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"forger": self.generator, "expert": self.discriminator, "mean": self.ema}  # keys of state files

    def _fingerprint(self) -> Fingerprint:
        options = {k: v for k, v in hashed_options(self.task, UNHASHED).items() if not k.startswith("log")}
        options |= {"gamma": self.gamma, "max_train_steps": self.task.steps}
        return Fingerprint(options, [self.images.sha256, self.is_bfloat16], FREE)

    def _snapshot(self) -> Snapshot | None:
        if not all(all_finite(list(network.parameters())) for network in self._networks.values()):
            return None
        weights = {
            f"{name}.{k}": v for name, network in self._networks.items() for k, v in network.state_dict().items()
        }
        return Snapshot(weights, self.optimizer.state_dict())

    def _resume(self) -> list[Message]:
        """Loads the state of an interrupted run; returns a message about it, or nothing."""
        self.is_changed = False
        found = self.state.load()
        if found is None:
            return []
        self.state.check_length(found.file, self.task.steps)
        for name, network in self._networks.items():
            network.load_state_dict(weights_under(found.file.weights, name))
        load_optimizer(self.optimizer, found.file.optimizer)
        self.state.resume(found.file)
        self.is_changed = bool(found.changes)
        changed = Message("rate, gamma or length") if self.is_changed else ""
        return [self.state.resumed_message(self.task.steps, changed)]


def uses_bfloat16(task: TrainGan, device: torch.device) -> bool:
    """Whether the networks compute in bfloat16; penalties and weights are always float32."""
    if task.mixed_precision != "auto":
        return task.mixed_precision == "bf16"
    return is_bfloat16_quick(device)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device, memory_format=torch.channels_last)
