"""Copies of the queue with its uploads and results in one file, made while the service runs."""

import contextlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import delete, select

from calotype.errors import CalotypeError, Message, reason_of
from calotype.files import atomic_file, atomic_folder, file_sha256, readable
from calotype.jobs.schema import JOBS, RESULTS, UPLOADS
from calotype.jobs.store import JobStore
from calotype.jobs.tables import LINKS

DATABASE = "jobs.sqlite3"
LEFTOVER_AGE = 86400.0  # seconds
NAME = re.compile(r"(uploads|results|links)/([0-9a-f]{2})/\2[0-9a-f]{30}(?:[0-9a-f]{32})?")
TABLES = {"uploads": UPLOADS, "results": RESULTS, "links": LINKS}


def back_up(store: JobStore, path: Path, warn: Callable[[Message], None] = lambda _: None) -> int:
    """Writes the queue, its accounts, uploads, results and public pictures into a new .tar file, as they are at one
    moment. Returns the number of files in it.

    The folders of running jobs are not in it: these jobs begin anew.

    Args:
        warn: takes a message about each file that is left out because it is missing, cannot be read, or is not the one
            that was stored, by its sha256.
    Raises:
        CalotypeError: the store is not in SQLite, or the file cannot be written.
    """
    if os.path.lexists(path):
        raise CalotypeError("{path} is there already; give another {option}", path=readable(path), option="backup")
    _delete_leftovers(store.folder)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix="backup-") as temporary:
        folder = Path(temporary)
        store.database.backup(folder / DATABASE)
        copy = JobStore("", folder)
        try:
            for kind, file_id in _file_ids(copy):
                if reason := _add(store, copy, kind, file_id):
                    warn(
                        Message(
                            "{file} {reason}, so it is not in the backup",
                            file=_named(copy, kind, file_id),
                            reason=reason,
                        )
                    )
                    _leave_out(copy, kind, file_id)
        finally:
            copy.close()
        files = [DATABASE, *sorted(f"{kind}/{id[:2]}/{id}" for kind in TABLES for id in _names(folder / kind))]
        with atomic_file(path, is_new=True) as file, tarfile.open(fileobj=file, mode="w") as archive:
            for name in files:
                archive.add(folder / name, name, filter=_without_owner)
    return len(files) - 1


def _add(store: JobStore, copy: JobStore, kind: str, file_id: str) -> str | Message:
    """Adds a file to the copy, unless it was deleted since the database was copied. Returns why that failed, or an
    empty text."""
    target = copy.files.path(kind, file_id)
    try:
        _link(store.files.path(kind, file_id), target)
        expected = _expected(copy, kind, file_id)
        return "" if expected in (None, file_sha256(target)) else "has changed on the disk"
    except FileNotFoundError:
        if _is_known(store, kind, file_id):
            return "is missing on the disk"
        _forget(copy, kind, file_id)
        return ""
    except OSError as fault:
        return Message("cannot be read ({reason})", reason=reason_of(fault))


def _expected(store: JobStore, kind: str, file_id: str) -> str | None:
    """The sha256 of a file; None if it is not known."""
    if kind != "results":
        return file_id if kind == "uploads" else None
    with store.database.reading() as db:
        return db.scalar(select(RESULTS.c.sha256).where(RESULTS.c.id == file_id))


def _is_known(store: JobStore, kind: str, file_id: str) -> bool:
    table = TABLES[kind]
    with store.database.reading() as db:
        return db.execute(select(table.c.id).where(table.c.id == file_id).limit(1)).first() is not None


def _named(store: JobStore, kind: str, file_id: str) -> Message:
    if kind != "results":
        return Message("the {kind} {id}", kind={"uploads": "upload", "links": "public picture"}[kind], id=file_id)
    with store.database.reading() as db:
        row = db.execute(select(RESULTS.c.job, RESULTS.c.name).where(RESULTS.c.id == file_id)).one()
    return Message("the result {name} of job {job}", name=readable(Path(row.name)), job=row.job)


def _leave_out(copy: JobStore, kind: str, file_id: str) -> None:
    copy.files.path(kind, file_id).unlink(missing_ok=True)
    with copy.database.writing() as db:
        db.execute(delete(TABLES[kind]).where(TABLES[kind].c.id == file_id))


def _delete_leftovers(folder: Path) -> None:
    """Of copies that were killed; those of today may be at work."""
    for path in folder.glob("backup-*"):
        if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
            shutil.rmtree(path, ignore_errors=True)


def restore(path: Path, folder: Path) -> int:
    """Unpacks a copy made by `back_up` into a folder that does not exist. Returns the number of files in it.

    Raises:
        CalotypeError: the folder exists, or the file is damaged or no such copy; then nothing is written.
    """
    if os.path.lexists(folder):
        raise CalotypeError(
            "there is a queue in {folder} already; move it away, or give another {option}",
            folder=readable(folder),
            option="home",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, "home") as temporary:
        try:
            count = _unpack(path, temporary)
        except (tarfile.TarError, EOFError) as fault:
            raise _damaged(path, str(fault)) from fault
        if not (temporary / DATABASE).is_file():
            raise _damaged(path, "the queue is missing")
        copy = JobStore("", temporary)
        try:
            for kind, file_id in _file_ids(copy):
                _check(path, copy, kind, file_id)
        finally:
            copy.close()
    return count


def _file_ids(store: JobStore) -> Iterator[tuple[str, str]]:
    with store.database.reading() as db:
        found = [(kind, file_id) for kind, table in TABLES.items() for file_id in db.scalars(select(table.c.id))]
    yield from dict.fromkeys(found)  # an upload may belong to several owners


def _names(folder: Path) -> Iterator[str]:
    yield from (path.name for path in folder.glob("*/*"))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a disk without links
        shutil.copyfile(source, target)


def _forget(store: JobStore, kind: str, file_id: str) -> None:
    with store.database.writing() as db:
        if kind == "results":
            db.execute(delete(JOBS).where(JOBS.c.id.in_(select(RESULTS.c.job).where(RESULTS.c.id == file_id))))
        db.execute(delete(TABLES[kind]).where(TABLES[kind].c.id == file_id))


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _unpack(path: Path, folder: Path) -> int:
    count = 0
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(tarfile.open(path, "r:"))
        except OSError as fault:
            reason = reason_of(fault)
            raise CalotypeError("{path} cannot be read: {reason}", path=readable(path), reason=reason) from fault
        for member in archive:
            if not member.isfile() or not (member.name == DATABASE or NAME.fullmatch(member.name)):
                raise _damaged(path, f"{member.name[:100]!r} does not belong there")
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            count += member.name != DATABASE
    return count


def _check(path: Path, store: JobStore, kind: str, file_id: str) -> None:
    """Raises CalotypeError if a file is missing or is not the one of its row."""
    file = store.files.path(kind, file_id)
    if not file.is_file():
        raise _damaged(path, f"a file of {kind} is missing")
    expected = _expected(store, kind, file_id)
    if expected not in (None, file_sha256(file)):
        raise _damaged(path, f"a file of {kind} has changed")


def _damaged(path: Path, reason: str) -> CalotypeError:
    return CalotypeError("{path} is no whole backup: {reason}; take another one", path=readable(path), reason=reason)
