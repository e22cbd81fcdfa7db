"""Tensors that are computed once and kept on disk."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from calotype.errors import CalotypeError, reason_of
from calotype.files import write_atomic


def load_or_compute(
    path: Path, names: Collection[str], compute: Callable[[], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """Reads the tensors of a file; if it is missing, damaged or lacks one of `names`, they are computed and written.

    Raises:
        CalotypeError: the disk is full, or the folder cannot be written to.
    """
    try:
        stored = load_file(path)
        return {name: stored[name] for name in names}
    except (OSError, SafetensorError, KeyError):
        tensors = compute()
        save_tensors(path, tensors)
        return tensors


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises CalotypeError if the disk is full or the folder cannot be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise CalotypeError("{folder} cannot be made ({reason})", folder=path.parent, reason=reason_of(fault)) from None
    write_atomic(path, serialize({name: value.contiguous() for name, value in tensors.items()}))
