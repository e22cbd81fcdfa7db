"""Converts a LoRA's tensors to the names of kohya, diffusers and peft, with the configs of the latter two."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from calotype.checkpoints.lora.keys import Layers, Tensors, kohya_prefix, module_path
from calotype.checkpoints.lora.multiplicative import PEFT_ROLES, kind_of
from calotype.errors import CalotypeError, Message

_KEYS = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "magnitude": "dora_scale"}
_PAIR = {"down": "lora_A.weight", "up": "lora_B.weight"}
_FITS = {"down", "up", "alpha", "scale", "magnitude", "dora_scale"}
_FIXED = {  # constant entries of peft's config
    "peft_type": "LORA",
    "task_type": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "inference_mode": True,
    "use_rslora": False,
}


def to_kohya(layers: Layers, xl: bool, where: str) -> dict[str, Tensor]:
    """Keys as in sd-scripts, A1111 and ComfyUI, which support every kind but those of peft alone.

    Every layer gets an alpha.

    Raises:
        CalotypeError: a layer that no model has, or a kind without such keys; `where` is the name of the file.
    """
    state: dict[str, Tensor] = {}
    for (part, name), tensors in layers.items():
        module_path(name, where)
        if peft_only := sorted(tensors.keys() & set(PEFT_ROLES)):
            raise CalotypeError(
                "{where} has layers of the kind {kind} as peft saves them ({role}), which have no form in kohya's "
                "files; use it as it is",
                where=where,
                kind=kind_of(tensors),
                role=peft_only[0],
            )
        prefix = kohya_prefix(part, name, xl)
        tensors = {**tensors, **_alpha(tensors)}
        tensors.pop("scale", None)
        if "magnitude" in tensors:
            tensors["magnitude"] = _lycoris_magnitude(tensors["magnitude"], tensors["down"].dim())
        state |= {f"{prefix}.{_KEYS.get(role, role)}": tensor for role, tensor in tensors.items()}
    return state


def to_diffusers(layers: Layers, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Keys as in diffusers' `save_lora_weights`: `unet.mid_block...lora_A.weight`, and the config for its metadata.

    Raises:
        CalotypeError: a kind that diffusers does not support; `where` is the name of the file.
    """
    state, settings = {}, {}
    for part, layer in _paths_by_part(layers, where).items():
        state |= _pairs(f"{part}.", layer)
        settings |= {f"{part}.{key}": value for key, value in _settings(layer).items()}
    return state, settings


def to_peft(layers: Layers, where: str) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """For each part of the model: the tensors of adapter_model.safetensors, and adapter_config.json.

    The first text encoder has the names of transformers 5, which begin with `encoder`.

    Raises:
        CalotypeError: as `diffusers`.
    """
    adapters = {}
    for part, layer in _paths_by_part(layers, where).items():
        if part == "text_encoder":
            layer = {name.removeprefix("text_model."): tensors for name, tensors in layer.items()}
        adapters[part] = (_pairs("base_model.model.", layer), _FIXED | _settings(layer))
    return adapters


def _paths_by_part(layers: Layers, where: str) -> dict[str, dict[str, Tensors]]:
    """Layers by part and module path."""
    layers_by_part: dict[str, dict[str, Tensors]] = {}
    for (part, name), tensors in layers.items():
        if not (tensors.keys() <= _FITS and {"down", "up"} <= tensors.keys()):
            unsupported = min(tensors.keys() - _FITS, default=Message("half of a LoRA"))
            raise CalotypeError(
                "{where} is more than a LoRA: {name} has {strange}, which files of diffusers and "
                "peft do not support; give {option:to} kohya, or approximate it by a LoRA with {task:merge_lora} and "
                "{option:rank}",
                where=where,
                name=name,
                strange=unsupported,
            )
        layers_by_part.setdefault(part, {})[module_path(name, where)] = tensors
    return layers_by_part


def _pairs(beginning: str, layers: Mapping[str, Tensors]) -> dict[str, Tensor]:
    state = {}
    for name, tensors in layers.items():
        state |= {f"{beginning}{name}.{key}": tensors[role] for role, key in _PAIR.items()}
        for role in tensors.keys() & {"magnitude", "dora_scale"}:
            state[f"{beginning}{name}.lora_magnitude_vector"] = _peft_magnitude(tensors[role], tensors["up"], name)
    return state


def _settings(layers: Mapping[str, Tensors]) -> dict[str, Any]:
    """peft's config: the most common rank and alpha, and patterns for the layers with other values."""
    ends = {name: name.removeprefix("text_model.") for name in layers}
    ranks = {ends[name]: tensors["down"].shape[0] for name, tensors in layers.items()}
    alphas = {ends[name]: _as_number(_alpha(tensors)["alpha"]) for name, tensors in layers.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": any(tensors.keys() & {"magnitude", "dora_scale"} for tensors in layers.values()),
    }


def _commonest(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _alpha(tensors: Tensors) -> dict[str, Tensor]:
    """alpha as stored; the rank if it is missing or 0; scale * rank if only a scale is stored."""
    if "down" not in tensors:
        return {"alpha": tensors["alpha"]} if "alpha" in tensors else {}
    rank, dtype = tensors["down"].shape[0], tensors["down"].dtype
    if "scale" in tensors:
        return {"alpha": alpha_in(dtype, float(tensors["scale"]) * rank)}
    return {"alpha": tensors["alpha"] if float(tensors.get("alpha", 0)) else torch.tensor(float(rank), dtype=dtype)}


def alpha_in(dtype: torch.dtype, alpha: float) -> Tensor:
    """In the dtype of the weights, as in sd-scripts, if it is exact; otherwise in float32."""
    exact = torch.tensor(alpha)
    rounded = exact.to(dtype)
    return rounded if float(rounded) == float(exact) else exact


def _as_number(alpha: Tensor) -> int | float:
    value = float(alpha)
    return int(value) if value.is_integer() else value


def _lycoris_magnitude(magnitude: Tensor, sides: int) -> Tensor:
    """One value per output, as in LyCORIS: (out, 1, ...)."""
    return magnitude.reshape(-1, *[1] * (sides - 1))


def _peft_magnitude(magnitude: Tensor, up: Tensor, name: str) -> Tensor:
    """As in peft: (out,), for a convolution (1, out, 1, 1)."""
    if magnitude.numel() != up.shape[0]:
        raise CalotypeError(
            "{name} has a DoRA magnitude per input, as old LyCORIS wrote it; peft has it per output",
            name=name,
        )
    return magnitude.reshape(-1) if up.dim() == 2 else magnitude.reshape(1, -1, 1, 1)
