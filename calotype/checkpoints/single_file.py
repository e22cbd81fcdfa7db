"""Stable Diffusion in one file, as its users share it, opened with configs that ship: nothing is fetched."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.checkpoints.key_maps import unet_names, vae_names, with_prefix_renamed
from calotype.checkpoints.layouts import UNET, VAE, Layout, TextLayout, recognise, vae_config
from calotype.checkpoints.load_into import filled
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, verified
from calotype.checkpoints.tokenizer import clip_tokenizer
from calotype.errors import CalotypeError
from calotype.models.clip_text import TextEncoder, classic_names
from calotype.models.diffusion import Opened, TextPart

OPEN_LAYER = {  # OpenCLIP's names within a layer -> CLIP's
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of diffusers before 0.15
EDM = ("edm_mean", "edm_vpred.sigma_max")  # Karras et al. 2022: trained on sigmas, not on the 1000 steps of the others


def open_file(found: Checkpoint, vae: Path | None = None) -> Opened:
    """Opens a checkpoint of any layout in `layouts`.

    Args:
        vae: a file whose VAE takes the place of the checkpoint's own, which may then lack one.

    Raises:
        CalotypeError: unreadable, changed since it was added, incomplete, or something else.
    """
    sha256 = verified(found)
    state = read_state(found.path)
    layout = recognise({key: tuple(value.shape) for key, value in state.items()}, found.path)
    return opened(state, layout, found.path, found.name, sha256, vae)


def opened(
    state: dict[str, Tensor], layout: Layout, where: Path, name: str, sha256: str, other_vae: Path | None = None
) -> Opened:
    """The networks of a layout out of a file's tensors, which are used as they are, without a copy."""
    if any(mark in state for mark in EDM):
        raise CalotypeError(
            "{where} was trained with EDM (as Playground 2.5 and CosXL), which Calotype does not draw with; "
            "give a checkpoint of SD 1.x, 2.x or SDXL",
            where=where,
        )
    unet = open_unet(state, layout, where)
    vae = open_vae(other_vae, layout.vae) if other_vae else _own_vae(state, layout, where)
    training = _training(state, layout, unet)
    is_base = layout.family == "sd2" and training["prediction_type"] == "epsilon"
    return Opened(
        name=name,
        sha256=sha256,
        family=layout.family,
        unet=unet,
        vae=vae,
        text=tuple(_text(state, part, where) for part in layout.text),
        training=training,
        native=512 if is_base else layout.native,
        is_unsaid_zero=layout.family == "sdxl" and len(layout.text) == 2,  # not the refiner
    )


def open_unet(state: dict[str, Tensor], layout: Layout, where: Path) -> nn.Module:
    """The U-Net alone.

    Raises:
        CalotypeError: a tensor is missing, has another shape, or has no place in it: then it is another kind of model.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        module = UNet2DConditionModel.from_config(dict(layout.unet))
    names = unet_names(layout.unet)
    places = {key: UNET + with_prefix_renamed(key, names) for key in module.state_dict()}
    strays = sorted({key for key in state if key.startswith(UNET)} - set(places.values()))
    if strays:
        raise CalotypeError(
            "{where} looks like {layout}, but {count} tensors of its U-Net have no place there, first "
            "{first}; it is another kind of model, which Calotype does not draw with",
            where=where,
            layout=layout.name,
            count=len(strays),
            first=strays[0],
        )
    return filled(module, _taken(state, module, places, where), where)


def _own_vae(state: dict[str, Tensor], layout: Layout, where: Path) -> nn.Module:
    own = {key.removeprefix(VAE): value for key, value in state.items() if key.startswith(VAE)}
    if not own:
        raise CalotypeError("{where} has no VAE in it; give the file that has all parts", where=where)
    return _vae_of(own, layout.vae, where)


def open_vae(path: Path, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A file with a VAE alone, by the original's or by diffusers' names; or the VAE of a whole checkpoint.

    Args:
        config: of an AutoencoderKL; None: that of SD 1.x. No file tells the scale of the latents, in which the VAEs
            of SD 1.x and of SDXL differ.

    Raises:
        CalotypeError: there is none in it, or one that does not fit the config.
    """
    state = read_state(path)
    if any(key.startswith(VAE) for key in state):
        state = {key.removeprefix(VAE): value for key, value in state.items() if key.startswith(VAE)}
    if "decoder.conv_in.weight" not in state:
        raise CalotypeError(
            "{path} holds no VAE; give a file with one, such as vae-ft-mse-840000-ema-pruned", path=path
        )
    return _vae_of(state, config or vae_config(), path)


def _vae_of(state: dict[str, Tensor], config: Mapping[str, Any], where: Path) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with torch.device("meta"):
        module = AutoencoderKL.from_config(dict(config))
    is_diffusers = "decoder.up_blocks.0.resnets.0.conv1.weight" in state
    names = {} if is_diffusers else vae_names(config)
    state = with_new_attention(state) if is_diffusers else state
    places = {key: with_prefix_renamed(key, names) for key in module.state_dict()}
    return filled(module, _taken(state, module, places, where), where)


def with_new_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors by diffusers' present names: the folders of SD 1.5 and of sd-vae-ft-mse have the old ones."""
    found = {}
    for key, value in state.items():
        place, _, kind = key.rpartition(".")
        block, _, name = place.rpartition(".")
        is_old = ".attentions." in block and name in OLD_ATTENTION
        found[f"{block}.{OLD_ATTENTION[name]}.{kind}" if is_old else key] = value
    return found


def _taken(state: dict[str, Tensor], module: nn.Module, places: Mapping[str, str], where: Path) -> dict[str, Tensor]:
    """For each tensor of the module the file's, in the module's shape: 1x1 convolutions and matrices are the same."""
    found = {}
    for key, value in module.state_dict().items():
        name = places[key]
        if name not in state:
            raise CalotypeError(
                "{where} is incomplete: it has no {name}; fetch or copy it again", where=where, name=name
            )
        given = state[name]
        found[key] = given.reshape(value.shape) if _essence(given) == _essence(value) else given
    return found


def _essence(tensor: Tensor) -> tuple[int, ...]:
    """A shape without the 1x1 of a convolution."""
    shape = tuple(tensor.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape


def _text(state: dict[str, Tensor], part: TextLayout, where: Path) -> TextPart:
    own = {key.removeprefix(part.prefix): value for key, value in state.items() if key.startswith(part.prefix)}
    if not own:
        raise CalotypeError(
            "{where} is incomplete: it has no text encoder under {prefix}", where=where, prefix=part.prefix
        )
    with torch.device("meta"):
        encoder = TextEncoder(part.shape)
    named = from_openclip(own, part) if part.is_open else classic_names(own)
    wanted = encoder.state_dict()
    tokenizer = clip_tokenizer(pads_with_end=part.pads_with_end)
    weights = {key: value for key, value in named.items() if key in wanted}
    return TextPart(filled(encoder, weights, where), tokenizer, part.layer, part.is_normalised, is_fixed=part.layer > 1)


def from_openclip(state: dict[str, Tensor], part: TextLayout) -> dict[str, Tensor]:
    """OpenCLIP's text transformer by CLIP's names; q, k and v lie in one matrix there."""
    found = {}
    for key, value in state.items():
        if key.startswith("transformer.resblocks."):
            number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
            found |= _open_layer(f"text_model.encoder.layers.{number}.", rest, value)
    plain = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    found |= {ours: state[theirs] for theirs, ours in plain.items() if theirs in state}
    if part.shape.projection_dim and "text_projection" in state:
        found["text_projection.weight"] = state["text_projection"].T.contiguous()
    return found


def _open_layer(place: str, rest: str, value: Tensor) -> dict[str, Tensor]:
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        parts = value.chunk(3)
        return {f"{place}self_attn.{n}_proj.{kind}": part for n, part in zip("qkv", parts, strict=True)}
    name, _, kind = rest.rpartition(".")
    return {f"{place}{OPEN_LAYER.get(name, name)}.{kind}": value}


def _training(state: dict[str, Tensor], layout: Layout, unet: nn.Module) -> dict[str, Any]:
    """What the U-Net predicts: told by NovelAI's marks, or, where keys cannot tell, by trying."""
    training = dict(layout.training)
    is_open = not layout.is_prediction_known and unet.config.in_channels == unet.config.out_channels
    if "v_pred" in state or (is_open and predicts_v(unet)):  # the inpainting model of SD 2 predicts the noise
        training["prediction_type"] = "v_prediction"
    if "ztsnr" in state:
        training["rescale_betas_zero_snr"] = True
    return training


@torch.inference_mode()
def predicts_v(unet: nn.Module) -> bool:
    """Whether a U-Net predicts v: at the noisiest step it then answers with minus the picture, not with the noise.

    A1111's test: the mean of (answer - x) at t = 999 for x of 0.5 and words of 0.5 is below -1.
    """
    kinds = {parameter.dtype for parameter in unet.parameters()}
    is_plain = len(kinds) == 1 and min(kind.itemsize for kind in kinds) > 1  # float8 is for keeping, not for reckoning
    surplus = _surplus(unet) if is_plain else math.nan
    if not math.isfinite(surplus):  # or SD 2.1's attention has left the range of float16
        surplus = _surplus(copy.deepcopy(unet).float())
    return surplus < -1


def _surplus(unet: nn.Module) -> float:
    kind = unet.dtype
    x = torch.full((1, unet.config.in_channels, 8, 8), 0.5, dtype=kind)
    words = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=kind)
    return float((unet(x, torch.tensor(999), words).sample.float() - x.float()).mean())


def with_vae(model: Opened, path: Path) -> Opened:
    """The model with another VAE of the same shape, whose latents have the model's scale."""
    return replace(model, vae=open_vae(path, model.vae.config))
