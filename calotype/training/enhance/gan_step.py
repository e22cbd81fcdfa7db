"""One training step of an upscaler or face restorer, its EMA, and a U-Net discriminator.

Losses as in Wang et al. 2021, "Real-ESRGAN" (arXiv 2107.10833), §4.1: L1, perceptual, and a GAN loss with binary cross
entropy.
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
from calotype.training.run.resume import load_optimizer, weights_under

BETAS = (0.9, 0.99)  # Adam's, as published


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch.

    Attributes:
        low: (N, 3, h, w) in [0, 1], the network's input.
        true: (N, 3, H, W) in [0, 1], real pictures for the discriminator.
        target: (N, 3, H, W) of the L1 and perceptual losses: the same, or sharpened.
        emphasis: (N, 1, H, W), weights of pixels.
        crop: the discriminator's patches of (N, 3, H, W), in which every pixel has the same weight.
    """

    low: Tensor
    true: Tensor
    target: Tensor
    emphasis: Tensor | None = None
    crop: Callable[[Tensor], Tensor] | None = None

    def discriminator_input(self, x: Tensor) -> Tensor:
        return self.crop(x) if self.crop else x

    @property
    def gan_emphasis(self) -> Tensor | None:
        """Weights of pixels in the GAN loss."""
        return None if self.crop else self.emphasis


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; 0 leaves one out."""

    l1: float
    perceptual: float
    gan: float
    identity: float = 0.0


@dataclass(frozen=True)
class Phase:
    """Which losses a step has."""

    perceptual: bool
    discriminator_update: bool = False
    gan: bool = False


class AdversarialTrainer:
    """Everything that is trained, and its optimizer. It uses no random numbers."""

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module | None,
        features: nn.Module | None,
        weights: LossWeights,
        rates: tuple[float, float],
        device: torch.device,
        is_mixed: bool,
        call: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x),
        usual: str = "",
        extra_losses: Mapping[str, tuple[float, nn.Module]] | None = None,
    ):
        """Args:
        call: the network's output, (N, 3, H, W) in [0, 1].
        rates: learning rates of the network and of the discriminator.
        is_mixed: bfloat16 autocast.
        usual: the name of the features, for their usual weight.
        extra_losses: more losses of output and target, by the names of their metrics, each with its weight.
        """
        placed = {"device": device, "memory_format": torch.channels_last}
        self.network = network.float().to(**placed).train().requires_grad_(True)
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.discriminator = discriminator.to(**placed).train() if discriminator is not None else None
        self.features = features.to(device) if features is not None else None
        self.extra_losses = {name: (weight, loss.to(device)) for name, (weight, loss) in (extra_losses or {}).items()}
        self.weights, self.device, self.is_mixed, self.call = weights, device, is_mixed, call
        self._perceptual_weight = weights.perceptual * DEFAULT_WEIGHTS.get(usual, 1.0)
        groups = [(self.network, rates[0])]
        groups += [(self.discriminator, rates[1])] if self.discriminator is not None else []
        self.optimizer = torch.optim.Adam(
            [{"params": list(module.parameters()), "lr": rate, "initial_lr": rate} for module, rate in groups],
            betas=BETAS,
        )

    def step(
        self, step: int, batch: Batch, phase: Phase, rate: float, ema_decay: float, max_grad_norm: float
    ) -> dict[str, float]:
        """Updates the weights, unless a loss or a gradient is NaN.

        Args:
            rate: factor of the learning rates.
            max_grad_norm: of the network; 0 disables clipping.
        Returns:
            "loss", that of the network, and others by name.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        with self._autocast():
            output = self.call(self.network, _channels_last(batch.low)).float()
            losses = self._losses(output, batch, phase)
        loss = torch.stack(list(losses.values())).sum()
        metrics = {"loss": float(loss.detach()), **{name: float(value.detach()) for name, value in losses.items()}}
        if not math.isfinite(metrics["loss"]):
            return metrics
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.network.parameters(), max_grad_norm or math.inf)):
            return metrics | {"loss": math.nan}
        self.optimizer.step()  # the discriminator has no gradients, so it does not change
        update_ema(self.ema, self.network, ema_decay_at(ema_decay, step))
        if phase.discriminator_update and self.discriminator is not None:
            metrics |= self._update_discriminator(batch, output.detach())
        return metrics

    def _losses(self, output: Tensor, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """The losses, each multiplied by its weight."""
        weights, emphasis = self.weights, batch.emphasis
        difference = (output - batch.target).abs()
        losses = {"L1/pixels": weights.l1 * (difference if emphasis is None else difference * emphasis).mean()}
        if phase.perceptual and self.features is not None:
            if weights.identity and hasattr(self.features, "both"):
                distance, identity = self.features.both(output, batch.target)
                losses["Features/distance"] = self._perceptual_weight * distance
                losses["Features/identity"] = weights.identity * identity.mean()
            elif weights.perceptual:
                losses["Features/distance"] = self._perceptual_weight * self.features(output, batch.target)
        losses |= {name: weight * loss(output, batch.target) for name, (weight, loss) in self.extra_losses.items()}
        if phase.gan and weights.gan:
            logits = self.discriminator(_channels_last(batch.discriminator_input(output)))
            losses["Adversary/network"] = weights.gan * _gan_loss(logits, True, batch.gan_emphasis)
        return losses

    def _update_discriminator(self, batch: Batch, output: Tensor) -> dict[str, float]:
        """The discriminator's step: the label of real pictures is 1, that of the network's output 0."""
        self.optimizer.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(True)
        with self._autocast():
            real, fake = (
                self.discriminator(_channels_last(batch.discriminator_input(x))).float() for x in (batch.true, output)
            )
        loss = _gan_loss(real, True) + _gan_loss(fake, False)
        metrics = {
            "Adversary/discriminator": float(loss.detach()),
            "Verdict/real": float(real.detach().sigmoid().mean()),
            "Verdict/made": float(fake.detach().sigmoid().mean()),
            "Verdict/right": float(((real > 0).float().mean() + (fake < 0).float().mean()) / 2),
        }
        if not math.isfinite(metrics["Adversary/discriminator"]):
            return metrics | {"loss": math.nan}
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.discriminator.parameters(), math.inf)):
            return metrics | {"loss": math.nan}
        self.optimizer.step()
        return metrics

    @torch.no_grad()
    def output(self, low: Tensor) -> Tensor:
        """The EMA's output for (N, 3, h, w): (N, 3, H, W) float32 in [0, 1], on the CPU."""
        with self._autocast():
            output = self.call(self.ema, _channels_last(low.to(self.device)))
        return output.float().clamp(0, 1).cpu()

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.is_mixed else contextlib.nullcontext()

    # ------------------------------------------------------------------ state

    def _parts(self) -> dict[str, nn.Module]:
        """The networks by their names in state files."""
        parts = {"network": self.network, "mean": self.ema}
        return parts | ({"expert": self.discriminator} if self.discriminator is not None else {})

    def state(self) -> dict[str, Tensor]:
        """All weights, on the CPU."""
        return {
            f"{part}.{key}": value.detach().cpu()
            for part, module in self._parts().items()
            for key, value in module.state_dict().items()
        }

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], where: str) -> None:
        """Loads a state, except for the learning rates. Raises CalotypeError if the weights are of other networks."""
        rates = [group["initial_lr"] for group in self.optimizer.param_groups]
        try:
            for part, module in self._parts().items():
                module.load_state_dict(weights_under(weights, part))
            load_optimizer(self.optimizer, optimizer)
        except (RuntimeError, KeyError, ValueError):
            raise CalotypeError(
                "{where} is the state of other networks; delete it to begin anew", where=where
            ) from None
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _gan_loss(logits: Tensor, is_real: bool, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy of logits with 1 or 0, weighted by pixel."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, float(is_real)).float(), weight)
