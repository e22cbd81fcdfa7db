"""How much each kind of adapter adds to a weight at strength 1. Everything is computed in float32.

LoRA: Hu et al. 2021. LoHa and LoKr, with Tucker forms for convolutions: Yeh et al. 2023 (LyCORIS). DoRA: Liu et al.
2024.
"""

from collections.abc import Mapping
from math import isfinite, prod

import torch
from torch import Tensor

_SHAPE_ERRORS = (
    RuntimeError,
    KeyError,
    IndexError,
    ValueError,
    ZeroDivisionError,
)  # what torch says of tensors that clash


class Damaged(ValueError):
    """The tensors of an adapter do not fit each other, whatever the model is."""


def check(tensors: Mapping[str, Tensor], weight: Tensor) -> None:
    """Looks at shapes alone: a small file can ask for a product that fills every memory.

    Raises:
        Damaged: tensors are missing or do not fit together.
        ValueError: they fit together, and not to the weight.
    """
    meta = {role: tensor.to("meta") for role, tensor in tensors.items()}
    try:
        shape = _unscaled_delta(meta, weight.to("meta")).shape
        scale_of(tensors)
        _sparse_delta(tensors, weight.to("meta"))
    except _SHAPE_ERRORS as fault:
        raise Damaged(_reason(fault)) from None
    if shape[:1] != weight.shape[:1] or shape.numel() != weight.numel():
        raise ValueError(f"what it adds has the shape {tuple(shape)}, the layer {tuple(weight.shape)}")
    for role in ("dora_scale", "magnitude"):
        if role in tensors:
            _magnitude(tensors[role], role, weight)


def check_bias(tensors: Mapping[str, Tensor], bias: Tensor) -> None:
    """Raises ValueError where the change of a bias has another length than the bias."""
    if tensors["diff_b"].numel() != bias.numel():
        raise ValueError(f"a bias of {tensors['diff_b'].numel()} instead of {bias.numel()}")


def delta(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """What is added to `weight` (float32, as it is without any adapter), in its shape, float32.

    Raises:
        Damaged: tensors are missing or do not fit together, or give numbers that are not finite.
        ValueError: they fit together, and not to the weight.
    """
    check(tensors, weight)
    exact = {role: tensor.to("cpu", torch.float32) for role, tensor in tensors.items() if not role.startswith("bias_")}
    scale = scale_of(tensors)
    if "up" in exact:  # on the small matrix: the product need not be gone through once more
        exact["up"] = exact["up"] * scale
        update = _unscaled_delta(exact, weight).reshape(weight.shape)
    else:
        update = _unscaled_delta(exact, weight).reshape(weight.shape)
        update = update if scale == 1 else update * scale
    if (sparse := _sparse_delta(tensors, weight)) is not None:
        update = update + sparse
    for role in ("dora_scale", "magnitude"):
        if role in exact:
            update = _dora_delta(update, _magnitude(exact[role], role, weight), weight)
    if not isfinite(update.sum()):
        raise Damaged("it gives numbers that are not finite")
    return update


def bias_delta(tensors: Mapping[str, Tensor], bias: Tensor) -> Tensor:
    """What is added to a bias, float32."""
    return tensors["diff_b"].to("cpu", torch.float32).reshape(bias.shape)


def delta_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of what is added, as the tensors tell it; a convolution's may be flat. Nothing large is computed."""
    meta = {role: tensor.to("meta") for role, tensor in tensors.items()}
    return tuple(_unscaled_delta(meta, torch.empty(0, device="meta")).shape)


def _reason(fault: BaseException) -> str:
    if isinstance(fault, KeyError):
        return f"{fault.args[0]} is missing"
    return " ".join(str(fault).split())[:100]


def _unscaled_delta(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """Each kind's product of small matrices, not scaled yet; one that is a convolution's may come flat."""
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
    raise KeyError("what an adapter consists of")


def scale_of(tensors: Mapping[str, Tensor]) -> float:
    """alpha / rank; without an alpha, or with 0, it is the rank. A scale that the file tells goes before both."""
    if "scale" in tensors:
        return float(tensors["scale"])
    rank = _rank(tensors)
    if rank is None:
        return 1.0
    if rank == 0:
        raise ValueError("a rank of 0")
    return (float(tensors.get("alpha", 0.0)) or rank) / rank


def _rank(tensors: Mapping[str, Tensor]) -> int | None:
    """None for what is no product of narrow matrices: a full difference, a LoKr of two whole factors."""
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
    """What LyCORIS keeps of a difference where it is large, by place; the strength counts for it, alpha does not."""
    if "bias_values" not in tensors:
        return None
    size = tensors["bias_size"].reshape(-1).long().tolist()
    if prod(size) != weight.numel() or any(side < 0 for side in size):
        raise ValueError(f"{tuple(size)} instead of {tuple(weight.shape)}")
    if weight.is_meta:
        return None
    values = tensors["bias_values"].to("cpu", torch.float32)
    try:  # unchecked, a place outside would be written to all the same
        sparse = torch.sparse_coo_tensor(tensors["bias_indices"].long(), values, size, check_invariants=True)
        return sparse.to_dense().reshape(weight.shape)
    except (RuntimeError, KeyError) as fault:
        raise Damaged(f"its places do not fit, {_reason(fault)}") from None


def _magnitude(magnitude: Tensor, role: str, weight: Tensor) -> Tensor:
    """In a shape that multiplies the weight: one for each output, or for each input as the older LyCORIS has it.

    peft ("magnitude") has it per output always, for a convolution as (1, out, 1, 1).
    """
    ones = [1] * (weight.dim() - 1)
    per_output = role == "magnitude" or magnitude.dim() < 2 or magnitude.shape[0] == weight.shape[0]
    if per_output and magnitude.numel() == weight.shape[0]:
        return magnitude.reshape(-1, *ones)
    if not per_output and weight.dim() > 1 and magnitude.shape[0] == 1 and magnitude.numel() == weight.shape[1]:
        return magnitude.reshape(1, -1, *ones[1:])
    raise ValueError(f"a magnitude of {tuple(magnitude.shape)} for {tuple(weight.shape)}")


def _dora_delta(update: Tensor, magnitude: Tensor, weight: Tensor) -> Tensor:
    """The new direction with the learned magnitude, less the weight: W' = m (W + d) / |W + d|."""
    merged = weight + update
    output_dim = 0 if magnitude.shape[0] == weight.shape[0] and magnitude.numel() == weight.shape[0] else 1
    norm = torch.linalg.vector_norm(merged, dim=[n for n in range(weight.dim()) if n != output_dim], keepdim=True)
    return merged * (magnitude / (norm + torch.finfo(torch.float32).eps)) - weight
