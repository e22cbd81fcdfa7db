"""Forger and expert at war: the loop, in plain sight. R3GAN (Huang et al., NeurIPS 2024), see models/gan.py."""

import copy
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints import open_gan as gan
from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError, Message
from calotype.files import check_folder, run_lock, uninterrupted
from calotype.models.gan import Discriminator, Generator, Shape
from calotype.models.network import is_bfloat16_quick
from calotype.tasks import Note, Progress, TrainGan, note, options_of
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
from calotype.training.run.estimate import duration, gibibytes
from calotype.training.run.resume import State, load, remembered, save, state_path
from calotype.training.run.save_timer import SaveTimer

GAMMA = 10.0  # at 64 pixels; at 2, R3GAN's for large sets, the expert of a small set outruns the forger
FAILED = 3  # steps with a loss or gradients that are no numbers before the run is stopped
SMALL = 128  # channels of networks so small that threads lose more by waiting for each other than they gain
FEW = 5000  # pictures below which the expert would learn them by heart
LAST_RATE = 0.1  # of learning rate and penalty, as shares of the first
UNFELT = ("output_dir", "output_name", "photos", "snapshots", "save_state_every", "save_state")
UNFELT += ("dry_run",)  # nor are logs
FREE = ("learning_rate", "gamma", "max_train_steps")  # how a run goes on may differ in these


@dataclass(frozen=True)
class Forged:
    """What training ends in."""

    path: Path
    film: tuple[Path, ...]
    figures: dict[str, float]
    pictures: int
    report: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What the last event says besides the file."""
        return {"film": [str(path) for path in self.film], **self.figures}


def train_gan(task: TrainGan, models: Models) -> Iterator[Progress | Note | Forged]:
    """Yields progress, and Forged last. Closing it keeps the very step; the same command goes on from there.

    Raises:
        CalotypeError: too few pictures, a forger or another run of that name, a state that does not fit, no room on
            disk, a loss that is no number, or a war that one side has won.
    """
    _check_free(task)
    gallery = None
    for event in _found(task, models):
        if isinstance(event, Images):
            gallery = event
        else:
            yield event
    logs, notes = tensorboard_folder(task)
    yield from map(note, notes)
    war = GanRun(task, gallery, models.device, logs)
    threads = torch.get_num_threads()
    try:
        if models.device.type == "cpu" and not models.settings.threads and max(war.forger.shape.widths) <= SMALL:
            torch.set_num_threads(1)
        if task.dry_run:
            yield from war.foretold(models.free_memory(models.device))
            return
        with run_lock(task.output_dir, task.output_name):
            _check_free(task)  # also from what has ended meanwhile
            yield from war.fought()
    finally:
        torch.set_num_threads(threads)


def _found(task: TrainGan, models: Models) -> Iterator[Progress | Note | Images]:
    if task.demo:
        yield of_demo(task.resolution)
        return
    free = models.free_memory(torch.device("cpu"))
    yield from of_folder(task.photos, task.resolution, free, models.settings.max_pixels, task.output_dir)


def _check_free(task: TrainGan) -> None:
    """What an earlier run ended in is never overwritten; what lies beside a state belongs to the run that goes on."""
    check_folder(task.output_dir)
    names = [f"{task.output_name}{end}" for end in (".safetensors", "-best.safetensors", ".gif", ".mp4")]
    found = [name for name in names if os.path.exists(task.output_dir / name)]  # a name that cannot be has nothing
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
        names=" and ".join(found),
    )


class GanRun:
    """The parts of one run: settled once, then stepped through."""

    def __init__(self, task: TrainGan, gallery: Images, device: torch.device, logs: Path | None):
        self.task, self.gallery, self.device, self.logs = task, gallery, device, logs
        self.half = _half(task, device)
        self.gamma = task.gamma or GAMMA * (task.resolution / 64) ** 2
        self.augment = parse_augmentations(task.augment) if task.augment != "auto" else self._usual()
        self.share = max(1, round(task.train_batch_size * task.penalty_share))
        torch.manual_seed(task.seed)  # of the first weights
        shape = Shape.preset(task.resolution, task.channels)
        self.forger, self.expert = (_placed(made(shape), device) for made in (Generator, Discriminator))
        self.mean = copy.deepcopy(self.forger).requires_grad_(False).eval()
        groups = [{"params": list(network.parameters())} for network in (self.forger, self.expert)]
        self.done, self.is_whole, self.is_changing = 0, True, False  # steps; whether all is written of them
        self.failed, self.due = 0, SaveTimer(task.save_state_every)
        self.optimizer = torch.optim.Adam(groups, lr=task.learning_rate, betas=(0.0, 0.99), fused=device.type != "mps")

    def _usual(self) -> list[str]:
        if self.task.demo:  # colours would come late
            return ["translation"]
        return ["color", "translation"] if len(self.gallery) < FEW else []

    # ------------------------------------------------------------------ the loop

    def fought(self) -> Iterator[Progress | Note | Forged]:
        task = self.task
        begin, is_changed = self._resumed()
        plan = list(self._plan())
        yield from map(note, plan if begin == 0 else [self._going_on(begin, is_changed)])
        watch = self._watch(begin, plan)
        seen = GanEvaluator(task, watch, self.mean, self.expert, self.gallery, self.half, self._kept)
        if begin and is_changed:
            seen.mark_changed(begin)
        try:
            if begin == 0:
                seen.delete_sheets()
                yield from seen.evaluate(0)
            elif not self.is_whole:  # it was stopped before all was written of its last step
                yield from self._followed(seen)
            for step in range(begin, task.steps):
                with uninterrupted():
                    self.is_changing = True  # a state of now would be half of one step and half of the next
                    told = self._step(step)
                    self.done, self.is_whole, self.is_changing = step + 1, False, False
                    rates = {"both": self.optimizer.param_groups[0]["lr"]}
                    event = watch.log_step(self.done, **told, lrs=rates)
                if self.failed == FAILED:
                    raise self._spoilt(seen)
                yield event
                yield from self._followed(seen)
                if self.done < task.steps and not self.failed and self.due(self.done):
                    self._save_state()
            films = yield from seen.write_films()
            path, warning = self._ended(seen)
            yield from map(note, filter(None, (warning, seen.best)))
            if task.save_state:
                self._save_state()
            watch.finish()
        except (GeneratorExit, KeyboardInterrupt):
            if self.done > begin and not self.is_changing:
                self._save_state()
            raise
        finally:
            watch.close()
        if task.save_state:
            yield note(
                "{path} is kept: the same command learns on with more {option:max_train_steps}", path=state_path(task)
            )
        else:
            state_path(task).unlink(missing_ok=True)
        yield note("report: {path}", path=watch.path)
        yield Forged(path, films, seen.metrics, len(self.gallery), watch.path)

    def _followed(self, seen: GanEvaluator) -> Iterator[Progress | Note]:
        """What comes after a step, where it is due."""
        yield from seen.evaluate(self.done)
        self.is_whole = True

    def _spoilt(self, seen: GanEvaluator) -> CalotypeError:
        values = {"step": self.done - FAILED + 1, "remains": seen.remains()}
        if not self.half:
            return CalotypeError(
                "the loss or its gradients are no numbers since step {step}; {remains}; the same command goes on with "
                "a lower {option:learning_rate} or a higher {option:gamma}",
                **values,
            )
        return CalotypeError(
            "the loss or its gradients are no numbers since step {step}; {remains}; the same command goes on with a "
            "lower {option:learning_rate} or a higher {option:gamma}, or begin anew with {option:mixed_precision} no",
            **values,
        )

    def _ended(self, seen: GanEvaluator) -> tuple[Path, Message | None]:
        """Where the forger lies at the end, and what to say where it is not as the last step left it."""
        name = self.task.output_name
        path = self.task.output_dir / f"{name}.safetensors"
        if seen.last_good == self.task.steps:
            return self._written(name, self.task.steps), None
        if seen.last_good and path.is_file():
            return path, Message(
                "at the end the forgeries are all alike; {path} is the last good forger, of step {step}; raise "
                "{option:gamma}, lower {option:learning_rate} or add pictures",
                path=path,
                step=seen.last_good,
            )
        path = self._written(name, self.task.steps)
        return path, Message(
            "the forgeries have been all alike at every snapshot; {path} draws as the last step left it", path=path
        )

    def _step(self, step: int) -> dict[str, float]:
        """The expert learns, then the forger. All chance in it comes from the seed and the step's number.

        Returns:
            the numbers of the step: the expert's `loss`, the forger's, what the expert says of both kinds.
        """
        task, count = self.task, self.task.train_batch_size
        chance = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
        dice = random.Random(f"{task.seed} {step}")
        fall = 1 - (1 - LAST_RATE) * step / task.steps
        for group in self.optimizer.param_groups:
            group["lr"] = task.learning_rate * fall

        self.expert.requires_grad_(True)
        both = augment(torch.cat([self._real(chance, dice), self._forged(chance)]), self.augment, chance)
        with self._autocast():
            verdicts = self.expert(both)
        real, forged = verdicts.float().chunk(2)
        slope = gradient_penalty(
            self.expert, torch.cat([both[: self.share], both[count : count + self.share]])
        )  # R1 and R2
        loss = discriminator_loss(real, forged)
        is_fine = self._learnt(self.expert, loss + self.gamma * fall * slope)
        told = {
            "loss": loss.item(),
            "realness/pictures": real.mean().item(),
            "realness/forgeries": forged.mean().item(),
        }
        told["told apart/pairs"] = float((real > forged).float().mean())

        self.expert.requires_grad_(False)
        real = self._real(chance, dice)
        forged = self._forged(chance, is_learnt=True)
        with self._autocast():
            verdicts = self.expert(augment(torch.cat([real, forged]), self.augment, chance))
        lost = generator_loss(*verdicts.float().chunk(2))
        is_fine = self._learnt(self.forger, lost) and is_fine
        self.failed = 0 if is_fine else self.failed + 1
        update_ema(self.mean, self.forger, ema_decay(int(task.ema_kimg * 1000), count, (step + 1) * count))
        return {**told, "loss/forger": lost.item(), "penalty/mean squared slope": slope.item()}

    def _real(self, chance: torch.Generator, dice: random.Random) -> Tensor:
        numbers = torch.randint(0, len(self.gallery), (self.task.train_batch_size,), generator=chance)
        x = self.gallery.batch(numbers).to(self.device)
        return random_flip(x, dice) if self.task.flip_aug else x

    def _forged(self, chance: torch.Generator, is_learnt: bool = False) -> Tensor:
        latents = torch.randn(self.task.train_batch_size, self.forger.shape.latent, generator=chance).to(self.device)
        with torch.set_grad_enabled(is_learnt), self._autocast():
            return self.forger(latents).float()

    def _learnt(self, network: nn.Module, loss: Tensor) -> bool:
        """Changes the weights, unless the loss, its gradients or their squares, which Adam keeps, are no numbers."""
        is_fine = math.isfinite(loss.item())
        if is_fine:
            loss.backward()
            is_fine = all_finite([p.grad for p in network.parameters() if p.grad is not None], power=2)
        if is_fine:
            self.optimizer.step()  # of the network that has gradients alone
        self.optimizer.zero_grad(set_to_none=True)
        return is_fine

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    # ------------------------------------------------------------------ what is told

    def _plan(self) -> Iterator[Message]:
        task, shape = self.task, self.forger.shape
        forger, expert = (sum(p.numel() for p in n.parameters()) / 1e6 for n in (self.forger, self.expert))
        often = task.steps * task.train_batch_size / len(self.gallery)
        yield Message(
            "{count} pictures to learn from, as squares of {side} pixels", count=len(self.gallery), side=shape.side
        )
        yield Message(
            "{steps} steps of {batch}: every picture is seen about {times:.0f} times",
            steps=task.steps,
            batch=task.train_batch_size,
            times=often,
        )
        yield Message(
            "forger {forger:.1f} and expert {expert:.1f} million numbers, in {dtype}; gamma {gamma:g}; augmented by "
            "{augmentations}",
            forger=forger,
            expert=expert,
            dtype=self._format,
            gamma=self.gamma,
            augmentations=", ".join(self.augment) or Message("nothing"),
        )

    def _going_on(self, begin: int, is_changed: bool) -> Message:
        if not is_changed:
            return Message("going on after step {step} of {total}", step=begin, total=self.task.steps)
        return Message(
            "going on after step {step} of {total}, with another rate, gamma or length than before",
            step=begin,
            total=self.task.steps,
        )

    def foretold(self, free: int) -> Iterator[Note]:
        """The plan, and what it takes: measured on steps that nobody keeps.

        Args:
            free: bytes of memory before.
        """
        begin, is_changed = self._resumed()
        yield from map(note, self._plan())
        if begin:
            yield note(self._going_on(begin, is_changed))
        before, earlier, seconds = memory_in_use(self.device), peak_memory(self.device), math.inf
        for step in range(2):  # the first one is slower
            begun = time.monotonic()
            self._step(step)
            seconds = min(seconds, time.monotonic() - begun)
        most = peak_memory(self.device)
        need = max(
            0, (most if most > earlier else memory_in_use(self.device)) - before
        )  # what came earlier is no need of it
        yield note(
            "memory expected: {needed} besides the pictures and networks; {free} are free",
            needed=gibibytes(need),
            free=gibibytes(free),
        )
        left = seconds * (self.task.steps - begin)
        yield note(
            "time expected: about {time}, and that of {snapshots} snapshots",
            time=duration(left),
            snapshots=self.task.snapshots,
        )

    def _watch(self, begin: int, plan: list[Message]) -> Monitor:
        task, version = self.task, torch.__version__.partition("+")[0]
        about = {"computed": f"on {self.device.type}, in {self._format}, with torch {version}"}
        facts = {"plan": list(map(str, plan)), "about": about, **option_facts(task)}
        return Monitor(task.output_dir, task.output_name, (begin, task.steps, 0), self.device, facts, self.logs)

    @property
    def _format(self) -> str:
        return "bfloat16" if self.half else "float32"

    # ------------------------------------------------------------------ what is kept

    def _written(self, name: str, steps: int) -> Path:
        """The forger's running mean as a file. Raises CalotypeError where its weights are no numbers."""
        if not all_finite(list(self.mean.parameters())):
            raise CalotypeError(
                "the forger's weights are no numbers any more, and are not kept; lower {option:learning_rate}"
            )
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.task.output_dir / f"{name}.safetensors"
        told = {"calotype.version": __version__, "calotype.steps": str(steps), "calotype.seed": str(self.task.seed)}
        gan.write(path, self.mean, {**told, "calotype.pictures": str(len(self.gallery))})
        return path

    def _kept(self, name: str, steps: int) -> Path:
        """As it is after a snapshot. A state tells from now on whose file it is."""
        if not state_path(self.task).exists():
            self._save_state()
        return self._written(name, steps)

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"forger": self.forger, "expert": self.expert, "mean": self.mean}

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """Of everything that decides about the numbers, and of that without rate, gamma and length."""
        options = {k: v for k, v in options_of(self.task).items() if k not in UNFELT and not k.startswith("log")}
        options |= {"gamma": self.gamma, "max_train_steps": self.task.steps}
        core = {name: value for name, value in options.items() if name not in FREE}
        more = [self.gallery.sha256, self.half]
        whole, kin = (json.dumps([told, *more], sort_keys=True) for told in (options, core))
        return hashlib.sha256(whole.encode()).hexdigest(), hashlib.sha256(kin.encode()).hexdigest()

    def _save_state(self) -> None:
        """Where the weights are numbers; otherwise the state from before stays."""
        if not all(all_finite(list(network.parameters())) for network in self._networks.values()):
            return
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        weights = {f"{name}.{k}": v.cpu() for name, n in self._networks.items() for k, v in n.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        state = State(self.done, weights, optimizer, (), " ".join(self._fingerprints), is_whole=self.is_whole)
        save(state_path(self.task), state)
        self.due.saved()

    def _resumed(self) -> tuple[int, bool]:
        """Takes over the state of a run that was stopped: its step, and whether it went another way until then."""
        path = state_path(self.task)
        if not path.is_file():
            return 0, False
        state = load(path)
        (whole, kin), (before, kin_before) = self._fingerprints, (*state.fingerprint.split(), "", "")[:2]
        if kin != kin_before:
            raise CalotypeError(
                "{path} is the state of a run with other pictures or settings; delete it to begin anew, or give "
                "another {option:output_name}",
                path=path,
            )
        if state.step > self.task.steps:
            raise CalotypeError(
                "{path} has {step} steps behind it, and {steps} are asked for; give more",
                path=path,
                step=state.step,
                steps=self.task.steps,
            )
        for name, network in self._networks.items():
            own = {k.removeprefix(f"{name}."): v for k, v in state.weights.items() if k.startswith(f"{name}.")}
            network.load_state_dict(own)
        remembered(self.optimizer, state.optimizer)
        self.done, self.is_whole = state.step, state.is_whole
        return state.step, whole != before


def _half(task: TrainGan, device: torch.device) -> bool:
    """Whether the networks compute in bfloat16; penalties, and the weights, are float32 always."""
    if task.mixed_precision != "auto":
        return task.mixed_precision == "bf16"
    return is_bfloat16_quick(device)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device, memory_format=torch.channels_last)
