"""Atomic writes of files and folders, run locks, interrupts, reading text, names that are safe to show."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import signal
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from calotype.errors import CalotypeError, Message, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY_NAME = re.compile(r"\.calotype-[0-9a-f]{12}\.part")  # temporary names of files and folders
LEFTOVER_AGE = 600.0  # seconds after which an unlocked temporary file is deleted
LOCK_TIMEOUT = 0.3  # seconds; enough for a run that is just ending to release its lock
MAX_TEXT_BYTES = 64 << 20  # largest text file
TEXT_FILE = Message("a text")
RESERVED_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)  # of devices on Windows
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)  # signals that ask a program to end
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FSYNC = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
)  # fsync is not supported; no data is lost


# Atomic writes


@contextlib.contextmanager
def atomic_file(path: Path, is_new: bool = False, option: str = "") -> Iterator[BinaryIO]:
    """A binary file to write to, which replaces `path` when the block ends without an exception.

    Until then it has a temporary name in the same folder; an exception, Ctrl-C too, deletes it. If the process is
    killed, the old file stays unchanged.

    Args:
        is_new: do not replace a file, not even one that another program creates at the same moment.
        option: the option that `path` comes from, for error messages.
    Raises:
        CalotypeError: `path` is a folder, its folder is missing or not writable, or the disk is full. Every OSError
            with an errno that is raised in the block is converted.
        FileExistsError: with `is_new`, `path` exists.
    """
    with _replace_when_complete(path, is_new, option) as temporary:
        file = open(temporary, "wb")  # noqa: SIM115 - closed below, in two ways
        try:
            yield file
            file.flush()
            sync(file.fileno())
            file.close()
        finally:
            with contextlib.suppress(OSError):  # what cannot be flushed is deleted anyway
                file.close()


@contextlib.contextmanager
def atomic_path(path: Path, option: str = "") -> Iterator[Path]:
    """As `atomic_file`, for libraries that take a path: yields that of an empty file to write to or to replace."""
    with _replace_when_complete(path, False, option) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # replaced by a file that only its owner may read
            with contextlib.suppress(OSError):  # a file system without permissions
                temporary.chmod(mode)
        sync_path(temporary)


def write_atomic(path: Path, content: bytes | memoryview, option: str = "") -> None:
    """Writes a file with `atomic_file`, and raises as it does."""
    with atomic_file(path, option=option) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_folder(path: Path, option: str = "out") -> Iterator[Path]:
    """An empty folder to write to, which is renamed to `path` when the block ends without an exception.

    Raises:
        CalotypeError: `path` exists, its folder is not writable, or the disk is full.
    """
    if os.path.lexists(path):
        raise CalotypeError(
            "{path} is there already, and folders are never written over; give another {option}",
            option=option,
            path=readable(path),
        )
    _clear_leftovers(path.parent)
    temporary = _temporary_path(path)
    try:
        temporary.mkdir()
        with _hold_lock(temporary):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync_path(file)
        temporary.rename(path)
    except OSError as fault:
        raise _write_error(path, fault, option) from fault
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _replace_when_complete(path: Path, is_new: bool, option: str) -> Iterator[Path]:
    """An empty file in the folder of `path`, which is renamed to it at the end."""
    temporary = _temporary_path(path)
    try:
        if is_new and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        with _convert_os_errors(path, option):
            if path.is_dir():
                raise CalotypeError("{path} is a folder; give the name of a file", path=readable(path))
            _clear_leftovers(path.parent)
            open(temporary, "xb").close()
            with _hold_lock(temporary):
                yield temporary
            if not is_new:
                os.replace(temporary, path)
        if is_new:
            _link(temporary, path, option)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _temporary_path(path: Path) -> Path:
    return path.parent / f".calotype-{os.urandom(6).hex()}.part"


def _link(temporary: Path, path: Path, option: str) -> None:
    """Renames the file; raises FileExistsError if `path` exists. Only a hard link does that atomically."""
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links, such as FAT
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            try:
                os.replace(temporary, path)
            except BaseException:
                os.unlink(path)
                raise
    except FileExistsError:
        raise
    except OSError as fault:
        raise _write_error(path, fault, option) from fault


@contextlib.contextmanager
def _convert_os_errors(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if not fault.errno:  # raised by an encoder
            raise
        raise _write_error(path, fault, option) from fault


def _write_error(path: Path, fault: OSError, option: str) -> CalotypeError:
    name, folder, reason = readable(path), readable(path.parent), reason_of(fault)
    if option:
        return CalotypeError(
            "{path} cannot be written: {reason}; give another {option}", option=option, path=name, reason=reason
        )
    if fault.errno in _DISK_FULL:
        return CalotypeError(
            "{path} cannot be written: the disk is full; make room or choose another folder", path=name
        )
    if fault.errno == errno.EFBIG:
        return CalotypeError(
            "{path} cannot be written: it is larger than `ulimit -f` or the file system of folder {folder} allows; "
            "raise the limit or choose another folder",
            path=name,
            folder=folder,
        )
    if fault.errno == errno.ENOENT and not path.parent.is_dir():
        return CalotypeError(
            "{path} cannot be written: there is no folder {folder}; make it first", path=name, folder=folder
        )
    if fault.errno in _NO_PERMISSION:
        return CalotypeError(
            "{path} cannot be written: folder {folder} is closed to you; choose another one", path=name, folder=folder
        )
    return CalotypeError("{path} cannot be written: {reason}; choose another name or folder", path=name, reason=reason)


def file_sha256(path: Path, start: int = 0) -> str:
    """The sha256 of a file in hex digits, from its byte `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(descriptor: int) -> None:
    """fsync, where the file system supports it."""
    try:
        os.fsync(descriptor)
    except OSError as fault:
        if fault.errno not in _NO_FSYNC:
            raise


def sync_path(path: Path) -> None:
    """fsync of a file or, except on Windows, of a folder."""
    flags = os.O_RDONLY if os.name == "posix" else os.O_RDWR | os.O_BINARY  # Windows needs the right to write
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _hold_lock(temporary: Path) -> Iterator[None]:
    """Locks `temporary`, so that other processes do not delete it; the lock ends with the process."""
    descriptor = None
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_RDONLY) if fcntl else None
    try:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@functools.lru_cache(maxsize=1024)  # once in a process
def _clear_leftovers(folder: Path) -> None:
    """Deletes temporary files that killed processes left in a folder some minutes ago or earlier."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if TEMPORARY_NAME.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFTOVER_AGE:
                    _delete_unlocked(entry.path, entry.is_dir(follow_symlinks=False))


def _delete_unlocked(path: str, is_folder: bool) -> None:
    """Raises OSError if a process has locked it, or locks are not supported."""
    if fcntl is None:  # Windows deletes no file that a process has open
        if not is_folder:
            os.unlink(path)
        return
    descriptor = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if is_folder else os.unlink(path)
    finally:
        os.close(descriptor)


# Folders and locks


def walk(
    root: Path, enters: Callable[[Path], bool] = lambda folder: True, key: Callable[[str], Any] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """The folders in a folder, itself first, each with the names of its files.

    Links to folders are followed after all that is in the folder itself. No folder is read twice, and a link to one
    that contains `root` is not followed.

    Args:
        enters: whether to enter a folder below `root`.
        key: order of the folders, by their names.
    """
    within, visited, links = Path(os.path.realpath(root)), set(), [root]
    while links:
        start = links.pop(0)
        if start is not root and within.is_relative_to(os.path.realpath(start)):
            continue
        for folder, subfolders, names in os.walk(start):
            real = os.path.realpath(folder)
            below = [] if real in visited else sorted((n for n in subfolders if enters(Path(folder, n))), key=key)
            subfolders[:] = [name for name in below if not os.path.islink(Path(folder, name))]
            links += [Path(folder, name) for name in below if name not in subfolders]
            if real not in visited:
                visited.add(real)
                yield Path(folder), names


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and below it, as `walk` finds them."""
    for where, names in walk(folder):
        yield from (path for path in (where / name for name in sorted(names)) if path.is_file())


def make_folder(folder: Path, option: str = "output_dir") -> None:
    """Makes a folder and its parents if they do not exist.

    Raises:
        CalotypeError: about `option`; it is a file, or cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _not_a_folder_error(folder, option) from None
    except OSError as fault:
        raise _folder_error(folder, fault, option) from None
    _check_rights(folder, option)


def check_folder(folder: Path, option: str = "output_dir") -> None:
    """Checks that `make_folder` would succeed, and makes nothing.

    Raises:
        CalotypeError: as `make_folder`.
    """
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as fault:  # for example, a name that is too long
        raise _folder_error(folder, fault, option) from None
    lowest = next((path for path in (folder, *folder.absolute().parents) if os.path.exists(path)), None)
    if lowest is None:  # a drive that does not exist
        raise CalotypeError(
            "folder {folder} cannot be made, for no folder above it is there; give another {option}",
            option=option,
            folder=readable(folder),
        )
    if not lowest.is_dir():
        raise _not_a_folder_error(lowest, option)
    _check_rights(lowest, option)


def _not_a_folder_error(path: Path, option: str) -> CalotypeError:
    return CalotypeError("{path} is a file, not a folder; give another {option}", option=option, path=readable(path))


def _folder_error(folder: Path, fault: OSError, option: str) -> CalotypeError:
    return CalotypeError(
        "folder {folder} cannot be made ({reason}); give another {option}",
        option=option,
        folder=readable(folder),
        reason=reason_of(fault),
    )


def _check_rights(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CalotypeError(
            "folder {folder} cannot be written to; give another {option}", option=option, folder=readable(folder)
        )


@contextlib.contextmanager
def run_lock(folder: Path, name: str) -> Iterator[None]:
    """Locks NAME.running in a folder, which is made if it does not exist, so that run names are unique.

    The lock excludes other runs of the same name in this and in other processes. It ends with the process; a file
    NAME.running that is not locked does not matter.

    Raises:
        CalotypeError: another run has the lock, or the folder cannot be written to, or its file system cannot lock.
    """
    from filelock import FileLock  # imports in 45 ms

    make_folder(folder)
    path = folder / f"{name}.running"
    # A generator may be closed in another thread than it was started in.
    lock = FileLock(path, timeout=LOCK_TIMEOUT, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(lock, path)
        yield
    finally:
        if lock.is_locked:
            # Deleted while locked: a run that has just opened this file finds it gone, and opens it anew. Windows does
            # not allow this; there the lock deletes it.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()


def _acquire(lock: Any, path: Path) -> None:
    from filelock import Timeout

    try:
        if path.is_dir():
            raise CalotypeError(
                "{path} is a folder, where a run marks that it is at work; give another {option:output_name}",
                path=readable(path),
            )
        lock.acquire()
    except Timeout:
        raise CalotypeError(
            "another run is at work on {run}; wait for it, or give another {option:output_name}",
            run=readable(path.with_suffix("")),
        ) from None
    except (OSError, NotImplementedError) as fault:
        reason = reason_of(fault)
        raise CalotypeError(
            "{path} cannot be locked ({reason}); give another {option:output_dir}", path=readable(path), reason=reason
        ) from None


# Interrupts


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Postpones an interrupt until the block ends; a second one is raised at once.

    Applies to signals with a Python handler, in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def postpone(number: int, frame: FrameType | None) -> None:
        if pending:
            raise KeyboardInterrupt
        pending.append(number)

    previous = {number: signal.getsignal(number) for number in INTERRUPTS}
    handlers = {number: handler for number, handler in previous.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, postpone)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block, SIGTERM raises KeyboardInterrupt, as Ctrl-C does. In the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


# Text and names


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES, what: Message = TEXT_FILE) -> str:
    """Reads a text file in one of the encodings of `decoded`.

    Args:
        max_bytes: larger files are refused.
        what: the kind of file, with its article, for the error about one that is too large.
    Raises:
        CalotypeError: it is missing, not readable, too large, or not text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=readable(path), reason=reason_of(fault)) from None
    if len(data) > max_bytes:
        raise CalotypeError(
            "{path} is too large for {kind} (more than {most:,} bytes)", path=readable(path), kind=what, most=max_bytes
        )
    return decoded(data, path)


def decoded(data: bytes, where: Path | str) -> str:
    """Decodes UTF-8 with or without a byte order mark, UTF-16 with one, or GB18030.

    Args:
        where: the file, for error messages.
    Raises:
        CalotypeError: in none of these encodings, or with NUL characters.
    """
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise CalotypeError("{where} is no text in UTF-8, UTF-16 or GBK; save it as UTF-8", where=readable(where))


def readable(name: str | os.PathLike) -> str:
    """A name that is safe to show: control and bidirectional formatting characters are escaped."""
    return "".join(c if _is_plain(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in str(name))


def _is_plain(char: str) -> bool:
    category = unicodedata.category(char)
    return (
        category not in ("Cc", "Cs", "Zl", "Zp")
        and char not in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
