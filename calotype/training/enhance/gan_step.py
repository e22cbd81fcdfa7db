"""A network that makes pictures better, its mean, and a discriminator that tells its pictures from real ones.

One step of all of them, and what is needed to go on from it. Losses as in Wang et al. 2021, "Real-ESRGAN"
(arXiv 2107.10833), §4.1: L1, features, and the verdict of a discriminator with binary cross entropy.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.errors import CalotypeError
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.optim.perceptual import DEFAULT_WEIGHTS
from calotype.training.run.resume import remembered

BETAS = (0.9, 0.99)  # Adam's, as published


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch: poor pictures, the good ones, and what L1 and features are held against."""

    low: Tensor  # (N, 3, h, w) in [0, 1]
    true: Tensor  # (N, 3, H, W) in [0, 1], what the discriminator takes for real
    target: Tensor  # the same, or sharpened
    emphasis: Tensor | None = None  # (N, 1, H, W), how much a pixel counts
    pieces: Callable[[Tensor], Tensor] | None = None  # of (N, 3, H, W), what the expert judges, each pixel alike

    def judged(self, x: Tensor) -> Tensor:
        """What the expert is shown of pictures that were made, or of real ones."""
        return self.pieces(x) if self.pieces else x

    @property
    def heard(self) -> Tensor | None:
        """How much the expert's verdict on a pixel counts."""
        return None if self.pieces else self.emphasis


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; 0 leaves one out."""

    l1: float
    perceptual: float
    gan: float
    identity: float = 0.0


@dataclass(frozen=True)
class Phase:
    """What counts at a step."""

    perceptual: bool
    expert_learns: bool = False
    expert_counts: bool = False


class AdversarialTrainer:
    """All that learns. Nothing in here draws chance."""

    def __init__(
        self,
        network: nn.Module,
        expert: nn.Module | None,
        features: nn.Module | None,
        terms: LossWeights,
        rates: tuple[float, float],
        device: torch.device,
        is_mixed: bool,
        call: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x),
        usual: str = "",
    ):
        """Args:
        call: makes the network's (N, 3, H, W) in [0, 1] of what it is given.
        rates: learning rates of the network and of the expert.
        is_mixed: bfloat16 where it does no harm.
        usual: the name of the features, for their usual weight.
        """
        placed = {"device": device, "memory_format": torch.channels_last}
        self.network = network.float().to(**placed).train().requires_grad_(True)
        self.mean = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.expert = expert.to(**placed).train() if expert is not None else None
        self.features = features.to(device) if features is not None else None
        self.terms, self.device, self.is_mixed, self.call = terms, device, is_mixed, call
        self._usual = DEFAULT_WEIGHTS.get(usual, 1.0)
        groups = [(self.network, rates[0])] + ([(self.expert, rates[1])] if self.expert is not None else [])
        self.optimizer = torch.optim.Adam(
            [{"params": list(module.parameters()), "lr": rate, "initial_lr": rate} for module, rate in groups],
            betas=BETAS,
        )

    def step(self, step: int, lesson: Batch, phase: Phase, rate: float, decay: float, most: float) -> dict[str, float]:
        """One change of the weights, unless a loss or a gradient is no number.

        Args:
            rate: factor of the learning rates.
            most: longest gradient of the network; 0: any.
        Returns:
            "loss", that of the network, and others by name.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        if self.expert is not None:
            self.expert.requires_grad_(False)
        with self._mixing():
            made = self.call(self.network, self._laid(lesson.low)).float()
            losses = self._losses(made, lesson, phase)
        loss = torch.stack(list(losses.values())).sum()
        told = {"loss": float(loss.detach()), **{name: float(value.detach()) for name, value in losses.items()}}
        if not math.isfinite(told["loss"]):
            return told
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.network.parameters(), most or math.inf)):
            return told | {"loss": math.nan}
        self.optimizer.step()  # what has no gradient stays as it is: the expert
        update_ema(self.mean, self.network, ema_decay_at(decay, step))
        if phase.expert_learns and self.expert is not None:
            told |= self._expert_taught(lesson, made.detach())
        return told

    def _losses(self, made: Tensor, lesson: Batch, phase: Phase) -> dict[str, Tensor]:
        """Each times its weight."""
        terms, weight = self.terms, lesson.emphasis
        apart = (made - lesson.target).abs()
        found = {"L1/pixels": terms.l1 * (apart if weight is None else apart * weight).mean()}
        if phase.perceptual and self.features is not None:
            weighed = terms.perceptual * self._usual
            if terms.identity and hasattr(self.features, "both"):
                distance, unlikeness = self.features.both(made, lesson.target)
                found["Features/distance"] = weighed * distance
                found["Features/identity"] = terms.identity * unlikeness.mean()
            elif terms.perceptual:
                found["Features/distance"] = weighed * self.features(made, lesson.target)
        if phase.expert_counts and terms.gan:
            logits = self.expert(self._laid(lesson.judged(made)))
            found["Adversary/network"] = terms.gan * _verdict(logits, True, lesson.heard)
        return found

    def _expert_taught(self, lesson: Batch, made: Tensor) -> dict[str, float]:
        """The expert's step: real pictures are to be 1, those that were made 0."""
        self.optimizer.zero_grad(set_to_none=True)
        self.expert.requires_grad_(True)
        with self._mixing():
            real, forged = (self.expert(self._laid(lesson.judged(x))).float() for x in (lesson.true, made))
        loss = _verdict(real, True) + _verdict(forged, False)
        told = {
            "Adversary/discriminator": float(loss.detach()),
            "Verdict/real": float(real.detach().sigmoid().mean()),
            "Verdict/made": float(forged.detach().sigmoid().mean()),
            "Verdict/right": float(((real > 0).float().mean() + (forged < 0).float().mean()) / 2),
        }
        if not math.isfinite(told["Adversary/discriminator"]):
            return told | {"loss": math.nan}
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.expert.parameters(), math.inf)):
            return told | {"loss": math.nan}
        self.optimizer.step()
        return told

    @torch.no_grad()
    def shown(self, low: Tensor) -> Tensor:
        """What the mean makes of (N, 3, h, w): (N, 3, H, W) float32 in [0, 1], on the CPU."""
        with self._mixing():
            made = self.call(self.mean, self._laid(low.to(self.device)))
        return made.float().clamp(0, 1).cpu()

    def _laid(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    def _mixing(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.is_mixed else contextlib.nullcontext()

    # ------------------------------------------------------------------ to go on later

    def _parts(self) -> dict[str, nn.Module]:
        found = {"network": self.network, "mean": self.mean}
        return found | ({"expert": self.expert} if self.expert is not None else {})

    def state(self) -> dict[str, Tensor]:
        """All weights, on the CPU."""
        return {
            f"{part}.{key}": value.detach().cpu()
            for part, module in self._parts().items()
            for key, value in module.state_dict().items()
        }

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], where: str) -> None:
        """The learning rates stay its own. Raises CalotypeError where the weights are of other networks."""
        rates = [group["initial_lr"] for group in self.optimizer.param_groups]
        try:
            for part, module in self._parts().items():
                prefix = f"{part}."
                own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
                module.load_state_dict(own)
            remembered(self.optimizer, optimizer)
        except (RuntimeError, KeyError, ValueError):
            raise CalotypeError(
                "{where} is the state of other networks; delete it to begin anew", where=where
            ) from None
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate


def _verdict(logits: Tensor, is_real: bool, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy of logits with 1 or 0, each pixel as much as it counts."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, float(is_real)).float(), weight)
