"""Loss scaling, so that small gradients do not underflow in fp16 (Micikevicius et al. 2018)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

INITIAL_FACTOR, MIN_FACTOR, GROWTH_INTERVAL = (
    65536.0,
    2.0,
    2000,
)  # the first and last are torch's GradScaler's: initial scale and steps until it doubles


@dataclass
class GradScaler:
    """A dynamic loss scale, a power of two, for fp16; a constant 1 for other dtypes."""

    factor: float = 1.0
    good_steps: int = 0  # steps since the factor changed

    @classmethod
    def for_dtype(cls, dtype: torch.dtype) -> "GradScaler":
        return cls(INITIAL_FACTOR if dtype == torch.float16 else 1.0)

    @property
    def can_decrease(self) -> bool:
        """Whether a lower factor may fix gradients that are inf or NaN."""
        return self.factor > MIN_FACTOR

    def unscale(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Unscales the gradients and updates the factor; False if they are inf or NaN and the step must be skipped."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.factor > 1:
            torch._foreach_div_(grads, self.factor)
        is_finite = all_finite(grads)
        if self.factor == 1:
            return is_finite
        self.good_steps = self.good_steps + 1 if is_finite else 0
        if not is_finite:
            self.factor = max(MIN_FACTOR, self.factor / 2)
        elif self.good_steps == GROWTH_INTERVAL:
            self.factor, self.good_steps = self.factor * 2, 0
        return is_finite


def all_finite(tensors: Sequence[Tensor], power: int = 1) -> bool:
    """Whether all elements are finite, also raised to `power`."""
    return not tensors or bool(torch.isfinite(torch.stack(torch._foreach_norm(tensors, math.inf)) ** power).all())
