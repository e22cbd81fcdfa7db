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
from calotype.files import write_atomic
from calotype.models.gan import Generator, Shape

KEY = "calotype.generator"


@dataclass(frozen=True, eq=False)
class Gan:
    """A forger, ready to draw: float32, on the CPU, without gradients."""

    name: str
    sha256: str
    generator: Generator


def write(path: Path, generator: Generator, more: Mapping[str, str]) -> None:
    """Writes the weights in float32, whole or not at all.

    Raises:
        CalotypeError: the disk is full, or the folder is closed.
    """
    state = {key: value.detach().float().cpu().contiguous() for key, value in generator.state_dict().items()}
    data = _ordered(packed(state, {**more, KEY: generator.shape.as_json()}))
    write_atomic(path, data)


def _ordered(data: bytes) -> bytes:
    """The same file with its metadata by name: the library writes it in any order, and the same work would give other
    bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def is_gan(path: Path) -> bool:
    """Whether a file says that it holds a forger; False for anything that cannot be read."""
    return bool(_told(path).get(KEY))


def read(found: Checkpoint) -> Gan:
    """Takes no more memory than the file has weights, whatever else it tells.

    Raises:
        CalotypeError: missing, damaged, or no forger of Calotype's.
    """
    check_file(found.path)
    state, told = read_state(found.path), _told(found.path)
    if KEY not in told:
        raise CalotypeError("{path} holds no forger; `{task:train_gan}` makes them", path=found.path)
    shape = Shape.from_json(told[KEY], str(found.path))
    with torch.device("meta"):
        generator = Generator(shape)
    try:
        generator.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    except RuntimeError:
        raise CalotypeError(
            "{path} does not hold the weights that it tells of; train it again", path=found.path
        ) from None
    return Gan(found.name, digest(found.path), generator.eval().requires_grad_(False))


def _told(path: Path) -> Mapping[str, str]:
    try:
        told = json.loads(header_of(path)).get("__metadata__", {}) if path.suffix.lower() == ".safetensors" else {}
    except (OSError, ValueError, AttributeError, RecursionError, CalotypeError):
        return {}
    return told if isinstance(told, dict) else {}
