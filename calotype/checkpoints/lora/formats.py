"""A LoRA's tensors by kohya's, diffusers' and peft's names, and the settings that go with them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from calotype.checkpoints.lora.keys import Layers, Tensors, dotted, kohyas
from calotype.errors import CalotypeError, Message

_KEYS = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "magnitude": "dora_scale"}
_PAIR = {"down": "lora_A.weight", "up": "lora_B.weight"}
_FITS = {"down", "up", "alpha", "scale", "magnitude", "dora_scale"}
_FIXED = {  # peft's settings that say what cannot be otherwise
    "peft_type": "LORA",
    "task_type": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "inference_mode": True,
    "use_rslora": False,
}


def kohya(layers: Layers, xl: bool) -> dict[str, Tensor]:
    """As sd-scripts, A1111 and ComfyUI have them; every kind is at home here. An alpha for every layer."""
    found: dict[str, Tensor] = {}
    for (part, name), own in layers.items():
        beginning = kohyas(part, name, xl)
        own = {**own, **_alpha(own)}
        own.pop("scale", None)
        if "magnitude" in own:
            own["magnitude"] = _tall(own["magnitude"], own["down"].dim())
        found |= {f"{beginning}.{_KEYS.get(role, role)}": tensor for role, tensor in own.items()}
    return found


def diffusers(layers: Layers, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As diffusers' `save_lora_weights` has them: `unet.mid_block...lora_A.weight`, and the settings for its header.

    Raises:
        CalotypeError: a kind that has no place there; `where` is the file's name.
    """
    found, settings = {}, {}
    for part, own in _by_part(layers, where).items():
        found |= _pairs(f"{part}.", own)
        settings |= {f"{part}.{key}": value for key, value in _settings(own).items()}
    return found, settings


def peft(layers: Layers, where: str) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """For each part of the model the tensors of its adapter_model.safetensors, and its adapter_config.json.

    The first text encoder has transformers 5's names, which begin with `encoder`.

    Raises:
        CalotypeError: as `diffusers`.
    """
    found = {}
    for part, own in _by_part(layers, where).items():
        if part == "text_encoder":
            own = {name.removeprefix("text_model."): tensors for name, tensors in own.items()}
        found[part] = (_pairs("base_model.model.", own), _FIXED | _settings(own))
    return found


def _by_part(layers: Layers, where: str) -> dict[str, dict[str, Tensors]]:
    """Layers by part and path."""
    found: dict[str, dict[str, Tensors]] = {}
    for (part, name), own in layers.items():
        if not (own.keys() <= _FITS and {"down", "up"} <= own.keys()):
            strange = min(own.keys() - _FITS, default=Message("half of a LoRA"))
            raise CalotypeError(
                "{where} is more than a LoRA: {name} has {strange}, which has no place in files of diffusers and "
                "peft; give {option:to} kohya, or make the nearest LoRA of it with {task:merge_lora} and "
                "{option:rank}",
                where=where,
                name=name,
                strange=strange,
            )
        found.setdefault(part, {})[dotted(name, where)] = own
    return found


def _pairs(beginning: str, layers: Mapping[str, Tensors]) -> dict[str, Tensor]:
    found = {}
    for name, own in layers.items():
        found |= {f"{beginning}{name}.{key}": own[role] for role, key in _PAIR.items()}
        for role in own.keys() & {"magnitude", "dora_scale"}:
            found[f"{beginning}{name}.lora_magnitude_vector"] = _flat(own[role], own["up"], name)
    return found


def _settings(layers: Mapping[str, Tensors]) -> dict[str, Any]:
    """peft's: the commonest rank and alpha, and those of the layers that have others, by the ends of their names."""
    ends = {name: name.removeprefix("text_model.") for name in layers}
    ranks = {ends[name]: own["down"].shape[0] for name, own in layers.items()}
    alphas = {ends[name]: _number(_alpha(own)["alpha"]) for name, own in layers.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": any(own.keys() & {"magnitude", "dora_scale"} for own in layers.values()),
    }


def _commonest(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _alpha(own: Tensors) -> dict[str, Tensor]:
    """alpha as the file has it; where it is missing or 0 the rank; where only a scale is told, scale * rank."""
    if "down" not in own:
        return {"alpha": own["alpha"]} if "alpha" in own else {}
    rank, kind = own["down"].shape[0], own["down"].dtype
    if "scale" in own:
        return {"alpha": alpha_in(kind, float(own["scale"]) * rank)}
    return {"alpha": own["alpha"] if float(own.get("alpha", 0)) else torch.tensor(float(rank), dtype=kind)}


def alpha_in(kind: torch.dtype, alpha: float) -> Tensor:
    """In the format of the weights, as sd-scripts writes it, where that changes nothing; else in float32."""
    exact = torch.tensor(alpha)
    coarse = exact.to(kind)
    return coarse if float(coarse) == float(exact) else exact


def _number(alpha: Tensor) -> int | float:
    value = float(alpha)
    return int(value) if value.is_integer() else value


def _tall(magnitude: Tensor, sides: int) -> Tensor:
    """One number for each output, as LyCORIS has them: (out, 1, ...)."""
    return magnitude.reshape(-1, *[1] * (sides - 1))


def _flat(magnitude: Tensor, up: Tensor, name: str) -> Tensor:
    """As peft has them: (out,), of a convolution (1, out, 1, 1)."""
    if magnitude.numel() != up.shape[0]:
        raise CalotypeError(
            "{name} has a DoRA magnitude for each input, as old LyCORIS wrote it; peft has one for each output",
            name=name,
        )
    return magnitude.reshape(-1) if up.dim() == 2 else magnitude.reshape(1, -1, 1, 1)
