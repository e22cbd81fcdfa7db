"""Maps names of diffusers' modules to those of the original Stable Diffusion checkpoints, derived from the config."""

from collections.abc import Iterator, Mapping
from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Name prefixes of a UNet2DConditionModel -> prefixes under `model.diffusion_model.`."""
    layers = config["layers_per_block"]
    layers = layers if isinstance(layers, int) else layers[0]  # the original has one number for all blocks
    return dict(_unet(layers, len(config["block_out_channels"]), config["up_block_types"]))


def _unet(layers: int, levels: int, up_types: list[str]) -> Iterator[tuple[str, str]]:
    yield from (("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"))
    for ours, theirs in (("time_embedding", "time_embed"), ("add_embedding", "label_emb.0")):
        yield from ((f"{ours}.linear_1", f"{theirs}.0"), (f"{ours}.linear_2", f"{theirs}.2"))
    for block in range(levels):
        for layer in range(layers):
            prefix = f"input_blocks.{1 + block * (layers + 1) + layer}"
            yield from _resnet(f"down_blocks.{block}.resnets.{layer}", f"{prefix}.0")
            yield f"down_blocks.{block}.attentions.{layer}", f"{prefix}.1"
        yield f"down_blocks.{block}.downsamplers.0.conv", f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
    yield from _resnet("mid_block.resnets.0", "middle_block.0")
    yield "mid_block.attentions.0", "middle_block.1"
    yield from _resnet("mid_block.resnets.1", "middle_block.2")
    for block in range(levels):
        for layer in range(layers + 1):
            prefix = f"output_blocks.{block * (layers + 1) + layer}"
            yield from _resnet(f"up_blocks.{block}.resnets.{layer}", f"{prefix}.0")
            yield f"up_blocks.{block}.attentions.{layer}", f"{prefix}.1"
        after = 2 if "CrossAttn" in up_types[block] else 1
        yield f"up_blocks.{block}.upsamplers.0.conv", f"output_blocks.{block * (layers + 1) + layers}.{after}.conv"


def _resnet(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name, original in _RESNET.items():
        yield f"{ours}.{name}", f"{theirs}.{original}"


def vae_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Name prefixes of an AutoencoderKL -> prefixes under `first_stage_model.`."""
    return dict(_vae(config["layers_per_block"], len(config["block_out_channels"])))


def _vae(layers: int, levels: int) -> Iterator[tuple[str, str]]:
    for half, ours, theirs, count in (
        ("encoder", "down_blocks", "down", layers),
        ("decoder", "up_blocks", "up", layers + 1),
    ):
        for block in range(levels):
            prefix = f"{half}.{theirs}.{block if half == 'encoder' else levels - 1 - block}"
            for layer in range(count):
                yield from _vae_resnet(f"{half}.{ours}.{block}.resnets.{layer}", f"{prefix}.block.{layer}")
            if half == "encoder":
                yield f"{half}.{ours}.{block}.downsamplers.0.conv", f"{prefix}.downsample.conv"
            else:
                yield f"{half}.{ours}.{block}.upsamplers.0.conv", f"{prefix}.upsample.conv"
        for n in (0, 1):
            yield from _vae_resnet(f"{half}.mid_block.resnets.{n}", f"{half}.mid.block_{n + 1}")
        for name, original in _VAE_ATTENTION.items():
            yield f"{half}.mid_block.attentions.0.{name}", f"{half}.mid.attn_1.{original}"
        yield f"{half}.conv_norm_out", f"{half}.norm_out"


def _vae_resnet(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name in ("norm1", "conv1", "norm2", "conv2", "conv_shortcut"):
        yield f"{ours}.{name}", f"{theirs}.{_VAE_RESNET.get(name, name)}"


def with_prefix_renamed(name: str, names: Mapping[str, str], separator: str = ".") -> str:
    """The name of a parameter or module with its longest known prefix replaced; without one it stays as it is."""
    prefix = name
    while prefix:
        if prefix in names:
            return names[prefix] + name[len(prefix) :]
        prefix = prefix.rpartition(separator)[0]
    return name
