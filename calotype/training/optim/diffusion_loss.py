"""What a diffusion model is trained towards, from which noise, and how much each step counts."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOUDEST_SNR = 1000.0  # sd-scripts' limit where it divides by the signal's share


def noised(clean: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """(N, C, h, w) with noise; `signal` is the root of the cumulated alphas, (N,)."""
    share = signal.view(-1, 1, 1, 1)
    return share * clean + (1 - share**2).clamp(min=0).sqrt() * noise


def target(clean: Tensor, noise: Tensor, signal: Tensor, prediction: str) -> Tensor:
    """What the network should answer: the noise, or v (Salimans and Ho 2022)."""
    if prediction == "epsilon":
        return noise
    share = signal.view(-1, 1, 1, 1)
    return share * noise - (1 - share**2).clamp(min=0).sqrt() * clean


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """What noise pictures are hidden in, by sd-scripts' names."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False

    def made(self, clean: Tensor, generator: torch.Generator, dice: random.Random) -> tuple[Tensor, Tensor]:
        """The noise that is to be found again, and the noise that the picture gets; (N, C, h, w) as `clean`."""
        noise = torch.randn(clean.shape, generator=generator)
        if self.noise_offset:
            strength = _up_to(self.noise_offset, self.noise_offset_random_strength, generator)
            noise = offset_noise(noise, strength, generator, clean, self.adaptive_noise_scale)
        if self.multires_noise_iterations:
            discount = self.multires_noise_discount
            noise = pyramid_noise(noise, self.multires_noise_iterations, discount, generator, dice)
        if not self.ip_noise_gamma:
            return noise, noise
        strength = _up_to(self.ip_noise_gamma, self.ip_noise_gamma_random_strength, generator)
        return noise, noise + strength * torch.randn(clean.shape, generator=generator)


def _up_to(strength: float, is_random: bool, generator: torch.Generator) -> float:
    return strength * float(torch.rand(1, generator=generator)) if is_random else strength


def offset_noise(
    noise: Tensor, strength: float, generator: torch.Generator, clean: Tensor | None = None, adaptive: float = 0.0
) -> Tensor:
    """Noise whose mean varies from picture to picture and channel to channel, for dark and bright pictures.

    Args:
        clean: the latents; `adaptive` times their mean's size is added to the strength.
    """
    if not strength:
        return noise
    each: float | Tensor = strength
    if adaptive and clean is not None:
        each = (strength + adaptive * clean.mean((2, 3), keepdim=True).abs()).clamp(min=0)
    return noise + each * torch.randn(*noise.shape[:2], 1, 1, generator=generator)


def pyramid_noise(
    noise: Tensor, iterations: int, discount: float, generator: torch.Generator, dice: random.Random
) -> Tensor:
    """Noise with coarser noises added, each 2 to 4 times coarser than the one before; again of deviation 1.

    Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training".
    """
    count, channels, height, width = noise.shape
    for n in range(iterations):
        ratio = dice.random() * 2 + 2
        h, w = max(1, int(height / ratio**n)), max(1, int(width / ratio**n))
        coarse = torch.randn(count, channels, h, w, generator=generator)
        noise = noise + F.interpolate(coarse, (height, width), mode="bilinear") * discount**n
        if h == 1 or w == 1:
            break
    return noise / noise.std()


def snr_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """Min-SNR (Hang et al. 2023): min(snr, gamma) / snr, for v over snr + 1; (N,)."""
    snr = _snr(signal)
    over = snr + 1 if prediction == "v_prediction" else snr.clamp(min=1e-12)
    return torch.minimum(snr, torch.full_like(snr, gamma)) / over


def _snr(signal: Tensor) -> Tensor:
    return signal**2 / (1 - signal**2).clamp(min=1e-12)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How a difference counts, by sd-scripts' names."""

    loss_type: str = "l2"
    huber_schedule: str = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float = 0.0
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float = 0.0
    debiased_estimation_loss: bool = False

    def each(self, answer: Tensor, wanted: Tensor, signal: Tensor, share: Tensor) -> Tensor:
        """The mean over pixels for each picture, (N,).

        Args:
            share: how far each time is towards the noisiest, 0 to 1, (N,).
        """
        difference = answer - wanted
        if self.loss_type == "l2":
            return (difference**2).mean((1, 2, 3))
        if self.loss_type == "l1":
            return difference.abs().mean((1, 2, 3))
        c = self._turn(signal, share).to(answer).view(-1, 1, 1, 1)
        soft = (
            2 * difference**2 / ((difference**2 + c**2).sqrt() + c)
        )  # pseudo-Huber: 2 (root - c), exact also when small
        return (soft * c if self.loss_type == "huber" else soft).mean((1, 2, 3))

    def _turn(self, signal: Tensor, share: Tensor) -> Tensor:
        """Where squares turn to lengths, at each time; (N,)."""
        if self.huber_schedule == "exponential":
            return self.huber_c**share * self.huber_scale
        if self.huber_schedule == "snr":
            sigma = ((1 - signal**2).clamp(min=0) / (signal**2).clamp(min=1e-12)).sqrt()
            return (1 - self.huber_c) / (1 + sigma) ** 2 + self.huber_c
        return torch.full_like(signal, self.huber_c * self.huber_scale)

    def weight(self, signal: Tensor, prediction: str) -> Tensor:
        """How much each time counts, (N,)."""
        found = torch.ones_like(signal)
        snr = _snr(signal).clamp(max=LOUDEST_SNR)
        if self.min_snr_gamma:
            found = found * snr_weight(signal, self.min_snr_gamma, prediction)
        if self.scale_v_pred_loss_like_noise_pred:
            found = found * snr / (snr + 1)
        if self.v_pred_like_loss:
            found = found * (1 + self.v_pred_like_loss * (snr + 1) / snr.clamp(min=1e-12))
        if self.debiased_estimation_loss:
            found = found / ((snr + 1) if prediction == "v_prediction" else snr.clamp(min=1e-12).sqrt())
        return found
