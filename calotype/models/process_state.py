"""What torch keeps once for the whole process: the number of threads, and the default random numbers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class ProcessState:
    """That of one run. It begins with the threads that are there, and the same random numbers in every run."""

    def __init__(self, device: torch.device):
        self._device = device
        devices = ["cpu", *([device] if device.type == "cuda" else [])]
        self._own = [torch.get_num_threads(), *(torch.Generator(each).get_state() for each in devices)]

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Puts back at the end what was there before, and keeps what the run has made of its own."""
        before = self._swapped(self._own)
        try:
            yield
        finally:
            self._own = self._swapped(before)

    def _swapped(self, new: list[Any]) -> list[Any]:
        before = [torch.get_num_threads(), torch.get_rng_state()]
        if new[0] != before[0]:
            torch.set_num_threads(new[0])
        torch.set_rng_state(new[1])
        if self._device.type == "cuda":
            before.append(torch.cuda.get_rng_state(self._device))
            torch.cuda.set_rng_state(new[2], self._device)
        return before


def isolated(steps: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The same steps. Torch's process-wide state is the run's own while it works, and the others' while it waits."""
    own = ProcessState(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what earlier runs have left there unused is free memory
    try:
        while True:
            with own.in_force():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
    finally:
        with own.in_force():
            steps.close()
