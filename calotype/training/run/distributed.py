"""Several processes that learn as one: each takes its share of every batch, and their gradients add up.

`accelerate launch` and `torchrun` both start them and tell each, in the environment, which one it is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """This process among all."""

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls, device: torch.device) -> "Processes":
        """Joins the others, where there are others."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count <= 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), count)

    @property
    def is_first(self) -> bool:
        """The one that writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Any]) -> slice:
        """Of a batch of all processes, what this one works on; sizes differ by one at most."""
        begin, end = (len(items) * n // self.count for n in (self.rank, self.rank + 1))
        return slice(begin, end)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes the sum over all processes, the same bits in every one."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, whole in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(whole.view_as(tensor))

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            distributed.barrier()
