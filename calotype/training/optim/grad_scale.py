"""Losses made larger before they are traced back, so that fp16 keeps small gradients (Micikevicius et al. 2018)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST, LEAST, GROWS_AFTER = (
    65536.0,
    2.0,
    2000,
)  # as torch's own GradScaler begins, and after how many good steps it doubles


@dataclass
class GradScaler:
    """A power of two that follows what fp16 can hold; 1 and idle for all other formats."""

    factor: float = 1.0
    good: int = 0  # steps since it was changed

    @classmethod
    def of(cls, dtype: torch.dtype) -> "GradScaler":
        return cls(FIRST if dtype == torch.float16 else 1.0)

    @property
    def is_searching(self) -> bool:
        """Whether gradients that are no numbers may be its own doing, and a smaller one will help."""
        return self.factor > LEAST

    def unscaled(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Brings gradients back to their size; False where they are no numbers, and the step is to be left out."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.factor > 1:
            torch._foreach_div_(grads, self.factor)
        is_fine = are_numbers(grads)
        if self.factor == 1:
            return is_fine
        self.good = self.good + 1 if is_fine else 0
        if not is_fine:
            self.factor = max(LEAST, self.factor / 2)
        elif self.good == GROWS_AFTER:
            self.factor, self.good = self.factor * 2, 0
        return is_fine


def are_numbers(tensors: Sequence[Tensor], power: int = 1) -> bool:
    """Whether all that is in them is finite, also when it is raised to `power`."""
    return not tensors or bool(torch.isfinite(torch.stack(torch._foreach_norm(tensors, math.inf)) ** power).all())
