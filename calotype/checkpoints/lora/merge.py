"""Merges LoRAs: by concatenation, which is exact, or by SVD, which keeps the rank low."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from calotype.checkpoints.lora import multiplicative
from calotype.checkpoints.lora.deltas import Damaged, delta, delta_shape, scale_of
from calotype.checkpoints.lora.keys import Tensors, layers_of
from calotype.checkpoints.lora.read import Adapter
from calotype.checkpoints.lora.svd import rank_by, spectrum, spectrum_of_product
from calotype.errors import CalotypeError

PLAIN = {"down", "up", "mid", "alpha", "scale", "diff_b"}  # tensors of a LoRA, including LoCon and Tucker decomposition
BOUND = ("DoRA", "IA3", "GLoRA", "OFT", "BOFT")  # kinds whose update depends on the weights of the model
DENSE = {"diff", "diff_b", "alpha"}
KINDS = (("dora_scale", "DoRA"), ("magnitude", "DoRA"), ("hada_", "LoHa"), ("lokr_", "LoKr"), ("bias_", "LoKr or LoHa"))
MAX_NUMBERS = 1 << 28  # elements of a layer; the largest of SDXL has 30 million
_CONV3X3 = ("conv1", "conv2", "samplers_0_conv", "conv_in", "conv_out")  # 3x3 convolutions, by the end of their names


@dataclass(frozen=True, eq=False)
class MergedLayer:
    """A layer of the merged LoRA."""

    name: tuple[str, str]
    tensors: dict[str, Tensor]
    energy: float = 0.0  # squared Frobenius norm of the exact update
    lost: float = 0.0  # energy lost by the lower rank

    @property
    def rank(self) -> int:
        return self.tensors["down"].shape[0] if "down" in self.tensors else 0


@dataclass(frozen=True, eq=False)
class _Source:
    """The tensors of one file for a layer, and the weight of the file."""

    adapter: Adapter
    name: tuple[str, str]
    tensors: Tensors
    weight: float

    @property
    def kind(self) -> str:
        """Empty for a plain LoRA and for a full difference."""
        is_known = self.tensors.keys() <= PLAIN or self.tensors.keys() <= DENSE
        return _lycoris_kind(self.tensors) or ("" if is_known else "LyCORIS")


def kind_of(tensors: Tensors) -> str:
    """The kind of adapter by a layer's tensors."""
    if "down" not in tensors or _lycoris_kind(tensors):
        return _lycoris_kind(tensors) or "difference"
    return "LoCon" if "mid" in tensors or prod(tensors["down"].shape[2:]) > 1 else "LoRA"


def _lycoris_kind(tensors: Tensors) -> str:
    if kind := multiplicative.kind_of(tensors):
        return kind
    return next((kind for sign, kind in KINDS if any(role.startswith(sign) for role in tensors)), "")


def merged(
    weighed: Sequence[tuple[Adapter, float]], rank: int | None = None, conv_rank: int | None = None
) -> Iterator[MergedLayer]:
    """Yields the weighted sum layer by layer. Without a rank the ranks add up and the sum is exact.

    Raises:
        CalotypeError: a kind that cannot be merged this way, or LoRAs for different base models.
    """
    sources_by_name: dict[tuple[str, str], list[_Source]] = {}
    for adapter, weight in weighed:
        for name, tensors in layers_of(adapter).items():
            sources_by_name.setdefault(name, []).append(_Source(adapter, name, tensors, weight))
    for name, sources in sources_by_name.items():
        for source in sources:
            _check_kind(source, rank)
        try:
            limit = conv_rank if conv_rank and _is_conv(sources) else rank
            yield _merged_layer(name, sources, limit)
        except (ValueError, RuntimeError, KeyError, IndexError) as fault:
            names = " and ".join(dict.fromkeys(source.adapter.name for source in sources))
            raise CalotypeError(
                "{names} cannot be merged: the tensors of {layer} do not fit ({fault}); merge LoRAs of the same base",
                names=names,
                layer=" ".join(name),
                fault=str(fault)[:100],
            ) from None


def _check_kind(source: _Source, rank: int | None) -> None:
    if source.kind in BOUND:
        raise CalotypeError(
            "{adapter} has layers of the kind {kind}: their update depends on the weights of the model, so that no "
            "LoRA can replace them; give {option:into} and a checkpoint",
            adapter=source.adapter.name,
            kind=source.kind,
        )
    if source.kind and rank is None:
        raise CalotypeError(
            "{adapter} is a {kind}, which is not a low-rank product of two matrices; give {option:rank} for the "
            "closest LoRA, or {option:into} and a checkpoint",
            adapter=source.adapter.name,
            kind=source.kind,
        )


def _is_conv(sources: Sequence[_Source]) -> bool:
    return any(
        kind_of(source.tensors) == "LoCon" or (source.kind and source.name[1].endswith(_CONV3X3)) for source in sources
    )


def _merged_layer(name: tuple[str, str], sources: Sequence[_Source], rank: int | None) -> MergedLayer:
    biases = [source.weight * source.tensors["diff_b"].float() for source in sources if "diff_b" in source.tensors]
    bias = {"diff_b": sum(biases)} if biases else {}
    sources = [source for source in sources if source.tensors.keys() - {"diff_b", "alpha", "scale"}]
    if not sources:
        return MergedLayer(name, bias)
    if all("down" in source.tensors or "up" in source.tensors for source in sources) and not any(
        source.kind for source in sources
    ):
        layer = _concatenated(name, sources)
        if rank is not None:
            layer = _reduced(layer, rank) if layer.rank > rank else replace(layer, energy=_energy(layer))
        return replace(layer, tensors=layer.tensors | bias)
    dense = sum(source.weight * _dense_delta(source) for source in sources)
    if rank is None or dense.dim() < 2:
        return MergedLayer(name, {"diff": dense, **bias})
    factors = spectrum(dense.flatten(1))
    down, up = factors.product(rank)
    rank = len(down)
    tensors = {"down": down.reshape(rank, *dense.shape[1:]), "up": _shaped_up(up, dense)}
    lost_energy = factors.energy * (1 - factors.energy_kept(rank))
    return MergedLayer(name, {**tensors, "alpha": torch.tensor(float(rank)), **bias}, factors.energy, lost_energy)


def _concatenated(name: tuple[str, str], sources: Sequence[_Source]) -> MergedLayer:
    """[up1 up2] @ [down1; down2]. The largest scale is stored in alpha, so that its source keeps its exact bits."""
    pairs = [folded(source.tensors) for source in sources]
    scales = [source.weight * scale_of(source.tensors) for source in sources]
    largest = max(map(abs, scales)) or 1.0
    first = pairs[0][0].shape
    downs, ups = [], []
    for (down, up), scale in zip(pairs, scales, strict=True):
        root = abs(scale / largest) ** 0.5
        downs.append((down * root).reshape(len(down), *first[1:]))
        ups.append((up * (root if scale >= 0 else -root)).reshape(up.shape[0], len(down), *pairs[0][1].shape[2:]))
    down, up = torch.cat(downs), torch.cat(ups, 1)
    tensors = {"down": down, "up": up, "alpha": torch.tensor(len(down) * largest)}
    return MergedLayer(name, tensors)


def _energy(layer: MergedLayer) -> float:
    down, up = layer.tensors["down"].flatten(1).double(), layer.tensors["up"].flatten(1).double()
    scale = float(layer.tensors["alpha"]) / layer.rank
    return scale**2 * float(((up.T @ up) * (down @ down.T)).sum())


def _reduced(layer: MergedLayer, rank: int) -> MergedLayer:
    down, up = layer.tensors["down"], layer.tensors["up"]
    scale = float(layer.tensors["alpha"]) / layer.rank
    factors = spectrum_of_product(down.flatten(1), up.flatten(1))
    new_down, new_up = factors.product(rank)
    tensors = {
        "down": new_down.reshape(rank, *down.shape[1:]),
        "up": new_up.reshape(len(new_up), rank, *up.shape[2:]),
        "alpha": torch.tensor(scale * rank),
    }
    energy = factors.energy * scale**2
    return MergedLayer(layer.name, tensors, energy, energy * (1 - factors.energy_kept(rank)))


def _dense_delta(source: _Source) -> Tensor:
    """The update at weight 1 as a full matrix or kernel, float32."""
    tensors = {role: tensor for role, tensor in source.tensors.items() if role != "diff_b"}
    if "diff" in tensors:
        return tensors["diff"].float()
    if "bias_size" in tensors:
        shape = tensors["bias_size"].reshape(-1).long().tolist()
    else:
        shape = delta_shape(tensors)
        if len(shape) == 2 and source.name[1].endswith(_CONV3X3) and shape[1] % 9 == 0:
            shape = (shape[0], shape[1] // 9, 3, 3)  # LyCORIS flattens it
    if prod(shape) > MAX_NUMBERS:  # a small file can declare more than any memory
        raise ValueError(f"a layer of {tuple(shape)}, which no model has")
    try:
        return delta(tensors, torch.zeros(shape))
    except Damaged as fault:
        raise ValueError(str(fault)) from None


def _shaped_up(up: Tensor, dense: Tensor) -> Tensor:
    return up.reshape(*up.shape, *[1] * (dense.dim() - 2))


def folded(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Down and up in float32; the core of a Tucker decomposition is multiplied into down, which is exact."""
    down, up = tensors["down"].float(), tensors["up"].float()
    if "mid" in tensors:
        down = torch.einsum("ijhw,jr->irhw", tensors["mid"].float(), down.flatten(1))
    if down.shape[0] != up.shape[1]:
        raise ValueError(f"a rank of {down.shape[0]} and of {up.shape[1]}")
    return down, up


def resized(
    adapter: Adapter, rank: int | None, conv_rank: int | None = None, rule: tuple[str, float] | None = None
) -> Iterator[MergedLayer]:
    """Yields layers at a lower rank: sd-scripts' resize_lora. Layers of that rank or lower are unchanged, bit for bit.

    Args:
        rank: the new rank; with a rule the maximum, None for no limit.
        conv_rank: for kernels larger than 1x1.
        rule: a method of svd.METHODS and its target.

    Raises:
        CalotypeError: not a LoRA or LoCon, or damaged.
    """
    for name, tensors in layers_of(adapter).items():
        source = _Source(adapter, name, tensors, 1.0)
        if source.kind:
            raise _no_rank_error(source)
        if "down" not in tensors or "up" not in tensors:
            yield MergedLayer(name, dict(tensors))
            continue
        try:
            limit = conv_rank if conv_rank and kind_of(tensors) == "LoCon" else rank
            yield _resized(name, tensors, limit, rule)
        except (ValueError, RuntimeError, IndexError) as fault:
            raise CalotypeError(
                "{adapter} is damaged: the tensors of {layer} do not fit ({fault}); fetch or copy it again",
                adapter=adapter.name,
                layer=" ".join(name),
                fault=str(fault)[:100],
            ) from None


def _no_rank_error(source: _Source) -> CalotypeError:
    if source.kind in BOUND:
        return CalotypeError(
            "{adapter} has layers of the kind {kind}, and only LoRA and LoCon have a rank to choose",
            adapter=source.adapter.name,
            kind=source.kind,
        )
    return CalotypeError(
        "{adapter} is a {kind}, and only LoRA and LoCon have a rank to choose; {task:merge_lora} with {option:rank} "
        "makes the closest LoRA",
        adapter=source.adapter.name,
        kind=source.kind,
    )


def _resized(name: tuple[str, str], tensors: Tensors, rank: int | None, rule: tuple[str, float] | None) -> MergedLayer:
    down, up = folded(tensors)
    scale, old_rank = scale_of(tensors), len(down)
    factors = spectrum_of_product(down.flatten(1), up.flatten(1))
    sides = (up.shape[0], down[0].numel())
    new_rank = old_rank if rule is None else rank_by(*rule, factors.values, sides)
    new_rank = min(new_rank, old_rank, rank or old_rank, len(factors.values))
    energy = factors.energy * scale**2
    if new_rank == old_rank:
        return MergedLayer(name, dict(tensors), energy)
    new_down, new_up = factors.product(new_rank)
    tensors = {
        **tensors,
        "down": new_down.reshape(new_rank, *down.shape[1:]),
        "up": new_up.reshape(len(up), new_rank, *up.shape[2:]),
        "alpha": torch.tensor(scale * new_rank),
    }
    for role in ("mid", "scale"):
        tensors.pop(role, None)
    return MergedLayer(name, tensors, energy, energy * (1 - factors.energy_kept(new_rank)))
