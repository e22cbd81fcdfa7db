"""Learning rate schedules by sd-scripts' names, as factors of the learning rate from 0 to 1."""

import math
from collections.abc import Sequence


def lr_factor(
    name: str,
    step: int,
    total: int,
    warmup: int = 0,
    cycles: int = 1,
    power: float = 1.0,
    min_factor: float | None = None,
    decay: int = 0,
    timescale: int = 0,
    rules: Sequence[tuple[float, float]] = (),
    lr: float = 1.0,
) -> float:
    """The factor of the learning rate at `step` (starting at 0) of `total` steps with `warmup` warmup steps.

    Args:
        cycles: restarts of "cosine_with_restarts"; half waves of "cosine_with_min_lr" and "warmup_stable_decay".
        power: of "polynomial".
        min_factor: final factor of "cosine_with_min_lr" (0.1 if None) and "warmup_stable_decay" (0 if None).
        decay: number of decay steps at the end of "warmup_stable_decay".
        timescale: of "inverse_sqrt"; 0: the warmup steps.
        rules: of "piecewise_constant": (step, factor), each factor until its step.
        lr: the learning rate; "polynomial" ends at a learning rate of 1e-7.
    """
    if name == "piecewise_constant":
        return next((value for end, value in rules if step < end), rules[-1][1] if rules else 1.0)
    if step < warmup:
        begin = (min_factor or 0.0) if name == "warmup_stable_decay" else 0.0
        return begin + (1 - begin) * step / max(1, warmup)
    decay_steps, done = max(1, total - warmup), step - warmup
    progress = min(1.0, done / decay_steps)
    if name in ("constant", "constant_with_warmup", "adafactor"):
        return 1.0
    if name == "linear":
        return 1.0 - progress
    if name == "cosine":
        return _cosine(progress)
    if name == "cosine_with_restarts":
        return 0.0 if progress >= 1 else _cosine((cycles * progress) % 1.0)
    if name == "polynomial":
        end = min(1.0, 1e-7 / lr) if lr else 0.0
        return end + (1 - end) * (1 - progress) ** power
    if name == "inverse_sqrt":
        scale = timescale or max(1, warmup or 10_000)
        return 1 / math.sqrt((step + scale - warmup) / scale)
    if name == "cosine_with_min_lr":
        end = 0.1 if min_factor is None else min_factor
        return end + (1 - end) * _cosine(cycles * progress)
    if name == "warmup_stable_decay":
        decayed = min(1.0, max(0.0, (done - (decay_steps - decay)) / max(1, decay)))
        return (min_factor or 0.0) + (1 - (min_factor or 0.0)) * (_cosine(cycles * decayed) if decayed < 1 else 0.0)
    raise ValueError(name)


def _cosine(progress: float) -> float:
    """Half a cosine, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))
