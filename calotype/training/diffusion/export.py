"""Export of a trained diffusion model as a folder in diffusers' format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from calotype.checkpoints.fuse import save_state
from calotype.checkpoints.tokenizer import BpeTokenizer, save_tokenizer
from calotype.files import atomic_folder, make_folder
from calotype.models.clip_text import TextEncoder
from calotype.training.run.resume import dtype_named

VERSION = "0.42.1"  # of diffusers, whose class names are used
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": VERSION,
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


def write_folder(
    folder: Path,
    parts: tuple[nn.Module, nn.Module, TextEncoder],
    tokenizer: BpeTokenizer,
    training: Mapping[str, Any],
    card: str,
    precision: str,
) -> None:
    """Writes the folder atomically.

    Args:
        parts: U-Net, VAE and text encoder.
        training: noise schedule and prediction type, as keys of a scheduler config.
        card: CARD.md.
        precision: "float", "fp16" or "bf16".
    Raises:
        CalotypeError: the folder exists, or cannot be written.
    """
    unet, vae, text = parts
    make_folder(folder.parent)
    with atomic_folder(folder, "output_name") as temporary:
        for name, network in (("unet", unet), ("vae", vae)):
            _write(network, temporary / name, "diffusion_pytorch_model", dict(network.config), precision)
        _write(text, temporary / "text_encoder", "model", _text_config(text, tokenizer), precision)
        save_tokenizer(tokenizer, temporary / "tokenizer")
        steps = {**training, "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1}
        steps |= {"_class_name": "DDIMScheduler", "_diffusers_version": VERSION, "timestep_spacing": "trailing"}
        _write_json(temporary / "scheduler" / "scheduler_config.json", steps)
        _write_json(temporary / "model_index.json", INDEX)
        (temporary / "CARD.md").write_text(card, "utf-8")


def _write(network: nn.Module, folder: Path, name: str, config: Mapping[str, Any], precision: str) -> None:
    dtype = dtype_named(precision)
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    settings = {key: value for key, value in config.items() if key != "_use_default_values"}  # not needed to load it
    _write_json(folder / "config.json", settings)
    save_state(folder / f"{name}.safetensors", state, {"format": "pt"})


def _text_config(text: TextEncoder, tokenizer: BpeTokenizer) -> dict[str, Any]:
    shape = text.shape
    names = [name for name in shape.__dataclass_fields__ if name != "projection_dim"]
    config = {name: getattr(shape, name) for name in names} | {"projection_dim": shape.hidden_size}
    ids = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": tokenizer.pad}
    return config | ids | {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")
