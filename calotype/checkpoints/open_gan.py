"""Forgers on disk: one safetensors file, whose metadata tells what network it holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as packed

from calotype.checkpoints.header import check_file, header_of
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, digest
from calotype.errors import CalotypeError
from calotype.files import write_whole
from calotype.models.gan import Generator, Shape

KEY = "calotype.generator"


@dataclass(frozen=True, eq=False)
class Gan:
    """A forger, ready to draw: float32, on the CPU, without gradients."""

    name: str
    sha256: str
    generator: Generator


def write(path: Path, generator: Generator, metadata: Mapping[str, str]) -> None:
    """Writes the weights in float32, whole or not at all.

    Raises:
        CalotypeError: the disk is full, or the folder is closed.
    """
    state = {key: value.detach().float().cpu().contiguous() for key, value in generator.state_dict().items()}
    data = _sorted_metadata(packed(state, {**metadata, KEY: generator.shape.as_json()}))
    write_whole(path, data)


def _sorted_metadata(data: bytes) -> bytes:
    """The same file with its metadata by name: the library writes it in any order, and the same work would give other
    bytes."""
    header_end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:header_end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[header_end:]


def is_gan(path: Path) -> bool:
    """Whether a file says that it holds a forger; False for anything that cannot be read."""
    return bool(_metadata(path).get(KEY))


def read(checkpoint: Checkpoint) -> Gan:
    """Takes no more memory than the file has weights, whatever else it tells.

    Raises:
        CalotypeError: missing, damaged, or no forger of Calotype's.
    """
    check_file(checkpoint.path)
    state, metadata = read_state(checkpoint.path), _metadata(checkpoint.path)
    if KEY not in metadata:
        raise CalotypeError("{path} holds no forger; `{task:train_gan}` makes them", path=checkpoint.path)
    shape = Shape.told(metadata[KEY], str(checkpoint.path))
    with torch.device("meta"):
        generator = Generator(shape)
    try:
        generator.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    except RuntimeError:
        raise CalotypeError(
            "{path} does not hold the weights that it tells of; train it again", path=checkpoint.path
        ) from None
    return Gan(checkpoint.name, digest(checkpoint.path), generator.eval().requires_grad_(False))


def _metadata(path: Path) -> Mapping[str, str]:
    try:
        metadata = json.loads(header_of(path)).get("__metadata__", {}) if path.suffix.lower() == ".safetensors" else {}
    except (OSError, ValueError, AttributeError, RecursionError, CalotypeError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
