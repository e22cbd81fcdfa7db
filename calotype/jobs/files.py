"""Files of the queue: uploads by the hash of their content, results, previews, and the folders of running jobs.

A file has its final name only when it is complete. Ids come from strangers: `path` checks them before they become part
of a path.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from calotype.errors import CalotypeError
from calotype.files import atomic_file, make_folder, sync, sync_path
from calotype.jobs.jobs import NotFound, StoredUpload

BLOCK = 1 << 20
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
ORPHAN_SECONDS = 3600.0  # a file without a row may belong to a transaction that is not complete yet


class TooLarge(CalotypeError):
    """An upload is larger than the limit."""


def new_id() -> str:
    """An unguessable id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class FileStore:
    """Keeps the files in a folder, which it creates.

    Args:
        folder: `uploads`, `results`, `previews`, `links` and `work` are folders in it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("uploads", "results", "previews", "links", "work", "incoming"):
            make_folder(folder / name, "home")

    def upload(self, upload_id: str) -> Path:
        return self._path("uploads", upload_id)

    def result(self, result_id: str) -> Path:
        return self._path("results", result_id)

    def link(self, link_id: str) -> Path:
        """The public copy of a result."""
        return self._path("links", link_id)

    def preview(self, job_id: str) -> Path:
        return self._path("previews", job_id)

    def work(self, job_id: str) -> Path:
        """The folder in which a job writes; kept between its attempts."""
        return self._path("work", job_id)

    def receive(self, stream: BinaryIO, limit: int) -> tuple[Path, StoredUpload]:
        """Writes a stream to a temporary file. Raises TooLarge as soon as it exceeds the limit."""
        path, digest, size = self.folder / "incoming" / new_id(), hashlib.sha256(), 0
        with atomic_file(path) as file:
            while block := stream.read(BLOCK):
                size += len(block)
                if size > limit:
                    raise TooLarge("an upload may have {limit} bytes at most", limit=limit)
                digest.update(block)
                file.write(block)
        return path, StoredUpload(digest.hexdigest(), size)

    def keep(self, received: Path, upload_id: str) -> Path:
        """Gives a received file its name; one of the same content may exist."""
        path = self.upload(upload_id)
        path.parent.mkdir(exist_ok=True)
        os.replace(received, path)
        return path

    def adopt(self, path: Path) -> tuple[str, int, str]:
        """Stores a file as a result, without copying it if possible. Returns its id, size and SHA-256."""
        result_id, digest, size = new_id(), hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
            sync(file.fileno())
        target = self.result(result_id)
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another disk, or one without links
            with path.open("rb") as source, atomic_file(target) as copy:
                shutil.copyfileobj(source, copy, BLOCK)
        else:
            if os.name == "posix":
                sync_path(target.parent)
        return result_id, size, digest.hexdigest()

    def write_preview(self, job_id: str, image: bytes) -> None:
        """Replaces the preview. It isn't synced to the disk: the next one follows within seconds."""
        path = self.preview(job_id)
        path.parent.mkdir(exist_ok=True)
        temporary = self.folder / "incoming" / new_id()
        temporary.write_bytes(image)
        os.replace(temporary, path)

    def delete_result(self, result_id: str) -> None:
        self.result(result_id).unlink(missing_ok=True)

    def delete_upload(self, upload_id: str) -> None:
        self.upload(upload_id).unlink(missing_ok=True)

    def delete_preview(self, job_id: str) -> None:
        self.preview(job_id).unlink(missing_ok=True)

    def delete_work(self, job_id: str) -> None:
        shutil.rmtree(self.work(job_id), ignore_errors=True)

    def free(self) -> int:
        """Free bytes on the disk."""
        return shutil.disk_usage(self.folder).free

    def delete_orphans(self, kind: str, is_known: Callable[[str], bool]) -> int:
        """Deletes old files and folders without a row, which a killed process has left. Returns their number."""
        count = 0
        for path in list(self._entries(kind)):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ORPHAN_SECONDS and not is_known(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    count += 1
        return count

    def _entries(self, kind: str) -> Iterator[Path]:
        folder = self.folder / kind
        return folder.iterdir() if kind == "incoming" else folder.glob("*/*")

    def _path(self, kind: str, file_id: str) -> Path:
        if not (isinstance(file_id, str) and ID.fullmatch(file_id)):
            raise NotFound("there is no file of this id")
        return self.folder / kind / file_id[:2] / file_id
