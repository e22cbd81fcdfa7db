"""sha256 of checkpoints; those of large files are cached, so that gigabytes are not read again at every start."""

import contextlib
import hashlib
import json
import re
from pathlib import Path

from calotype.errors import CalotypeError, reason_of
from calotype.files import file_sha256, make_folder, write_atomic

INDEX = "model_index.json"  # represents a diffusers folder
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")
SHARDS = ".index.json"  # ending of the index of weights that are split into several files
MAX_INDEX = 16 << 20  # bytes
LARGE = 256 << 20  # bytes; smaller files are read within a second


def digest(path: Path, cache: Path | None = None) -> str:
    """The sha256 of a file in hex digits; for the index of a diffusers folder, that of all its weights by name.

    Args:
        cache: a JSON file with the hashes of large files, by path, size and modification time.

    Raises:
        CalotypeError: it cannot be read.
    """
    if path.name.endswith(SHARDS):
        lines = (f"{shard.name} {digest(shard, cache)}" for shard in shards_of(path))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if path.name == INDEX:
        lines = (f"{name} {digest(weights, cache)}" for name, weights in weights_in(path.parent).items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    try:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        is_cached = cache is not None and stat.st_size >= LARGE
        known = _read_cache(cache).get(str(path.absolute())) if is_cached else None
        if known and known[:2] == stamp:
            return known[2]
        sha256 = file_sha256(path)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=path, reason=reason_of(fault)) from None
    if is_cached:
        _write_cache(cache, str(path.absolute()), [*stamp, sha256])
    return sha256


def _read_cache(cache: Path) -> dict[str, list]:
    try:
        data = json.loads(cache.read_text("utf-8"))
        return {path: [int(size), int(time), str(sha256)] for path, (size, time, sha256) in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # a missing cache only costs time


def _write_cache(cache: Path, path: str, entry: list) -> None:
    with contextlib.suppress(CalotypeError, UnicodeError):
        make_folder(cache.parent, "home")
        write_atomic(cache, json.dumps(_read_cache(cache) | {path: entry}, indent=1, ensure_ascii=False).encode())


def weights_in(folder: Path) -> dict[str, Path]:
    """The weights file of each component in a diffusers folder: safetensors first, then fp16, then pickles.

    Where the weights are split into several files, it is the index of these (see `shards_of`).
    """
    try:
        parts = [part for part in sorted(folder.iterdir()) if part.is_dir()]
    except OSError as fault:
        raise CalotypeError("{folder} cannot be read: {reason}", folder=folder, reason=reason_of(fault)) from None
    names = [name + half + end for end in (".safetensors", ".bin") for name in WEIGHTS for half in ("", ".fp16")]
    names += [name + SHARDS for name in names]
    files = {part.name: next((part / n for n in names if (part / n).is_file()), None) for part in parts}
    return {name: path for name, path in files.items() if path is not None}


def shards_of(index: Path) -> list[Path]:
    """The files that an index of split weights names, in its folder.

    Raises:
        CalotypeError: it cannot be read, or names anything but files beside it.
    """
    try:
        data = json.loads(index.read_text("utf-8")) if index.stat().st_size <= MAX_INDEX else {}
        names = sorted(set(data["weight_map"].values()))
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=index, reason=reason_of(fault)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=index) from None
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names):
        raise CalotypeError("{path} is damaged; fetch or copy it again", path=index)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CalotypeError(
            "{folder} lacks {count} of the {whole} files that its weights are split into, first {name}; fetch or copy "
            "it again",
            folder=index.parent,
            count=len(missing),
            whole=len(names),
            name=missing[0],
        )
    return [index.parent / name for name in names]
