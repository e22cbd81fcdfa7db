"""Attaches adapters to the weights of a model; detaching restores them bit for bit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from calotype.checkpoints.key_maps import unet_names, with_prefix_renamed
from calotype.checkpoints.lora.deltas import Damaged, bias_delta, check, check_bias, damaged_error, delta
from calotype.checkpoints.lora.keys import check_names
from calotype.checkpoints.lora.multiplicative import scales_bias
from calotype.checkpoints.lora.read import Adapter
from calotype.errors import CalotypeError, Message

LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Attached:
    """Attached adapters. `unfit` names the modules of their files that this model does not have."""

    unfit: list[str] = field(default_factory=list)
    _originals: dict[Tensor, Tensor] = field(default_factory=dict)  # parameter -> its original weights, on the CPU

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @torch.inference_mode()
    def remove(self) -> None:
        """Restores every weight bit for bit; a second call does nothing."""
        for parameter, before in self._originals.items():
            parameter.data.copy_(before)
        self._originals.clear()


@dataclass(frozen=True, eq=False)
class _Change:
    """The change of one parameter by one adapter."""

    adapter: Adapter
    name: str
    tensors: Mapping[str, Tensor]
    strength: float
    weight: Tensor | None = None  # of the layer, where the change is one of its bias

    def of(self, before: Tensor) -> Tensor:
        try:
            if self.weight is not None:
                return bias_delta(self.tensors, before, self.weight)
            return delta(self.tensors, before, self.strength)
        except Damaged as fault:
            raise damaged_error(self.adapter.name, self.name, fault) from None


def attach(
    adapters: Sequence[tuple[Adapter, float, float]],
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    model: str = "this model",
) -> Attached:
    """Adds each adapter to the weights: (adapter, strength in the text encoders, strength in the U-Net).

    Several on one weight are added in float32 and rounded once. All is computed on the CPU, so that all devices get
    the same weights. Modules of a file that this model does not have are listed in `Attached.unfit`.

    Raises:
        CalotypeError: no module of an adapter matches, or shapes differ: it was trained for another base model; or it
            is damaged. The weights are then unchanged.
    """
    attached = Attached()
    plan, attached.unfit = _plan_changes(adapters, unet, text_encoders, model)
    try:
        for parameter, changes in plan.items():
            _apply(parameter, changes, attached._originals)
    except BaseException:
        attached.remove()
        raise
    return attached


def fuse(
    adapters: Sequence[tuple[Adapter, float, float]],
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    model: str = "this model",
) -> tuple[set[Tensor], list[str]]:
    """As `attach`, permanently: the original weights are not kept, and after an error the model is unusable.

    Returns:
        The parameters that were changed in place, and the modules of the files that matched none.
    """
    plan, unfit = _plan_changes(adapters, unet, text_encoders, model)
    for parameter, changes in plan.items():
        _apply(parameter, changes, {})
    return set(plan), unfit


def _plan_changes(
    adapters: Sequence[tuple[Adapter, float, float]], unet: nn.Module, text_encoders: Sequence[nn.Module], model: str
) -> tuple[dict[Tensor, list[_Change]], list[str]]:
    """The changes of each parameter, and the modules that match none."""
    modules_by_part = {"unet": _unet_modules(unet)}
    modules_by_part |= {f"text_encoder{'_2' * n}": _modules(encoder) for n, encoder in enumerate(text_encoders)}
    plan: dict[Tensor, list[_Change]] = {}
    unmatched: list[str] = []
    for adapter, text_strength, unet_strength in adapters:
        strengths = {"unet": unet_strength, "text_encoder": text_strength, "text_encoder_2": text_strength}
        changes, own_unmatched = _match_modules(adapter, modules_by_part, strengths, model)
        unmatched += own_unmatched
        for parameter, change in changes:
            plan.setdefault(parameter, []).append(change)
    return plan, unmatched


@torch.inference_mode()
def _apply(parameter: Tensor, changes: Sequence[_Change], originals: dict[Tensor, Tensor]) -> None:
    stored = parameter.data.to("cpu", copy=True)
    exact = original = stored.float()
    for change in changes:
        exact = torch.add(exact, change.of(original), alpha=change.strength)
    originals[parameter] = stored
    parameter.data.copy_(exact)


def _flat(name: str) -> str:
    return name.replace(".", "_").removeprefix("text_model_")


def _modules(root: nn.Module) -> dict[str, nn.Module]:
    """Layers by names with underscores; for text encoders without `text_model`, which not all files write."""
    return {_flat(name): layer for name, layer in root.named_modules() if isinstance(layer, LAYERS)}


def _unet_modules(unet: nn.Module) -> dict[str, nn.Module]:
    """Also by the block names of the original U-Net, which kohya uses for SDXL."""
    by_diffusers_name = _modules(unet)
    names = unet_names(unet.config)
    by_original_name = {
        _flat(with_prefix_renamed(name, names)): layer
        for name, layer in unet.named_modules()
        if isinstance(layer, LAYERS)
    }
    return by_original_name | by_diffusers_name


def _match_modules(
    adapter: Adapter, modules_by_part: Mapping[str, Mapping[str, nn.Module]], strengths: Mapping[str, float], model: str
) -> tuple[list[tuple[Tensor, _Change]], list[str]]:
    """The changes by one adapter, and its modules that match none. A part with strength 0 is skipped."""
    changes: list[tuple[Tensor, _Change]] = []
    unmatched: list[str] = []
    mismatched: list[Message] = []
    for (part, name), tensors in adapter.modules.items():
        layer = modules_by_part.get(part, {}).get(_flat(name))
        if layer is None:
            unmatched.append(f"{part} {name}")
        elif strengths[part]:
            try:
                changes += _changes(adapter, name, tensors, strengths[part], layer)
            except Damaged as fault:
                raise damaged_error(adapter.name, name, fault) from None
            except ValueError as fault:
                mismatched.append(Message("{part} {name} ({fault})", part=part, name=name, fault=fault))
    if not mismatched and len(unmatched) == len(adapter.modules):
        check_names(adapter)
    if mismatched or len(unmatched) == len(adapter.modules):
        raise _wrong_base_error(adapter, model, [*mismatched, *unmatched])
    return changes, [*unmatched, *adapter.unknown]


def _changes(
    adapter: Adapter, name: str, tensors: Mapping[str, Tensor], strength: float, layer: nn.Module
) -> Iterator[tuple[Tensor, _Change]]:
    """Raises ValueError if shapes do not match; nothing large is computed yet."""
    check(tensors, layer.weight)
    if tensors.keys() - {"diff_b", "alpha", "scale"}:
        yield layer.weight, _Change(adapter, name, tensors, strength)
    bias = getattr(layer, "bias", None)
    if "diff_b" in tensors and bias is None:
        raise ValueError("there is no bias")
    if bias is not None and ("diff_b" in tensors or scales_bias(tensors, layer.weight)):
        check_bias(tensors, bias)
        yield bias, _Change(adapter, name, tensors, strength, layer.weight)


def _wrong_base_error(adapter: Adapter, model: str, faults: Sequence[str | Message]) -> CalotypeError:
    return CalotypeError(
        "the LoRA {adapter} is for another base model than {model}{base}: {count} of its {whole} modules do not fit, "
        "the first is {first}; use a model with the same base",
        adapter=adapter.name,
        model=model,
        base=Message(" (it was trained for {base})", base=adapter.base) if adapter.base else Message(""),
        count=len(faults),
        whole=len(adapter.modules),
        first=faults[0],
    )
