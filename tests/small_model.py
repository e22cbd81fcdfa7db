"""A diffusion model of the kind that ships, narrow and untrained: quick to load, to draw with and to train."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from calotype.checkpoints.bundled import shipped
from calotype.models.clip_text import TextEncoder, TextShape

UNET = {
    "block_out_channels": (32, 64),
    "cross_attention_dim": 64,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
VAE = {"block_out_channels": (32, 32, 32, 32)}


def write_small_model(folder: Path) -> Path:
    """A diffusers folder with the configuration of the model that ships, but for its widths; returns its index."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    shutil.copytree(shipped("emoji", "model_index.json").parent, folder, ignore=lambda *_: ["CARD.md", "unet", "vae"])
    (folder / "text_encoder" / "model.safetensors").unlink()
    source = shipped("emoji", "model_index.json").parent
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for name, cls, changes in (("unet", UNet2DConditionModel, UNET), ("vae", AutoencoderKL, VAE)):
            config = json.loads((source / name / "config.json").read_text("utf-8")) | changes
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(config), "utf-8")
            weights = cls.from_config(config).state_dict()
            save_file(weights, folder / name / "diffusion_pytorch_model.safetensors")
        path = folder / "text_encoder" / "config.json"
        config = json.loads(path.read_text("utf-8")) | TEXT
        path.write_text(json.dumps(config), "utf-8")
        encoder = TextEncoder(TextShape.of(config))
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        save_file(encoder.state_dict(), folder / "text_encoder" / "model.safetensors")
    return folder / "model_index.json"
