"""The blocks of a U-Net as the tensors of a file show them: distilled models have fewer than what they were made from.

SSD-1B, Segmind Vega and KOALA are SDXL, and BK-SDM (base, small, tiny) is SD 1.x or 2.x, with fewer layers, fewer
transformer blocks, or without the middle block.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MIDDLE = "UNetMidBlock2DCrossAttn"


@dataclass(frozen=True)
class UNetBlocks:
    """The number of transformer blocks in each layer of each block, the outer blocks first."""

    channels: tuple[int, ...]
    down: tuple[tuple[int, ...], ...]
    up: tuple[tuple[int, ...], ...]  # one layer more than in a down block
    middle: int | None  # 0: a ResNet alone; None: there is no middle block

    @property
    def layers(self) -> int:
        return len(self.down[0])


def blocks_of(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> UNetBlocks | None:
    """The blocks of the U-Net under a key prefix; None if they are not those of a U-Net of Stable Diffusion."""
    depths, resnets, downs = _count(shapes, prefix)
    inputs = 1 + max((n for part, n in resnets if part == "input_blocks"), default=0)
    layers = min(downs, default=inputs) - 1
    levels = len(downs) + 1
    outputs = 1 + max((n for part, n in resnets if part == "output_blocks"), default=-1)
    is_uniform = downs == {(n + 1) * (layers + 1) for n in range(levels - 1)}
    if layers < 1 or not is_uniform or outputs != levels * (layers + 1) or inputs not in (outputs, outputs - 1):
        return None
    first = [1 + level * (layers + 1) for level in range(levels)]
    channels = [shapes.get(f"{prefix}input_blocks.{n}.0.out_layers.3.weight", (0,))[0] for n in first]
    down = tuple(tuple(depths.get(("input_blocks", n + layer), 0) for layer in range(layers)) for n in first)
    up = tuple(
        tuple(depths.get(("output_blocks", level * (layers + 1) + layer), 0) for layer in range(layers + 1))
        for level in reversed(range(levels))
    )
    has_middle, has_second = ("middle_block", 0) in resnets, ("middle_block", 2) in resnets
    middle = depths.get(("middle_block", 1), 0) if has_middle else None
    if has_second != bool(middle) or 0 in channels:
        return None
    return UNetBlocks(tuple(channels), down, up, middle)


def _count(
    shapes: Mapping[str, tuple[int, ...]], prefix: str
) -> tuple[dict[tuple[str, int], int], set[tuple[str, int]], set[int]]:
    """Transformer blocks by place, the places of ResNets, and the indices of the downsamplers."""
    transformer = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.(?:1\.)?transformer_blocks\.(\d+)\.")
    resnet = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.(?:0\.)?in_layers\.0\.weight$")
    depths: dict[tuple[str, int], int] = {}
    resnets: set[tuple[str, int]] = set()
    downs: set[int] = set()
    for key in shapes:
        name = key.removeprefix(prefix) if key.startswith(prefix) else ""
        if match := transformer.match(name):
            place = (match[1], int(match[2]))
            depths[place] = max(depths.get(place, 0), int(match[3]) + 1)
        elif match := resnet.match(name):
            resnets.add((match[1], int(match[2])))
        elif match := re.match(r"input_blocks\.(\d+)\.0\.op\.weight$", name):
            downs.add(int(match[1]))
    return depths, resnets, downs


def blocks_in(config: Mapping[str, Any]) -> UNetBlocks:
    """The blocks of a config without `reverse_transformer_layers_per_block`."""
    channels = tuple(config["block_out_channels"])
    depths = config.get("transformer_layers_per_block", 1)
    depths = depths if isinstance(depths, tuple | list) else (depths,) * len(channels)
    layers = config["layers_per_block"]
    by_level = [
        depth if "CrossAttn" in kind else 0 for depth, kind in zip(depths, config["down_block_types"], strict=True)
    ]
    down = tuple((depth,) * layers for depth in by_level)
    return UNetBlocks(channels, down, tuple((depth,) * (layers + 1) for depth in by_level), depths[-1])


def with_blocks(config: Mapping[str, Any], blocks: UNetBlocks) -> dict[str, Any] | None:
    """The config of a UNet2DConditionModel with these blocks; None if it cannot describe them."""
    if any(len({depth > 0 for depth in level}) > 1 for level in (*blocks.down, *blocks.up)):
        return None
    has_attention = [level[0] > 0 for level in blocks.down]
    depths: list[Any] = [_short(level) if level[0] else 1 for level in blocks.down]
    if blocks.middle:
        if has_attention[-1] and depths[-1] != blocks.middle:
            return None
        depths[-1] = blocks.middle
    heads = config["attention_head_dim"]
    return {
        **config,
        "block_out_channels": blocks.channels,
        "layers_per_block": blocks.layers,
        "attention_head_dim": heads if isinstance(heads, int) else tuple(side // 64 for side in blocks.channels),
        "down_block_types": ["CrossAttnDownBlock2D" if is_so else "DownBlock2D" for is_so in has_attention],
        "up_block_types": ["CrossAttnUpBlock2D" if level[0] else "UpBlock2D" for level in reversed(blocks.up)],
        "mid_block_type": _MIDDLE if blocks.middle else None if blocks.middle is None else "UNetMidBlock2D",
        "transformer_layers_per_block": depths,
        "reverse_transformer_layers_per_block": [_short(level) if level[0] else 1 for level in reversed(blocks.up)],
    }


def _short(level: tuple[int, ...]) -> int | list[int]:
    return level[0] if len(set(level)) == 1 else list(level)
