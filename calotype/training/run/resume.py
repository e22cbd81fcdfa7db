"""State files: everything that a training run needs to resume, in one safetensors file that is written atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.files import write_atomic


@dataclass(frozen=True)
class State:
    """A run after `step` steps.

    Attributes:
        weights: of everything that is trained, by name.
        optimizer: its state dict.
        losses: of all steps.
        fingerprint: of everything that determines the result.
        scale: the loss scale, and the steps since it changed.
        is_complete: whether the files and samples of the last step are done too.
    """

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    losses: tuple[float, ...]
    fingerprint: str
    scale: tuple[float, int] = (1.0, 0)
    is_complete: bool = True


def state_path(task: Any) -> Path:
    """The state file of a run: in its output folder, under its name."""
    return task.output_dir / f"{task.output_name}.state.safetensors"


def save(path: Path, state: State) -> None:
    """Raises CalotypeError if the disk is full; the previous file stays then."""
    tensors = {f"w.{key}": value.contiguous() for key, value in state.weights.items()}
    optimizer = {"state": state.optimizer["state"], "param_groups": state.optimizer["param_groups"]}
    metadata = {
        "step": str(state.step),
        "optimizer": json.dumps(_flatten(optimizer, "o", tensors)),
        "losses": json.dumps(state.losses),
        "fingerprint": state.fingerprint,
        "scale": json.dumps(state.scale),
        "is whole": json.dumps(state.is_complete),
    }
    write_atomic(path, serialize(tensors, metadata))


def load(path: Path) -> State:
    """Raises CalotypeError if the file is damaged or not a state file."""
    try:
        with safe_open(path, "pt") as file:
            metadata, keys = file.metadata() or {}, list(file.keys())
            tensors = {key: file.get_tensor(key) for key in keys}
        optimizer = _unflatten(json.loads(metadata["optimizer"]), tensors)
        return State(
            int(metadata["step"]),
            {key.removeprefix("w."): tensors[key] for key in keys if key.startswith("w.")},
            {
                "state": {int(n): value for n, value in optimizer["state"].items()},
                "param_groups": optimizer["param_groups"],
            },
            tuple(json.loads(metadata["losses"])),
            metadata["fingerprint"],
            tuple(json.loads(metadata["scale"])),
            json.loads(metadata.get("is whole", "true")) is True,
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as fault:
        raise CalotypeError(
            "{path} is no state of a training run ({kind}); delete it to begin anew",
            path=path,
            kind=type(fault).__name__,
        ) from None


def state_in(path: Path) -> Path:
    """The state file at a path: the file itself, or the only one in a folder. Raises CalotypeError if there is none."""
    if path.is_file():
        return path
    paths = sorted(path.glob("*.state.safetensors")) if path.is_dir() else []
    if len(paths) == 1:
        return paths[0]
    if len(paths) > 1:
        raise CalotypeError(
            "{path} holds {count} states; give one of them, such as {name}",
            path=path,
            count=len(paths),
            name=paths[0].name,
        )
    if (path / "optimizer.bin").is_file():
        raise CalotypeError(
            "{path} is a state of sd-scripts, which only it can read; give its LoRA: {option:network_weights}",
            path=path,
        )
    raise CalotypeError("there is no state at {path}; give a NAME.state.safetensors, or its folder", path=path)


def weights_under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix.`, without it."""
    return {key.removeprefix(f"{prefix}."): value for key, value in weights.items() if key.startswith(f"{prefix}.")}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loads an optimizer's state dict, each tensor in the memory format of its weight.

    Fused optimizers process both in memory order, so another memory format would mix up the values.
    """
    optimizer.load_state_dict(dict(state))
    for weight, values in optimizer.state.items():
        values |= {
            name: torch.empty_like(weight, dtype=value.dtype).copy_(value)
            for name, value in values.items()
            if isinstance(value, Tensor) and value.shape == weight.shape
        }


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with names in place of its tensors, at any depth; the tensors are put into `tensors` by these names."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # groups may share one
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": {str(key): _flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, f"{name}.{n}", tensors) for n, item in enumerate(value)]
    return value


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: _unflatten(item, tensors) for key, item in value["map"].items()}
    return [_unflatten(item, tensors) for item in value] if isinstance(value, list) else value


def dtype_named(name: str) -> torch.dtype:
    """The dtype by sd-scripts' names: of files ("float") and of mixed precision ("no")."""
    return {"no": torch.float32, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
