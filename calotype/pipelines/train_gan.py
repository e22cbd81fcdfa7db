"""Forger and expert at war: the loop, in plain sight. R3GAN (Huang et al., NeurIPS 2024), see models/gan.py."""

import copy
import hashlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints import gan
from calotype.checkpoints.cache import Models
from calotype.errors import CalotypeError
from calotype.models.gan import Discriminator, Generator, Shape
from calotype.models.network import has_bfloat16
from calotype.pipelines.gan_seen import Seen
from calotype.tasks import Progress, Said, TrainGan, options_of
from calotype.training.adversarial import (
    augmentations,
    augmented,
    expert_loss,
    flipped,
    forger_loss,
    kept,
    penalty,
)
from calotype.training.ema import mean_moved
from calotype.training.gallery import Gallery, of_demo, of_folder
from calotype.training.state import State, load, save
from calotype.training.watch import Watch, logs_of, options_told

GAMMA = 10.0  # at 64 pixels; at 2, R3GAN's for large sets, the expert of a small set outruns the forger
FAILED = 3  # steps with a loss that is no number before the run is stopped
SMALL = 128  # channels of networks so small that threads lose more by waiting for each other than they gain
FEW = 5000  # pictures below which the expert would learn them by heart
LAST_RATE = 0.1  # of learning rate and penalty, as shares of the first
UNFELT = ("output_dir", "output_name", "photos", "snapshots", "save_state_every")  # by the numbers; nor are logs


@dataclass(frozen=True)
class Forged:
    """What training ends in."""

    path: Path
    film: tuple[Path, ...]
    figures: dict[str, float]
    pictures: int
    report: Path


def train_gan(task: TrainGan, models: Models) -> Iterator[Progress | Said | Forged]:
    """Yields progress, and Forged last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: too few pictures, a state that does not fit, no room on disk, a loss that is no number, or a war
            that one side has won.
    """
    gallery = None
    for event in _found(task, models):
        if isinstance(event, Gallery):
            gallery = event
        else:
            yield event
    logs, notes = logs_of(task)
    for note in notes:
        yield Said(note)
    war = _War(task, gallery, models.device, logs)
    threads = torch.get_num_threads()
    try:
        if models.device.type == "cpu" and not models.settings.threads and max(war.forger.shape.widths) <= SMALL:
            torch.set_num_threads(1)
        yield from war.fought()
    finally:
        torch.set_num_threads(threads)


def _found(task: TrainGan, models: Models) -> Iterator[Progress | Said | Gallery]:
    if task.demo:
        yield of_demo(task.resolution)
        return
    free = models.free_memory(torch.device("cpu"))
    yield from of_folder(task.photos, task.resolution, free, models.settings.max_pixels)


class _War:
    """The parts of one run: settled once, then stepped through."""

    def __init__(self, task: TrainGan, gallery: Gallery, device: torch.device, logs: Path | None):
        self.task, self.gallery, self.device, self.logs = task, gallery, device, logs
        self.half = _half(task, device)
        self.gamma = task.gamma or GAMMA * (task.resolution / 64) ** 2
        self.augment = augmentations(task.augment) if task.augment != "auto" else self._usual()
        self.share = max(1, round(task.train_batch_size * task.penalty_share))
        torch.manual_seed(task.seed)  # of the first weights
        shape = Shape.preset(task.resolution, task.channels)
        self.forger, self.expert = (_placed(made(shape), device) for made in (Generator, Discriminator))
        self.mean = copy.deepcopy(self.forger).requires_grad_(False).eval()
        groups = [{"params": list(network.parameters())} for network in (self.forger, self.expert)]
        self.optimizer = torch.optim.Adam(groups, lr=task.learning_rate, betas=(0.0, 0.99), fused=device.type != "mps")

    def _usual(self) -> list[str]:
        if self.task.demo:  # colours would come late
            return ["translation"]
        return ["color", "translation"] if len(self.gallery) < FEW else []

    # ------------------------------------------------------------------ the loop

    def fought(self) -> Iterator[Progress | Said | Forged]:
        task = self.task
        begin = self._resumed()
        plan = list(self._plan())
        for sentence in plan if begin == 0 else [f"going on after step {begin} of {task.steps}"]:
            yield Said(sentence)
        watch, failed = self._watch(begin, plan), 0
        seen = Seen(task, watch, self.mean, self.expert, self.gallery, self.half, self._written)
        try:
            if begin == 0:
                yield from seen.after(0)
            for step in range(begin, task.steps):
                told = self._step(step)
                failed = 0 if math.isfinite(told["loss"]) else failed + 1
                if failed == FAILED:
                    raise CalotypeError(
                        f"the loss is no number since step {step - FAILED + 2}; give a lower --learning-rate, a higher "
                        f"--gamma, or --mixed-precision no; {seen.remains()}"
                    )
                done = step + 1
                yield watch.stepped(done, **told, rates={"both": self.optimizer.param_groups[0]["lr"]})
                yield from seen.after(done)
                if done % task.save_state_every == 0 and done < task.steps and not failed:
                    self._save_state(done)  # last: what the step left behind is whole by now
            films = yield from seen.filmed()
            path = self._written(task.output_name, task.steps)
            watch.finished()
        finally:
            watch.close()
        self._state_path.unlink(missing_ok=True)
        yield Said(f"report: {watch.path}")
        yield Forged(path, films, seen.figures, len(self.gallery), watch.path)

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
        both = augmented(torch.cat([self._real(chance, dice), self._forged(chance)]), self.augment, chance)
        with self._autocast():
            verdicts = self.expert(both)
        real, forged = verdicts.float().chunk(2)
        slope = penalty(self.expert, torch.cat([both[: self.share], both[count : count + self.share]]))  # R1 and R2
        loss = expert_loss(real, forged)
        self._learnt(loss + self.gamma * fall * slope)
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
            verdicts = self.expert(augmented(torch.cat([real, forged]), self.augment, chance))
        lost = forger_loss(*verdicts.float().chunk(2))
        self._learnt(lost)
        mean_moved(self.mean, self.forger, kept(int(task.ema_kimg * 1000), count, (step + 1) * count))
        return {**told, "loss/forger": lost.item(), "penalty/mean squared slope": slope.item()}

    def _real(self, chance: torch.Generator, dice: random.Random) -> Tensor:
        numbers = torch.randint(0, len(self.gallery), (self.task.train_batch_size,), generator=chance)
        x = self.gallery.taken(numbers).to(self.device)
        return flipped(x, dice) if self.task.flip_aug else x

    def _forged(self, chance: torch.Generator, is_learnt: bool = False) -> Tensor:
        latents = torch.randn(self.task.train_batch_size, self.forger.shape.latent, generator=chance).to(self.device)
        with torch.set_grad_enabled(is_learnt), self._autocast():
            return self.forger(latents).float()

    def _learnt(self, loss: Tensor) -> None:
        if math.isfinite(loss.item()):
            loss.backward()
            self.optimizer.step()  # of the network that has gradients alone
        self.optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    # ------------------------------------------------------------------ what is told

    def _plan(self) -> Iterator[str]:
        task, shape = self.task, self.forger.shape
        forger, expert = (sum(p.numel() for p in n.parameters()) / 1e6 for n in (self.forger, self.expert))
        often = task.steps * task.train_batch_size / len(self.gallery)
        yield f"{len(self.gallery)} pictures to learn from, as squares of {shape.side} pixels"
        yield f"{task.steps} steps of {task.train_batch_size}: every picture is seen about {often:.0f} times"
        yield (
            f"forger {forger:.1f} and expert {expert:.1f} million numbers, in {self._format}; gamma {self.gamma:g}; "
            f"augmented by {', '.join(self.augment) or 'nothing'}"
        )

    def _watch(self, begin: int, plan: list[str]) -> Watch:
        task, version = self.task, torch.__version__.partition("+")[0]
        about = {"computed": f"on {self.device.type}, in {self._format}, with torch {version}"}
        facts = {"plan": plan, "about": about, **options_told(task)}
        return Watch(task.output_dir, task.output_name, (begin, task.steps, 0), self.device, facts, self.logs)

    @property
    def _format(self) -> str:
        return "bfloat16" if self.half else "float32"

    # ------------------------------------------------------------------ what is kept

    def _written(self, name: str, steps: int) -> Path:
        """The forger's running mean as a file."""
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.task.output_dir / f"{name}.safetensors"
        told = {"calotype.version": __version__, "calotype.steps": str(steps), "calotype.seed": str(self.task.seed)}
        gan.write(path, self.mean, {**told, "calotype.pictures": str(len(self.gallery))})
        return path

    @property
    def _state_path(self) -> Path:
        return self.task.output_dir / f"{self.task.output_name}.state.safetensors"

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"forger": self.forger, "expert": self.expert, "mean": self.mean}

    @cached_property
    def _fingerprint(self) -> str:
        """Of everything that decides about the numbers."""
        options = {k: v for k, v in options_of(self.task).items() if k not in UNFELT and not k.startswith("log")}
        told = json.dumps([options, self.task.steps, self.gallery.sha256, self.half], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _save_state(self, step: int) -> None:
        self.task.output_dir.mkdir(parents=True, exist_ok=True)
        weights = {f"{name}.{k}": v.cpu() for name, n in self._networks.items() for k, v in n.state_dict().items()}
        save(self._state_path, State(step, weights, self.optimizer.state_dict(), (), self._fingerprint))

    def _resumed(self) -> int:
        if not self._state_path.is_file():
            return 0
        state = load(self._state_path)
        if state.fingerprint != self._fingerprint:
            raise CalotypeError(
                f"{self._state_path} is the state of a run with other pictures or settings; delete it to begin anew, "
                "or give another --output-name"
            )
        for name, network in self._networks.items():
            own = {k.removeprefix(f"{name}."): v for k, v in state.weights.items() if k.startswith(f"{name}.")}
            network.load_state_dict(own)
        self.optimizer.load_state_dict(state.optimizer)
        for weight, kept_of in self.optimizer.state.items():  # in the weight's own order in memory, as Adam takes them
            kept_of |= {k: torch.empty_like(weight).copy_(v) for k, v in kept_of.items() if v.shape == weight.shape}
        return state.step


def _half(task: TrainGan, device: torch.device) -> bool:
    """Whether the networks compute in bfloat16; penalties, and the weights, are float32 always."""
    if task.mixed_precision != "auto":
        return task.mixed_precision == "bf16"
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and has_bfloat16()


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device, memory_format=torch.channels_last)
