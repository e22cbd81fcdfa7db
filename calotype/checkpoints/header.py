"""Checks of weight files by their first bytes, without torch."""

import json
from pathlib import Path

from calotype.errors import CalotypeError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".param")
MAX_HEADER = 100_000_000  # bytes, the limit of safetensors itself


def check_file(path: Path) -> None:
    """Raises CalotypeError if the path is not a file that could hold weights."""
    if path.is_dir():
        raise CalotypeError("{path} is a folder; give the file of weights in it", path=path)
    if not path.is_file():
        raise CalotypeError("there is no file {path}", path=path)
    if path.suffix.lower() not in SUFFIXES:
        raise CalotypeError(
            "{path} is no file of weights; Calotype reads {names}", path=path, names=", ".join(SUFFIXES)
        )
    if path.stat().st_size == 0:
        raise CalotypeError("{path} is empty; fetch or copy it again", path=path)


def header_of(path: Path) -> bytes:
    """The JSON at the beginning of a safetensors file.

    Raises:
        CalotypeError: the declared length exceeds the file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise CalotypeError(
                "{path} is damaged: its header would be {length} bytes long; fetch or copy it again",
                path=path,
                length=length,
            )
        return file.read(length)


def check_not_truncated(path: Path) -> None:
    """Raises CalotypeError if a safetensors file has no header, or is shorter than its header declares."""
    header = header_of(path)
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError):
        return  # loading it reports what is wrong
    missing = 8 + len(header) + end - path.stat().st_size
    if missing > 0:
        raise CalotypeError(
            "{path} is cut off: {missing:,} bytes are missing; fetch or copy it again", path=path, missing=missing
        )
