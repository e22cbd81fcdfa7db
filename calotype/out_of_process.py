"""Calls functions in a second process, so that a crash or endless work there fails one call and nothing else.

Decoders of picture formats are C code that reads files of strangers; a damaged file may crash them, and no exception
handler catches that. This protects against faults, not against an attacker who runs code in that process.

The process is a plain interpreter, not one of `multiprocessing`: a program that uses this package needs no
`if __name__ == "__main__"`. Arguments and results are JSON and raw bytes, never pickles. Pixels come through the pipe:
12 million of them in 30 ms, which is quicker than mapping new shared memory in both processes.
"""

import atexit
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from calotype.errors import CalotypeError, Message, reason_of

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

MODULES = ("calotype.picture",)  # imported by the process before its first call
PROCESSES = 4  # at most, for calls from several threads at the same time
START_SECONDS = 120.0  # for a process to start and to import the decoders
GRACE = 5.0  # seconds after the time limit in which the calling process ends the call, before the process ends itself
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from calotype import out_of_process; "
_START += "out_of_process.serve()"
_SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # decoders have threads of their own
_LOG_BYTES = 1 << 20  # of what libraries print
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


class ProcessEnded(Exception):
    """The process ended during a call.

    Attributes:
        status: as of `subprocess`: the negative number of a signal, or an exit status.
        timed_out: it was ended because the call took too long.
        log: the end of what libraries have printed in the process.
    """

    def __init__(self, status: int, timed_out: bool, log: str):
        self.status, self.timed_out, self.log = status, timed_out, log
        super().__init__(f"the process ended with status {status}" + (f":\n{log}" if log else ""))

    @property
    def is_out_of_memory(self) -> bool:
        """Killed by the system, or an exception of C++ that nothing caught."""
        killed = -getattr(signal, "SIGKILL", 9)
        return not self.timed_out and (self.status == killed or "bad_alloc" in self.log)

    @property
    def cause(self) -> str:
        """The signal in words, such as "Segmentation fault", or the exit status."""
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return signal.strsignal(-self.status) or f"signal {-self.status}"
        except ValueError:
            return f"signal {-self.status}"


class RemoteError(RuntimeError):
    """An exception other than CalotypeError and MemoryError in the called function: a bug."""


class _RemoteTraceback(Exception):
    """The traceback in the other process, as the cause of a RemoteError."""


def call(function: Callable[..., Any], *args: Any, seconds: float, memory: int | None = None) -> Any:
    """Calls a function of a module in the second process and returns its result.

    A process that ended, in this call or before, is replaced. Unless it was new, the call is repeated once, since an
    earlier call may have damaged its memory.

    Args:
        args: None, booleans, numbers, texts, bytes, arrays, paths, messages, lists, mappings and dataclasses of this
            package. The same holds for the result; lists become tuples.
        seconds: after this time the process is killed.
        memory: bytes of address space that the process may use; None: as many as this process.
    Raises:
        ProcessEnded: it crashed, ended itself, or took too long.
        CalotypeError: raised by the function, or the process cannot be started.
        MemoryError, RemoteError: raised by the function.
    """
    request = {
        "function": f"{function.__module__}:{function.__qualname__}",
        "args": list(args),
        "seconds": seconds,
        "memory": memory,
        "folder": _current_folder(),
    }
    return _result(_POOL.call(_encoded(request), seconds))


def start() -> None:
    """Starts the process if there is none, and does not wait for it: the first call will be quicker."""
    _POOL.start()


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


class _Pool:
    """Processes that wait for calls. One is enough for calls in sequence."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._owner, self._waiting, self._lock = os.getpid(), [], threading.Lock()
        self._free = threading.BoundedSemaphore(PROCESSES)

    def start(self) -> None:
        if self._owner != os.getpid():  # in a fork
            self._forget()
        with self._lock:
            if not self._waiting:
                self._waiting.append(self._new())

    def _new(self) -> "_Process":
        atexit.unregister(self.close)
        atexit.register(self.close)
        return _Process()

    def close(self) -> None:
        """Ends the processes that wait; calls start new ones."""
        while self._waiting:
            self._waiting.pop().end(kill=True)

    def call(self, request: list[memoryview], seconds: float) -> Mapping[str, Any]:
        if self._owner != os.getpid():
            self._forget()
        with self._free:
            with self._lock:
                process = self._waiting.pop() if self._waiting else None
            process = process or self._new()
            is_new = process.is_new
            try:
                response = process.call(request, seconds)
            except ProcessEnded as fault:
                if is_new or fault.timed_out:
                    raise
                process = self._new()
                response = process.call(request, seconds)
            with self._lock:
                self._waiting.append(process)
        return response


_POOL = _Pool()


def _result(response: Mapping[str, Any]) -> Any:
    if "fault" in response:
        raise CalotypeError.from_data(json.loads(response["fault"]))
    if "memory" in response:
        raise MemoryError(response["memory"])
    if "bug" in response:
        raise RemoteError(response["bug"]) from _RemoteTraceback("\n" + response["traceback"])
    return response["value"]


class _Process:
    """The second process, seen from this one."""

    def __init__(self):
        self.is_new = True
        self._log = _log_file()
        package = str(Path(__file__).parents[1])
        path = sys.path if package in sys.path else [*sys.path, package]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps([str(entry) for entry in path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                env={**os.environ, **_SINGLE_THREADED},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as fault:
            self._log.close()
            raise _not_started(reason_of(fault)) from fault
        self._channel = _Channel(self._process.stdout, self._process.stdin)

    def call(self, request: list[memoryview], seconds: float) -> Mapping[str, Any]:
        """Sends a request and waits for its response. After an exception the process has ended."""
        if self.is_new:
            try:
                self._receive(START_SECONDS)
            except ProcessEnded as fault:
                lines = [line for line in fault.log.splitlines() if line.strip()]
                raise _not_started(lines[-1] if lines else fault.cause) from None
            self.is_new = False
        return self._receive(seconds, request)

    def _receive(self, seconds: float, request: Iterable[memoryview] = ()) -> Any:
        """The next message of the process, after sending it a request; then `seconds` begin."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        try:
            timer.start()
            self._channel.send(request)
            return self._channel.receive()
        except (EOFError, OSError):
            status, log = self.end()
            raise ProcessEnded(status, expired.is_set(), log) from None
        except BaseException:  # an interrupt: the response would be taken for that of the next call
            self.end(kill=True)
            raise
        finally:
            timer.cancel()

    def end(self, kill: bool = False) -> tuple[int, str]:
        """Waits for the end of the process. Returns its status and, the first time, the end of its log."""
        if self._log.closed:
            return self._process.returncode, ""
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe is closed, so it ends
                self._process.wait(GRACE)
        self._process.kill()
        status = self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        with self._log:
            size = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, size - 4000))
            return status, self._log.read().decode("utf-8", "replace")


def _log_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # there is no folder for temporary files
        return open(os.devnull, "w+b")


def _not_started(reason: str | Message) -> CalotypeError:
    return CalotypeError("the process that decodes pictures cannot be started ({reason}); try again", reason=reason)


# In the second process


def serve() -> None:
    """Answers requests until the calling process ends, which closes the pipe."""
    requests, responses = open(os.dup(0), "rb", buffering=0), open(os.dup(1), "wb", buffering=0)  # noqa: SIM115
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # what a library prints goes to the log, and it reads nothing
    os.dup2(2, 1)
    os.close(nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the calling process decides
    _limit_process()
    channel, received = _Channel(requests, responses), queue.SimpleQueue()
    threading.Thread(target=_receive, args=(channel, received), daemon=True).start()
    for module in MODULES:
        importlib.import_module(module)
    channel.send(_encoded("ready"))
    while True:
        channel.send(_respond(received.get()))


def _receive(channel: "_Channel", received: queue.SimpleQueue) -> None:
    """Reads requests in a thread, and so notices the end of the calling process also while a function runs."""
    while True:
        try:
            received.put(channel.receive())
        except (EOFError, OSError):
            os._exit(0)


def _respond(request: Mapping[str, Any]) -> list[memoryview]:
    with contextlib.suppress(OSError):
        if request["folder"] and request["folder"] != _current_folder():
            os.chdir(request["folder"])
    try:
        with _limited(request["seconds"] + GRACE, request["memory"]):
            return _encoded({"value": _find(request["function"])(*request["args"])})
    except CalotypeError as fault:
        return _encoded({"fault": json.dumps(fault.as_data())})
    except MemoryError as fault:
        return _encoded({"memory": str(fault)})
    except Exception as bug:  # noqa: BLE001  raised again in the calling process
        return _encoded({"bug": f"{type(bug).__name__}: {bug}", "traceback": traceback.format_exc()})


def _find(function: str) -> Callable[..., Any]:
    module, _, path = function.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _limit_process() -> None:
    """No core dumps, no large files, and the first to go when memory runs out."""
    if resource is None:
        return
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _LOG_BYTES)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (0, 0) if value == 0 else (value, resource.getrlimit(limit)[1]))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


@functools.cache
def _inherited_memory() -> tuple[int, int]:
    """The limits of address space, soft and hard, before this process sets its own."""
    return resource.getrlimit(resource.RLIMIT_AS)


@contextlib.contextmanager
def _limited(seconds: float, memory: int | None) -> Iterator[None]:
    """Limits of one call. The timer ends the process even if a decoder never returns and nobody else ends it."""
    if resource is None:
        yield
        return
    with contextlib.suppress(OSError, ValueError):
        soft, hard = _inherited_memory()
        limits = [limit for limit in (memory, soft) if limit not in (None, resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits, default=resource.RLIM_INFINITY), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM, which ends a process
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# Messages between the processes


class _Channel:
    """Sends and receives values: the length of a JSON text, the text, and the bytes that belong to it."""

    def __init__(self, reading: RawIOBase, writing: RawIOBase):
        self._reading, self._writing = reading, writing
        for file in (reading, writing) if fcntl else ():
            with contextlib.suppress(OSError):
                fcntl.fcntl(file.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)

    def send(self, parts: Iterable[memoryview]) -> None:
        for part in parts:
            while part:
                part = part[self._writing.write(part) :]

    def receive(self) -> Any:
        length = int.from_bytes(self._read_into(bytearray(8)), "big")
        return _unpack(json.loads(self._read_into(bytearray(length))), self._read_into)

    def _read_into(self, buffer: Any) -> Any:
        rest = memoryview(buffer).cast("B") if len(buffer) else memoryview(b"")
        while rest:
            count = self._reading.readinto(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return buffer


def _encoded(value: Any) -> list[memoryview]:
    parts: list[memoryview] = []
    text = json.dumps(_pack(value, parts)).encode()
    return [memoryview(len(text).to_bytes(8, "big") + text), *parts]


def _pack(value: Any, parts: list[memoryview]) -> Any:
    """As JSON; bytes and arrays are appended to `parts`, in the order in which `_unpack` reads them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        parts.append(memoryview(value))
        return {"bytes": len(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, Message):
        return {"message": value.as_data()}
    if isinstance(value, list | tuple):
        return [_pack(entry, parts) for entry in value]
    if isinstance(value, Mapping):
        return {"mapping": [[_pack(key, parts), _pack(entry, parts)] for key, entry in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _pack(getattr(value, field.name), parts) for field in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": fields}
    return _pack_array(value, parts)


def _pack_array(value: Any, parts: list[memoryview]) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be sent to another process")
    if value.size:
        parts.append(memoryview(np.ascontiguousarray(value)).cast("B"))
    return {"array": value.dtype.str, "shape": value.shape}


def _unpack(data: Any, read_into: Callable[[Any], Any]) -> Any:
    """The inverse of `_pack`."""
    if isinstance(data, list):
        return tuple(_unpack(entry, read_into) for entry in data)
    if not isinstance(data, dict):
        return data
    if "bytes" in data:
        return bytes(read_into(bytearray(data["bytes"])))
    if "path" in data:
        return Path(data["path"])
    if "message" in data:
        return Message.from_data(data["message"])
    if "mapping" in data:
        return {_unpack(key, read_into): _unpack(entry, read_into) for key, entry in data["mapping"]}
    if "class" in data:
        return _data_class(data["class"])(**{name: _unpack(entry, read_into) for name, entry in data["fields"].items()})
    import numpy as np

    return read_into(np.empty(data["shape"], data["array"]))


def _data_class(name: str) -> type:
    found = _find(name) if name.partition(".")[0] == __name__.partition(".")[0] else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise TypeError(f"{name} is no dataclass of this package")
    return found
