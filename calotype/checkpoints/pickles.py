"""Loads tensors from files of torch.save safely. A pickle is a program; here it cannot call anything.

Two checks: first the opcodes are read, not executed, and any global outside a short allowlist is refused; then torch
loads the file with `weights_only`, which has its own allowlist.
"""

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calotype.errors import CalotypeError, Message, Remedy

SAFE_TORCH = (2, 10)  # before, weights_only could be bypassed (CVE-2025-32434, CVE-2026-24747)
MAX_PROGRAM = 64 << 20  # bytes of pickle; tensor data is stored outside of it
MAX_ENTRIES = 100_000
OLD_PROGRAMS = 5  # in a legacy file: magic number, protocol, system info, state dict, storage keys
OLD_NUMBER = 0x1950A86A20F9469CFC6C  # magic number of a legacy file
ALLOWED = {
    *(("collections", name) for name in ("OrderedDict", "defaultdict", "Counter")),
    ("typing", "OrderedDict"),
    *(("torch._utils", f"_rebuild_{name}") for name in ("tensor", "tensor_v2", "parameter")),
    *(("torch", f"{name}Storage") for name in ("Float", "Half", "BFloat16", "Double", "Byte", "Char", "Short")),
    *(("torch", f"{name}Storage") for name in ("Int", "Long", "Bool")),
    *(("torch", name) for name in ("Size", "device", "Tensor", "float32", "float16", "bfloat16", "float64", "int64")),
    ("torch.nn.parameter", "Parameter"),
    ("torch.storage", "UntypedStorage"),
    ("torch.serialization", "_get_layout"),
    ("_codecs", "encode"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "dict", "list", "int", "bytearray")),
}
LIGHTNING = ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")  # only a name in old checkpoints
ALLOWED |= {LIGHTNING, *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray"))}
ALLOWED |= {("numpy", "dtype")}
DAMAGE_ERRORS = (  # what torch, zipfile and pickletools raise on damaged files, found by damaging files
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, EOFError, RuntimeError),
    *(RecursionError, OverflowError, MemoryError, NotImplementedError, zipfile.BadZipFile),
)
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")


def read_pickle(path: Path) -> Any:
    """The object that torch.save wrote into a file, tensors on the CPU.

    Raises:
        CalotypeError: torch is unsafe, or the file is not one of torch.save, is damaged, or has code in it.
        OSError: the file cannot be read.
    """
    check_torch(torch.__version__)
    try:
        zipped = zipfile.is_zipfile(path)
        _check_zip(path) if zipped else _check_old(path)
        with torch.serialization.safe_globals(_safe_globals()):
            if path.suffix.lower() != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
            with path.open("rb") as file:  # by such a name torch would take it for safetensors
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise _refusal(path, _name_in(str(fault))) from None
    except DAMAGE_ERRORS as fault:
        reason = str(fault).split("\n")[0][:160]
        raise CalotypeError(
            "{path} is damaged or was not written by torch ({reason}); fetch or copy it again", path=path, reason=reason
        ) from None


def _safe_globals() -> list[Any]:
    """Globals in the official Stable Diffusion files besides tensors: the name of a class, and numpy scalars."""
    name = ".".join(LIGHTNING)
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    scalar = np.float64(0).__reduce__()[0]
    return [(_Placeholder, name), (scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


class _Placeholder:
    """Replaces a class of another library; it is never instantiated."""


def check_torch(version: str) -> None:
    """Raises CalotypeError for a torch version whose weights_only could be bypassed."""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < SAFE_TORCH:
        needed = ".".join(map(str, SAFE_TORCH))
        raise CalotypeError(
            "torch {version} does not read foreign files safely",
            remedy=Remedy("install_packages", f"torch>={needed}"),
            version=version,
        )


def _refusal(path: Path, name: str | Message) -> CalotypeError:
    return CalotypeError(
        "{path} has code in it ({name}) and is refused; nothing of it was run. Use a .safetensors file instead",
        path=path,
        name=name,
    )


def _name_in(message: str) -> str | Message:
    match = re.search(r"(?:GLOBAL |global |Unsupported (?:class|operand) |import )`?([\w.]+)", message)
    return match[1] if match else Message("a name that no tensor needs")


def _check_zip(path: Path) -> None:
    """Checks the list of entries and the pickle before torch reads them."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            _check_entry(entry, path)
        programs = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(entries) > MAX_ENTRIES or len(programs) != 1 or len(set(archive.namelist())) != len(entries):
            raise CalotypeError(
                "{path} is a zip file but none of torch.save's; give a file with a network's weights", path=path
            )
        if any("/code/" in entry.filename for entry in entries):
            raise CalotypeError("{path} is a TorchScript program, not weights; give the weights alone", path=path)
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CalotypeError("{path} declares more than it holds; it is not what it says", path=path)
        if programs[0].file_size > MAX_PROGRAM:
            raise CalotypeError(
                "{path} has an index that is too large; give a file with a network's weights", path=path
            )
        with archive.open(programs[0]) as program:
            _check_names(program, path)


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    name = entry.filename
    if name.startswith("/") or "\\" in name or ".." in name.split("/") or not name.isprintable():
        raise CalotypeError(
            "{path} has an entry with an impossible name ({name!r}) and is refused", path=path, name=name[:80]
        )
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise CalotypeError(
            "{path} is compressed or encrypted inside, which torch.save never does; it is refused", path=path
        )


def _check_old(path: Path) -> None:
    """The legacy format of torch before 1.6, several pickles and then the tensor data; or one plain pickle."""
    with _BoundedReader(path) as program:
        start = program.read(2)
        program.seek(0)
        if not start.startswith(b"\x80"):
            raise CalotypeError("{path} was not written by torch; give a file with a network's weights", path=path)
        first = _check_names(program, path)
        if first != OLD_NUMBER:
            raise CalotypeError("{path} is a plain pickle, not written by torch; save it as .safetensors", path=path)
        for _ in range(OLD_PROGRAMS - 1):
            _check_names(program, path)


class _BoundedReader(io.BufferedReader):
    """Reads at most the size of the file: for a string of declared terabytes no memory is allocated."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int = -1, /) -> bytes:
        return super().read(min(size, self._size))

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(self._size)


def _check_names(program: Any, path: Path) -> int | None:
    """Reads one pickle without executing it; returns its first integer.

    Raises:
        CalotypeError: a global outside ALLOWED, or an opcode for globals that torch.save never writes.
        ValueError: it is truncated or not a pickle.
    """
    first = None
    for name in _names(program):
        if isinstance(name, int):
            first = name if first is None else first
        elif name not in ALLOWED:
            raise _refusal(path, ".".join(component for component in name if component)[:120])
    return first


def _names(program: Any) -> Iterator[tuple[str, str] | int]:
    """The (module, name) pairs that a pickle would import, and the integers in it."""
    strings = ["", ""]
    for code, given, _ in pickletools.genops(program):
        if code.name in STRINGS:
            strings = [strings[1], str(given)]
        elif code.name == "GLOBAL":
            module, _, name = given.partition(" ")
            yield module, name
        elif code.name == "INST":
            yield given.replace(" ", "."), ""
        elif code.name == "STACK_GLOBAL":  # its names come from the stack; torch.save writes GLOBAL
            yield ".".join(strings), ""
        elif code.name.startswith("EXT"):
            yield "copyreg extension", str(given)
        elif isinstance(given, int) and code.name.startswith(("LONG", "INT", "BININT")):
            yield given
