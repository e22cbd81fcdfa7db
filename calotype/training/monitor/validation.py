"""How well a diffusion model knows pictures that it does not learn from: one number, the same whenever it is asked."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from calotype.training.optim.diffusion_loss import add_noise, training_target

TIMES = 4  # at which each picture is measured, evenly spread


@torch.no_grad()
def validation_loss(
    pictures: Sequence[Tensor],
    answer: Callable[[int, Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    signals: Tensor,
    prediction: str,
    at_once: int = TIMES,
) -> float:
    """The mean over all pictures and times of what a step's loss is for one, with fixed times and noise.

    Args:
        pictures: their latents, (C, h, w) each.
        answer: the network's answer to (N, C, h, w) noised latents of the n-th picture at (N,) times.
        loss: of each picture, (N,), from the answer, what was wanted, and the times; the steps' own, to compare with.
        signals: the root of the cumulated alphas at every time.
        at_once: noised latents that the network is given together.
    """
    total, times = 0.0, torch.tensor([len(signals) * (2 * n + 1) // (2 * TIMES) for n in range(TIMES)])
    for n, clean in enumerate(pictures):
        noises = torch.randn(TIMES, *clean.shape, generator=torch.Generator().manual_seed(n))
        for part in torch.arange(TIMES).split(max(1, min(at_once, TIMES))):
            noise, signal = noises[part], signals[times[part]]
            made = answer(n, add_noise(clean[None], noise, signal), times[part])
            total += float(loss(made, training_target(clean[None], noise, signal, prediction), times[part]).sum())
    return total / (TIMES * len(pictures))
