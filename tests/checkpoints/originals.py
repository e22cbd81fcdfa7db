"""Checkpoints of the original's layout with random weights: exactly its keys, narrow or in full size."""

from dataclasses import replace

import torch
from torch import Tensor

from calotype.checkpoints.key_maps import unet_names, vae_names, with_prefix_renamed
from calotype.checkpoints.layouts import LAYOUTS, UNET, VAE, Layout
from calotype.checkpoints.single_file import OPENCLIP_LAYER
from calotype.models.clip_text import TextEncoder


def narrow(name: str) -> Layout:
    """A layout with all its parts and a tenth of its width."""
    layout = LAYOUTS[name]
    channels = tuple(32 * (1 + n) for n in range(len(layout.unet["block_out_channels"])))
    unet = {**layout.unet, "block_out_channels": channels, "cross_attention_dim": 64, "attention_head_dim": 8}
    if "transformer_layers_per_block" in unet:
        unet |= {"transformer_layers_per_block": 1, "projection_class_embeddings_input_dim": 64 + 6 * 8}
        unet |= {"addition_time_embed_dim": 8}
    width = 64 // len(layout.text)
    text = tuple(
        replace(
            part,
            shape=replace(
                part.shape,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=3,
                num_attention_heads=2,
                projection_dim=64 if part.shape.projection_dim else 0,
            ),
        )
        for part in layout.text
    )
    return replace(layout, unet=unet, text=text, vae={**layout.vae, "block_out_channels": (32, 32, 64, 64)})


def modules(layout: Layout, device: str = "cpu"):
    """The U-Net, the VAE and the text encoders of a layout, freshly made."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(dict(layout.unet))
        vae = AutoencoderKL.from_config(dict(layout.vae))
        text = [TextEncoder(part.shape) for part in layout.text]
    if device == "cpu":
        for encoder in text:
            for parameter in encoder.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
    return unet.eval(), vae.eval(), [encoder.eval() for encoder in text]


def checkpoint(layout: Layout, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a file, by the original's names."""
    unet, vae, text = modules(layout, device)
    names, vae_own = unet_names(layout.unet), vae_names(layout.vae)
    state = {UNET + with_prefix_renamed(key, names): value for key, value in unet.state_dict().items()}
    for key, value in vae.state_dict().items():
        is_matrix = ".attentions." in key and value.dim() == 2
        state[VAE + with_prefix_renamed(key, vae_own)] = value[:, :, None, None] if is_matrix else value
    for part, encoder in zip(layout.text, text, strict=True):
        own = encoder.state_dict()
        state |= {part.prefix + key: value for key, value in (openclip(own) if part.is_open else own).items()}
    return {key: value.detach() for key, value in state.items()}


def openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's text transformer by OpenCLIP's names, q, k and v in one matrix."""
    theirs = {ours: name for name, ours in OPENCLIP_LAYER.items()}
    plain = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    found = {plain[key]: value for key, value in state.items() if key in plain}
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T.contiguous()
    for key, value in state.items():
        if not key.startswith("text_model.encoder.layers."):
            continue
        number, _, rest = key.removeprefix("text_model.encoder.layers.").partition(".")
        place, (name, _, kind) = f"transformer.resblocks.{number}.", rest.rpartition(".")
        if name == "self_attn.q_proj":
            parts = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[f"{place}attn.in_proj_{kind}"] = torch.cat(parts)
        elif name not in ("self_attn.k_proj", "self_attn.v_proj"):
            found[f"{place}{theirs[name]}.{kind}"] = value
    return found
