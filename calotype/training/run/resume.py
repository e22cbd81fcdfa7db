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
from calotype.files import write_atomic


@dataclass(frozen=True)
class State:
    """After `step` steps: what was learnt, what the optimizer remembers, and the losses so far."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    losses: tuple[float, ...]
    fingerprint: str  # of everything that decides about the result
    scale: tuple[float, int] = (1.0, 0)  # of the loss, and steps since it was changed
    is_whole: bool = True  # nothing of its last step is left to do: files, samples


def state_path(task: Any) -> Path:
    """Where the state of a run lies: beside what it writes, under its name."""
    return task.output_dir / f"{task.output_name}.state.safetensors"


def save(path: Path, state: State) -> None:
    """Raises CalotypeError where the disk is full; the file from before stays then."""
    tensors = {f"w.{key}": value.contiguous() for key, value in state.weights.items()}
    optimizer = {"state": state.optimizer["state"], "param_groups": state.optimizer["param_groups"]}
    told = {
        "step": str(state.step),
        "optimizer": json.dumps(_apart(optimizer, "o", tensors)),
        "losses": json.dumps(state.losses),
        "fingerprint": state.fingerprint,
        "scale": json.dumps(state.scale),
        "is whole": json.dumps(state.is_whole),
    }
    data = packed(tensors, told)
    write_atomic(path, data)


def load(path: Path) -> State:
    """Raises CalotypeError: damaged, or no state."""
    try:
        with safe_open(path, "pt") as file:
            told, keys = file.metadata() or {}, list(file.keys())
            tensors = {key: file.get_tensor(key) for key in keys}
        optimizer = _together(json.loads(told["optimizer"]), tensors)
        return State(
            int(told["step"]),
            {key.removeprefix("w."): tensors[key] for key in keys if key.startswith("w.")},
            {
                "state": {int(n): kept for n, kept in optimizer["state"].items()},
                "param_groups": optimizer["param_groups"],
            },
            tuple(json.loads(told["losses"])),
            told["fingerprint"],
            tuple(json.loads(told["scale"])),
            json.loads(told.get("is whole", "true")) is True,
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as fault:
        raise CalotypeError(
            "{path} is no state of a training run ({kind}); delete it to begin anew",
            path=path,
            kind=type(fault).__name__,
        ) from None


def state_in(path: Path) -> Path:
    """The state that a person points at: the file, or the only one in a folder. Raises CalotypeError for none."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.state.safetensors")) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise CalotypeError(
            "{path} holds {count} states; give one of them, such as {name}",
            path=path,
            count=len(found),
            name=found[0].name,
        )
    if (path / "optimizer.bin").is_file():
        raise CalotypeError(
            "{path} is a state of sd-scripts, which only it can read; give its LoRA: {option:network_weights}",
            path=path,
        )
    raise CalotypeError("there is no state at {path}; give a NAME.state.safetensors, or its folder", path=path)


def remembered(optimizer: torch.optim.Optimizer, kept: Mapping[str, Any]) -> None:
    """Gives an optimizer back what it remembered, each part laid out in memory as its weight is.

    Fused optimizers go through both as they lie in memory, so another layout would mix the numbers up.
    """
    optimizer.load_state_dict(dict(kept))
    for weight, parts in optimizer.state.items():
        parts |= {
            name: torch.empty_like(weight, dtype=part.dtype).copy_(part)
            for name, part in parts.items()
            if isinstance(part, Tensor) and part.shape == weight.shape
        }


def _apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same with a name where a tensor was; the tensors, however deep, lie by these names in `tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # groups may share one
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": {str(key): _apart(one, f"{name}.{key}", tensors) for key, one in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_apart(one, f"{name}.{n}", tensors) for n, one in enumerate(value)]
    return value


def _together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: _together(one, tensors) for key, one in value["map"].items()}
    return [_together(one, tensors) for one in value] if isinstance(value, list) else value


def dtype_named(name: str) -> torch.dtype:
    """sd-scripts' names, of files ("float") and of computing ("no": nothing mixed)."""
    return {"no": torch.float32, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
