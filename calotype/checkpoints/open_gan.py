"""Saves and loads GAN generators: one safetensors file, whose metadata describes the network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as packed

from calotype.checkpoints.header import check_file, metadata_of
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint, digest
from calotype.errors import CalotypeError
from calotype.files import write_atomic
from calotype.models.gan import Generator, Shape

KEY = "calotype.generator"


@dataclass(frozen=True, eq=False)
class Gan:
    """A GAN generator for inference: float32, on the CPU, without gradients."""

    name: str
    sha256: str
    generator: Generator


def write(path: Path, generator: Generator, metadata: Mapping[str, str]) -> None:
    """Saves the weights in float32, atomically.

    Raises:
        CalotypeError: the disk is full, or the folder is not writable.
    """
    state = {key: value.detach().float().cpu().contiguous() for key, value in generator.state_dict().items()}
    data = _sorted_metadata(packed(state, {**metadata, KEY: generator.shape.as_json()}))
    write_atomic(path, data)


def _sorted_metadata(data: bytes) -> bytes:
    """Sorts the metadata of the header by name: the library writes it in any order, so equal runs would give different
    bytes."""
    header_end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:header_end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[header_end:]


def is_gan(path: Path) -> bool:
    """Whether the metadata of a file declares a GAN generator; False for a file that cannot be read."""
    return bool(metadata_of(path).get(KEY))


def read(checkpoint: Checkpoint) -> Gan:
    """Loads a generator; allocates no more memory than the weights in the file, whatever its metadata declares.

    Raises:
        CalotypeError: missing, damaged, or not a generator saved by Calotype.
    """
    check_file(checkpoint.path)
    state, metadata = read_state(checkpoint.path), metadata_of(checkpoint.path)
    if KEY not in metadata:
        raise CalotypeError("{path} holds no GAN generator; `{task:train_gan}` makes them", path=checkpoint.path)
    shape = Shape.from_json(metadata[KEY], str(checkpoint.path))
    with torch.device("meta"):
        generator = Generator(shape)
    try:
        generator.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    except RuntimeError:
        raise CalotypeError(
            "{path} does not hold the weights that its metadata describes; train it again", path=checkpoint.path
        ) from None
    return Gan(checkpoint.name, digest(checkpoint.path), generator.eval().requires_grad_(False))
