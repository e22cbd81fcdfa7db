"""Checks of weight files by their first bytes, without torch."""

import json
from pathlib import Path
from typing import Any

from calotype.checkpoints.content import MAX_HEADER, UNKNOWN, content_of, is_safetensors
from calotype.errors import CalotypeError, reason_of

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".param")


def check_file(path: Path) -> str:
    """The content of a file of weights, as `content_of` names it: the content decides, not the name.

    Raises:
        CalotypeError: the path is not a file that could hold weights; the message says what it is.
    """
    if path.is_dir():
        raise CalotypeError("{path} is a folder; give the file of weights in it", path=path)
    if not path.is_file():
        raise CalotypeError("there is no file {path}", path=path)
    try:
        if path.stat().st_size == 0:
            raise CalotypeError("{path} is empty; fetch or copy it again", path=path)
        content = content_of(path)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=path, reason=reason_of(fault)) from None
    if content == UNKNOWN and path.suffix.lower() not in SUFFIXES:
        raise CalotypeError(
            "{path} is no file of weights; Calotype reads {names}", path=path, names=", ".join(SUFFIXES)
        )
    return content


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other files, and for a header that cannot be read."""
    try:
        data: Any = json.loads(header_of(path)).get("__metadata__") if is_safetensors(path) else {}
    except (OSError, ValueError, AttributeError, RecursionError, CalotypeError):
        return {}
    pairs = data.items() if isinstance(data, dict) else ()
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def data_start(path: Path) -> int:
    """Where the tensor data begin: after the header of a safetensors file; 0 in other files."""
    return 8 + len(header_of(path)) if is_safetensors(path) else 0


def header_of(path: Path) -> bytes:
    """The JSON at the beginning of a safetensors file.

    Raises:
        CalotypeError: the declared length exceeds the file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and size - 8 < length <= MAX_HEADER and file.read(1) == b"{":
            raise CalotypeError("{path} is cut off within its header; fetch or copy it again", path=path)
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise CalotypeError(
                "{path} is damaged: it does not begin as a safetensors file; fetch or copy it again", path=path
            )
        file.seek(8)
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
