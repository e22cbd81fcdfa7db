"""Exponential moving average (EMA) of weights."""

import torch
from torch import nn


def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * model, for all parameters, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


def ema_decay_at(decay: float, step: int) -> float:
    """EMA decay at a step (starting at 0), lower in the first steps so that the initial weights are forgotten."""
    return min(decay, (step + 1) / (step + 10))
