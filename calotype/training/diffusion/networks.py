"""Networks trained from scratch, and how they are computed: device, dtype, random generators."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from calotype.models.clip_text import TextEncoder, TextShape, init_encoder


@dataclass(frozen=True)
class Compute:
    """Device, dtype and compilation of a run."""

    device: torch.device
    dtype: torch.dtype = torch.float32  # of autocast; weights are float32
    is_compiled: bool = False
    multiple: int = 8  # sides of crops are multiples of it, in pixels

    def autocast(self) -> Any:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def attention_backend(self) -> Any:
        """SDPA backend of training steps: on the CPU the math backend, since the backward of the others is slower."""
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else contextlib.nullcontext()

    def compile(self, network: Any) -> Any:
        return torch.compile(network) if self.is_compiled else network

    def crop_size(self, side: int) -> int:
        """Side of the VAE's training crops: half of the pictures' side, at least 32 if they are as large."""
        half = max(32, side // 2) // self.multiple * self.multiple
        return min(max(self.multiple, half), side // self.multiple * self.multiple)


def step_generator(device: torch.device, seed: int, number: int) -> torch.Generator:
    """The random generator of one step, independent of earlier steps."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + number) % 2**63)


def new_vae(widths: tuple[int, ...], channels: int, side: int, seed: int, compute: Compute) -> nn.Module:
    """diffusers' AutoencoderKL without attention, one layer per block."""
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
    return vae.to(compute.device, memory_format=torch.channels_last)


def new_unet(
    widths: tuple[int, ...], channels: int, side: int, text_width: int, seed: int, compute: Compute
) -> nn.Module:
    """diffusers' UNet2DConditionModel, one layer per block, with cross-attention in all but the first block.

    Args:
        side: of the latents.
        text_width: of the text encoder.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed + 1)
    cross_attention_levels = len(widths) - 1
    unet = UNet2DConditionModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=8,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * cross_attention_levels,
        up_block_types=("CrossAttnUpBlock2D",) * cross_attention_levels + ("UpBlock2D",),
    )
    return unet.to(compute.device, memory_format=torch.channels_last)


def new_text(width: int, layers: int, tokens: int, seed: int, compute: Compute) -> TextEncoder:
    shape = TextShape(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=8 if width % 64 == 0 else 4,
    )
    return init_encoder(shape, torch.Generator().manual_seed(seed + 2)).to(compute.device)
