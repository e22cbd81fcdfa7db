"""Loaded models: kept between tasks, and the least recently used ones removed when memory is short."""

import gc
import json
import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype import memory
from calotype.checkpoints.content import is_safetensors
from calotype.checkpoints.header import header_of
from calotype.errors import CalotypeError

MODEL_FRACTION = 0.6  # of the memory that networks may use; the rest is for their work
DEPTH = 6  # of objects in a model: its parts, their parts, ...


@dataclass
class CachedModel:
    """Parts of one model, by key; several precisions of a network are parts of one model."""

    kind: str
    name: str
    files: Any  # their state when it was loaded
    parts: dict[tuple, Any] = field(default_factory=dict)
    run: int = 0  # the last one that used it

    def sizes(self) -> Counter[str]:
        """Bytes by type of device; memory that parts have in common counts once."""
        storages = {}
        for tensor in tensors_in(self.parts):
            if tensor.is_mkldnn:  # in oneDNN's own order, without a storage
                storages[tensor.device.type, id(tensor)] = tensor.numel() * tensor.itemsize
                continue
            storage = tensor.untyped_storage()
            storages[tensor.device.type, storage.data_ptr()] = storage.nbytes()
        sizes: Counter[str] = Counter()
        for (device, _), size in storages.items():
            sizes[device] += size
        return sizes


class ModelCache:
    """Models in the order of their last use.

    A model is loaded into the room that its size, known from its files, needs: the least recently used models are
    removed first. One that does not fit even alone is loaded nevertheless, as only its work shows what it needs. Models
    that the current run uses are kept, as removing them would free nothing, unless another one of their kind is loaded.

    Args:
        limit: bytes that networks may use on a device; 0: what is free.
    """

    def __init__(self, limit: int = 0):
        self._limit, self._run = limit, 0
        self._models: dict[tuple, CachedModel] = {}  # the least recently used one first
        self._sizes: dict[tuple, Counter[str]] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(model.name for model in self._models.values())

    @property
    def in_order(self) -> list[str]:
        """The names, the least recently used one first."""
        return [model.name for model in self._models.values()]

    def begin_run(self) -> None:
        """Models that are not used from now on may be removed for others."""
        self._run += 1

    def get(
        self,
        kind: str,
        name: str,
        identity: tuple,
        part: tuple,
        files: Any,
        load: Callable[[], Any],
        needed: Callable[[], Mapping[str, int]],
    ) -> Any:
        """A part of a model, loaded if it is not cached, or if its files have changed.

        Args:
            identity: of the model among those of its kind.
            files: the state of its files.
            needed: gives the bytes of the part by type of device, as far as they are known beforehand.
        """
        key = kind, *identity
        if key in self._models and self._models[key].files != files:
            self._remove(key)
        model = self._models.get(key) or CachedModel(kind, name, files)
        if part not in model.parts:
            self._make_room(key, needed())
            model.parts[part] = load()
            self._models[key] = model
            self._sizes[key] = model.sizes()
            self._make_room(key, dict.fromkeys(self._sizes[key], 0))
        model.run = self._run
        self._models[key] = self._models.pop(key)  # to the end
        return model.parts[part]

    def free(self, device: torch.device, needed: float = 0) -> int:
        """Bytes that work may use on a device, within the limit.

        Args:
            needed: as long as fewer bytes are free, models that the current run does not use are removed; these count
                against the limit.
        """
        limit = self._limit or math.inf
        needed = min(needed, limit)
        while idle := [key for key in self._idle() if self._sizes[key][device.type]]:
            used = sum(self._sizes[key][device.type] for key in idle)
            if min(_free(device), limit - used) >= needed:
                break
            self._remove(idle[0])
        return int(min(_free(device), limit))

    def remove_idle(self) -> bool:
        """Removes the models that the current run does not use. Returns whether there were any."""
        idle = self._idle()
        for key in idle:
            self._remove(key)
        return bool(idle)

    def _idle(self) -> list[tuple]:
        return [key for key, model in self._models.items() if model.run != self._run]

    def _make_room(self, key: tuple, needed: Mapping[str, int]) -> None:
        """Removes other models than this one until `needed` bytes fit besides those that stay."""
        for device, size in needed.items():
            removable = [
                cached
                for cached, model in self._models.items()
                if self._sizes[cached][device] and cached != key and (model.run != self._run or model.kind == key[0])
            ]
            while removable and self._used(device) + size > self._capacity(device):
                self._remove(removable.pop(0))

    def _used(self, device: str) -> int:
        return sum(sizes[device] for sizes in self._sizes.values())

    def _capacity(self, device: str) -> float:
        """Bytes that models may take together."""
        if self._limit:
            return self._limit * MODEL_FRACTION
        if device == "cuda":
            torch.cuda.empty_cache()  # what torch keeps for later is free too
        return (_free(torch.device(device)) + self._used(device)) * MODEL_FRACTION

    def _remove(self, key: tuple) -> None:
        sizes = self._sizes.pop(key)
        parts = [weakref.ref(part) for part in self._models.pop(key).parts.values()]
        if any(part() is not None for part in parts):
            gc.collect()  # modules may refer to each other
        if sizes["cuda"]:
            torch.cuda.empty_cache()


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.available()


def tensors_in(data: Any, depth: int = DEPTH) -> Iterator[Tensor]:
    """The tensors in a model: of modules, containers, and attributes of objects."""
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, nn.Module):
        yield from data.parameters()
        yield from data.buffers()
    elif depth and not isinstance(data, type):
        inner: Iterable[Any] = ()
        if isinstance(data, Mapping):
            inner = data.values()
        elif isinstance(data, list | tuple | set | frozenset):
            inner = data
        elif hasattr(data, "__dict__"):
            inner = vars(data).values()
        for value in inner:
            yield from tensors_in(value, depth - 1)


def expected_bytes(files: Iterable[Path], dtype: torch.dtype) -> int:
    """What the weights of these files take in memory, without reading them. Files of ncnn are taken to
    hold float16, others that are not safetensors float32."""
    return sum(_count_elements(path) for path in files) * dtype.itemsize


def _count_elements(path: Path) -> int:
    try:
        if is_safetensors(path):
            tensors = json.loads(header_of(path))
            return sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
        return path.stat().st_size // (2 if path.with_suffix(".param").is_file() else 4)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, CalotypeError):
        return 0  # loading it reports the error
