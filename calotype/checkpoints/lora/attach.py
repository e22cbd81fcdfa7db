"""Adapters onto the weights of a model, and off again: the very bits come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.lora.deltas import bias_delta, delta
from calotype.checkpoints.lora.read import Adapter
from calotype.checkpoints.names import original, unet_names
from calotype.errors import CalotypeError

LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Attached:
    """Adapters that are on. `unfit` are the modules of a file that this model does not have."""

    unfit: list[str] = field(default_factory=list)
    _kept: dict[Tensor, Tensor] = field(default_factory=dict)  # a parameter, and its numbers from before

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @torch.inference_mode()
    def remove(self) -> None:
        """Puts every weight back as it was, bit for bit."""
        for parameter, before in self._kept.items():
            parameter.data.copy_(before)
        self._kept.clear()

    @torch.inference_mode()
    def _add(self, parameter: Tensor, change: Tensor) -> None:
        self._kept.setdefault(parameter, parameter.data.clone())
        exact = parameter.data.to("cpu", torch.float32) + change.reshape(parameter.shape)
        parameter.data.copy_(exact.to(parameter.dtype))


def attach(
    adapters: Sequence[tuple[Adapter, float, float]],
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    model: str = "this model",
) -> Attached:
    """Adds each adapter to the weights: (adapter, strength in the text encoders, strength in the U-Net).

    Several on one weight add up in float32 before they are rounded once. Tensors that no module of the model takes are
    told in `Attached.unfit`.

    Raises:
        CalotypeError: nothing of an adapter fits, or its shapes do not: it was made for another base.
    """
    rooms = {"unet": _unet_modules(unet)}
    rooms |= {f"text_encoder{'_2' * n}": _modules(encoder) for n, encoder in enumerate(text_encoders)}
    attached = Attached()
    changes: dict[Tensor, Tensor] = {}
    for adapter, text, drawing in adapters:
        fitting = 0
        for (part, name), tensors in adapter.modules.items():
            module = rooms.get(part, {}).get(_flat(name))
            strength = drawing if part == "unet" else text
            if module is None:
                attached.unfit.append(f"{part} {name}")
                continue
            fitting += 1
            if strength:
                _collect(changes, module, tensors, strength, adapter, name, model)
        if not fitting:
            raise CalotypeError(_for_another(adapter, next(iter(adapter.modules))[1], model, len(adapter.modules)))
    try:
        for parameter, change in changes.items():
            attached._add(parameter, change)
    except BaseException:
        attached.remove()
        raise
    return attached


def _flat(name: str) -> str:
    return name.replace(".", "_").removeprefix("text_model_")


def _modules(root: nn.Module) -> dict[str, nn.Module]:
    """Layers by their names with underlines; a text encoder's with and without `text_model`."""
    return {_flat(name): layer for name, layer in root.named_modules() if isinstance(layer, LAYERS)}


def _unet_modules(unet: nn.Module) -> dict[str, nn.Module]:
    """Also by the names of the original's blocks, which kohya takes for SDXL."""
    found = _modules(unet)
    names = unet_names(unet.config)
    theirs = {_flat(original(name, names)): layer for name, layer in unet.named_modules() if isinstance(layer, LAYERS)}
    return theirs | found


def _collect(
    changes: dict[Tensor, Tensor],
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    strength: float,
    adapter: Adapter,
    name: str,
    model: str,
) -> None:
    parts: list[tuple[Any, Tensor | None]] = []
    try:
        parts.append((module.weight, delta(tensors, module.weight.cpu())))
    except ValueError as fault:
        raise CalotypeError(f"{_for_another(adapter, name, model)}: {fault}") from None
    if (bias := bias_delta(tensors)) is not None and getattr(module, "bias", None) is not None:
        parts.append((module.bias, bias))
    for parameter, change in parts:
        if change.numel() != parameter.numel() or not torch.isfinite(change).all():
            raise CalotypeError(f"the LoRA {adapter.name} is damaged: {name} does not fit or holds no numbers")
        changes[parameter] = changes.get(parameter, 0) + strength * change


def _for_another(adapter: Adapter, name: str, model: str, count: int = 0) -> str:
    base = f" (it was made for {adapter.base})" if adapter.base else ""
    what = f"none of its {count} modules fits, the first is {name}" if count else f"{name} does not fit"
    return f"the LoRA {adapter.name} is for another base than {model}{base}: {what}"
