"""Targets, noise and losses of diffusion training, with sd-scripts' options."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SNR = 1000.0  # sd-scripts' upper limit of the SNR in loss weights


def add_noise(latents: Tensor, noise: Tensor, sqrt_alphas_cumprod: Tensor) -> Tensor:
    """Noisy latents (N, C, h, w) at the timesteps of `sqrt_alphas_cumprod` (N,)."""
    alpha_t = sqrt_alphas_cumprod.view(-1, 1, 1, 1)
    return alpha_t * latents + (1 - alpha_t**2).clamp(min=0).sqrt() * noise


def training_target(latents: Tensor, noise: Tensor, sqrt_alphas_cumprod: Tensor, prediction_type: str) -> Tensor:
    """The target of the prediction: the noise for "epsilon", or v (Salimans and Ho 2022)."""
    if prediction_type == "epsilon":
        return noise
    alpha_t = sqrt_alphas_cumprod.view(-1, 1, 1, 1)
    return alpha_t * noise - (1 - alpha_t**2).clamp(min=0).sqrt() * latents


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Options of the training noise, by sd-scripts' names."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False

    def sample(self, latents: Tensor, generator: torch.Generator, rng: random.Random) -> tuple[Tensor, Tensor]:
        """The noise of the target, and the noise added to the latents (different with `ip_noise_gamma`)."""
        noise = torch.randn(latents.shape, generator=generator)
        if self.noise_offset:
            strength = _strength(self.noise_offset, self.noise_offset_random_strength, generator)
            noise = offset_noise(noise, strength, generator, latents, self.adaptive_noise_scale)
        if self.multires_noise_iterations:
            discount = self.multires_noise_discount
            noise = pyramid_noise(noise, self.multires_noise_iterations, discount, generator, rng)
        if not self.ip_noise_gamma:
            return noise, noise
        strength = _strength(self.ip_noise_gamma, self.ip_noise_gamma_random_strength, generator)
        return noise, noise + strength * torch.randn(latents.shape, generator=generator)


def _strength(strength: float, is_random: bool, generator: torch.Generator) -> float:
    return strength * float(torch.rand(1, generator=generator)) if is_random else strength


def offset_noise(
    noise: Tensor, strength: float, generator: torch.Generator, latents: Tensor | None = None, adaptive: float = 0.0
) -> Tensor:
    """Adds a random offset to each channel of each sample, so that dark and bright pictures are learned.

    Args:
        latents: `adaptive` times the absolute value of their mean is added to the strength.
    """
    if not strength:
        return noise
    per_sample: float | Tensor = strength
    if adaptive and latents is not None:
        per_sample = (strength + adaptive * latents.mean((2, 3), keepdim=True).abs()).clamp(min=0)
    return noise + per_sample * torch.randn(*noise.shape[:2], 1, 1, generator=generator)


def pyramid_noise(
    noise: Tensor, iterations: int, discount: float, generator: torch.Generator, rng: random.Random
) -> Tensor:
    """Multi-resolution noise: adds noise at lower resolutions, each 2 to 4 times lower, and scales to std 1.

    Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training".
    """
    count, channels, height, width = noise.shape
    for n in range(iterations):
        ratio = rng.random() * 2 + 2
        h, w = max(1, int(height / ratio**n)), max(1, int(width / ratio**n))
        coarse = torch.randn(count, channels, h, w, generator=generator)
        noise = noise + F.interpolate(coarse, (height, width), mode="bilinear") * discount**n
        if h == 1 or w == 1:
            break
    return noise / noise.std()


def snr_weight(sqrt_alphas_cumprod: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR weight (Hang et al. 2023): min(snr, gamma) / snr; for v-prediction divided by snr + 1; (N,)."""
    snr = _snr(sqrt_alphas_cumprod)
    over = snr + 1 if prediction_type == "v_prediction" else snr.clamp(min=1e-12)
    return torch.minimum(snr, torch.full_like(snr, gamma)) / over


def _snr(sqrt_alphas_cumprod: Tensor) -> Tensor:
    return sqrt_alphas_cumprod**2 / (1 - sqrt_alphas_cumprod**2).clamp(min=1e-12)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss and its weights, by sd-scripts' names."""

    loss_type: str = "l2"
    huber_schedule: str = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float = 0.0
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float = 0.0
    debiased_estimation_loss: bool = False

    def per_sample(
        self,
        prediction: Tensor,
        target: Tensor,
        sqrt_alphas_cumprod: Tensor,
        progress: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The unweighted loss of each sample, (N,): the mean over all its values, those that are masked out too.

        Args:
            progress: timestep / number of timesteps, (N,).
            mask: weights of the latents' pixels, (N, 1, h, w).
        """
        losses = self._elementwise(prediction - target, sqrt_alphas_cumprod, progress)
        return (losses if mask is None else losses * mask).mean((1, 2, 3))

    def _elementwise(self, difference: Tensor, sqrt_alphas_cumprod: Tensor, progress: Tensor) -> Tensor:
        if self.loss_type == "l2":
            return difference**2
        if self.loss_type == "l1":
            return difference.abs()
        c = self._huber_threshold(sqrt_alphas_cumprod, progress).to(difference).view(-1, 1, 1, 1)
        huber = (
            2 * difference**2 / ((difference**2 + c**2).sqrt() + c)
        )  # pseudo-Huber: 2 (sqrt(difference^2 + c^2) - c), stable for small differences
        return huber * c if self.loss_type == "huber" else huber

    def _huber_threshold(self, sqrt_alphas_cumprod: Tensor, progress: Tensor) -> Tensor:
        """The threshold c between quadratic and linear loss at each timestep, (N,)."""
        if self.huber_schedule == "exponential":
            return self.huber_c**progress * self.huber_scale
        if self.huber_schedule == "snr":
            sigma = ((1 - sqrt_alphas_cumprod**2).clamp(min=0) / (sqrt_alphas_cumprod**2).clamp(min=1e-12)).sqrt()
            return (1 - self.huber_c) / (1 + sigma) ** 2 + self.huber_c
        return torch.full_like(sqrt_alphas_cumprod, self.huber_c * self.huber_scale)

    def weight(self, sqrt_alphas_cumprod: Tensor, prediction_type: str) -> Tensor:
        """The loss weight of each timestep, (N,)."""
        weight = torch.ones_like(sqrt_alphas_cumprod)
        snr = _snr(sqrt_alphas_cumprod).clamp(max=MAX_SNR)
        if self.min_snr_gamma:
            weight = weight * snr_weight(sqrt_alphas_cumprod, self.min_snr_gamma, prediction_type)
        if self.scale_v_pred_loss_like_noise_pred:
            weight = weight * snr / (snr + 1)
        if self.v_pred_like_loss:
            weight = weight * (1 + self.v_pred_like_loss * (snr + 1) / snr.clamp(min=1e-12))
        if self.debiased_estimation_loss:
            weight = weight / ((snr + 1) if prediction_type == "v_prediction" else snr.clamp(min=1e-12).sqrt())
        return weight
