"""How the learning rate goes over the steps: factors of it, from 0 to 1, by sd-scripts' names."""

import math
from collections.abc import Sequence


def factor(
    name: str,
    step: int,
    total: int,
    warm: int = 0,
    cycles: int = 1,
    power: float = 1.0,
    least: float | None = None,
    decay: int = 0,
    timescale: int = 0,
    rules: Sequence[tuple[float, float]] = (),
    rate: float = 1.0,
) -> float:
    """The factor at `step`, counted from 0, of `total` steps, of which `warm` rise.

    Args:
        cycles: restarts of "cosine_with_restarts"; half waves of "cosine_with_min_lr" and "warmup_stable_decay".
        power: of "polynomial".
        least: where "cosine_with_min_lr" (0.1 if None) and "warmup_stable_decay" (0 if None) end.
        decay: the last steps of "warmup_stable_decay", in which it falls.
        timescale: of "inverse_sqrt"; 0: as long as the warm-up.
        rules: of "piecewise_constant": (step, factor), the factor holding before the step.
        rate: that the factor is for; "polynomial" ends at a rate of 1e-7, whatever it began at.
    """
    if name == "piecewise_constant":
        return next((value for end, value in rules if step < end), rules[-1][1] if rules else 1.0)
    if step < warm:
        begin = (least or 0.0) if name == "warmup_stable_decay" else 0.0
        return begin + (1 - begin) * step / max(1, warm)
    rest, done = max(1, total - warm), step - warm
    share = min(1.0, done / rest)
    if name in ("constant", "constant_with_warmup", "adafactor"):
        return 1.0
    if name == "linear":
        return 1.0 - share
    if name == "cosine":
        return _wave(share)
    if name == "cosine_with_restarts":
        return 0.0 if share >= 1 else _wave((cycles * share) % 1.0)
    if name == "polynomial":
        end = min(1.0, 1e-7 / rate) if rate else 0.0
        return end + (1 - end) * (1 - share) ** power
    if name == "inverse_sqrt":
        scale = timescale or max(1, warm or 10_000)
        return 1 / math.sqrt((step + scale - warm) / scale)
    if name == "cosine_with_min_lr":
        end = 0.1 if least is None else least
        return end + (1 - end) * _wave(cycles * share)
    if name == "warmup_stable_decay":
        fallen = min(1.0, max(0.0, (done - (rest - decay)) / max(1, decay)))
        return (least or 0.0) + (1 - (least or 0.0)) * (_wave(cycles * fallen) if fallen < 1 else 0.0)
    raise ValueError(name)


def _wave(share: float) -> float:
    """From 1 to 0 as half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * share))
