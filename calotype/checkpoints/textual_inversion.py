"""Loads textual inversion embeddings (Gal et al. 2022) as A1111, diffusers and SDXL trainers save them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.checkpoints.content import PICKLE, TORCH
from calotype.checkpoints.header import check_file
from calotype.checkpoints.pickles import read_pickle
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError, Message, reason_of

MAX_VECTORS = 75  # vectors of one embedding: the length of a prompt chunk
_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))  # SDXL's two text encoders


@dataclass(frozen=True, eq=False)
class Embedding:
    """A placeholder word and its vectors: (n, D) float32 for each text encoder that it was trained for."""

    name: str
    vectors: tuple[Tensor, ...]
    sha256: str
    short_hash: str  # 12 digits, as in A1111


def read_embedding(path: Path, name: str = "") -> Embedding:
    """Loads an embedding; its name defaults to that of the file.

    Raises:
        CalotypeError: unreadable, damaged, with code in it, or not an embedding.
    """
    content = check_file(path)
    try:
        data = read_pickle(path) if content in (TORCH, PICKLE) else read_state(path)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=path, reason=reason_of(fault)) from None
    sha256 = digest(path)
    return Embedding(name or path.stem, vectors_in(data, path), sha256, sha256[:12])


def vectors_in(data: Any, path: Path) -> tuple[Tensor, ...]:
    """The vectors in the data of an embedding's file, (n, D) float32 for each text encoder. Raises CalotypeError."""
    vectors = tuple(_rows(value, path) for value in _vectors(data, path))
    if len({len(tensor) for tensor in vectors}) > 1:
        first, second = map(len, vectors)
        raise CalotypeError(
            "{path} is damaged: {first} and {second} vectors for its two text encoders; fetch or copy it again",
            path=path,
            first=first,
            second=second,
        )
    return vectors


def _vectors(data: Any, path: Path) -> list[Any]:
    """One tensor for each text encoder.

    A1111: string_to_param; its safetensors: emb_params; SDXL: clip_l and clip_g, or text_encoders_0 and _1; diffusers:
    the placeholder word.
    """
    if not isinstance(data, dict):
        raise _not_an_embedding(path, Message("it holds no tensors by name"))
    if isinstance(data.get("string_to_param"), dict) and data["string_to_param"]:
        return [next(iter(data["string_to_param"].values()))]
    for pair in _PAIRS:
        if any(key in data for key in pair):
            return [data[key] for key in pair if key in data]
    if "emb_params" in data:
        return [data["emb_params"]]
    words = [key for key, value in data.items() if isinstance(value, Tensor)]
    if len(words) != 1:
        raise _not_an_embedding(path, Message("it holds {count} tensors, and an embedding is one", count=len(words)))
    return [data[words[0]]]


def _rows(value: Any, path: Path) -> Tensor:
    """(n, D) float32; a single vector may be stored as (D,)."""
    if not isinstance(value, Tensor) or value.dim() not in (1, 2) or not value.is_floating_point():
        raise _not_an_embedding(path, Message("its tensor is not a list of vectors"))
    rows = value.detach().float().reshape(-1, value.shape[-1]) if value.numel() else value.new_zeros(0, 1)
    if not 1 <= len(rows) <= MAX_VECTORS:
        raise _not_an_embedding(
            path,
            Message("it holds {count} vectors, and an embedding has 1 to {most}", count=len(rows), most=MAX_VECTORS),
        )
    if not rows.isfinite().all():
        raise CalotypeError("{path} is damaged: its numbers are not finite; fetch or copy it again", path=path)
    return rows


def _not_an_embedding(path: Path, reason: Message) -> CalotypeError:
    return CalotypeError(
        "{path} is not an embedding (textual inversion) that Calotype knows: {reason}", path=path, reason=reason
    )
