"""Loads latent diffusion models: a folder in diffusers' layout, or a single checkpoint file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.file_kinds import SUPPORTED_FAMILIES
from calotype.checkpoints.hashes import INDEX, SHARDS, WEIGHTS, shards_of, weights_in
from calotype.checkpoints.load_into import load_into
from calotype.checkpoints.prediction import FLOW, OPTIONS
from calotype.checkpoints.single_file import open_file, with_new_attention, with_vae
from calotype.checkpoints.state_dict import BUILD_ERRORS, read_state
from calotype.checkpoints.store import Checkpoint, verified_hash
from calotype.checkpoints.tokenizer import tokenizer_in
from calotype.errors import CalotypeError, reason_of
from calotype.models.clip_text import TextEncoder, TextShape, transformers_names
from calotype.models.diffusion import DiffusionCheckpoint, TextConditioner

UNSUPPORTED_PIPELINES = (
    "Kandinsky",
    "KandinskyV22",
    "IF",
    "Wuerstchen",
    "StableCascade",
    "StableVideoDiffusion",
    "AudioLDM",
)
SCHEDULE_KEYS = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"),
    "rescale_betas_zero_snr",
)


def open_diffusion(
    checkpoint: Checkpoint, vae: Checkpoint | None = None, prediction: str = "auto"
) -> DiffusionCheckpoint:
    """Loads a model from a folder (the path is its model_index.json) or a single file; `vae` replaces its VAE.

    Args:
        prediction: a key of `prediction.OPTIONS`, where the model does not declare it rightly; auto: as it declares.

    Raises:
        CalotypeError: unreadable, changed since it was added, incomplete, or not a diffusion model that Calotype knows.
    """
    if checkpoint.path.name != INDEX:
        return open_file(checkpoint, vae.path if vae is not None else None, OPTIONS.get(prediction, ""))
    model = _open_folder(checkpoint)
    if prediction in OPTIONS:
        model = replace(model, training={**model.training, "prediction_type": OPTIONS[prediction]})
    return with_vae(model, vae.path) if vae is not None else model


def _open_folder(checkpoint: Checkpoint) -> DiffusionCheckpoint:
    folder = checkpoint.path.parent
    try:
        index = _read_json(checkpoint.path)
        _check_pipeline(index, folder)
        unet = _open_unet(folder)
        text = tuple(
            _open_text_encoder(folder, part)
            for part in ("text_encoder", "text_encoder_2")
            if _has_component(index, part)
        )
        scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
        training = {name: value for name, value in scheduler.items() if name in SCHEDULE_KEYS}
        if str(scheduler.get("_class_name", "")).startswith("FlowMatch"):
            training["prediction_type"] = FLOW
        return DiffusionCheckpoint(
            name=checkpoint.name,
            sha256=verified_hash(checkpoint),
            family=_family(checkpoint, unet, training),
            unet=unet,
            vae=_open_vae(folder),
            text=text,
            training=training,
            native=unet.config.sample_size * 2 ** (_levels(folder / "vae") - 1),
            zero_uncond=_has_component(index, "text_encoder_2")
            and bool(index.get("force_zeros_for_empty_prompt", True)),
        )
    except BUILD_ERRORS as fault:
        reason = " ".join(str(fault).split())[:200]
        raise CalotypeError(
            "{folder} is no diffusion model that Calotype knows: {kind} {reason}",
            folder=folder,
            kind=type(fault).__name__,
            reason=reason,
        ) from None


def _check_pipeline(index: dict[str, Any], folder: Path) -> None:
    """Raises CalotypeError for the folder of another family, by the name of its pipeline."""
    name = str(index.get("_class_name", ""))
    if ("unet" not in index and "transformer" in index) or name.startswith(UNSUPPORTED_PIPELINES):
        raise CalotypeError(
            "{folder} is a model for diffusers' {name}; {use}",
            folder=folder,
            name=name[:80] or "transformer",
            use=SUPPORTED_FAMILIES,
        )


def _has_component(index: dict[str, Any], name: str) -> bool:
    return bool(index.get(name) and index[name][0])


def _family(checkpoint: Checkpoint, unet: nn.Module, training: dict[str, Any]) -> str:
    """By the cross-attention width; small models of another width, as `train diffusion` makes, are of family emoji."""
    if checkpoint.entry is not None:
        return checkpoint.entry.name
    default = "emoji" if training.get("rescale_betas_zero_snr") else "sd1"
    return {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}.get(unet.config.cross_attention_dim, default)


def _levels(folder: Path) -> int:
    return len(_read_json(folder / "config.json")["block_out_channels"])


def _open_unet(folder: Path) -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return _build(UNet2DConditionModel, folder / "unet")


def _open_vae(folder: Path) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return _build(AutoencoderKL, folder / "vae", with_new_attention)


def _build(cls: Any, folder: Path, rename_keys: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> nn.Module:
    """A component with its weights; `rename_keys` updates old names of the tensors."""
    with torch.device("meta"):
        module = cls.from_config(_read_json(folder / "config.json"))
    return load_into(module, rename_keys(_read_weights(folder)), folder)


def _open_text_encoder(folder: Path, name: str) -> TextConditioner:
    config = _read_json(folder / name / "config.json")
    with torch.device("meta"):
        encoder = TextEncoder(TextShape.of(config))
    state = transformers_names(_read_weights(folder / name))
    has_two = (folder / "text_encoder_2").is_dir()
    tokenizer = tokenizer_in(folder / name.replace("text_encoder", "tokenizer"))
    return TextConditioner(
        load_into(encoder, state, folder / name), tokenizer, 2 if has_two else 1, not has_two, has_two
    )


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = weights_in(folder.parent).get(folder.name)
    if path is None:
        raise CalotypeError(
            "{part} holds no file of weights that Calotype reads, such as {name}.safetensors",
            part=folder,
            name=WEIGHTS[0 if folder.name in ("unet", "vae") else 1],
        )
    paths = shards_of(path) if path.name.endswith(SHARDS) else [path]
    return {key: value for part in paths for key, value in read_state(part, is_checked=False).items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as fault:
        raise CalotypeError(
            "{path} cannot be read: {reason}; the folder is incomplete", path=path, reason=reason_of(fault)
        ) from None
    except (ValueError, RecursionError):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=path) from None
    if not isinstance(data, dict):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=path)
    return data
