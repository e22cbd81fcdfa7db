"""Loads single-file Stable Diffusion checkpoints with bundled configs: nothing is downloaded."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.file_kinds import wrong_kind_error
from calotype.checkpoints.key_maps import unet_names, vae_names, with_prefix_renamed
from calotype.checkpoints.layouts import (
    UNET,
    VAE,
    Layout,
    TextLayout,
    detect_layout,
    ema_name,
    is_ema_alone,
    vae_config,
)
from calotype.checkpoints.load_into import load_into
from calotype.checkpoints.prediction import declared
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, verified_hash
from calotype.checkpoints.tokenizer import clip_tokenizer
from calotype.errors import CalotypeError, Message
from calotype.models.clip_text import TextEncoder, transformers_names
from calotype.models.diffusion import DiffusionCheckpoint, TextConditioner

OPENCLIP_LAYER = {  # OpenCLIP's names within a layer -> CLIP's
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of diffusers before 0.15
EDM = ("edm_mean", "edm_vpred.sigma_max")  # Karras et al. 2022: trained on sigmas, not on 1000 discrete timesteps


def open_file(checkpoint: Checkpoint, vae: Path | None = None, prediction_type: str = "") -> DiffusionCheckpoint:
    """Loads a checkpoint of any layout in `layouts`.

    Args:
        vae: a file whose VAE replaces that of the checkpoint, which then need not have one.
        prediction_type: as diffusers names it; empty: what the file declares, or else its layout.

    Raises:
        CalotypeError: unreadable, changed since it was added, incomplete, or of another architecture.
    """
    sha256 = verified_hash(checkpoint)
    state = read_state(checkpoint.path, is_checked=False)
    layout = detect_layout({key: tuple(value.shape) for key, value in state.items()}, checkpoint.path)
    return build_model(state, layout, checkpoint.path, checkpoint.name, sha256, vae, prediction_type)


def build_model(
    state: dict[str, Tensor],
    layout: Layout,
    where: Path,
    name: str,
    sha256: str,
    vae_file: Path | None = None,
    prediction_type: str = "",
) -> DiffusionCheckpoint:
    """Builds the networks of a layout from the tensors of a file, which are shared, not copied."""
    if any(key in state for key in EDM):
        raise CalotypeError(
            "{where} was trained with EDM (as Playground 2.5 and CosXL), which Calotype does not support; "
            "give a checkpoint of SD 1.x, 2.x or SDXL",
            where=where,
        )
    unet = open_unet(state, layout, where)
    vae = open_vae(vae_file, layout.vae) if vae_file else _open_own_vae(state, layout, where)
    training = _schedule_config(state, layout, unet, prediction_type or declared(state, where))
    is_base = layout.family == "sd2" and training["prediction_type"] == "epsilon"
    return DiffusionCheckpoint(
        name=name,
        sha256=sha256,
        family=layout.family,
        unet=unet,
        vae=vae,
        text=tuple(_open_text_encoder(state, text_layout, where) for text_layout in layout.text),
        training=training,
        native=512 if is_base else layout.native,
        zero_uncond=layout.family == "sdxl" and len(layout.text) == 2,  # not the refiner
    )


def open_unet(state: dict[str, Tensor], layout: Layout, where: Path) -> nn.Module:
    """Builds the U-Net.

    Raises:
        CalotypeError: a tensor is missing, unexpected or of another shape: it is another kind of model.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        module = UNet2DConditionModel.from_config(dict(layout.unet))
    names = unet_names(layout.unet)
    names_in_file = {key: UNET + with_prefix_renamed(key, names) for key in module.state_dict()}
    if is_ema_alone(state):
        names_in_file = {key: ema_name(name) for key, name in names_in_file.items()}
    unexpected = sorted({key for key in state if key.startswith(UNET)} - set(names_in_file.values()))
    if unexpected:
        raise CalotypeError(
            "{where} looks like {layout}, but {count} tensors of its U-Net have no place there, first "
            "{first}; it is another kind of model, which Calotype does not support",
            where=where,
            layout=layout.name,
            count=len(unexpected),
            first=unexpected[0],
        )
    return load_into(module, _match_tensors(state, module, names_in_file, where), where)


def _open_own_vae(state: dict[str, Tensor], layout: Layout, where: Path) -> nn.Module:
    own = {key.removeprefix(VAE): value for key, value in state.items() if key.startswith(VAE)}
    if not own:
        raise CalotypeError(
            "{where} has no VAE in it; give one with {option:vae}, or the file that has all parts", where=where
        )
    return _build_vae(own, layout.vae, where)


def open_vae(path: Path, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Loads a VAE from a VAE file, with the original or diffusers' names, or from a full checkpoint.

    Args:
        config: of an AutoencoderKL; None is that of SD 1.x. The scaling factor of the latents, which differs between
            SD 1.x and SDXL, is not stored in the files.

    Raises:
        CalotypeError: the file has no VAE, or it does not match the config.
    """
    state = read_state(path, is_checked=False)
    if any(key.startswith(VAE) for key in state):
        state = {key.removeprefix(VAE): value for key, value in state.items() if key.startswith(VAE)}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    if "decoder.conv_in.weight" not in state or shapes["decoder.conv_in.weight"][1:2] != (4,):
        raise wrong_kind_error(path, shapes, Message("a VAE of SD 1.x, 2.x or SDXL"))
    return _build_vae(state, config or vae_config(), path)


def _build_vae(state: dict[str, Tensor], config: Mapping[str, Any], where: Path) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with torch.device("meta"):
        module = AutoencoderKL.from_config(dict(config))
    is_diffusers = "decoder.up_blocks.0.resnets.0.conv1.weight" in state
    names = {} if is_diffusers else vae_names(config)
    state = with_new_attention(state) if is_diffusers else state
    names_in_file = {key: with_prefix_renamed(key, names) for key in module.state_dict()}
    return load_into(module, _match_tensors(state, module, names_in_file, where), where)


def with_new_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames deprecated attention keys of a VAE to current ones: SD 1.5 and sd-vae-ft-mse have the old ones."""
    renamed = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        block, _, name = module.rpartition(".")
        is_old = ".attentions." in block and name in OLD_ATTENTION
        renamed[f"{block}.{OLD_ATTENTION[name]}.{kind}" if is_old else key] = value
    return renamed


def _match_tensors(
    state: dict[str, Tensor], module: nn.Module, names_in_file: Mapping[str, str], where: Path
) -> dict[str, Tensor]:
    """The file's tensor for each tensor of the module, reshaped between 1x1 convolution and matrix."""
    matched = {}
    for key, value in module.state_dict().items():
        name = names_in_file[key]
        if name not in state:
            raise CalotypeError(
                "{where} is incomplete: it has no {name}; fetch or copy it again", where=where, name=name
            )
        tensor = state[name]
        matched[key] = (
            tensor.reshape(value.shape) if _shape_without_1x1(tensor) == _shape_without_1x1(value) else tensor
        )
    return matched


def _shape_without_1x1(tensor: Tensor) -> tuple[int, ...]:
    """A shape without the trailing 1x1 of a convolution."""
    shape = tuple(tensor.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape


def _open_text_encoder(state: dict[str, Tensor], layout: TextLayout, where: Path) -> TextConditioner:
    tensors = {key.removeprefix(layout.prefix): value for key, value in state.items() if key.startswith(layout.prefix)}
    if not tensors:
        raise CalotypeError(
            "{where} has the U-Net, but no text encoder (under {prefix}), which no option gives; give the file that "
            "has all parts",
            where=where,
            prefix=layout.prefix,
        )
    with torch.device("meta"):
        encoder = TextEncoder(layout.shape)
    named = from_openclip(tensors, layout) if layout.is_open else transformers_names(tensors)
    expected = encoder.state_dict()
    tokenizer = clip_tokenizer(pads_with_end=layout.pads_with_end)
    weights = {key: value for key, value in named.items() if key in expected}
    return TextConditioner(
        load_into(encoder, weights, where), tokenizer, layout.layer, layout.is_normalised, is_fixed=layout.layer > 1
    )


def from_openclip(state: dict[str, Tensor], layout: TextLayout) -> dict[str, Tensor]:
    """Renames OpenCLIP's text transformer to CLIP's keys; its packed q, k, v matrix is split."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("transformer.resblocks."):
            number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
            renamed |= _from_openclip_layer(f"text_model.encoder.layers.{number}.", rest, value)
    top_level = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    renamed |= {ours: state[theirs] for theirs, ours in top_level.items() if theirs in state}
    if layout.shape.projection_dim and "text_projection" in state:
        renamed["text_projection.weight"] = state["text_projection"].T.contiguous()
    return renamed


def _from_openclip_layer(prefix: str, rest: str, value: Tensor) -> dict[str, Tensor]:
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        matrices = value.chunk(3)
        return {f"{prefix}self_attn.{n}_proj.{kind}": tensor for n, tensor in zip("qkv", matrices, strict=True)}
    name, _, kind = rest.rpartition(".")
    return {f"{prefix}{OPENCLIP_LAYER.get(name, name)}.{kind}": value}


def _schedule_config(state: dict[str, Tensor], layout: Layout, unet: nn.Module, prediction_type: str) -> dict[str, Any]:
    """Noise schedule and prediction type: as given, or for SD 2.x by a test; zero SNR by NovelAI's marker key."""
    config = dict(layout.training)
    is_open = not layout.is_prediction_known and unet.config.in_channels == unet.config.out_channels
    if prediction_type:
        config["prediction_type"] = prediction_type
    elif is_open and predicts_v(unet):  # the inpainting model of SD 2 predicts the noise
        config["prediction_type"] = "v_prediction"
    if "ztsnr" in state:
        config["rescale_betas_zero_snr"] = True
    return config


@torch.inference_mode()
def predicts_v(unet: nn.Module) -> bool:
    """Whether a U-Net predicts v: at the last timestep v is about -x0, where epsilon is the noise.

    A1111's test: the mean of (prediction - x) at t = 999 for x of 0.5 and text states of 0.5 is below -1.
    """
    dtypes = {parameter.dtype for parameter in unet.parameters()}
    is_plain = (
        len(dtypes) == 1 and min(dtype.itemsize for dtype in dtypes) > 1
    )  # float8 is a storage format, it cannot compute
    residual = _mean_residual(unet) if is_plain else math.nan
    if not math.isfinite(residual):  # or the attention of SD 2.1 overflows in float16
        residual = _mean_residual(copy.deepcopy(unet).float())
    return residual < -1


def _mean_residual(unet: nn.Module) -> float:
    dtype = unet.dtype
    x = torch.full((1, unet.config.in_channels, 8, 8), 0.5, dtype=dtype)
    states = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=dtype)
    return float((unet(x, torch.tensor(999), states).sample.float() - x.float()).mean())


def with_vae(model: DiffusionCheckpoint, path: Path) -> DiffusionCheckpoint:
    """The model with another VAE of the same config, including the scaling factor."""
    return replace(model, vae=open_vae(path, model.vae.config))
