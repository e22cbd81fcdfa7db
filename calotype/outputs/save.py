"""Writing a result: the picture, its sidecar, a comparison."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import Message, PictureError
from calotype.files import make_folder, readable
from calotype.outputs.inputs import Item
from calotype.outputs.names import beside, format_of
from calotype.outputs.sidecar import is_result, is_sidecar, sha256_of, sidecar_of, write_sidecar
from calotype.tasks.output import Album

if TYPE_CHECKING:
    from calotype.record import Result


LEAST_FREE = 16 * 2**20  # bytes


@dataclass(frozen=True)
class SavedFile:
    """The checksum of the written file, and what its format could not keep."""

    sha256: str
    notes: tuple[str | Message, ...]


def check_room(folder: Path) -> None:
    """Raises PictureError where the disk is about full: minutes of work would end in nothing. Makes the folder."""
    make_folder(folder, "out")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise PictureError(
            "the disk of {folder} has {free:.0f} MiB left; make room or give another {option:out}",
            folder=readable(folder),
            free=free / 2**20,
        )


def check_places(item: Item, album: Album) -> None:
    """What a run writes beside a result must not take the place of a file that is not ours; asked before any work.

    Raises:
        CalotypeError: naming that file. With `overwrite` it may be replaced.
    """
    if album.overwrite:
        return
    beside_it = sidecar_of(item.target)
    if album.sidecar and beside_it.exists() and not is_sidecar(beside_it):
        raise PictureError(
            "{beside_it} exists and is not ours; give {option:no_sidecar}, {option:suffix} or {option:overwrite}",
            beside_it=readable(beside_it),
        )
    comparison = beside(item.target, "-compare", ".jpg")
    if album.compare and comparison.exists() and not is_result(item.target):
        raise PictureError(
            "{comparison} exists and is not ours; give {option:suffix} or {option:overwrite}",
            comparison=readable(comparison),
        )


def save_result(result: "Result", item: Item, task: Any, album: Album) -> SavedFile:
    """Writes the picture first and what stands beside it after, so that a sidecar always tells of a whole picture.

    Raises:
        CalotypeError: it can't be written, or would harm the source.
    """
    from calotype.picture import save

    target = item.target
    if target.exists() and os.path.samefile(item.source, target):
        raise PictureError("{target} is the source itself; give another {option:out}", target=readable(target))
    how = {"quality": task.quality, "strip_location": task.strip_location, "record": result.record.as_json()}
    said = save(result.picture, target, format=format_of(target), **how)
    sha256 = sha256_of(target)
    if album.sidecar:
        write_sidecar(result.record, item.source, target, sha256)
    elif is_sidecar(sidecar_of(target)):
        sidecar_of(target).unlink()  # of a result that is no more
    if album.compare:
        from calotype.outputs.compare import save_comparison

        save_comparison(result.before, result.picture, beside(target, "-compare", ".jpg"))
    return SavedFile(sha256, tuple(said))
