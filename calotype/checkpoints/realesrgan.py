"""Saves Real-ESRGAN networks in the format that Real-ESRGAN, spandrel and the ncnn converters read: `params_ema`.

spandrel uses the layer names of the first ESRGAN for RRDBNet; Real-ESRGAN's files use those of BasicSR.
"""

import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as packed
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

from calotype.errors import CalotypeError
from calotype.files import write_atomic
from calotype.models.network import NetworkCheckpoint

_DENSE = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(weight|bias)")
_PLAIN = re.compile(r"model\.(\d+|1\.sub\.\d+)\.(weight|bias)")


def new_network(kind: str, scale: int, width: int, depth: int) -> nn.Module:
    """A network with random weights from torch's default generator.

    Args:
        kind: "rrdbnet" or "srvgg".
        scale: 1, 2 or 4.
        width: number of channels.
        depth: number of blocks (RRDBNet) or layers (SRVGGNetCompact).
    """
    if kind == "srvgg":
        return Compact(num_feat=width, num_conv=depth, upscale=scale)
    shuffle = 4 // scale  # x2plus and x1 use pixel unshuffle, then enlarge four times
    network = ESRGAN(
        in_nc=3 * shuffle**2,
        num_filters=width,
        num_blocks=depth,
        scale=4,
        shuffle_factor=shuffle if shuffle > 1 else None,
    )
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and ".RDB" in name:  # as published: residuals start near zero
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(0.1)
            nn.init.zeros_(layer.bias)
    return network


def scale_of(network: nn.Module) -> int:
    """The scale of a network of `new_network` or `trainable`."""
    return network.upscale if isinstance(network, Compact) else network.scale // (network.shuffle_factor or 1)


def trainable(loaded: NetworkCheckpoint) -> nn.Module:
    """The network of a checkpoint, if it can be trained and saved again.

    Raises:
        CalotypeError: another architecture, or the checkpoint resizes the output of its network.
    """
    network = loaded.module
    if not isinstance(network, (ESRGAN, Compact)) or loaded.kind != "upscale":
        raise CalotypeError(
            "{loaded} is neither RRDBNet nor SRVGGNetCompact, which Real-ESRGAN consists of; train on one of "
            "these, such as realesrgan-x4plus or realesr-animevideov3",
            loaded=loaded.name,
        )
    if scale_of(network) != loaded.scale:
        raise CalotypeError(
            "{loaded} is a network that enlarges {scale_of} times, and then shrinks; train on that: "
            "realesr-animevideov3",
            loaded=loaded.name,
            scale_of=scale_of(network),
        )
    if any(name in ("RDB1.conv1x1", "norm") for name, _ in network.named_modules()):
        raise CalotypeError("{loaded} is an ESRGAN+, which Real-ESRGAN's files have no names for", loaded=loaded.name)
    to_realesrgan_keys(network.state_dict())
    return network


def fitted(network: nn.Module, scale: int) -> nn.Module:
    """A SRVGGNetCompact with a lower scale: the last convolution's filters are averaged over the sub-pixels.

    Raises:
        CalotypeError: another architecture, or a scale that does not divide the network's.
    """
    before = scale_of(network)
    if not isinstance(network, Compact) or before % scale:
        raise CalotypeError(
            "the weights of a network with scale {before} cannot be fitted to {option:scale} {scale}; only those of a "
            "SRVGGNetCompact with a multiple of it can; leave {option:scale} out, or give {option:model} none",
            before=before,
            scale=scale,
        )
    convolutions = [key.removesuffix(".weight") for key, value in network.state_dict().items() if value.ndim == 4]
    state, last, factor = dict(network.state_dict()), convolutions[-1], before // scale
    for key in (f"{last}.weight", f"{last}.bias"):
        value = state[key]
        grid = value.view(-1, scale, factor, scale, factor, *value.shape[1:])
        state[key] = grid.mean((2, 4)).reshape(-1, *value.shape[1:])
    smaller = Compact(num_feat=network.num_feat, num_conv=network.num_conv, upscale=scale)
    smaller.load_state_dict(state)
    return smaller


def to_realesrgan_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames spandrel's keys to those of Real-ESRGAN's files; those of SRVGGNetCompact are equal.

    Raises:
        CalotypeError: a key of another network.
    """
    if all(key.startswith("body.") for key in state):
        return dict(state)
    numbers = sorted({int(key.split(".")[1]) for key in state if _PLAIN.fullmatch(key) and ".sub." not in key})
    upsamplings = len(numbers) - 3
    names = ["conv_first", *(f"conv_up{n}" for n in range(1, upsamplings + 1)), "conv_hr", "conv_last"]
    new_names = {str(number): name for number, name in zip(numbers, names, strict=True)} if upsamplings >= 0 else {}
    renamed = {}
    for key, value in state.items():
        if dense := _DENSE.fullmatch(key):
            block, rdb, conv, parameter = dense.groups()
            renamed[f"body.{block}.rdb{rdb}.conv{conv}.{parameter}"] = value
        elif (plain := _PLAIN.fullmatch(key)) and (plain[1] in new_names or ".sub." in plain[1]):
            renamed[f"{new_names.get(plain[1], 'conv_body')}.{plain[2]}"] = value
        else:
            raise CalotypeError("the network has a layer {key} that Real-ESRGAN's files have no name for", key=key)
    return renamed


def write(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Saves `path` atomically: .pth with the weights under `params_ema`, or .safetensors with the weights alone.

    Args:
        metadata: JSON-serialisable data, stored under "calotype" in the metadata of a .safetensors file.
    Raises:
        CalotypeError: the disk is full, the folder is not writable, or the weights are not finite.
    """
    state = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in network.state_dict().items()}
    state = to_realesrgan_keys(state)
    if not all(math.isfinite(float(value.sum())) for value in state.values()):
        raise CalotypeError("{path} is not written: the weights are not finite; resume from an earlier file", path=path)
    if path.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({"params_ema": state}, buffer)
        data = buffer.getvalue()
    else:
        data = packed(state, {"calotype": json.dumps(metadata)})
    write_atomic(path, data)
