"""Adapters that multiply the weight they are attached to: IA3, GLoRA, OFT and BOFT, as LyCORIS, sd-scripts and peft
save them. The update depends on the weight of the model.

IA3: Liu et al. 2022. GLoRA: Chavan et al. 2023. OFT: Qiu et al. 2023. BOFT: Liu et al. 2024. Q below is skew-symmetric,
and its Cayley transform is a rotation.
"""

from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor

KINDS = {  # role of a tensor that only this kind has
    "on_input": "IA3",
    "ia3_l": "IA3",
    "a1.weight": "GLoRA",
    "b1.weight": "GLoRA",
    "oft_R": "OFT",
    "boft_R": "BOFT",
    "oft_blocks": "OFT",
}
NEEDED = {  # what else a kind needs
    "a1.weight": ("a2.weight", "b1.weight", "b2.weight"),
    "b1.weight": ("a1.weight", "a2.weight", "b2.weight"),
    "boft_R": ("boft_s",),
}
PEFT_ROLES = ("ia3_l", "oft_R", "boft_R", "boft_s")
TERMS, LIMIT = "oft_terms", "oft_eps"  # from peft's config: terms of the Neumann series, and the limit of COFT


def kind_of(tensors: Mapping[str, Tensor]) -> str:
    """One of the kinds above; empty for any other."""
    if "oft_blocks" in tensors and tensors["oft_blocks"].dim() == 4:
        return "BOFT"
    return next((kind for role, kind in KINDS.items() if role in tensors), "")


def check_roles(tensors: Mapping[str, Tensor]) -> None:
    """Raises KeyError, with the role of the tensor that is missing."""
    missing = (name for role, names in NEEDED.items() if role in tensors for name in names if name not in tensors)
    if name := next(missing, ""):
        raise KeyError(name)


def update(tensors: Mapping[str, Tensor], weight: Tensor, strength: float = 1.0) -> Tensor:
    """The update of `weight` at strength 1, without alpha / rank; in the shape of the weight.

    Args:
        strength: at which it will be applied. LyCORIS interpolates each factor of BOFT towards the identity, so that
            the update is not linear in it; here it is divided by the strength.

    Raises:
        KeyError, ValueError, RuntimeError: tensors are missing, or do not fit the weight or each other.
    """
    if "ia3_l" in tensors or "on_input" in tensors:
        return _ia3(tensors, weight)
    if "a1.weight" in tensors or "b1.weight" in tensors:
        return _glora(tensors, weight)
    if "oft_R" in tensors:
        return _rotated_inputs(weight, _peft_rotations(tensors, weight[0].numel())) - weight
    if "boft_R" in tensors:
        return _peft_boft(tensors, weight) - weight
    blocks = tensors["oft_blocks"]
    if blocks.dim() == 4:
        return (_boft(tensors, weight, strength) - weight) / (strength or 1.0)
    return _oft(tensors, weight) - weight


def scales_bias(tensors: Mapping[str, Tensor], weight: Tensor) -> bool:
    """Whether the bias of the layer changes too: peft's IA3 scales the output of a layer."""
    return "ia3_l" in tensors and not _is_on_input(tensors, weight)


def bias_update(tensors: Mapping[str, Tensor], bias: Tensor) -> Tensor:
    """The update of a bias that `scales_bias`."""
    return bias * (tensors["ia3_l"].flatten() - 1)


def glora_rank(tensors: Mapping[str, Tensor]) -> int:
    return min(tensors["a1.weight"].shape[:2])


def _ia3(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """LyCORIS stores the difference of the factor to 1, peft the factor."""
    factor = tensors["ia3_l"] - 1 if "ia3_l" in tensors else tensors["weight"]
    axis = 1 if _is_on_input(tensors, weight) else 0
    if factor.numel() != weight.shape[axis]:
        raise ValueError(f"{factor.numel()} factors for {weight.shape[axis]} channels")
    return weight * factor.reshape([-1 if n == axis else 1 for n in range(weight.dim())])


def _is_on_input(tensors: Mapping[str, Tensor], weight: Tensor) -> bool:
    factor = tensors.get("ia3_l")
    if factor is not None and factor.dim() == 2 and factor.numel() > 1:  # (1, inputs) or (outputs, 1)
        return factor.shape[0] == 1
    if "on_input" in tensors:
        return bool(tensors["on_input"])
    return tensors["ia3_l"].numel() != weight.shape[0]


def _glora(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """W a1 a2 + b1 b2. LyCORIS before 3.0 named the factors the other way round: W a2 a1 + b2 b1."""
    a1, a2, b1, b2 = (tensors[f"{name}.weight"] for name in ("a1", "a2", "b1", "b2"))
    if not (a1.shape[0] == weight.shape[1] and b1.shape[0] == weight.shape[0]):
        a1, a2, b1, b2 = a2, a1, b2, b1
    if "bm.weight" in tensors:  # Tucker decomposition
        added = torch.einsum("ijhw,pi,jr->prhw", tensors["bm.weight"], b1.flatten(1), b2.flatten(1))
    else:
        added = b1.flatten(1) @ b2.flatten(1)
    if added.numel() != weight.numel():
        raise ValueError(f"{tuple(added.shape)} for {tuple(weight.shape)}")
    mixed = torch.einsum("oi...,ir,rj->oj...", weight, a1.flatten(1), a2.flatten(1))
    return mixed + added.reshape(weight.shape)


def _cayley(q: Tensor) -> Tensor:
    """(I + Q) (I - Q)^-1 of each block."""
    eye = torch.eye(q.shape[-1], device=q.device)
    return torch.linalg.solve(eye - q, eye + q, left=False)


def _rotations(tensors: Mapping[str, Tensor], outputs: int) -> Tensor:
    """LyCORIS and sd-scripts: alpha times the number of outputs limits the norm of Q; 0: no limit."""
    blocks = tensors["oft_blocks"]
    if blocks.shape[-1] != blocks.shape[-2] or blocks.shape[-3] * blocks.shape[-1] != outputs:
        raise ValueError(f"blocks of {tuple(blocks.shape)} for {outputs} channels")
    q = blocks - blocks.mT
    limit = float(tensors["alpha"]) * outputs if "alpha" in tensors else 0.0
    if limit > 0:
        q = q * (limit / (torch.linalg.vector_norm(q) + 1e-8)).clamp(max=1)
    return _cayley(q)


def _oft(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """The outputs rotated in blocks: R^T W."""
    rotations = _rotations(tensors, weight.shape[0])
    grouped = weight.reshape(*rotations.shape[:2], -1)  # (blocks, side, ...)
    return _rescaled((rotations.mT @ grouped).reshape(weight.shape), tensors)


def _boft(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """A product of block rotations; factor n pairs the outputs of the two halves of groups of 2^n blocks."""
    rotations = _rotations(tensors, weight.shape[0])
    eye = torch.eye(rotations.shape[-1], device=rotations.device)
    side = rotations.shape[-1]
    x = weight.flatten(1)
    for n, factor in enumerate(rotations):
        half = 2**n * (side // 2)
        if side % 2 or len(x) % (2 * half):
            raise ValueError(f"{len(x)} channels cannot be paired in groups of {2 * half}")
        x = x.reshape(-1, 2, half, x.shape[-1]).transpose(1, 2).reshape(-1, side, x.shape[-1])
        x = (strength * factor + (1 - strength) * eye) @ x
        x = x.reshape(-1, half, 2, x.shape[-1]).transpose(1, 2).reshape(weight.shape[0], -1)
    return _rescaled(x.reshape(weight.shape), tensors)


def _rescaled(weight: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    if "rescale" not in tensors:
        return weight
    return weight * tensors["rescale"].reshape(-1, *[1] * (weight.dim() - 1))


def _rotated_inputs(weight: Tensor, rotations: Tensor) -> Tensor:
    """W M^T for a matrix M of blocks."""
    grouped = weight.reshape(len(weight), -1, rotations.shape[-1])
    return torch.einsum("okc,krc->okr", grouped, rotations).reshape(weight.shape)


def _peft_rotations(tensors: Mapping[str, Tensor], inputs: int) -> Tensor:
    """(blocks, side, side): the upper triangles of Q are stored; one block may be shared by all."""
    triangles = tensors["oft_R"]
    side = (1 + isqrt(1 + 8 * triangles.shape[-1])) // 2
    if triangles.dim() != 2 or side * (side - 1) // 2 != triangles.shape[-1] or inputs % side:
        raise ValueError(f"triangles of {tuple(triangles.shape)} for {inputs} inputs")
    rows, columns = torch.triu_indices(side, side, 1, device=triangles.device)
    q = triangles.new_zeros(len(triangles), side, side)
    q[:, rows, columns] = triangles
    q = q - q.mT
    if LIMIT in tensors:  # COFT
        limit = float(tensors[LIMIT]) / len(triangles) ** 0.5
        norm = torch.linalg.vector_norm(q, dim=(1, 2), keepdim=True)
        q = q * (limit / norm.clamp(min=1e-30)).clamp(max=1)
    terms = int(tensors.get(TERMS, 5))
    rotations = _neumann(q, terms) if terms else _cayley(-q)
    if len(triangles) == 1:
        rotations = rotations.expand(inputs // side, side, side)
    if len(rotations) * side != inputs:
        raise ValueError(f"{len(rotations)} blocks of {side} for {inputs} inputs")
    return rotations


def _neumann(q: Tensor, terms: int) -> Tensor:
    """peft's approximation of the Cayley transform: I + 2 Q + 2 Q^2 + ... + Q^(terms - 1), for 3 terms as for 4."""
    terms = 4 if terms == 3 else terms
    power = torch.eye(q.shape[-1], device=q.device).expand_as(q)
    total = power
    for n in range(1, terms):
        power = power @ q
        total = total + power * (1 if n == terms - 1 and n > 1 else 2)
    return total


def _peft_boft(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """W (M_n ... M_0)^T, each output scaled. Factor n is block-diagonal in an order that brings every second part of
    groups of 2^n blocks to the front.
    """
    blocks, scales = tensors["boft_R"], tensors["boft_s"]
    inputs = weight[0].numel()
    factors, count, side = blocks.shape[0], blocks.shape[1], blocks.shape[-1]
    if blocks.dim() != 4 or count * side != inputs or scales.numel() != len(weight):
        raise ValueError(f"blocks of {tuple(blocks.shape)} for {inputs} inputs")
    rotations = _cayley((blocks.mT - blocks) / 2)
    x = weight.flatten(1).T  # (inputs, outputs)
    for n in range(factors):
        order = _butterfly_order(inputs, side, n).to(x.device) if factors > 1 else slice(None)
        gathered = torch.empty_like(x)
        gathered[order] = x
        x = (rotations[n] @ gathered.reshape(count, side, -1)).reshape(inputs, -1)[order]
    return (x.T * scales.reshape(-1, 1)).reshape(weight.shape)


def _butterfly_order(inputs: int, side: int, n: int) -> Tensor:
    """In each group of 2^n blocks, halves of blocks: those with an even place first, then the others."""
    group, half = side * 2**n, side // 2
    if side % 2 or inputs % group:
        raise ValueError(f"{inputs} inputs cannot be paired in groups of {group}")
    parts = torch.arange(inputs).reshape(-1, group // half, half)
    return torch.cat([parts[:, ::2], parts[:, 1::2]], 1).flatten()
