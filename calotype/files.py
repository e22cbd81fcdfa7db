"""Files and folders: written whole or not at all, locked by one run, read as text; interrupts; names safe to show."""

import contextlib
import errno
import functools
import os
import re
import shutil
import signal
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from calotype.errors import CalotypeError, Message

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PART = re.compile(r"\.calotype-[0-9a-f]{12}\.part")  # names of files and folders in the making
LEFTOVER_AGE = 24 * 3600.0  # seconds after which one that no process holds is deleted
LOCK_TIMEOUT = 0.3  # seconds; a run that is just ending gives its lock back within
TEXT_MOST = 64 << 20  # bytes of a text file
A_TEXT = Message("a text")
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # that ask a program to end
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)  # never a lost write


# Whole files and folders


@contextlib.contextmanager
def whole_file(path: Path, is_new: bool = False, option: str = "") -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` when the block ends without an exception.

    Until then it lies beside `path` under another name; an exception, Ctrl-C too, deletes it. When the process is
    killed, the old file stays as it was.

    Args:
        is_new: do not replace a file, not even one that another program puts there at the same moment.
        option: the option that says where `path` is, for the sentence of an error.
    Raises:
        CalotypeError: there is a folder at `path`, no folder for it, no right to write, or the disk is full. This
            holds for every OSError with a number that is raised in the block.
        FileExistsError: with `is_new`, there is something at `path`.
    """
    with _arriving(path, is_new, option) as part:
        file = open(part, "wb")  # noqa: SIM115 - closed below, in two ways
        try:
            yield file
            file.flush()
            _sync(file.fileno())
            file.close()
        finally:
            with contextlib.suppress(OSError):  # what cannot be flushed is deleted anyway
                file.close()


@contextlib.contextmanager
def whole_path(path: Path, option: str = "") -> Iterator[Path]:
    """As `whole_file`, for libraries that write to a path: the path of an empty file to write to or to replace."""
    with _arriving(path, False, option) as part:
        mode = part.stat().st_mode
        yield part
        if part.stat().st_mode != mode:  # replaced by a temporary file, which only its owner may read
            with contextlib.suppress(OSError):  # a file system without permissions
                part.chmod(mode)
        _sync_path(part)


def write_whole(path: Path, content: bytes | memoryview, option: str = "") -> None:
    """Writes a file with `whole_file`, and raises as it does."""
    with whole_file(path, option=option) as file:
        file.write(content)


@contextlib.contextmanager
def whole_folder(path: Path, option: str = "out") -> Iterator[Path]:
    """An empty folder to write to, which is renamed to `path` when the block ends without an exception.

    Raises:
        CalotypeError: there is something at `path`, no right to write, or the disk is full.
    """
    if os.path.lexists(path):
        raise CalotypeError(
            "{path} is there already, and folders are never written over; give another {option}",
            option=option,
            path=readable(path),
        )
    _clear_leftovers(path.parent)
    part = _part_of(path)
    try:
        part.mkdir()
        with _held(part):
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    _sync_path(file)
        part.rename(path)
    except OSError as fault:
        raise _unwritable(path, fault, option) from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _arriving(path: Path, is_new: bool, option: str) -> Iterator[Path]:
    """An empty file beside `path`, which takes its place at the end."""
    part = _part_of(path)
    try:
        if is_new and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        with _worded(path, option):
            if path.is_dir():
                raise CalotypeError("{path} is a folder; give the name of a file", path=readable(path))
            _clear_leftovers(path.parent)
            open(part, "xb").close()
            with _held(part):
                yield part
            if not is_new:
                os.replace(part, path)
        if is_new:
            _link(part, path, option)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _part_of(path: Path) -> Path:
    return path.parent / f".calotype-{os.urandom(6).hex()}.part"


def _link(part: Path, path: Path, option: str) -> None:
    """Gives the file its name, which nothing may have: FileExistsError. Only a link does that in one act."""
    try:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as FAT
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            try:
                os.replace(part, path)
            except BaseException:
                os.unlink(path)
                raise
    except FileExistsError:
        raise
    except OSError as fault:
        raise _unwritable(path, fault, option) from fault


@contextlib.contextmanager
def _worded(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if not fault.errno:  # an encoder's, not the disk's
            raise
        raise _unwritable(path, fault, option) from fault


def _unwritable(path: Path, fault: OSError, option: str) -> CalotypeError:
    name, folder, reason = readable(path), readable(path.parent), fault.strerror or fault
    if option:
        return CalotypeError(
            "{path} cannot be written: {reason}; give another {option}", option=option, path=name, reason=reason
        )
    if fault.errno in _FULL:
        return CalotypeError(
            "{path} cannot be written: the disk is full; make room or choose another folder", path=name
        )
    if fault.errno == errno.ENOENT and not path.parent.is_dir():
        return CalotypeError(
            "{path} cannot be written: there is no folder {folder}; make it first", path=name, folder=folder
        )
    if fault.errno in _CLOSED:
        return CalotypeError(
            "{path} cannot be written: folder {folder} is closed to you; choose another one", path=name, folder=folder
        )
    return CalotypeError("{path} cannot be written: {reason}; choose another name or folder", path=name, reason=reason)


def _sync(number: int) -> None:
    """Waits until the file is on the disk, where the file system can tell."""
    try:
        os.fsync(number)
    except OSError as fault:
        if fault.errno not in _NO_FSYNC:
            raise


def _sync_path(path: Path) -> None:
    with contextlib.suppress(PermissionError), open(path, "rb" if os.name == "posix" else "r+b") as file:
        _sync(file.fileno())  # a copy of a file that is read-only cannot be opened for this on Windows


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Keeps other processes from taking `part` for a leftover; the kernel ends that with the process."""
    number = None
    with contextlib.suppress(OSError):
        number = os.open(part, os.O_RDONLY) if fcntl else None
    try:
        if number is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        if number is not None:
            os.close(number)


@functools.lru_cache(maxsize=1024)  # once in a process
def _clear_leftovers(folder: Path) -> None:
    """Deletes what processes that were killed a day ago or earlier left half written in a folder."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if PART.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFTOVER_AGE:
                    _delete_unheld(entry.path, entry.is_dir(follow_symlinks=False))


def _delete_unheld(path: str, is_folder: bool) -> None:
    """Raises OSError where a process holds it, or nobody can know."""
    number = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if is_folder else os.unlink(path)
    finally:
        os.close(number)


# Folders and locks


def make_folder(folder: Path, option: str = "output_dir") -> None:
    """Makes a folder, and those above it, where it is not there yet.

    Raises:
        CalotypeError: about `option`; a file has its name, or it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _is_a_file(folder, option) from None
    except OSError as fault:
        raise _unmakable(folder, fault, option) from None
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
    except OSError as fault:  # a name that is too long
        raise _unmakable(folder, fault, option) from None
    lowest = next((path for path in (folder, *folder.absolute().parents) if os.path.exists(path)), None)
    if lowest is None:  # a drive that is not there
        raise CalotypeError(
            "folder {folder} cannot be made, for no folder above it is there; give another {option}",
            option=option,
            folder=readable(folder),
        )
    if not lowest.is_dir():
        raise _is_a_file(lowest, option)
    _check_rights(lowest, option)


def _is_a_file(path: Path, option: str) -> CalotypeError:
    return CalotypeError("{path} is a file, not a folder; give another {option}", option=option, path=readable(path))


def _unmakable(folder: Path, fault: OSError, option: str) -> CalotypeError:
    return CalotypeError(
        "folder {folder} cannot be made ({reason}); give another {option}",
        option=option,
        folder=readable(folder),
        reason=fault.strerror,
    )


def _check_rights(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CalotypeError(
            "folder {folder} cannot be written to; give another {option}", option=option, folder=readable(folder)
        )


@contextlib.contextmanager
def run_lock(folder: Path, name: str) -> Iterator[None]:
    """Holds the name of a run in a folder, which is made where it is missing: NAME.running is locked.

    No other run holds the same name meanwhile, in this process or another one. The kernel ends the lock with the
    process, however that ends; what lies at NAME.running and is not locked is in nobody's way.

    Raises:
        CalotypeError: another run holds the name, or the folder cannot be written to, or its file system cannot lock.
    """
    from filelock import FileLock  # 45 ms

    make_folder(folder)
    path = folder / f"{name}.running"
    # A generator may be closed in another thread than it ran in.
    lock = FileLock(path, timeout=LOCK_TIMEOUT, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(lock, path)
        yield
    finally:
        if lock.is_locked:
            # While it is held: a run that has opened this very file by then finds it gone, and opens it anew. Windows
            # refuses, and the lock deletes it there.
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
        reason = getattr(fault, "strerror", None) or fault
        raise CalotypeError(
            "{path} cannot be locked ({reason}); give another {option:output_dir}", path=readable(path), reason=reason
        ) from None


# Interrupts


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets the block end before an interrupt is raised; a second interrupt is raised at once.

    Only interrupts that would be raised as KeyboardInterrupt, and only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for number in ours:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    if waiting:
        raise KeyboardInterrupt


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """In the block, SIGTERM raises KeyboardInterrupt, as Ctrl-C does. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# Text and names


def read_text(path: Path, most: int = TEXT_MOST, what: Message = A_TEXT) -> str:
    """A text file that a person wrote, in an encoding of `decoded`.

    Args:
        most: bytes that are read.
        what: what the file is, with its article, for the sentence about one that is larger.
    Raises:
        CalotypeError: it is missing, closed, too large, or no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=readable(path), reason=fault.strerror) from None
    if len(data) > most:
        raise CalotypeError(
            "{path} is too large for {kind} (more than {most:,} bytes)", path=readable(path), kind=what, most=most
        )
    return decoded(data, path)


def decoded(data: bytes, where: Path | str) -> str:
    """Text that people's editors wrote: UTF-8 with or without a byte order mark, UTF-16 with one, or GB18030.

    Args:
        where: the file, for the sentence of an error.
    Raises:
        CalotypeError: in none of these, or there are zeros in it.
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
    """A name that is safe to show: control and direction-turning characters become their escapes."""
    return "".join(c if _is_plain(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in str(name))


def _is_plain(char: str) -> bool:
    category = unicodedata.category(char)
    return (
        category not in ("Cc", "Cs", "Zl", "Zp")
        and char not in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
