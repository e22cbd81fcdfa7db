"""Networks that begin with nothing, and what they learn with: device, number format, chance."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from calotype.models.clip_text import TextEncoder, TextShape, init_encoder


@dataclass(frozen=True)
class Compute:
    """What a run computes with."""

    device: torch.device
    dtype: torch.dtype = torch.float32  # of what autocast computes; weights are float32
    is_compiled: bool = False
    multiple: int = 8  # pixels that crops are multiples of

    def autocast(self) -> Any:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def attention(self) -> Any:
        """What steps that learn look around with: on a processor plain products, for torch's own way back is slower."""
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else contextlib.nullcontext()

    def quick(self, network: Any) -> Any:
        return torch.compile(network) if self.is_compiled else network

    def crop(self, side: int) -> int:
        """The side of the crops that a VAE learns from: half of the pictures', at least 32, if they have as much."""
        half = max(32, side // 2) // self.multiple * self.multiple
        return min(max(self.multiple, half), side // self.multiple * self.multiple)


def chance_at(device: torch.device, seed: int, number: int) -> torch.Generator:
    """All chance of one step, whatever came before it."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + number) % 2**63)


def new_vae(widths: tuple[int, ...], channels: int, side: int, seed: int, means: Compute) -> nn.Module:
    """diffusers' AutoencoderKL without attention, one layer a level."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=channels,
        sample_size=side,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    )
    return vae.to(means.device, memory_format=torch.channels_last)


def new_unet(widths: tuple[int, ...], channels: int, side: int, words: int, seed: int, means: Compute) -> nn.Module:
    """diffusers' UNet2DConditionModel, one layer a level; words are looked at from the second level down.

    Args:
        side: of the latents.
        words: width of the text encoder.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed + 1)
    deeper = len(widths) - 1
    unet = UNet2DConditionModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=words,
        attention_head_dim=8,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deeper,
        up_block_types=("CrossAttnUpBlock2D",) * deeper + ("UpBlock2D",),
    )
    return unet.to(means.device, memory_format=torch.channels_last)


def new_text(width: int, layers: int, tokens: int, seed: int, means: Compute) -> TextEncoder:
    shape = TextShape(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=8 if width % 64 == 0 else 4,
    )
    return init_encoder(shape, torch.Generator().manual_seed(seed + 2)).to(means.device)
