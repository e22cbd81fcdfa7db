"""The moving average of weights, which draws better than the weights themselves."""

import torch
from torch import nn


def mean_moved(mean: nn.Module, towards: nn.Module, keep: float) -> None:
    """Exponential moving average of all weights, in place: keep * mean + (1 - keep) * towards."""
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), list(towards.parameters()), 1 - keep)


def kept(decay: float, step: int) -> float:
    """How much of the mean stays at a step, counted from 0: less at the beginning, so that it forgets its start."""
    return min(decay, (step + 1) / (step + 10))
