"""Learned words (textual inversion; Gal et al. 2022) as A1111, diffusers and SDXL trainers write them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.checkpoints.catalog import digest
from calotype.checkpoints.pickles import read_pickle
from calotype.checkpoints.state import check_file, read_state
from calotype.errors import CalotypeError

MOST = 75  # vectors of one word: a chunk holds no more


@dataclass(frozen=True, eq=False)
class Embedding:
    """A word and the vectors that it stands for: (n, D) float32 for each text encoder that it was learned for."""

    name: str
    vectors: tuple[Tensor, ...]
    sha256: str
    short_hash: str  # 12 digits, as A1111 tells it


def read_embedding(path: Path, name: str = "") -> Embedding:
    """Raises CalotypeError: unreadable, or no learned word."""
    check_file(path)
    data = read_state(path) if path.suffix.lower() == ".safetensors" else read_pickle(path)
    found = [_rows(value) for value in _vectors(data)]
    if not found or any(rows is None for rows in found):
        raise CalotypeError(f"{path} is no learned word (textual inversion) that Calotype knows")
    sha256 = digest(path)
    return Embedding(name or path.stem, tuple(found), sha256, sha256[:12])


def _vectors(data: Any) -> list[Any]:
    """A1111: string_to_param; its safetensors: emb_params; SDXL: clip_l and clip_g; diffusers: the word itself."""
    if not isinstance(data, dict):
        return []
    if isinstance(data.get("string_to_param"), dict):
        return list(data["string_to_param"].values())[:1]
    if "clip_g" in data:
        return [data[key] for key in ("clip_l", "clip_g") if key in data]
    if "emb_params" in data:
        return [data["emb_params"]]
    values = [value for value in data.values() if isinstance(value, Tensor)]
    return values if len(values) == 1 else []


def _rows(value: Any) -> Tensor | None:
    """(n, D); one vector may come as (D,)."""
    if not isinstance(value, Tensor) or value.dim() not in (1, 2) or not value.is_floating_point():
        return None
    rows = value.detach().float().reshape(-1, value.shape[-1])
    return rows if 1 <= len(rows) <= MOST and rows.isfinite().all() else None
