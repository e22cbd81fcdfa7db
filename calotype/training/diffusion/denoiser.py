"""The second stage of latent diffusion (Rombach et al. 2022): U-Net and text encoder learn to take noise away.

v-prediction (Salimans and Ho 2022) down to no signal at all (Lin et al. 2023), weighed by min-SNR (Hang et al. 2023);
now and then without caption, for guidance (Ho and Salimans 2022).
"""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from calotype.models.clip_text import TextEncoder
from calotype.training.diffusion.networks import Compute, chance_at, under
from calotype.training.optim.diffusion_loss import add_noise, snr_weight, training_target
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.run.resume import remembered

PREDICTION = "v_prediction"
TRAINING: Mapping[str, Any] = {  # by the names of a diffusers scheduler's config
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": PREDICTION,
    "rescale_betas_zero_snr": True,
}
LEAST, SILENT = 0.15, 0.5  # weight of any timestep at least, and of the one that has no signal
WINDOW = 50  # steps over which the loss is the mean
COLLAPSED = 1.5  # times the lowest: of a loss at which the networks are spoilt
LEVEL = 0.3  # share of the way after which the rate begins to fall


@dataclass(frozen=True)
class DenoiserConfig:
    """How the two are trained."""

    steps: int
    batch: int
    rate: float
    seed: int
    caption_dropout: float
    min_snr_gamma: float
    ema_decay: float

    def rate_at(self, step: int, share: float) -> float:
        """Rises, is level, and falls as a cosine; `share` of the way is behind."""
        warm = min(300, self.steps // 10 + 1)
        fall = 1.0 if share < LEVEL else 0.5 + 0.5 * math.cos(math.pi * (share - LEVEL) / (1 - LEVEL))
        return self.rate * min(1, (step + 1) / warm) * fall + 1e-6


@dataclass(frozen=True, eq=False)
class Lessons:
    """All pictures as latents, with the tokens of their captions, on the device."""

    mean: Tensor  # (N, C, h, w) float16
    spread: Tensor  # the same: their deviations, for the VAE gives a distribution
    tokens: Tensor  # (N, K, 77) int32: K captions each
    nothing: Tensor  # (77,): no caption
    weights: Tensor  # (N,): how often each is shown; 0 is held back
    signals: Tensor  # (T,): the root of the cumulated alphas


class Diffusing:
    """U-Net and text encoder while they learn; `step(n)` is one change of their weights, by chance from seed and n."""

    def __init__(self, unet: nn.Module, text: TextEncoder, lessons: Lessons, means: Compute, way: DenoiserConfig):
        self.unet, self.text, self.lessons, self.means, self.way = unet, text, lessons, means, way
        self.unet_mean, self.text_mean = (copy.deepcopy(one).eval().requires_grad_(False) for one in (unet, text))
        self.unet_good, self.text_good = copy.deepcopy(self.unet_mean), copy.deepcopy(self.text_mean)
        self._all = [*unet.parameters(), *text.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._all, way.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=means.device.type == "cuda"
        )
        self._answer = means.quick(self._answered)

    def step(self, n: int, share: float) -> tuple[float, dict[str, float]]:
        """The loss, and nothing besides; `share` of the way is behind, more than n steps where time is short."""
        way, lessons, device = self.way, self.lessons, self.means.device
        self.optimizer.param_groups[0]["lr"] = way.rate_at(n, share)
        chance = chance_at(device, way.seed, 2 * n + 1)
        chosen = torch.multinomial(lessons.weights, way.batch, replacement=True, generator=chance)
        normal = torch.randn((2, way.batch, *lessons.mean.shape[1:]), generator=chance, device=device)
        clean, noise = lessons.mean[chosen].float() + lessons.spread[chosen].float() * normal[0], normal[1]
        said = torch.randint(0, lessons.tokens.shape[1], (way.batch,), generator=chance, device=device)
        tokens = lessons.tokens[chosen, said]
        is_dropped = torch.rand(way.batch, 1, generator=chance, device=device) < way.caption_dropout
        tokens = torch.where(is_dropped, lessons.nothing, tokens).long()
        times = torch.randint(0, len(lessons.signals), (way.batch,), generator=chance, device=device)
        signal = lessons.signals[times]
        x = add_noise(clean, noise, signal).contiguous(memory_format=torch.channels_last)
        with self.means.autocast(), self.means.attention():
            answer = self._answer(x, times, tokens)
        loss = self.loss(answer.float(), training_target(clean, noise, signal, PREDICTION), times).mean()
        loss.backward()
        total = float(loss.detach() + 0 * nn.utils.clip_grad_norm_(self._all, 1.0))  # NaN where one is none
        if math.isfinite(total):
            self.optimizer.step()
            keep = ema_decay_at(way.ema_decay, n)
            update_ema(self.unet_mean, self.unet, keep)
            update_ema(self.text_mean, self.text, keep)
        self.optimizer.zero_grad(set_to_none=True)
        return total, {}

    def loss(self, answer: Tensor, wanted: Tensor, times: Tensor) -> Tensor:
        """Of each picture, (N,)."""
        each = (answer - wanted).square().mean((1, 2, 3))
        return each * weight(self.lessons.signals[times.to(self.means.device)], self.way.min_snr_gamma).to(each)

    def _answered(self, x: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x, times, states(self.text, tokens)).sample

    @torch.no_grad()
    def validation_answer(self, places: Sequence[int], n: int, x: Tensor, times: Tensor) -> Tensor:
        """Of the mean weights, for noised latents of the n-th picture held back, with its usual caption."""
        device = self.means.device
        tokens = self.lessons.tokens[places[n], :1].long().expand(len(x), -1)
        with self.means.autocast():
            return self.unet_mean(x.to(device), times.to(device), states(self.text_mean, tokens)).sample.float().cpu()

    # ------------------------------------------------------------------ what is kept

    PARTS = ("unet", "text", "unet_mean", "text_mean", "unet_good", "text_good")

    def keep(self) -> None:
        """The mean weights as they are now: what they were is there then when they get spoilt."""
        self.unet_good, self.text_good = copy.deepcopy(self.unet_mean), copy.deepcopy(self.text_mean)

    def go_back(self) -> None:
        """To what was kept."""
        self.unet_mean, self.text_mean = copy.deepcopy(self.unet_good), copy.deepcopy(self.text_good)

    def weights(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": v for name in self.PARTS for key, v in getattr(self, name).state_dict().items()}

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        for name in self.PARTS:
            getattr(self, name).load_state_dict(under(weights, name))
        remembered(self.optimizer, optimizer)


def soundness(losses: Sequence[float]) -> list[bool]:
    """After every WINDOW steps: whether their mean loss is near the lowest until then; steps left out do not count."""
    windows = [losses[n : n + WINDOW] for n in range(0, len(losses) - WINDOW + 1, WINDOW)]
    means = [statistics.fmean(filter(math.isfinite, some)) for some in windows]
    return [mean <= COLLAPSED * least for mean, least in zip(means, accumulate(means, min), strict=True)]


def states(text: TextEncoder, tokens: Tensor) -> Tensor:
    """(N, 77) tokens to what the U-Net is told, (N, 77, D)."""
    ends = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)  # only for a projection, which it has not
    return text.normalised(text(text.embed(tokens), ends).layers[-1])


def weight(signal: Tensor, gamma: float) -> Tensor:
    """How much each timestep counts: min-SNR, never less than LEAST; 1 with gamma 0."""
    if not gamma:
        return torch.ones_like(signal)
    found = snr_weight(signal, gamma, PREDICTION)
    return torch.where(signal < 1e-3, torch.full_like(found, SILENT), found).clamp(min=LEAST)
