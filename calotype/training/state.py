"""All that a training run needs to go on, in one file that appears whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.picture.saving import Arriving


@dataclass(frozen=True)
class State:
    """After `step` steps: what was learnt, what the optimizer remembers, and the losses so far."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    losses: tuple[float, ...]
    fingerprint: str  # of everything that decides about the result


def save(path: Path, state: State) -> None:
    """Raises CalotypeError where the disk is full; the file from before stays then."""
    tensors = {f"w.{key}": value.contiguous() for key, value in state.weights.items()}
    plain: dict[str, dict[str, Any]] = {}
    for number, kept in state.optimizer["state"].items():
        for key, value in kept.items():
            if isinstance(value, Tensor):
                tensors[f"o.{number}.{key}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(number), {})[key] = value
    told = {
        "step": str(state.step),
        "groups": json.dumps(state.optimizer["param_groups"]),
        "plain": json.dumps(plain),
        "losses": json.dumps(state.losses),
        "fingerprint": state.fingerprint,
    }
    data = packed(tensors, told)
    with Arriving(path) as file:
        file.write(data)


def load(path: Path) -> State:
    """Raises CalotypeError: damaged, or no state."""
    try:
        with safe_open(path, "pt") as file:
            told, keys = file.metadata() or {}, list(file.keys())
            tensors = {key: file.get_tensor(key) for key in keys}
        optimizer: dict[int, dict[str, Any]] = {}
        for number, kept in json.loads(told["plain"]).items():
            optimizer.setdefault(int(number), {}).update(kept)
        for key in keys:
            if key.startswith("o."):
                _, number, name = key.split(".", 2)
                optimizer.setdefault(int(number), {})[name] = tensors[key]
        return State(
            int(told["step"]),
            {key.removeprefix("w."): tensors[key] for key in keys if key.startswith("w.")},
            {"state": optimizer, "param_groups": json.loads(told["groups"])},
            tuple(json.loads(told["losses"])),
            told["fingerprint"],
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as fault:
        raise CalotypeError(
            f"{path} is no state of a training run ({type(fault).__name__}); delete it to begin anew"
        ) from None


def dtype_named(name: str) -> torch.dtype:
    return {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
