"""Torch's process-wide state: the number of threads and the default random generators."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class ProcessState:
    """The state of one run. It starts with the current number of threads and the same seed in every run."""

    def __init__(self, device: torch.device):
        self._device = device
        devices = ["cpu", *([device] if device.type == "cuda" else [])]
        self._state = [torch.get_num_threads(), *(torch.Generator(each).get_state() for each in devices)]

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within the block, the state of the run is active; afterwards it is saved and the previous one restored."""
        before = self._swap(self._state)
        try:
            yield
        finally:
            self._state = self._swap(before)

    def _swap(self, state: list[Any]) -> list[Any]:
        before = [torch.get_num_threads(), torch.get_rng_state()]
        if state[0] != before[0]:
            torch.set_num_threads(state[0])
        torch.set_rng_state(state[1])
        if self._device.type == "cuda":
            before.append(torch.cuda.get_rng_state(self._device))
            torch.cuda.set_rng_state(state[2], self._device)
        return before


def isolated(steps: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Yields from `steps`, with the run's own process-wide state of torch while it works, not while it waits."""
    state = ProcessState(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # memory cached by earlier runs
    try:
        while True:
            with state.active():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
    finally:
        with state.active():
            steps.close()


def workers(count: int, threads: int) -> ThreadPoolExecutor:
    """A pool of `count` threads, in each of which torch uses `threads` threads; elsewhere as many as before."""
    before, started = torch.get_num_threads(), threading.Barrier(count)

    def start() -> None:
        started.wait()  # or one thread of the pool would start twice
        torch.set_num_threads(threads)

    pool = ThreadPoolExecutor(count, "calotype-rows")
    for future in [pool.submit(start) for _ in range(count)]:
        future.result()
    torch.set_num_threads(before)  # the call also sets the default of threads that start later
    return pool
