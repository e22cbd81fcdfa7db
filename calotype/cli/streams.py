"""stdin, stdout and stderr of the program's own process: closed ones, closed pipes and full disks end no command."""

import contextlib
import errno
import io
import os
import sys
from typing import Any

_CLOSED = (errno.EPIPE, errno.EBADF, errno.EINVAL)  # nobody reads it any more; EINVAL: a pipe on Windows
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class LenientFile(io.FileIO):
    """A file of which nobody may read the end: what cannot be written is discarded."""

    fault: OSError | None = None  # the first one, except that the reader has closed the pipe

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as fault:
            if fault.errno not in _CLOSED:
                self.fault = self.fault or fault
            return memoryview(data).nbytes


def open_streams() -> None:
    """Opens closed streams on the null device, so that no file takes their place, and makes the others lenient."""
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - until the process ends
        elif mode == "w" and isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            setattr(sys, name, _lenient(stream, number))


def _lenient(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(LenientFile(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def flush_streams() -> OSError | None:
    """Writes what is buffered. Returns why stdout could not be written, unless its reader has gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fault if isinstance(raw, LenientFile) else None
