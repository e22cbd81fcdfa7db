"""Adapters onto the weights of a model, and off again: the very bits come back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from calotype.checkpoints.key_maps import unet_names, with_prefix_renamed
from calotype.checkpoints.lora.deltas import Damaged, bias_delta, check, check_bias, delta
from calotype.checkpoints.lora.read import Adapter
from calotype.errors import CalotypeError, Message

LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Attached:
    """Adapters that are on. `unfit` is what of their files has no place in this model."""

    unfit: list[str] = field(default_factory=list)
    _kept: dict[Tensor, Tensor] = field(default_factory=dict)  # a parameter, and on the CPU its numbers from before

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @torch.inference_mode()
    def remove(self) -> None:
        """Puts every weight back as it was, bit for bit; more than once does nothing more."""
        for parameter, before in self._kept.items():
            parameter.data.copy_(before)
        self._kept.clear()


@dataclass(frozen=True, eq=False)
class _Change:
    """What one adapter does to one parameter."""

    adapter: Adapter
    name: str
    tensors: Mapping[str, Tensor]
    strength: float
    is_bias: bool

    def of(self, before: Tensor) -> Tensor:
        try:
            return bias_delta(self.tensors, before) if self.is_bias else delta(self.tensors, before)
        except Damaged as fault:
            raise _damaged(self.adapter, self.name, fault) from None


def attach(
    adapters: Sequence[tuple[Adapter, float, float]],
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    model: str = "this model",
) -> Attached:
    """Adds each adapter to the weights: (adapter, strength in the text encoders, strength in the U-Net).

    Several on one weight add up in float32 before they are rounded once. All is computed on the CPU, so that the same
    weights come out on every device. Where a file has more than this model has places for, the rest is told in
    `Attached.unfit`.

    Raises:
        CalotypeError: nothing of an adapter fits, or shapes do not: it was made for another base. Or it is damaged.
            The weights are then as they were.
    """
    attached = Attached()
    plan, attached.unfit = _planned(adapters, unet, text_encoders, model)
    try:
        for parameter, todo in plan.items():
            _apply(parameter, todo, attached._kept)
    except BaseException:
        attached.remove()
        raise
    return attached


def bake(
    adapters: Sequence[tuple[Adapter, float, float]],
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    model: str = "this model",
) -> tuple[set[Tensor], list[str]]:
    """As `attach`, for good: the numbers of before are not kept, and after an error the model is of no use.

    Returns:
        The parameters that changed, in place, and what of the files had no place.
    """
    plan, unfit = _planned(adapters, unet, text_encoders, model)
    for parameter, todo in plan.items():
        _apply(parameter, todo, {})
    return set(plan), unfit


def _planned(
    adapters: Sequence[tuple[Adapter, float, float]], unet: nn.Module, text_encoders: Sequence[nn.Module], model: str
) -> tuple[dict[Tensor, list[_Change]], list[str]]:
    """What is to be done to each parameter, and what has no place."""
    rooms = {"unet": _unet_modules(unet)}
    rooms |= {f"text_encoder{'_2' * n}": _modules(encoder) for n, encoder in enumerate(text_encoders)}
    plan: dict[Tensor, list[_Change]] = {}
    nowhere: list[str] = []
    for adapter, text, drawing in adapters:
        strengths = {"unet": drawing, "text_encoder": text, "text_encoder_2": text}
        changes, unfit = _sorted_out(adapter, rooms, strengths, model)
        nowhere += unfit
        for parameter, change in changes:
            plan.setdefault(parameter, []).append(change)
    return plan, nowhere


@torch.inference_mode()
def _apply(parameter: Tensor, changes: Sequence[_Change], kept: dict[Tensor, Tensor]) -> None:
    before = parameter.data.to("cpu", copy=True)
    exact = base = before.float()
    for change in changes:
        exact = torch.add(exact, change.of(base), alpha=change.strength)
    kept[parameter] = before
    parameter.data.copy_(exact)


def _flat(name: str) -> str:
    return name.replace(".", "_").removeprefix("text_model_")


def _modules(root: nn.Module) -> dict[str, nn.Module]:
    """Layers by their names with underlines; a text encoder's without `text_model`, which not all files write."""
    return {_flat(name): layer for name, layer in root.named_modules() if isinstance(layer, LAYERS)}


def _unet_modules(unet: nn.Module) -> dict[str, nn.Module]:
    """Also by the names of the original's blocks, which kohya takes for SDXL."""
    found = _modules(unet)
    names = unet_names(unet.config)
    theirs = {
        _flat(with_prefix_renamed(name, names)): layer
        for name, layer in unet.named_modules()
        if isinstance(layer, LAYERS)
    }
    return theirs | found


def _sorted_out(
    adapter: Adapter, rooms: Mapping[str, Mapping[str, nn.Module]], strengths: Mapping[str, float], model: str
) -> tuple[list[tuple[Tensor, _Change]], list[str]]:
    """The changes of one adapter, and what of it has no place. A part of strength 0 stays untouched."""
    changes: list[tuple[Tensor, _Change]] = []
    nowhere: list[str] = []
    clashes: list[Message] = []
    for (part, name), tensors in adapter.modules.items():
        layer = rooms.get(part, {}).get(_flat(name))
        if layer is None:
            nowhere.append(f"{part} {name}")
        elif strengths[part]:
            try:
                changes += _changes(adapter, name, tensors, strengths[part], layer)
            except Damaged as fault:
                raise _damaged(adapter, name, fault) from None
            except ValueError as fault:
                clashes.append(Message("{part} {name} ({fault})", part=part, name=name, fault=fault))
    if clashes or len(nowhere) == len(adapter.modules):
        raise _for_another(adapter, model, [*clashes, *nowhere])
    return changes, [*nowhere, *adapter.unknown]


def _changes(
    adapter: Adapter, name: str, tensors: Mapping[str, Tensor], strength: float, layer: nn.Module
) -> Iterator[tuple[Tensor, _Change]]:
    """Raises ValueError where shapes do not fit; nothing large is computed yet."""
    check(tensors, layer.weight)
    if tensors.keys() - {"diff_b", "alpha", "scale"}:
        yield layer.weight, _Change(adapter, name, tensors, strength, is_bias=False)
    if "diff_b" in tensors:
        if getattr(layer, "bias", None) is None:
            raise ValueError("there is no bias")
        check_bias(tensors, layer.bias)
        yield layer.bias, _Change(adapter, name, tensors, strength, is_bias=True)


def _damaged(adapter: Adapter, name: str, fault: Damaged) -> CalotypeError:
    return CalotypeError(
        "the LoRA {adapter} is damaged: the tensors of {name} do not fit ({fault}); fetch or copy it again",
        adapter=adapter.name,
        name=name,
        fault=fault,
    )


def _for_another(adapter: Adapter, model: str, faults: Sequence[str | Message]) -> CalotypeError:
    return CalotypeError(
        "the LoRA {adapter} is for another base than {model}{base}: {count} of its {whole} modules do not fit, the "
        "first is {first}; take a model of its own base",
        adapter=adapter.name,
        model=model,
        base=Message(" (it was made for {base})", base=adapter.base) if adapter.base else Message(""),
        count=len(faults),
        whole=len(adapter.modules),
        first=faults[0],
    )
