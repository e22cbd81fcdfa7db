"""What a diffusion model is trained towards, and how much each step counts."""

import torch
from torch import Tensor


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


def snr_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """Min-SNR (Hang et al. 2023): min(snr, gamma) / snr, for v over snr + 1; (N,)."""
    snr = signal**2 / (1 - signal**2).clamp(min=1e-12)
    over = snr + 1 if prediction == "v_prediction" else snr.clamp(min=1e-12)
    return torch.minimum(snr, torch.full_like(snr, gamma)) / over


def offset_noise(noise: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Noise whose mean varies from picture to picture and channel to channel, for dark and bright pictures."""
    if not strength:
        return noise
    return noise + strength * torch.randn(*noise.shape[:2], 1, 1, generator=generator)
