"""Validation loss of a diffusion model, deterministic."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from calotype.training.optim.diffusion_loss import add_noise, training_target

TIMESTEPS = 4  # evaluated for each picture, evenly spaced


@torch.no_grad()
def validation_loss(
    latents: Sequence[Tensor],
    predict: Callable[[int, Tensor, Tensor], Tensor],
    loss: Callable[[int, Tensor, Tensor, Tensor], Tensor],
    sqrt_alphas_cumprod: Tensor,
    prediction_type: str,
    batch_size: int = TIMESTEPS,
) -> float:
    """The mean training loss over all pictures and TIMESTEPS timesteps, with fixed timesteps and noise.

    Args:
        latents: of each picture, (C, h, w).
        predict: the prediction for (N, C, h, w) noisy latents of the n-th picture at (N,) timesteps.
        loss: the training loss of each sample of the n-th picture, (N,), from prediction, target and timesteps.
        sqrt_alphas_cumprod: at every timestep.
        batch_size: noisy latents per forward pass.
    """
    total, timesteps = (
        0.0,
        torch.tensor([len(sqrt_alphas_cumprod) * (2 * n + 1) // (2 * TIMESTEPS) for n in range(TIMESTEPS)]),
    )
    for n, x0 in enumerate(latents):
        all_noise = torch.randn(TIMESTEPS, *x0.shape, generator=torch.Generator().manual_seed(n))
        for chunk in torch.arange(TIMESTEPS).split(max(1, min(batch_size, TIMESTEPS))):
            noise, alpha_t = all_noise[chunk], sqrt_alphas_cumprod[timesteps[chunk]]
            prediction = predict(n, add_noise(x0[None], noise, alpha_t), timesteps[chunk])
            target = training_target(x0[None], noise, alpha_t, prediction_type)
            total += float(loss(n, prediction, target, timesteps[chunk]).sum())
    return total / (TIMESTEPS * len(latents))
