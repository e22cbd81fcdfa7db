"""Facts about a LoRA file, for users and programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.checkpoints.header import data_start
from calotype.checkpoints.lora.deltas import rank_of
from calotype.checkpoints.lora.keys import is_kohya
from calotype.checkpoints.lora.merge import kind_of
from calotype.checkpoints.lora.read import Adapter
from calotype.files import file_sha256

SETTINGS = (  # training settings in kohya's metadata
    *("output_name", "sd_model_name", "network_module", "network_dim", "network_alpha", "network_args", "resolution"),
    *("num_train_images", "num_reg_images", "num_epochs", "epoch", "steps", "max_train_steps", "batch_size_per_device"),
    *("learning_rate", "unet_lr", "text_encoder_lr", "lr_scheduler", "lr_warmup_steps", "optimizer", "mixed_precision"),
    *("clip_skip", "seed", "noise_offset", "min_snr_gamma", "training_started_at", "training_comment"),
)


def facts_of(adapter: Adapter) -> dict[str, Any]:
    """Kind, base model, parts with rank and alpha, dtype and size, settings. Nothing large is computed."""
    tensors = [tensor for layer in adapter.modules.values() for tensor in layer.values()]
    return {
        "kinds": sorted({kind_of(layer) for layer in adapter.modules.values()}),
        "names": "kohya" if is_kohya(adapter) else "diffusers or peft",
        "base": adapter.base or adapter.metadata.get("ss_base_model_version", ""),
        "modules": len(adapter.modules),
        "parts": {part: _describe_part(adapter, part) for part in sorted({part for part, _ in adapter.modules})},
        "numbers": sum(tensor.numel() for tensor in tensors),
        "format": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.dim()}),
        "unknown": len(adapter.unknown),
        **({"embeddings": [word.name for word in adapter.embeddings]} if adapter.embeddings else {}),
        "settings": training_settings(adapter.metadata),
    }


def training_settings(metadata: Mapping[str, str]) -> dict[str, str]:
    """The training settings in kohya's metadata."""
    settings = {name: metadata.get(f"ss_{name}", "") for name in SETTINGS}
    return {name: text for name, text in settings.items() if text not in ("", "None", "{}")}


def _describe_part(adapter: Adapter, name: str) -> dict[str, Any]:
    layers = [layer for (part, _), layer in adapter.modules.items() if part == name]
    ranks = sorted({rank for layer in layers if (rank := _rank(layer))})
    alphas = sorted({_alpha(layer) for layer in layers if _rank(layer)})
    return {"modules": len(layers), "ranks": ranks, "alphas": alphas}


def _rank(tensors: Mapping[str, Tensor]) -> int:
    try:
        return rank_of(tensors) or 0
    except IndexError:  # a tensor without dimensions
        return 0


def _alpha(tensors: Mapping[str, Tensor]) -> float:
    if "scale" in tensors:
        return round(float(tensors["scale"]) * _rank(tensors), 6)
    return round(float(tensors.get("alpha", 0.0)) or _rank(tensors), 6)


def model_hash(path: Path) -> str:
    """sshs_model_hash: the sha256 of the tensor data after the header, which editing the metadata does not change."""
    return file_sha256(path, data_start(path))
