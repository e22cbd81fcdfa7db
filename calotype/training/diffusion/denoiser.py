"""The second stage of latent diffusion (Rombach et al. 2022): training of the U-Net and the text encoder.

v-prediction (Salimans and Ho 2022) with zero terminal SNR (Lin et al. 2023), min-SNR loss weights (Hang et al. 2023),
and caption dropout for classifier-free guidance (Ho and Salimans 2022).
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
from calotype.training.diffusion.networks import Compute, step_generator
from calotype.training.optim.diffusion_loss import add_noise, snr_weight, training_target
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.run.resume import load_optimizer, weights_under

PREDICTION = "v_prediction"
TRAINING: Mapping[str, Any] = {  # keys of a diffusers scheduler config
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": PREDICTION,
    "rescale_betas_zero_snr": True,
}
MIN_WEIGHT, ZERO_SNR_WEIGHT = 0.15, 0.5  # min loss weight, and that of the timestep with SNR 0
WINDOW = 50  # steps that the loss is averaged over
MAX_LOSS_RATIO = 1.5  # relative to the lowest mean loss; above it training has diverged
CONSTANT_FRACTION = 0.3  # fraction of the steps with a constant learning rate


@dataclass(frozen=True)
class DenoiserConfig:
    """Hyperparameters of the denoiser's training."""

    steps: int
    batch: int
    lr: float
    seed: int
    caption_dropout: float
    min_snr_gamma: float
    ema_decay: float

    def lr_at(self, step: int, progress: float) -> float:
        """Learning rate: linear warmup, constant, then cosine decay; `progress` is that of the stage, 0 to 1."""
        warmup = min(300, self.steps // 10 + 1)
        decay = (
            1.0
            if progress < CONSTANT_FRACTION
            else 0.5 + 0.5 * math.cos(math.pi * (progress - CONSTANT_FRACTION) / (1 - CONSTANT_FRACTION))
        )
        return self.lr * min(1, (step + 1) / warmup) * decay + 1e-6


@dataclass(frozen=True, eq=False)
class LatentDataset:
    """Latents and caption tokens of all pictures, on the device."""

    mean: Tensor  # (N, C, h, w) float16
    std: Tensor  # (N, C, h, w) float16, of the VAE's distribution
    tokens: Tensor  # (N, K, 77) int32: K captions each
    empty_tokens: Tensor  # (77,): of the empty caption
    weights: Tensor  # (N,): sampling weights; 0 for validation images
    sqrt_alphas_cumprod: Tensor  # (T,)


class DenoiserTrainer:
    """Trains U-Net and text encoder; the randomness of `step(n)` depends only on the seed and n."""

    def __init__(
        self, unet: nn.Module, text: TextEncoder, dataset: LatentDataset, compute: Compute, config: DenoiserConfig
    ):
        self.unet, self.text, self.dataset, self.compute, self.config = unet, text, dataset, compute, config
        self.unet_ema, self.text_ema = (copy.deepcopy(m).eval().requires_grad_(False) for m in (unet, text))
        self.unet_backup, self.text_backup = copy.deepcopy(self.unet_ema), copy.deepcopy(self.text_ema)
        self._parameters = [*unet.parameters(), *text.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._parameters, config.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=compute.device.type == "cuda"
        )
        self._predict = compute.compile(self._forward)

    def step(self, n: int, progress: float) -> tuple[float, dict[str, float]]:
        """Returns the loss, and no other metrics; `progress` may be ahead of n if the time is limited."""
        config, dataset, device = self.config, self.dataset, self.compute.device
        self.optimizer.param_groups[0]["lr"] = config.lr_at(n, progress)
        generator = step_generator(device, config.seed, 2 * n + 1)
        chosen = torch.multinomial(dataset.weights, config.batch, replacement=True, generator=generator)
        normal = torch.randn((2, config.batch, *dataset.mean.shape[1:]), generator=generator, device=device)
        x0, noise = dataset.mean[chosen].float() + dataset.std[chosen].float() * normal[0], normal[1]
        caption = torch.randint(0, dataset.tokens.shape[1], (config.batch,), generator=generator, device=device)
        tokens = dataset.tokens[chosen, caption]
        is_dropped = torch.rand(config.batch, 1, generator=generator, device=device) < config.caption_dropout
        tokens = torch.where(is_dropped, dataset.empty_tokens, tokens).long()
        timesteps = torch.randint(
            0, len(dataset.sqrt_alphas_cumprod), (config.batch,), generator=generator, device=device
        )
        alpha_t = dataset.sqrt_alphas_cumprod[timesteps]
        x = add_noise(x0, noise, alpha_t).contiguous(memory_format=torch.channels_last)
        with self.compute.autocast(), self.compute.attention_backend():
            prediction = self._predict(x, timesteps, tokens)
        loss = self.loss(prediction.float(), training_target(x0, noise, alpha_t, PREDICTION), timesteps).mean()
        loss.backward()
        total = float(
            loss.detach() + 0 * nn.utils.clip_grad_norm_(self._parameters, 1.0)
        )  # NaN if a gradient is not finite
        if math.isfinite(total):
            self.optimizer.step()
            decay = ema_decay_at(config.ema_decay, n)
            update_ema(self.unet_ema, self.unet, decay)
            update_ema(self.text_ema, self.text, decay)
        self.optimizer.zero_grad(set_to_none=True)
        return total, {}

    def loss(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """Weighted loss of each sample, (N,)."""
        per_sample = (prediction - target).square().mean((1, 2, 3))
        return per_sample * timestep_weight(
            self.dataset.sqrt_alphas_cumprod[timesteps.to(self.compute.device)], self.config.min_snr_gamma
        ).to(per_sample)

    def _forward(self, x: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x, timesteps, text_states(self.text, tokens)).sample

    @torch.no_grad()
    def validation_prediction(self, indices: Sequence[int], n: int, x: Tensor, timesteps: Tensor) -> Tensor:
        """The EMA networks' prediction for noisy latents of the n-th validation image, with its first caption."""
        device = self.compute.device
        tokens = self.dataset.tokens[indices[n], :1].long().expand(len(x), -1)
        with self.compute.autocast():
            return (
                self.unet_ema(x.to(device), timesteps.to(device), text_states(self.text_ema, tokens))
                .sample.float()
                .cpu()
            )

    # ------------------------------------------------------------------ state

    STATE_KEYS: Mapping[str, str] = {  # prefix of keys in the state file -> attribute
        "unet": "unet",
        "text": "text",
        "unet_mean": "unet_ema",
        "text_mean": "text_ema",
        "unet_good": "unet_backup",
        "text_good": "text_backup",
    }

    def back_up(self) -> None:
        """Copies the EMA weights, for `restore_backup` if training diverges."""
        self.unet_backup, self.text_backup = copy.deepcopy(self.unet_ema), copy.deepcopy(self.text_ema)

    def restore_backup(self) -> None:
        """Restores the EMA weights of the last `back_up`."""
        self.unet_ema, self.text_ema = copy.deepcopy(self.unet_backup), copy.deepcopy(self.text_backup)

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{prefix}.{key}": value
            for prefix, name in self.STATE_KEYS.items()
            for key, value in getattr(self, name).state_dict().items()
        }

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        for prefix, name in self.STATE_KEYS.items():
            getattr(self, name).load_state_dict(weights_under(weights, prefix))
        load_optimizer(self.optimizer, optimizer)


def sound_windows(losses: Sequence[float]) -> list[bool]:
    """For every WINDOW steps, whether their mean loss is close to the lowest so far; skipped steps do not count."""
    windows = [losses[n : n + WINDOW] for n in range(0, len(losses) - WINDOW + 1, WINDOW)]
    compute = [statistics.fmean(filter(math.isfinite, window)) for window in windows]
    return [mean <= MAX_LOSS_RATIO * lowest for mean, lowest in zip(compute, accumulate(compute, min), strict=True)]


def text_states(text: TextEncoder, tokens: Tensor) -> Tensor:
    """(N, 77) tokens -> (N, 77, D) text encoder hidden states."""
    ends = torch.zeros(
        len(tokens), dtype=torch.long, device=tokens.device
    )  # only used by a projection, which it does not have
    return text.normalised(text(text.embed(tokens), ends).layers[-1])


def timestep_weight(alpha_t: Tensor, gamma: float) -> Tensor:
    """Loss weight of each timestep: min-SNR, at least MIN_WEIGHT; 1 if gamma is 0."""
    if not gamma:
        return torch.ones_like(alpha_t)
    weights = snr_weight(alpha_t, gamma, PREDICTION)
    return torch.where(alpha_t < 1e-3, torch.full_like(weights, ZERO_SNR_WEIGHT), weights).clamp(min=MIN_WEIGHT)
