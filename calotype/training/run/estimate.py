"""Estimates of a run's memory and time before it starts: memory by one step with fake tensors, time by one real step
with random inputs."""

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from calotype.errors import CalotypeError, Message, duration

# Peak memory of a process / that of its live tensors: kernels need workspace, and freed memory is fragmented.
# Measured on two cores with the model that ships: 1.2 at batch 1, 1.7 at 8, 1.5 at 24 and at 8 with checkpointing; with
# the U-Net of SD 1.x at 512 px 1.0, with checkpointing 0.9. The value for CUDA is a guess.
MEMORY_OVERHEAD = {"cpu": 1.5, "cuda": 1.2}
# Bytes of optimizer state per trainable parameter, by prefix of the optimizer's name.
OPTIMIZER_BYTES = {"adamw8bit": 2, "lion8bit": 1, "lion": 4, "sgd": 4, "adafactor": 1, "prodigy": 16, "dadapt": 16}
ADAM_BYTES = 8
# Upper bound of a step's memory / that of the U-Net's widest feature map: the model that ships needs 180, SD 1.x some
# 550. If SAFETY_FACTOR times the bound is free, the estimate, which takes seconds, is skipped.
MAX_MAPS, SAFETY_FACTOR = 2500, 2
WARN_FRACTION = 0.8  # of the free memory: above it the run may fail
FAIL_FRACTION = 1.3  # of the free memory: above it the run will fail
TRIAL_FLOPS = {"cpu": 3e12, "cuda": 2e14}  # floating point operations of the step that is timed
MAX_WARMUP_SECONDS = 5.0  # if the first step, which is slower, takes longer, it is not repeated


@dataclass(frozen=True)
class Cost:
    """Cost of one call: peak memory allocated by it, and floating point operations."""

    bytes: int
    operations: int


@dataclass(frozen=True, eq=False)
class Trial:
    """What a run computes, for the estimate."""

    loss: Callable[[int, float], Tensor]  # training loss of (count) random images at (scale) of the resolution
    encode: Callable[[float], Any]  # encodes one random image at (scale) of the resolution
    parameters: Sequence[nn.Parameter]  # trainable parameters
    optimizer: str
    device: torch.device
    batch: int
    widest: int  # bytes of the largest feature map of one image, in the network's dtype
    passes: float  # number of full batches of the whole run
    photos: int  # photos to encode before the training
    weights: int  # bytes of the model, which is already in memory
    remedies: Sequence[Message | str]  # options, with values, that need less memory


def estimate(trial: Trial, free: int, is_dry: bool) -> Iterator[Message]:
    """Checks that a run fits into `free` bytes; in a dry run yields its memory and its time.

    Raises:
        CalotypeError: it does not fit.
    """
    if not is_dry and MAX_MAPS * trial.batch * trial.widest * SAFETY_FACTOR < free:
        return
    step = cost(lambda: trial.loss(trial.batch, 1.0), trial.parameters)
    photo = cost(lambda: _discard(trial.encode(1.0)))
    if step is None or photo is None:
        yield Message("the memory cannot be estimated for these options")
        return
    overhead = MEMORY_OVERHEAD.get(trial.device.type, MEMORY_OVERHEAD["cuda"])
    learning = step.bytes * overhead + optimizer_bytes(trial.optimizer, trial.parameters)
    need = int(max(learning, photo.bytes * overhead))
    if is_dry:
        yield Message(
            "memory expected: {needed}, including {weights} for the model; {free} are free besides it",
            needed=gibibytes(trial.weights + need),
            weights=gibibytes(trial.weights),
            free=gibibytes(free),
        )
    if warning := memory_warning(need, free, trial.remedies):
        yield warning
    if is_dry:
        yield _time_message(trial, step)


def _discard(_: Tensor) -> None:
    """Discards a result, so that there is no backward pass."""


def _time_message(trial: Trial, step: Cost) -> Message:
    max_flops = TRIAL_FLOPS.get(trial.device.type, TRIAL_FLOPS["cpu"])
    candidates = ((trial.batch, 1.0), (1, 1.0), (1, 0.5), (1, 0.25))
    per_image = step.operations / trial.batch
    count, scale = next(
        ((n, scale) for n, scale in candidates if per_image * n * scale**2 <= max_flops), candidates[-1]
    )
    tried_step = step if (count, scale) == candidates[0] else cost(lambda: trial.loss(count, scale), trial.parameters)
    batch_time = measure_seconds(lambda: trial.loss(count, scale), trial.device, trial.parameters)
    batch_time *= step.operations / tried_step.operations
    side = min(1.0, scale * 2)
    encode_time = measure_seconds(lambda: _discard(trial.encode(side)), trial.device) / side**2 * trial.photos
    total = duration(encode_time + batch_time * trial.passes)
    if encode_time > 0.02 * batch_time * trial.passes:
        return Message(
            "time expected on this machine: {whole}, {each:.2g} seconds for each batch, {before} of it to prepare the "
            "photos",
            whole=total,
            each=batch_time,
            before=duration(encode_time),
        )
    return Message(
        "time expected on this machine: {whole}, {each:.2g} seconds for each batch", whole=total, each=batch_time
    )


class _MemoryCounter(TorchDispatchMode):
    """Counts the bytes of live tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.ref(storage, lambda _: self._remove(key, size))

    def _remove(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def cost(call: Callable[[], Tensor | None], parameters: Iterable[nn.Parameter] = ()) -> Cost | None:
    """The cost of a call, with fake tensors; with a backward pass if it returns a loss.

    Args:
        parameters: trainable parameters; their gradients are cleared.

    Returns:
        None if the call depends on values, which fake tensors do not have.
    """
    alive, flops = _MemoryCounter(), FlopCounterMode(display=False)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), flops, alive:
            loss = call()
            if loss is not None:
                loss.backward()
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException):
        return None
    finally:
        for parameter in parameters:
            parameter.grad = None
    return Cost(alive.peak, flops.get_total_flops())


def measure_seconds(
    call: Callable[[], Tensor | None], device: torch.device, parameters: Iterable[nn.Parameter] = ()
) -> float:
    """Seconds of a call, including the backward pass, after a warmup call."""
    parameters, elapsed = list(parameters), 0.0
    for _ in range(2):
        start = time.perf_counter()
        loss = call()
        if loss is not None:
            loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        for parameter in parameters:
            parameter.grad = None
        if elapsed > MAX_WARMUP_SECONDS:
            break
    return elapsed


def optimizer_bytes(optimizer: str, parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of an optimizer's state."""
    each = next((size for name, size in OPTIMIZER_BYTES.items() if optimizer.lower().startswith(name)), ADAM_BYTES)
    return each * sum(parameter.numel() for parameter in parameters)


def memory_warning(need: int, free: int, remedies: Iterable[Message | str]) -> Message | None:
    """A warning if the needed memory is close to the free memory, else None.

    Raises:
        CalotypeError: there is not enough memory.
    """
    if need <= WARN_FRACTION * free:
        return None
    values = {
        "needed": gibibytes(need),
        "free": gibibytes(free),
        "options": reduce(lambda first, second: Message("{first} or {second}", first=first, second=second), remedies),
    }
    if need > FAIL_FRACTION * free:
        raise CalotypeError(
            "training needs about {needed} of memory besides the model, and {free} are free; give {options}, or close "
            "other programs",
            **values,
        )
    return Message(
        "training needs about {needed} of memory besides the model, and {free} are free, so it may run out; give "
        "{options}, or close other programs",
        **values,
    )


def gibibytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
