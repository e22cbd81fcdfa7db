"""Results of several jobs as one ZIP, sent while it is made: nothing of its size lies in memory or on the disk."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from calotype.jobs.files import BLOCK, FileStore
from calotype.jobs.jobs import Job


class _Sink:
    """What a ZipFile writes to: it can only be appended to, and is emptied after each block."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zip_of(jobs: Sequence[Job], files: FileStore) -> Iterator[bytes]:
    """The bytes of the ZIP. Results whose files are gone are left out; equal names are numbered."""
    sink, names = _Sink(), set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for result in (result for job in jobs for result in job.results):
            path = files.result(result.id)
            if not path.is_file():
                continue
            with (
                path.open("rb") as source,
                archive.open(_free_name(result.name, names), "w", force_zip64=True) as target,
            ):
                while block := source.read(BLOCK):
                    target.write(block)
                    yield sink.take()
    yield sink.take()


def _free_name(name: str, names: set[str]) -> str:
    path, number = PurePosixPath(name.replace("\\", "_").replace("/", "_")), 1
    candidate = str(path)
    while candidate.casefold() in names:
        number += 1
        candidate = f"{path.stem}-{number}{path.suffix}"
    names.add(candidate.casefold())
    return candidate
