"""Latent diffusion models on disk: a folder as diffusers writes it, or one file as people share it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.hashes import INDEX, weights_in
from calotype.checkpoints.load_into import filled
from calotype.checkpoints.single_file import open_file, with_new_attention, with_vae
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, verified
from calotype.checkpoints.tokenizer import tokenizer_in
from calotype.errors import CalotypeError
from calotype.models.clip_text import TextEncoder, TextShape, transformers_names
from calotype.models.diffusion import DiffusionCheckpoint, TextConditioner

STRANGE = (KeyError, IndexError, ValueError, TypeError, RuntimeError, AssertionError, AttributeError, ZeroDivisionError)
TRAINING = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"),
    "rescale_betas_zero_snr",
)


def open_diffusion(found: Checkpoint, vae: Checkpoint | None = None) -> DiffusionCheckpoint:
    """A model from its folder (found.path is its model_index.json) or its one file, with another VAE if one is given.

    Raises:
        CalotypeError: unreadable, changed since it was added, incomplete, or no diffusion model that Calotype knows.
    """
    if found.path.name != INDEX:
        return open_file(found, vae.path if vae is not None else None)
    opened = _opened_folder(found)
    return with_vae(opened, vae.path) if vae is not None else opened


def _opened_folder(found: Checkpoint) -> DiffusionCheckpoint:
    folder = found.path.parent
    try:
        index = _json(found.path)
        unet = _unet(folder)
        text = tuple(_text(folder, part) for part in ("text_encoder", "text_encoder_2") if _has(index, part))
        training = {
            name: v for name, v in _json(folder / "scheduler" / "scheduler_config.json").items() if name in TRAINING
        }
        return DiffusionCheckpoint(
            name=found.name,
            sha256=verified(found),
            family=_family(found, unet, training),
            unet=unet,
            vae=_vae(folder),
            text=text,
            training=training,
            native=unet.config.sample_size * 2 ** (_levels(folder / "vae") - 1),
            zero_uncond=_has(index, "text_encoder_2") and bool(index.get("force_zeros_for_empty_prompt", True)),
        )
    except STRANGE as fault:
        reason = " ".join(str(fault).split())[:200]
        raise CalotypeError(
            "{folder} is no diffusion model that Calotype knows: {kind} {reason}",
            folder=folder,
            kind=type(fault).__name__,
            reason=reason,
        ) from None


def _has(index: dict[str, Any], part: str) -> bool:
    return bool(index.get(part) and index[part][0])


def _family(found: Checkpoint, unet: nn.Module, training: dict[str, Any]) -> str:
    """By the width of the words; miniatures of no known width, such as `train diffusion` makes, are drawn as emoji."""
    if found.entry is not None:
        return found.entry.name
    otherwise = "emoji" if training.get("rescale_betas_zero_snr") else "sd1"
    return {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}.get(unet.config.cross_attention_dim, otherwise)


def _levels(part: Path) -> int:
    return len(_json(part / "config.json")["block_out_channels"])


def _unet(folder: Path) -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return _built(UNet2DConditionModel, folder / "unet")


def _vae(folder: Path) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return _built(AutoencoderKL, folder / "vae", with_new_attention)


def _built(cls: Any, part: Path, renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> nn.Module:
    """The part with its weights, whose names `renamed` brings up to date."""
    with torch.device("meta"):
        module = cls.from_config(_json(part / "config.json"))
    return filled(module, renamed(_state(part)), part)


def _text(folder: Path, part: str) -> TextConditioner:
    config = _json(folder / part / "config.json")
    with torch.device("meta"):
        encoder = TextEncoder(TextShape.of(config))
    state = transformers_names(_state(folder / part))
    has_two = (folder / "text_encoder_2").is_dir()
    tokenizer = tokenizer_in(folder / part.replace("text_encoder", "tokenizer"))
    return TextConditioner(filled(encoder, state, folder / part), tokenizer, 2 if has_two else 1, not has_two, has_two)


def _state(part: Path) -> dict[str, Tensor]:
    path = weights_in(part.parent).get(part.name)
    if path is None:
        raise CalotypeError(
            "{part} holds no file of weights that Calotype reads (sharded ones are not read)", part=part
        )
    return read_state(path)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as fault:
        raise CalotypeError(
            "{path} cannot be read: {reason}; the folder is incomplete", path=path, reason=fault.strerror
        ) from None
    except (ValueError, RecursionError):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=path) from None
    if not isinstance(data, dict):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=path)
    return data
