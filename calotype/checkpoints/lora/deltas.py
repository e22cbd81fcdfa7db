"""The weight update of each kind of adapter at strength 1, computed in float32.

LoRA: Hu et al. 2021. LoHa and LoKr, with Tucker decomposition of convolutions: Yeh et al. 2023 (LyCORIS). DoRA:
Liu et al. 2024. IA3, GLoRA, OFT and BOFT are in `multiplicative`.
"""

from collections.abc import Mapping
from math import isfinite, prod

import torch
from torch import Tensor

from calotype.checkpoints.lora import multiplicative
from calotype.errors import CalotypeError

_SHAPE_ERRORS = (
    RuntimeError,
    KeyError,
    IndexError,
    ValueError,
    ZeroDivisionError,
)  # of torch, where shapes do not match


class Damaged(ValueError):
    """The tensors of an adapter do not match each other, independent of the model."""


def check(tensors: Mapping[str, Tensor], weight: Tensor) -> None:
    """Checks shapes on the meta device: a small file can declare a product larger than any memory.

    Raises:
        Damaged: tensors are missing or do not match each other.
        ValueError: they match each other, but not the weight.
    """
    meta = {role: tensor if tensor.numel() == 1 else tensor.to("meta") for role, tensor in tensors.items()}
    try:
        shape = _unscaled_delta(meta, weight.to("meta")).shape
        scale_of(tensors)
        _sparse_delta(tensors, weight.to("meta"))
    except _SHAPE_ERRORS as fault:
        check_alone(tensors)
        if multiplicative.kind_of(tensors):  # their shapes are those of the weight
            raise ValueError(_reason(fault)) from None
        raise Damaged(_reason(fault)) from None
    if shape[:1] != weight.shape[:1] or shape.numel() != weight.numel():
        raise ValueError(f"its update has the shape {tuple(shape)}, the layer {tuple(weight.shape)}")
    for role in ("dora_scale", "magnitude"):
        if role in tensors:
            _magnitude(tensors[role], role, weight)


def check_alone(tensors: Mapping[str, Tensor]) -> None:
    """Checks what needs no model: that no tensor of the layer is missing, and that their shapes match each other.

    Raises:
        Damaged: tensors are missing or do not match each other.
    """
    try:
        if multiplicative.kind_of(tensors):
            multiplicative.check_roles(tensors)
        else:
            delta_shape(tensors)
            scale_of(tensors)
    except _SHAPE_ERRORS as fault:
        raise Damaged(_reason(fault)) from None


def damaged_error(adapter: str, module: str, fault: Damaged) -> CalotypeError:
    return CalotypeError(
        "the LoRA {adapter} is damaged: the tensors of {name} do not fit ({fault}); fetch or copy it again",
        adapter=adapter,
        name=module,
        fault=fault,
    )


def check_bias(tensors: Mapping[str, Tensor], bias: Tensor) -> None:
    """Raises ValueError if the update of a bias has another length than the bias."""
    if "diff_b" in tensors and tensors["diff_b"].numel() != bias.numel():
        raise ValueError(f"a bias of {tensors['diff_b'].numel()} instead of {bias.numel()}")


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float = 1.0) -> Tensor:
    """The update of `weight` (float32, without any adapter) in its shape, float32.

    Args:
        strength: at which it will be applied: BOFT is not linear in it.

    Raises:
        Damaged: tensors are missing or do not match each other, or the update is not finite.
        ValueError: they match each other, but not the weight.
    """
    check(tensors, weight)
    exact = {role: tensor.to("cpu", torch.float32) for role, tensor in tensors.items() if not role.startswith("bias_")}
    scale = scale_of(tensors)
    if "up" in exact:  # on the small matrix, which saves a pass over the product
        exact["up"] = exact["up"] * scale
        update = _unscaled_delta(exact, weight).reshape(weight.shape)
    else:
        update = _unscaled_delta(exact, weight, strength).reshape(weight.shape)
        update = update if scale == 1 else update * scale
    if (sparse := _sparse_delta(tensors, weight)) is not None:
        update = update + sparse
    for role in ("dora_scale", "magnitude"):
        if role in exact:
            update = _dora_delta(update, _magnitude(exact[role], role, weight), weight)
    if not isfinite(update.sum()):
        raise Damaged("its update is not finite")
    return update


def bias_delta(tensors: Mapping[str, Tensor], bias: Tensor, weight: Tensor) -> Tensor:
    """The update of a bias, float32; `weight` is that of its layer."""
    if multiplicative.scales_bias(tensors, weight):
        exact = {role: tensor.to("cpu", torch.float32) for role, tensor in tensors.items()}
        return multiplicative.bias_update(exact, bias).reshape(bias.shape)
    return tensors["diff_b"].to("cpu", torch.float32).reshape(bias.shape)


def delta_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of the update by its tensors; a convolution may be flattened. Nothing large is computed."""
    meta = {role: tensor.to("meta") for role, tensor in tensors.items()}
    return tuple(_unscaled_delta(meta, torch.empty(0, device="meta")).shape)


def _reason(fault: BaseException) -> str:
    if isinstance(fault, KeyError):
        return f"{fault.args[0]} is missing"
    return " ".join(str(fault).split())[:100]


def _unscaled_delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float = 1.0) -> Tensor:
    """The product of each kind's small matrices, unscaled; the kernel of a convolution may be flattened."""
    if multiplicative.kind_of(tensors):
        return multiplicative.update(tensors, weight, strength)
    if "diff" in tensors:
        return tensors["diff"]
    if "up" in tensors or "down" in tensors:
        return _lora_delta(tensors)
    if any(role.startswith("hada") for role in tensors):
        return _loha_delta(tensors)
    if any(role.startswith("lokr") for role in tensors):
        return _lokr_delta(tensors)
    if "diff_b" in tensors or "bias_values" in tensors:
        return torch.zeros_like(weight, dtype=torch.float32)
    raise KeyError("an adapter's weight")


def scale_of(tensors: Mapping[str, Tensor]) -> float:
    """alpha / rank; a missing or zero alpha defaults to the rank. A scale in the file takes precedence."""
    if "scale" in tensors:
        return float(tensors["scale"])
    rank = rank_of(tensors)
    if rank is None or multiplicative.kind_of(tensors) in ("IA3", "OFT", "BOFT"):  # there alpha is no scale
        return 1.0
    if rank == 0:
        raise ValueError("a rank of 0")
    return (float(tensors.get("alpha", 0.0)) or rank) / rank


def rank_of(tensors: Mapping[str, Tensor]) -> int | None:
    """None if there is no low-rank product: a full difference, or a LoKr of two full factors."""
    if "a1.weight" in tensors:
        return multiplicative.glora_rank(tensors)
    if "diff" in tensors:
        return None
    narrow = next((role for role in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b") if role in tensors), None)
    return tensors[narrow].shape[0] if narrow else None


def _lora_delta(tensors: Mapping[str, Tensor]) -> Tensor:
    down, up = tensors["down"], tensors["up"]
    if "mid" in tensors:
        return torch.einsum("ijhw,pi,jr->prhw", tensors["mid"], up.flatten(1), down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _loha_delta(tensors: Mapping[str, Tensor]) -> Tensor:
    w1, w2 = (_hadamard_half(tensors, n) for n in "12")
    if w1.shape != w2.shape:
        raise ValueError(f"{tuple(w1.shape)} times {tuple(w2.shape)}")
    return w1 * w2


def _hadamard_half(tensors: Mapping[str, Tensor], n: str) -> Tensor:
    a, b = tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"]
    if f"hada_t{n}" in tensors:
        return torch.einsum("ijhw,ip,jr->prhw", tensors[f"hada_t{n}"], a, b)
    return a @ b


def _lokr_delta(tensors: Mapping[str, Tensor]) -> Tensor:
    w1 = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    if "lokr_w2" in tensors:
        w2 = tensors["lokr_w2"]
    elif "lokr_t2" in tensors:
        w2 = torch.einsum("ijhw,ip,jr->prhw", tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"])
    else:
        a, b = tensors["lokr_w2_a"], tensors["lokr_w2_b"]
        w2 = (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])
    if w1.dim() != 2 or w2.dim() not in (2, 4):
        raise ValueError(f"{tuple(w1.shape)} by {tuple(w2.shape)}")
    if w2.dim() == 4:
        w1 = w1[:, :, None, None]
    return torch.kron(w1, w2.contiguous())


def _sparse_delta(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor | None:
    """The sparse residual of LyCORIS, by index; it is multiplied by the strength, not by alpha."""
    if "bias_values" not in tensors:
        return None
    size = tensors["bias_size"].reshape(-1).long().tolist()
    if prod(size) != weight.numel() or any(side < 0 for side in size):
        raise ValueError(f"{tuple(size)} instead of {tuple(weight.shape)}")
    if weight.is_meta:
        return None
    values = tensors["bias_values"].to("cpu", torch.float32)
    try:  # unchecked, an index out of range would be written
        sparse = torch.sparse_coo_tensor(tensors["bias_indices"].long(), values, size, check_invariants=True)
        return sparse.to_dense().reshape(weight.shape)
    except (RuntimeError, KeyError) as fault:
        raise Damaged(f"its indices do not fit, {_reason(fault)}") from None


def _magnitude(magnitude: Tensor, role: str, weight: Tensor) -> Tensor:
    """In a shape that broadcasts with the weight: per output, or per input as in older LyCORIS.

    peft ("magnitude") always has it per output, for a convolution as (1, out, 1, 1).
    """
    ones = [1] * (weight.dim() - 1)
    per_output = role == "magnitude" or magnitude.dim() < 2 or magnitude.shape[0] == weight.shape[0]
    if per_output and magnitude.numel() == weight.shape[0]:
        return magnitude.reshape(-1, *ones)
    if not per_output and weight.dim() > 1 and magnitude.shape[0] == 1 and magnitude.numel() == weight.shape[1]:
        return magnitude.reshape(1, -1, *ones[1:])
    raise ValueError(f"a magnitude of {tuple(magnitude.shape)} for {tuple(weight.shape)}")


def _dora_delta(update: Tensor, magnitude: Tensor, weight: Tensor) -> Tensor:
    """The new direction with the trained magnitude, minus the weight: W' = m (W + d) / |W + d|."""
    merged = weight + update
    output_dim = 0 if magnitude.shape[0] == weight.shape[0] and magnitude.numel() == weight.shape[0] else 1
    norm = torch.linalg.vector_norm(merged, dim=[n for n in range(weight.dim()) if n != output_dim], keepdim=True)
    return merged * (magnitude / (norm + torch.finfo(torch.float32).eps)) - weight
