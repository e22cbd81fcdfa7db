"""What a run will take on this machine, told before it starts: memory counted in a dry run of one step with tensors
that have shapes but no numbers, time measured on a real step with noise in place of photos."""

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

from calotype.errors import CalotypeError, Message

# Peak of a process over the tensors alive in it: kernels want room of their own, and memory is given back in pieces.
# Measured on two cores with the model that ships: 1.2 at batch 1, 1.7 at 8, 1.5 at 24 and at 8 with checkpointing; with
# the U-Net of SD 1.x at 512 px 1.0, with checkpointing 0.9. That on CUDA is a guess.
ROOM = {"cpu": 1.5, "cuda": 1.2}
# Bytes that an optimizer remembers for each number that learns, by the beginning of its name.
REMEMBERED = {"adamw8bit": 2, "lion8bit": 1, "lion": 4, "sgd": 4, "adafactor": 1, "prodigy": 16, "dadapt": 16}
ADAM = 8
# A step surely takes less than so many times the memory of the U-Net's widest map: the model that ships takes 180,
# SD 1.x some 550. Where twice that is free, nothing is counted before training; counting takes seconds.
MAPS, SMALL = 2500, 2
TIGHT = 0.8  # of the free memory: beyond this it may fail
SURE = 1.3  # beyond this it will
TRIAL = {"cpu": 3e12, "cuda": 2e14}  # floating point operations of a step that is run to measure the speed
QUICK = 5.0  # seconds; a first step that took no longer is run again, as the first one is slower


@dataclass(frozen=True)
class Cost:
    """Of one call: bytes alive at the same time besides what was there before, and floating point operations."""

    bytes: int
    operations: int


@dataclass(frozen=True, eq=False)
class Trial:
    """A run, as far as it takes time and memory."""

    loss: Callable[[int, float], Tensor]  # of so many pictures of noise, of this share of the usual side
    encode: Callable[[float], Any]  # one photo of noise to latents
    parameters: Sequence[nn.Parameter]  # that learn
    optimizer: str
    device: torch.device
    batch: int
    widest: int  # bytes of the widest map of one picture: first channels, in the network's format
    passes: float  # how often a full batch of the usual size goes through, in the whole run
    photos: int  # to be encoded before
    weights: int  # bytes of the model, which is in memory already
    remedies: Sequence[Message | str]  # options that would lower the need, with their values


def expected(trial: Trial, free: int, is_dry: bool) -> Iterator[Message]:
    """Whether a run fits into `free` bytes; in a dry run, how much it needs, and how long it takes.

    Raises:
        CalotypeError: it does not fit.
    """
    if not is_dry and MAPS * trial.batch * trial.widest * SMALL < free:
        return
    step = cost(lambda: trial.loss(trial.batch, 1.0), trial.parameters)
    photo = cost(lambda: _only(trial.encode(1.0)))
    if step is None or photo is None:
        yield Message("how much memory it takes cannot be told for these options")
        return
    room = ROOM.get(trial.device.type, ROOM["cuda"])
    learning = step.bytes * room + remembered(trial.optimizer, trial.parameters)
    need = int(max(learning, photo.bytes * room))
    if is_dry:
        yield Message(
            "memory expected: {needed}, of them {weights} for the model; {free} are free besides it",
            needed=gibibytes(trial.weights + need),
            weights=gibibytes(trial.weights),
            free=gibibytes(free),
        )
    if warning := fits(need, free, trial.remedies):
        yield warning
    if is_dry:
        yield _time_told(trial, step)


def _only(_: Tensor) -> None:
    """For what is no loss."""


def _time_told(trial: Trial, step: Cost) -> Message:
    most = TRIAL.get(trial.device.type, TRIAL["cpu"])
    tries = ((trial.batch, 1.0), (1, 1.0), (1, 0.5), (1, 0.25))
    count, part = next(
        (one for one in tries if step.operations * one[0] / trial.batch * one[1] ** 2 <= most), tries[-1]
    )
    tried = step if (count, part) == tries[0] else cost(lambda: trial.loss(count, part), trial.parameters)
    each = seconds(lambda: trial.loss(count, part), trial.device, trial.parameters)
    each *= step.operations / tried.operations
    side = min(1.0, part * 2)
    before = seconds(lambda: _only(trial.encode(side)), trial.device) / side**2 * trial.photos
    whole = in_words(before + each * trial.passes)
    if before > 0.02 * each * trial.passes:
        return Message(
            "time expected on this machine: {whole}, {each:.2g} seconds for each batch, {before} of it to prepare the "
            "photos",
            whole=whole,
            each=each,
            before=in_words(before),
        )
    return Message("time expected on this machine: {whole}, {each:.2g} seconds for each batch", whole=whole, each=each)


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are made and not yet gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def cost(call: Callable[[], Tensor | None], parameters: Iterable[nn.Parameter] = ()) -> Cost | None:
    """What a call costs, counted without computing anything. A loss that it returns is taken back through the network.

    Args:
        parameters: those that get gradients; they are without afterwards.

    Returns:
        None where the call looks at numbers, which there are none of.
    """
    alive, flops = _Alive(), FlopCounterMode(display=False)
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


def seconds(call: Callable[[], Tensor | None], device: torch.device, parameters: Iterable[nn.Parameter] = ()) -> float:
    """How long a call takes, the way back included, once everything is warm."""
    parameters, taken = list(parameters), 0.0
    for _ in range(2):
        begun = time.perf_counter()
        loss = call()
        if loss is not None:
            loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken = time.perf_counter() - begun
        for parameter in parameters:
            parameter.grad = None
        if taken > QUICK:
            break
    return taken


def remembered(optimizer: str, parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of an optimizer's memory."""
    each = next((size for name, size in REMEMBERED.items() if optimizer.lower().startswith(name)), ADAM)
    return each * sum(parameter.numel() for parameter in parameters)


def fits(need: int, free: int, remedies: Iterable[Message | str]) -> Message | None:
    """What to say of bytes that are needed where so many are free; None where they fit.

    Raises:
        CalotypeError: training cannot work.
    """
    if need <= TIGHT * free:
        return None
    values = {
        "needed": gibibytes(need),
        "free": gibibytes(free),
        "options": reduce(lambda first, second: Message("{first} or {second}", first=first, second=second), remedies),
    }
    if need > SURE * free:
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


def in_words(count: float) -> Message:
    """Seconds as people say them."""
    if count < 90:
        return Message("{count} seconds", count=max(1, round(count)))
    if count < 5400:
        return Message("{count} minutes", count=round(count / 60))
    return Message("{count:.1f} hours", count=count / 3600)
