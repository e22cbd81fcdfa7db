"""Reads files in the decoder process: a file that crashes a decoder, or keeps it busy for ever, fails alone."""

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from calotype import out_of_process
from calotype.errors import CalotypeError, PictureError, reason_of
from calotype.out_of_process import ProcessEnded

SECONDS, SECONDS_PER_MIB = 30.0, 10.0  # time limit by the size of the file; the slowest decoders take 1 s per MiB
BYTES_PER_PIXEL, BYTES = 48, 4 << 30  # limit of address space: the most that decoders hold of a picture, and the rest
BYTES_PER_THREAD = 80 << 20


def read(function: Callable[..., Any], path: Path, *args: Any, max_pixels: int) -> Any:
    """Calls `function(path, *args, max_pixels)`, a function of a module, in the decoder process.

    Raises:
        PictureError: the process ended or took too long.
        CalotypeError: raised by the function.
    """
    with open_file(path) as file:  # here, so that errors are those of this process
        status = os.fstat(file.fileno())
    call = _Call(function, path, args, max_pixels, _state(status))
    ahead = _AHEAD.pop(call, None)
    return ahead.result() if ahead and ahead.is_read else call.result()


@dataclass(frozen=True)
class _Call:
    """A call of `read`, and the state of its file."""

    function: Callable[..., Any]
    path: Path
    args: tuple[Any, ...]
    max_pixels: int
    file: tuple[int, int, int, int]  # device, inode, size, time

    def result(self) -> Any:
        try:
            return out_of_process.call(
                self.function,
                self.path,
                *self.args,
                self.max_pixels,
                seconds=SECONDS + SECONDS_PER_MIB * self.file[2] / (1 << 20),
                memory=_memory(self.max_pixels),
            )
        except ProcessEnded as fault:
            raise _picture_error(self.path.name, fault) from fault


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ReadAhead:
    """A call of `read` in a thread, before its result is needed: the same call of `read` then takes that.

    Args:
        condition: asked in the thread, before the call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        path: Path,
        *args: Any,
        max_pixels: int,
        condition: Callable[[], bool] = lambda: True,
    ):
        self._condition, self._call, self._thread, self._is_read = condition, None, None, False
        self._value, self._fault = None, None
        with contextlib.suppress(OSError, ValueError):  # `read` will raise it
            self._call = _Call(function, path, args, max_pixels, _state(os.stat(path)))
            self._thread = threading.Thread(target=self._read, name="calotype-decode", daemon=True)
            self._thread.start()
            _AHEAD[self._call] = self

    def _read(self) -> None:
        try:
            if self._condition():
                self._value = self._call.result()
                self._is_read = True
        except CalotypeError as fault:
            self._fault, self._is_read = fault, True
        except Exception:  # noqa: BLE001  `read` will raise it
            return

    def wait(self) -> None:
        if self._thread:
            self._thread.join()

    @property
    def is_read(self) -> bool:
        """Waits. Whether there is a result."""
        self.wait()
        return self._is_read

    def result(self) -> Any:
        """Raises CalotypeError as `read` does."""
        if self._fault:
            raise self._fault
        return self._value

    def forget(self) -> None:
        """Drops a result that was not taken."""
        _AHEAD.pop(self._call, None)


_AHEAD: dict[_Call, ReadAhead] = {}


def open_file(path: Path) -> BinaryIO:
    """Opens a file for reading. Raises CalotypeError if it is missing, empty, a folder or not readable."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        raise CalotypeError("{path} does not exist; check the name", path=path) from None
    except IsADirectoryError:
        raise CalotypeError("{path} is a folder; give a picture in it", path=path) from None
    except PermissionError:
        if path.is_dir():  # on Windows
            raise PictureError("{path} is a folder; give a picture in it", path=path) from None
        raise PictureError("{path} may not be read; change its permissions", path=path) from None
    except (OSError, ValueError) as fault:
        raise PictureError("{path} cannot be opened: {reason}", path=path, reason=reason_of(fault)) from None
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return file
    file.close()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("{path} is a device or a pipe, not a file; save the picture to a file first", path=path)
    raise PictureError("{path} is empty (zero bytes); try another copy of it", path=path)


def _memory(max_pixels: int) -> int | None:
    required = BYTES + BYTES_PER_THREAD * (os.cpu_count() or 1) + BYTES_PER_PIXEL * max_pixels
    return required if required < 1 << 60 else None


def _picture_error(name: str, fault: ProcessEnded) -> PictureError:
    if fault.timed_out:
        return PictureError(
            "decoding {name} took too long and was stopped; try another copy of it, or save it with another program",
            name=name,
        )
    if fault.is_out_of_memory:
        return PictureError("{name} does not fit into memory; close other programs or make it smaller", name=name)
    return PictureError(
        "{name} crashes its decoder ({cause}); try another copy of it, or save it with another program",
        name=name,
        cause=fault.cause,
    )
