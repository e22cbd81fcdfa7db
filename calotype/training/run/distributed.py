"""Data-parallel training in several processes: batches are sharded, and gradients summed.

The processes are started by `accelerate launch` or `torchrun`, which set RANK and WORLD_SIZE.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """Rank of this process, and number of processes."""

    rank: int = 0
    count: int = 1

    @classmethod
    def initialize(cls, device: torch.device) -> "Processes":
        """Initializes the process group if there are several processes."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count <= 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), count)

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def shard(self, items: Sequence[Any]) -> slice:
        """The slice of a global batch for this process; sizes differ by at most one."""
        begin, end = (len(items) * n // self.count for n in (self.rank, self.rank + 1))
        return slice(begin, end)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums each tensor over all processes, in place, with bit-identical results in all of them."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.count > 1:
            distributed.barrier()
