"""Saves LoRA files as kohya's sd-scripts does: module names, an alpha for each, metadata, hashes."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as packed
from torch import Tensor

from calotype.files import write_atomic


def key_of(part: str, module: str) -> str:
    """`unet`, `down_blocks.0...to_q` -> `lora_unet_down_blocks_0_..._to_q`; text encoders are te, te1, te2."""
    return f"lora_{part}_{module.replace('.', '_')}"


def hashes(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """`sshs_model_hash` and `sshs_legacy_hash` of a file with the `ss_` entries alone, as sd-scripts computes them."""
    data = packed(dict(state), {key: value for key, value in metadata.items() if key.startswith("ss_")})
    start = 8 + int.from_bytes(data[:8], "little")
    legacy = data[0x100000 : 0x100000 + 0x10000]
    return {
        "sshs_model_hash": hashlib.sha256(data[start:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(legacy).hexdigest()[:8],
    }


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Saves a .safetensors file atomically. All metadata is text; None is written as "None".

    Any other suffix (.pt, .ckpt) is saved by torch.save, without metadata.

    Raises:
        CalotypeError: the disk is full, or the folder is not writable.
    """
    if path.suffix != ".safetensors":
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomic(path, buffer.getbuffer())
        return
    text_metadata = {key: value if isinstance(value, str) else _text(value) for key, value in metadata.items()}
    text_metadata |= hashes(state, text_metadata)
    write_atomic(path, packed(dict(state), text_metadata))


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
