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
from calotype.files import atomic_file, file_sha256, make_folder, sync_path
from calotype.jobs.jobs import NotFound, StoredUpload

BLOCK = 1 << 20
MAX_PART = 8 << 20  # bytes of a result that a worker on another computer sends in one request
MAX_SAMPLES = 200  # sheets of one training run
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ORPHAN_SECONDS = 3600.0  # a file without a row may belong to a transaction that is not complete yet


class TooLarge(CalotypeError):
    """An upload is larger than the limit."""


def new_id() -> str:
    """An unguessable id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def open_stored(path: Path) -> BinaryIO:
    """Opens a file of the store for reading. Raises NotFound if it was deleted."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound("the file is not there any more") from None


class FileStore:
    """Keeps the files in a folder, which it creates.

    Args:
        folder: `uploads`, `results`, `previews`, `samples`, `links` and `work` are folders in it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("uploads", "results", "previews", "samples", "links", "work", "incoming"):
            make_folder(folder / name, "home")

    def upload(self, upload_id: str) -> Path:
        return self.path("uploads", upload_id)

    def result(self, result_id: str) -> Path:
        return self.path("results", result_id)

    def link(self, link_id: str) -> Path:
        """The public copy of a result."""
        return self.path("links", link_id)

    def preview(self, job_id: str) -> Path:
        return self.path("previews", job_id)

    def sample(self, job_id: str, step: int) -> Path:
        """What a training run drew after a step, or the photo of this number of a scan."""
        return self.path("samples", job_id) / f"{step}.jpg"

    def samples(self, job_id: str) -> list[int]:
        """The steps after which a training run drew, in their order."""
        return sorted(int(path.stem) for path in self.path("samples", job_id).glob("*.jpg"))

    def work(self, job_id: str) -> Path:
        """The folder in which a job writes; kept between its attempts."""
        return self.path("work", job_id)

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
        result_id, digest, size = new_id(), file_sha256(path), path.stat().st_size
        sync_path(path)
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
        return result_id, size, digest

    def received(self, job_id: str, sha256: str) -> Path:
        """A result that a worker on another computer has sent whole."""
        if not (isinstance(sha256, str) and SHA256.fullmatch(sha256)):
            raise NotFound("there is no file of this id")
        return self.work(job_id) / sha256

    def receive_part(self, job_id: str, sha256: str, offset: int, size: int, stream: BinaryIO) -> None:
        """Appends to a result of `size` bytes, which is complete when its sha256 is right; a part may come again.

        Raises:
            CalotypeError: parts before this one are missing, or the file is not the one that was announced; it must be
                sent again from its beginning.
        """
        path = self.received(job_id, sha256)
        make_folder(path.parent, "home")
        part = path.with_name(f"{sha256}.part")
        with part.open("ab") as file:
            if file.tell() < offset:
                raise CalotypeError("the parts of the file before this one are missing")
            file.truncate(offset)
            while block := stream.read(BLOCK):
                if file.tell() + len(block) > size:
                    raise TooLarge("the file has more than the {limit} bytes that were announced", limit=size)
                file.write(block)
            is_whole = file.tell() == size
        if is_whole:
            if file_sha256(part) != sha256:
                part.unlink()
                raise CalotypeError("the file was damaged on its way; send it again")
            os.replace(part, path)

    def write_preview(self, job_id: str, image: bytes) -> None:
        """Replaces the preview. It isn't synced to the disk: the next one follows within seconds."""
        self._replace(self.preview(job_id), image)

    def write_sample(self, job_id: str, step: int, image: bytes) -> None:
        """Adds what was drawn after a step. Of more than MAX_SAMPLES the one that is closest to others is deleted."""
        self._replace(self.sample(job_id, step), image)
        steps = self.samples(job_id)
        if len(steps) > MAX_SAMPLES:
            gaps = zip(steps, steps[1:], steps[2:], strict=False)
            _, closest = min((after - before, at) for before, at, after in gaps)
            self.sample(job_id, closest).unlink(missing_ok=True)

    def _replace(self, path: Path, image: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "incoming" / new_id()
        temporary.write_bytes(image)
        os.replace(temporary, path)

    def delete_result(self, result_id: str) -> None:
        self.result(result_id).unlink(missing_ok=True)

    def delete_upload(self, upload_id: str) -> None:
        self.upload(upload_id).unlink(missing_ok=True)

    def delete_preview(self, job_id: str) -> None:
        self.preview(job_id).unlink(missing_ok=True)

    def delete_samples(self, job_id: str) -> None:
        shutil.rmtree(self.path("samples", job_id), ignore_errors=True)

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

    def path(self, kind: str, file_id: str) -> Path:
        """Where a file of a kind lies. Raises NotFound for what is no id."""
        if not (isinstance(file_id, str) and ID.fullmatch(file_id)):
            raise NotFound("there is no file of this id")
        return self.folder / kind / file_id[:2] / file_id
