"""Several LoRAs as one: side by side, which is exact, or by singular values, which keeps the rank low."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from calotype.checkpoints.lora.deltas import Damaged, delta, own_shape, scale_of
from calotype.checkpoints.lora.keys import Tensors, layers_of
from calotype.checkpoints.lora.read import Adapter
from calotype.checkpoints.lora.svd import rank_by, spectrum, spectrum_of_product
from calotype.errors import CalotypeError

PLAIN = {"down", "up", "mid", "alpha", "scale", "diff_b"}  # what a LoRA may consist of, LoCon and Tucker's form too
WHOLE = {"diff", "diff_b", "alpha"}
KINDS = (("dora_scale", "DoRA"), ("magnitude", "DoRA"), ("hada_", "LoHa"), ("lokr_", "LoKr"), ("bias_", "LoKr or LoHa"))
LARGEST = 1 << 28  # numbers of a layer; the largest of SDXL has 30 million
_LARGE = ("conv1", "conv2", "samplers_0_conv", "conv_in", "conv_out")  # 3x3 convolutions, by the end of their names


@dataclass(frozen=True, eq=False)
class MergedLayer:
    """A layer of the result."""

    name: tuple[str, str]
    tensors: dict[str, Tensor]
    energy: float = 0.0  # the sum of the squares of what it should add
    lost: float = 0.0  # of the energy

    @property
    def rank(self) -> int:
        return self.tensors["down"].shape[0] if "down" in self.tensors else 0


@dataclass(frozen=True, eq=False)
class _Given:
    """What one file has for a layer, and how much of it is wanted."""

    adapter: Adapter
    name: tuple[str, str]
    own: Tensors
    weight: float

    @property
    def kind(self) -> str:
        """Empty for a plain LoRA and for a whole difference."""
        is_known = self.own.keys() <= PLAIN or self.own.keys() <= WHOLE
        return _strange(self.own) or ("" if is_known else "LyCORIS")


def kind_of(own: Tensors) -> str:
    """What a layer's tensors are called."""
    if "down" not in own or _strange(own):
        return _strange(own) or "difference"
    return "LoCon" if "mid" in own or prod(own["down"].shape[2:]) > 1 else "LoRA"


def _strange(own: Tensors) -> str:
    return next((kind for sign, kind in KINDS if any(role.startswith(sign) for role in own)), "")


def merged(
    weighed: Sequence[tuple[Adapter, float]], rank: int | None = None, conv_rank: int | None = None
) -> Iterator[MergedLayer]:
    """Layer by layer; weights are multiplied in. Without a rank the ranks of all add up and nothing is lost.

    Raises:
        CalotypeError: a kind that cannot be added up so, or LoRAs for different bases.
    """
    found: dict[tuple[str, str], list[_Given]] = {}
    for adapter, weight in weighed:
        for name, own in layers_of(adapter).items():
            found.setdefault(name, []).append(_Given(adapter, name, own, weight))
    for name, given in found.items():
        for one in given:
            _check_kind(one, rank)
        try:
            limit = conv_rank if conv_rank and _is_large(given) else rank
            yield _layer(name, given, limit)
        except (ValueError, RuntimeError, KeyError, IndexError) as fault:
            names = " and ".join(dict.fromkeys(one.adapter.name for one in given))
            raise CalotypeError(
                "{names} cannot be merged: the tensors of {layer} do not fit ({fault}); merge LoRAs of the same base",
                names=names,
                layer=" ".join(name),
                fault=str(fault)[:100],
            ) from None


def _check_kind(given: _Given, rank: int | None) -> None:
    if given.kind == "DoRA":
        raise CalotypeError(
            "{adapter} is a DoRA: what it adds depends on the weights of the model, so that no LoRA can "
            "stand for it; give {option:into} and a checkpoint",
            adapter=given.adapter.name,
        )
    if given.kind and rank is None:
        raise CalotypeError(
            "{adapter} is a {kind}, which is no product of two narrow matrices; give {option:rank} for the "
            "LoRA that comes nearest, or {option:into} and a checkpoint",
            adapter=given.adapter.name,
            kind=given.kind,
        )


def _is_large(given: Sequence[_Given]) -> bool:
    return any(kind_of(one.own) == "LoCon" or (one.kind and one.name[1].endswith(_LARGE)) for one in given)


def _layer(name: tuple[str, str], given: Sequence[_Given], rank: int | None) -> MergedLayer:
    biases = [one.weight * one.own["diff_b"].float() for one in given if "diff_b" in one.own]
    bias = {"diff_b": sum(biases)} if biases else {}
    given = [one for one in given if one.own.keys() - {"diff_b", "alpha", "scale"}]
    if not given:
        return MergedLayer(name, bias)
    if all("down" in one.own or "up" in one.own for one in given) and not any(one.kind for one in given):
        made = _side_by_side(name, given)
        if rank is not None:
            made = _narrowed(made, rank) if made.rank > rank else replace(made, energy=_energy(made))
        return replace(made, tensors=made.tensors | bias)
    whole = sum(one.weight * _whole(one) for one in given)
    if rank is None or whole.dim() < 2:
        return MergedLayer(name, {"diff": whole, **bias})
    found = spectrum(whole.flatten(1))
    down, up = found.product(rank)
    rank = len(down)
    tensors = {"down": down.reshape(rank, *whole.shape[1:]), "up": _shaped_up(up, whole)}
    lost = found.energy * (1 - found.kept(rank))
    return MergedLayer(name, {**tensors, "alpha": torch.tensor(float(rank)), **bias}, found.energy, lost)


def _side_by_side(name: tuple[str, str], given: Sequence[_Given]) -> MergedLayer:
    """[up1 up2] @ [down1; down2]. The largest scale becomes the alpha's, so that what has it keeps its very bits."""
    pairs = [folded(one.own) for one in given]
    scales = [one.weight * scale_of(one.own) for one in given]
    top = max(map(abs, scales)) or 1.0
    first = pairs[0][0].shape
    downs, ups = [], []
    for (down, up), scale in zip(pairs, scales, strict=True):
        root = abs(scale / top) ** 0.5
        downs.append((down * root).reshape(len(down), *first[1:]))
        ups.append((up * (root if scale >= 0 else -root)).reshape(up.shape[0], len(down), *pairs[0][1].shape[2:]))
    down, up = torch.cat(downs), torch.cat(ups, 1)
    tensors = {"down": down, "up": up, "alpha": torch.tensor(len(down) * top)}
    return MergedLayer(name, tensors)


def _energy(made: MergedLayer) -> float:
    down, up = made.tensors["down"].flatten(1).double(), made.tensors["up"].flatten(1).double()
    scale = float(made.tensors["alpha"]) / made.rank
    return scale**2 * float(((up.T @ up) * (down @ down.T)).sum())


def _narrowed(made: MergedLayer, rank: int) -> MergedLayer:
    down, up = made.tensors["down"], made.tensors["up"]
    scale = float(made.tensors["alpha"]) / made.rank
    found = spectrum_of_product(down.flatten(1), up.flatten(1))
    low, high = found.product(rank)
    tensors = {
        "down": low.reshape(rank, *down.shape[1:]),
        "up": high.reshape(len(high), rank, *up.shape[2:]),
        "alpha": torch.tensor(scale * rank),
    }
    energy = found.energy * scale**2
    return MergedLayer(made.name, tensors, energy, energy * (1 - found.kept(rank)))


def _whole(given: _Given) -> Tensor:
    """What it adds at weight 1, as a whole matrix or kernel, float32."""
    own = {role: tensor for role, tensor in given.own.items() if role != "diff_b"}
    if "diff" in own:
        return own["diff"].float()
    if "bias_size" in own:
        shape = own["bias_size"].reshape(-1).long().tolist()
    else:
        shape = own_shape(own)
        if len(shape) == 2 and given.name[1].endswith(_LARGE) and shape[1] % 9 == 0:
            shape = (shape[0], shape[1] // 9, 3, 3)  # such a one comes flat
    if prod(shape) > LARGEST:  # a small file can ask for what fills every memory
        raise ValueError(f"a layer of {tuple(shape)}, which no model has")
    try:
        return delta(own, torch.zeros(shape))
    except Damaged as fault:
        raise ValueError(str(fault)) from None


def _shaped_up(up: Tensor, whole: Tensor) -> Tensor:
    return up.reshape(*up.shape, *[1] * (whole.dim() - 2))


def folded(own: Tensors) -> tuple[Tensor, Tensor]:
    """Down and up in float32; Tucker's kernel in the middle becomes a part of down, and nothing is lost."""
    down, up = own["down"].float(), own["up"].float()
    if "mid" in own:
        down = torch.einsum("ijhw,jr->irhw", own["mid"].float(), down.flatten(1))
    if down.shape[0] != up.shape[1]:
        raise ValueError(f"a rank of {down.shape[0]} and of {up.shape[1]}")
    return down, up


def resized(
    adapter: Adapter, rank: int | None, conv_rank: int | None = None, rule: tuple[str, float] | None = None
) -> Iterator[MergedLayer]:
    """Layer by layer at a lower rank: sd-scripts' resize_lora. What is as narrow already stays, bit for bit.

    Args:
        rank: the new one; with a rule the highest, None for any.
        conv_rank: of kernels larger than 1x1.
        rule: a method of factors.METHODS and its target.

    Raises:
        CalotypeError: no LoRA or LoCon, or damaged.
    """
    for name, own in layers_of(adapter).items():
        given = _Given(adapter, name, own, 1.0)
        if given.kind:
            raise _no_rank(given)
        if "down" not in own or "up" not in own:
            yield MergedLayer(name, dict(own))
            continue
        try:
            limit = conv_rank if conv_rank and kind_of(own) == "LoCon" else rank
            yield _resized(name, own, limit, rule)
        except (ValueError, RuntimeError, IndexError) as fault:
            raise CalotypeError(
                "{adapter} is damaged: the tensors of {layer} do not fit ({fault}); fetch or copy it again",
                adapter=adapter.name,
                layer=" ".join(name),
                fault=str(fault)[:100],
            ) from None


def _no_rank(given: _Given) -> CalotypeError:
    if given.kind == "DoRA":
        return CalotypeError(
            "{adapter} is a DoRA, and only LoRA and LoCon have a rank to choose", adapter=given.adapter.name
        )
    return CalotypeError(
        "{adapter} is a {kind}, and only LoRA and LoCon have a rank to choose; {task:merge_lora} with {option:rank} "
        "makes the nearest LoRA of it",
        adapter=given.adapter.name,
        kind=given.kind,
    )


def _resized(name: tuple[str, str], own: Tensors, rank: int | None, rule: tuple[str, float] | None) -> MergedLayer:
    down, up = folded(own)
    scale, old = scale_of(own), len(down)
    found = spectrum_of_product(down.flatten(1), up.flatten(1))
    sides = (up.shape[0], down[0].numel())
    new = old if rule is None else rank_by(*rule, found.values, sides)
    new = min(new, old, rank or old, len(found.values))
    energy = found.energy * scale**2
    if new == old:
        return MergedLayer(name, dict(own), energy)
    low, high = found.product(new)
    tensors = {
        **own,
        "down": low.reshape(new, *down.shape[1:]),
        "up": high.reshape(len(up), new, *up.shape[2:]),
        "alpha": torch.tensor(scale * new),
    }
    for role in ("mid", "scale"):
        tensors.pop(role, None)
    return MergedLayer(name, tensors, energy, energy * (1 - found.kept(new)))
