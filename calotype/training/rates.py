"""How the learning rate goes over the steps: factors of it, from 0 to 1, by sd-scripts' names."""

import math


def factor(name: str, step: int, total: int, warm: int = 0, cycles: int = 1, power: float = 1.0) -> float:
    """The factor at `step`, counted from 0, of `total` steps, of which `warm` rise.

    Args:
        cycles: restarts of "cosine_with_restarts".
        power: of "polynomial".
    """
    if step < warm:
        return step / max(1, warm)
    rest, done = max(1, total - warm), step - warm
    share = min(1.0, done / rest)
    if name in ("constant", "constant_with_warmup"):
        return 1.0
    if name == "linear":
        return 1.0 - share
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if name == "cosine_with_restarts":
        return 0.0 if share >= 1 else 0.5 * (1 + math.cos(math.pi * ((cycles * share) % 1.0)))
    if name == "polynomial":
        least = 1e-7
        return least + (1 - least) * (1 - share) ** power
    if name == "inverse_sqrt":
        scale = max(1, warm or 10_000)
        return 1 / math.sqrt((step + scale - warm) / scale)
    if name == "cosine_with_min_lr":
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share))
    if name == "warmup_stable_decay":
        return 1.0 if share < 0.8 else 0.5 * (1 + math.cos(math.pi * (share - 0.8) / 0.2))
    raise ValueError(name)
