"""Reads super-resolution networks in ncnn's format (`x.param` and `x.bin`) into state dicts that spandrel can load.

A `.param` is text: one layer per line, `kind name inputs outputs in... out... key=value...`. A `.bin` holds the weights
of the layers in that order: for a Convolution a 4-byte tag, weights, float32 biases; for a PReLU float32 slopes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calotype.errors import CalotypeError, reason_of

MAGIC = "7767517"
FLOAT32, FLOAT16 = 0, 0x01306B47  # tags before weights; other tags mean 8-bit or quantised weights
MAX_TEXT = 8 << 20
NEAREST, BICUBIC = "1", "3"  # ncnn's codes of interpolation modes
RRDB_CONVOLUTIONS = 15  # in each of the blocks: three dense blocks of five
RRDB_KINDS = {"Input", "Split", "Convolution", "Concat", "Eltwise", "BinaryOp", "Interp", "ReLU"}
COMPACT_KINDS = {"Input", "Split", "Convolution", "PReLU", "PixelShuffle", "Interp", "BinaryOp"}


@dataclass(frozen=True)
class NcnnLayer:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, str]

    def number(self, key: str, default: int = 0) -> int:
        return int(self.options.get(key, default))


@dataclass(frozen=True, eq=False)
class Converted:
    """Weights by spandrel's names, and the resize to apply to the output of the network."""

    state: dict[str, Tensor]  # float32
    resize: float = 1.0  # factor of a bicubic resize of the output


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """The .param and .bin paths, given either of them; None if they are not such a pair."""
    param, weights = path.with_suffix(".param"), path.with_suffix(".bin")
    known = path.suffix in (".param", ".bin")
    return (param, weights) if known and param.is_file() and weights.is_file() else None


def read(param: Path, weights: Path) -> Converted:
    """Reads a pair of files.

    Raises:
        CalotypeError: not ncnn files, truncated or too long, or a network that is neither an ESRGAN nor a compact one.
    """
    try:
        layers = _layers(param)
        tensors = _tensors(layers, weights)
        if any(layer.kind == "PReLU" for layer in layers):
            return _compact(layers, tensors)
        return _esrgan(layers, tensors)
    except (ValueError, IndexError, KeyError) as fault:
        raise CalotypeError(
            "{param} and {weights} are no ncnn network that Calotype reads: {fault}; it reads ESRGAN and "
            "Real-ESRGAN's compact networks",
            param=param,
            weights=weights.name,
            fault=fault,
        ) from None
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=fault.filename, reason=reason_of(fault)) from None


def _layers(param: Path) -> list[NcnnLayer]:
    if param.stat().st_size > MAX_TEXT:
        raise ValueError("the .param is too large to be one")
    lines = param.read_text("utf-8").split("\n")
    if lines[0].strip() != MAGIC:
        raise ValueError(f"the .param does not begin with {MAGIC}")
    layers = [_layer(line.split()) for line in lines[2:] if line.strip()]
    if len(layers) != int(lines[1].split()[0]):
        raise ValueError(f"the .param declares {lines[1].split()[0]} layers and has {len(layers)}")
    return layers


def _layer(words: list[str]) -> NcnnLayer:
    if len(words) < 4:
        raise ValueError("the .param is cut")
    ins, outs = int(words[2]), int(words[3])
    names, options = words[4 : 4 + ins + outs], words[4 + ins + outs :]
    pairs = dict(option.split("=", 1) for option in options)
    return NcnnLayer(words[0], tuple(names[:ins]), tuple(names[ins:]), pairs)


def _tensors(layers: list[NcnnLayer], weights: Path) -> list[dict[str, Tensor]]:
    """The weights of each layer that has any, in order; the file must contain exactly these."""
    data = np.fromfile(weights, dtype=np.uint8)
    by_layer, at = [], 0
    for layer in layers:
        if layer.kind == "Convolution":
            tensors, at = _convolution(layer, data, at)
            by_layer.append(tensors)
        elif layer.kind == "PReLU":
            slopes, at = _numbers(data, at, layer.number("0"), np.float32)
            by_layer.append({"weight": slopes})
    if at != data.size:
        raise ValueError(f"the .bin has {data.size} bytes where the .param needs {at}")
    return by_layer


def _convolution(layer: NcnnLayer, data: np.ndarray, at: int) -> tuple[dict[str, Tensor], int]:
    out, kernel, count = layer.number("0"), layer.number("1"), layer.number("6")
    stride, dilation = layer.number("3", 1), layer.number("2", 1)
    if (kernel, stride, dilation, layer.number("4"), layer.number("5")) != (3, 1, 1, 1, 1) or out < 1:
        raise ValueError("it has a convolution that is not 3x3 with padding and bias")
    if count < 1 or count % (out * 9):
        raise ValueError("a convolution's weights do not fit its channels")
    tag = int(data[at : at + 4].view("<u4")[0]) if at + 4 <= data.size else None
    if tag not in (FLOAT32, FLOAT16):
        raise ValueError("the .bin is cut or holds weights that are not floating-point")
    weight, at = _numbers(data, at + 4, count, np.float32 if tag == FLOAT32 else np.float16)
    bias, at = _numbers(data, at, out, np.float32)
    return {"weight": weight.reshape(out, -1, 3, 3), "bias": bias}, at


def _numbers(data: np.ndarray, at: int, count: int, dtype: type) -> tuple[Tensor, int]:
    size = count * np.dtype(dtype).itemsize
    if count < 1 or at + size > data.size:
        raise ValueError("the .bin is cut")
    numbers = np.frombuffer(data[at : at + size].tobytes(), dtype=np.dtype(dtype).newbyteorder("<"))
    return torch.from_numpy(numbers.astype(np.float32)), at + -(-size // 4) * 4


def _esrgan(layers: list[NcnnLayer], tensors: list[dict[str, Tensor]]) -> Converted:
    _check_kinds(layers, RRDB_KINDS)
    _check_slopes(layers)
    resizes = [layer for layer in layers if layer.kind == "Interp"]
    if any((r.options.get("0"), float(r.options["1"])) != (NEAREST, 2.0) for r in resizes):
        raise ValueError("it has a resize that ESRGAN does not have")
    blocks, rest = divmod(len(tensors) - 4 - len(resizes), RRDB_CONVOLUTIONS)
    concats = sum(layer.kind == "Concat" for layer in layers)
    if rest or blocks < 1 or concats != 12 * blocks:
        raise ValueError(f"{len(tensors)} convolutions and {concats} concatenations make no ESRGAN")
    body = [f"body.{b}.rdb{d}.conv{c}" for b in range(blocks) for d in range(1, 4) for c in range(1, 6)]
    ups = [f"conv_up{n}" for n in range(1, len(resizes) + 1)]
    return Converted(_named(["conv_first", *body, "conv_body", *ups, "conv_hr", "conv_last"], tensors))


def _compact(layers: list[NcnnLayer], tensors: list[dict[str, Tensor]]) -> Converted:
    _check_kinds(layers, COMPACT_KINDS)
    chain = [layer for layer in layers if layer.kind not in ("Input", "Split")]
    kinds = [layer.kind for layer in chain]
    body = len(tensors)
    if kinds[:body] != ["Convolution", "PReLU"] * (body // 2) + ["Convolution"]:
        raise ValueError("its convolutions and PReLUs do not alternate")
    shuffle, base, add, *last = chain[body:]
    factor = shuffle.number("0")
    if [shuffle.kind, base.kind, add.kind] != ["PixelShuffle", "Interp", "BinaryOp"]:
        raise ValueError("it does not end as a compact network does")
    if (base.options.get("0"), float(base.options["1"])) != (NEAREST, factor) or add.number("0") != 0:
        raise ValueError("it does not add its result to the source enlarged")
    return Converted(_named([f"body.{n}" for n in range(body)], tensors), _last_resize(last))


def _last_resize(last: list[NcnnLayer]) -> float:
    if not last:
        return 1.0
    factor = float(last[0].options["1"])
    if len(last) > 1 or last[0].kind != "Interp" or last[0].options.get("0") != BICUBIC or not 0 < factor <= 1:
        raise ValueError("it has layers after the network that Calotype does not know")
    return factor


def _check_kinds(layers: list[NcnnLayer], kinds: set[str]) -> None:
    unsupported = next((layer.kind for layer in layers if layer.kind not in kinds), None)
    if unsupported:
        raise ValueError(f"it has a layer of kind {unsupported}")


def _check_slopes(layers: list[NcnnLayer]) -> None:
    """ESRGAN's leaky ReLU has the slope 0.2, fused into a convolution or as a separate layer."""
    fused = [float(layer.options["-23310"].split(",")[1]) for layer in layers if "-23310" in layer.options]
    single = [float(layer.options.get("0", 0)) for layer in layers if layer.kind == "ReLU"]
    if any(abs(slope - 0.2) > 1e-6 for slope in fused + single):
        raise ValueError("its activations are not ESRGAN's")


def _named(names: list[str], tensors: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    layers = zip(names, tensors, strict=True)
    return {f"{name}.{key}": tensor for name, parts in layers for key, tensor in parts.items()}
