"""Loads state dicts from weight files. No code in a file is ever executed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from calotype.checkpoints.content import SAFETENSORS, UNKNOWN
from calotype.checkpoints.header import check_file, check_not_truncated
from calotype.checkpoints.pickles import read_pickle
from calotype.errors import CalotypeError, reason_of

LARGEST_INDEX = 4096  # no network has as many layers; a key with a larger index would only exhaust the memory
HYPERNETWORK = (320, 640, 768, 1024, 1280)  # A1111 stores its hypernetworks by the width of the layers
BUILD_ERRORS = (
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    RuntimeError,
    AssertionError,
    AttributeError,
    ZeroDivisionError,
)  # of a network that is built from tensors, or a description, that do not fit it
WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net")


def read_state(path: Path, wrappers: tuple[str, ...] = WRAPPERS, is_checked: bool = True) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        wrappers: keys under which the tensors may be nested, by preference.
        is_checked: all numbers must be finite. False: the caller checks those that it uses (`check_finite`).

    Raises:
        CalotypeError: no such file, damaged, with code in it, or without tensors.
    """
    content = check_file(path)
    if content == UNKNOWN and path.suffix.lower() == ".bin":
        raise CalotypeError(
            "{path} was not written by torch; if it is a network of ncnn, put its .param file beside it", path=path
        )
    try:
        is_header_damaged = content == UNKNOWN and path.suffix.lower() == ".safetensors"
        data = _read_safetensors(path) if content == SAFETENSORS or is_header_damaged else read_pickle(path)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=path, reason=reason_of(fault)) from None
    state = tensors_in(data, path, wrappers)
    if is_checked:
        check_finite(state, path)
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    check_not_truncated(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RecursionError) as fault:
        raise CalotypeError(
            "{path} is damaged or no safetensors file ({fault}); fetch or copy it again", path=path, fault=fault
        ) from None


def tensors_in(data: Any, path: Path, wrappers: tuple[str, ...] = WRAPPERS) -> dict[str, Tensor]:
    """Unwraps and checks loaded data, as `read_state` does."""
    for key in wrappers:
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
            break
    if isinstance(data, dict) and data and all(isinstance(value, dict) for value in data.values()):  # an IP-Adapter
        data = {f"{outer}.{inner}": value for outer, part in data.items() for inner, value in part.items()}
    if isinstance(data, dict) and any(isinstance(key, int) and key in HYPERNETWORK for key in data):
        raise CalotypeError("{path} is a hypernetwork, which no task of Calotype uses", path=path)
    named = data.items() if isinstance(data, dict) else ()
    state = {key: value for key, value in named if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise CalotypeError("{path} holds no weights; give a file with a network's tensors by name", path=path)
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise CalotypeError(
                "{path} holds {key} in a form that Calotype does not read (sparse or quantised)", path=path, key=key
            )
        if any(len(number) > 9 or int(number) > LARGEST_INDEX for number in re.findall(r"[0-9]+", key)):
            raise CalotypeError("{path} is no network that Calotype knows: it has a key {key}", path=path, key=key[:80])
    _check_sizes(state, path)
    return state


def _check_sizes(state: dict[str, Tensor], path: Path) -> None:
    """With stride 0 a few bytes can declare a tensor of any size; weights never do that."""
    size = path.stat().st_size
    declared = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if declared > 2 * size + 4096:
        raise CalotypeError(
            "{path} declares {declared} bytes of weights and has only {size}; it is not what it says",
            path=path,
            declared=declared,
            size=size,
        )


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raises CalotypeError if a tensor has NaN or infinity in it."""
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        plain = tensor.float() if tensor.itemsize == 1 else tensor  # float8 has no sum
        if not torch.isfinite(plain.sum(dtype=torch.float64)):  # one pass, no copy
            raise CalotypeError(
                "{path} is damaged: {key} holds numbers that are not finite; fetch or copy it again", path=path, key=key
            )
