"""How much each kind of adapter adds to a weight at strength 1. Everything is computed in float32.

LoRA: Hu et al. 2021. LoHa and LoKr, with Tucker forms for convolutions: Yeh et al. 2023 (LyCORIS). DoRA: Liu et al.
2024.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

KINDS = ("up", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff")


def delta(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """What is added to `weight`, in its shape, float32.

    Raises:
        ValueError: tensors are missing, or do not fit together or to the weight.
    """
    own = {role: tensor.to(torch.float32) for role, tensor in tensors.items()}
    try:
        added = _added(own, weight).reshape(weight.shape)
    except (RuntimeError, KeyError, IndexError) as fault:
        raise ValueError(f"its tensors do not fit ({' '.join(str(fault).split())[:100]})") from None
    if "dora_scale" in own:
        return _decomposed(added, own["dora_scale"], weight.to(torch.float32))
    return added


def bias_delta(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """What is added to a bias, where the adapter has something for it."""
    return tensors["diff_b"].to(torch.float32) if "diff_b" in tensors else None


def _added(own: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    if "diff" in own:
        return own["diff"]
    if "up" in own:
        return _lora(own) * _scale(own, own["down"].shape[0])
    if "hada_w1_a" in own:
        return _loha(own) * _scale(own, own["hada_w1_b"].shape[0])
    if "lokr_w1" in own or "lokr_w1_a" in own:
        return _lokr(own)
    if "diff_b" in own:
        return torch.zeros_like(weight, dtype=torch.float32)
    raise KeyError("of which one half is missing")


def _scale(own: Mapping[str, Tensor], rank: int) -> float:
    """alpha / rank; without an alpha, or with 0, it is the rank."""
    alpha = float(own["alpha"]) if "alpha" in own else 0.0
    return (alpha or rank) / rank


def _lora(own: Mapping[str, Tensor]) -> Tensor:
    down, up = own["down"], own["up"]
    if "mid" in own:
        return _tucker(own["mid"], up.flatten(1), down.flatten(1).T)
    if down.dim() == 4:
        return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
    return up.flatten(1) @ down


def _tucker(core: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """core (r, r', h, w), up (out, r), down (in, r') -> (out, in, h, w)."""
    return torch.einsum("ijhw,pi,rj->prhw", core, up, down)


def _loha(own: Mapping[str, Tensor]) -> Tensor:
    halves = []
    for n in ("1", "2"):
        a, b = own[f"hada_w{n}_a"], own[f"hada_w{n}_b"]
        if f"hada_t{n}" in own:
            halves.append(torch.einsum("ijhw,jr,ip->prhw", own[f"hada_t{n}"], b, a))
        else:
            halves.append(a @ b)
    return halves[0] * halves[1]


def _lokr(own: Mapping[str, Tensor]) -> Tensor:
    ranks = [own[f"lokr_w{n}_b"].shape[0] for n in ("1", "2") if f"lokr_w{n}_b" in own]
    one = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    if "lokr_w2" in own:
        two = own["lokr_w2"]
    elif "lokr_t2" in own:
        two = torch.einsum("ijhw,ip,jr->prhw", own["lokr_t2"], own["lokr_w2_a"], own["lokr_w2_b"])
    else:
        a, b = own["lokr_w2_a"], own["lokr_w2_b"]
        two = (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])
    if two.dim() == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous()) * (_scale(own, ranks[-1]) if ranks else 1.0)


def _decomposed(added: Tensor, magnitude: Tensor, weight: Tensor) -> Tensor:
    """The new direction with the learned magnitude, less the weight: W' = m (W + d) / |W + d|."""
    whole = weight + added
    per_output = magnitude.numel() == weight.shape[0] and (
        magnitude.dim() == 1 or magnitude.shape[0] == weight.shape[0]
    )
    if per_output:  # one for each output, as peft has it
        norm = whole.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
        scale = magnitude.reshape(norm.shape)
    else:  # one for each input, as LyCORIS has it
        norm = whole.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.dim() - 2))
        scale = magnitude.reshape(norm.shape)
    return whole * (scale / norm) - weight
