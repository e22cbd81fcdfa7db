"""How much each kind of adapter adds to a weight at strength 1. Everything is computed in float32.

LoRA: Hu et al. 2021. LoHa and LoKr, with Tucker forms for convolutions: Yeh et al. 2023 (LyCORIS). DoRA: Liu et al.
2024.
"""

from collections.abc import Mapping
from math import isfinite, prod

import torch
from torch import Tensor

_FAULTS = (RuntimeError, KeyError, IndexError, ValueError, ZeroDivisionError)  # what torch says of tensors that clash


class Damaged(ValueError):
    """The tensors of an adapter do not fit each other, whatever the model is."""


def check(tensors: Mapping[str, Tensor], weight: Tensor) -> None:
    """Looks at shapes alone: a small file can ask for a product that fills every memory.

    Raises:
        Damaged: tensors are missing or do not fit together.
        ValueError: they fit together, and not to the weight.
    """
    hollow = {role: tensor.to("meta") for role, tensor in tensors.items()}
    try:
        shape = _product(hollow, weight.to("meta")).shape
        scale_of(tensors)
        _sparse(tensors, weight.to("meta"))
    except _FAULTS as fault:
        raise Damaged(_sentence(fault)) from None
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
    own = {role: tensor.to("cpu", torch.float32) for role, tensor in tensors.items() if not role.startswith("bias_")}
    scale = scale_of(tensors)
    if "up" in own:  # on the small matrix: the product need not be gone through once more
        own["up"] = own["up"] * scale
        added = _product(own, weight).reshape(weight.shape)
    else:
        added = _product(own, weight).reshape(weight.shape)
        added = added if scale == 1 else added * scale
    if (rest := _sparse(tensors, weight)) is not None:
        added = added + rest
    for role in ("dora_scale", "magnitude"):
        if role in own:
            added = _decomposed(added, _magnitude(own[role], role, weight), weight)
    if not isfinite(added.sum()):
        raise Damaged("it gives numbers that are not finite")
    return added


def bias_delta(tensors: Mapping[str, Tensor], bias: Tensor) -> Tensor:
    """What is added to a bias, float32."""
    return tensors["diff_b"].to("cpu", torch.float32).reshape(bias.shape)


def own_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of what is added, as the tensors tell it; a convolution's may be flat. Nothing large is computed."""
    hollow = {role: tensor.to("meta") for role, tensor in tensors.items()}
    return tuple(_product(hollow, torch.empty(0, device="meta")).shape)


def _sentence(fault: BaseException) -> str:
    if isinstance(fault, KeyError):
        return f"{fault.args[0]} is missing"
    return " ".join(str(fault).split())[:100]


def _product(own: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """Each kind's product of small matrices, not scaled yet; one that is a convolution's may come flat."""
    if "diff" in own:
        return own["diff"]
    if "up" in own or "down" in own:
        return _lora(own)
    if any(role.startswith("hada") for role in own):
        return _loha(own)
    if any(role.startswith("lokr") for role in own):
        return _lokr(own)
    if "diff_b" in own or "bias_values" in own:
        return torch.zeros_like(weight, dtype=torch.float32)
    raise KeyError("what an adapter consists of")


def scale_of(own: Mapping[str, Tensor]) -> float:
    """alpha / rank; without an alpha, or with 0, it is the rank. A scale that the file tells goes before both."""
    if "scale" in own:
        return float(own["scale"])
    rank = _rank(own)
    if rank is None:
        return 1.0
    if rank == 0:
        raise ValueError("a rank of 0")
    return (float(own.get("alpha", 0.0)) or rank) / rank


def _rank(own: Mapping[str, Tensor]) -> int | None:
    """None for what is no product of narrow matrices: a full difference, a LoKr of two whole factors."""
    if "diff" in own:
        return None
    narrow = next((role for role in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b") if role in own), None)
    return own[narrow].shape[0] if narrow else None


def _lora(own: Mapping[str, Tensor]) -> Tensor:
    down, up = own["down"], own["up"]
    if "mid" in own:
        return torch.einsum("ijhw,pi,jr->prhw", own["mid"], up.flatten(1), down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _loha(own: Mapping[str, Tensor]) -> Tensor:
    one, two = (_hadamard_half(own, n) for n in "12")
    if one.shape != two.shape:
        raise ValueError(f"{tuple(one.shape)} times {tuple(two.shape)}")
    return one * two


def _hadamard_half(own: Mapping[str, Tensor], n: str) -> Tensor:
    a, b = own[f"hada_w{n}_a"], own[f"hada_w{n}_b"]
    if f"hada_t{n}" in own:
        return torch.einsum("ijhw,ip,jr->prhw", own[f"hada_t{n}"], a, b)
    return a @ b


def _lokr(own: Mapping[str, Tensor]) -> Tensor:
    one = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    if "lokr_w2" in own:
        two = own["lokr_w2"]
    elif "lokr_t2" in own:
        two = torch.einsum("ijhw,ip,jr->prhw", own["lokr_t2"], own["lokr_w2_a"], own["lokr_w2_b"])
    else:
        a, b = own["lokr_w2_a"], own["lokr_w2_b"]
        two = (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])
    if one.dim() != 2 or two.dim() not in (2, 4):
        raise ValueError(f"{tuple(one.shape)} by {tuple(two.shape)}")
    if two.dim() == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous())


def _sparse(own: Mapping[str, Tensor], weight: Tensor) -> Tensor | None:
    """What LyCORIS keeps of a difference where it is large, by place; the strength counts for it, alpha does not."""
    if "bias_values" not in own:
        return None
    size = own["bias_size"].reshape(-1).long().tolist()
    if prod(size) != weight.numel() or any(side < 0 for side in size):
        raise ValueError(f"{tuple(size)} instead of {tuple(weight.shape)}")
    if weight.is_meta:
        return None
    values = own["bias_values"].to("cpu", torch.float32)
    try:  # unchecked, a place outside would be written to all the same
        whole = torch.sparse_coo_tensor(own["bias_indices"].long(), values, size, check_invariants=True)
        return whole.to_dense().reshape(weight.shape)
    except (RuntimeError, KeyError) as fault:
        raise Damaged(f"its places do not fit, {_sentence(fault)}") from None


def _magnitude(told: Tensor, role: str, weight: Tensor) -> Tensor:
    """In a shape that multiplies the weight: one for each output, or for each input as the older LyCORIS has it.

    peft ("magnitude") has it per output always, for a convolution as (1, out, 1, 1).
    """
    ones = [1] * (weight.dim() - 1)
    per_output = role == "magnitude" or told.dim() < 2 or told.shape[0] == weight.shape[0]
    if per_output and told.numel() == weight.shape[0]:
        return told.reshape(-1, *ones)
    if not per_output and weight.dim() > 1 and told.shape[0] == 1 and told.numel() == weight.shape[1]:
        return told.reshape(1, -1, *ones[1:])
    raise ValueError(f"a magnitude of {tuple(told.shape)} for {tuple(weight.shape)}")


def _decomposed(added: Tensor, magnitude: Tensor, weight: Tensor) -> Tensor:
    """The new direction with the learned magnitude, less the weight: W' = m (W + d) / |W + d|."""
    whole = weight + added
    kept = 0 if magnitude.shape[0] == weight.shape[0] and magnitude.numel() == weight.shape[0] else 1
    norm = torch.linalg.vector_norm(whole, dim=[n for n in range(weight.dim()) if n != kept], keepdim=True)
    return whole * (magnitude / (norm + torch.finfo(torch.float32).eps)) - weight
