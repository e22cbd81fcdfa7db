"""Writing a result: the picture, its sidecar, a comparison, and what was invented."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import Message, PictureError
from calotype.files import atomic_file, make_folder, readable
from calotype.outputs.inputs import Item
from calotype.outputs.names import Beside, comparison_of, format_of, mask_of, uncertainty_of
from calotype.outputs.sidecar import is_result, is_sidecar, sha256_of, sidecar_of, write_sidecar
from calotype.tasks.output import Album
from calotype.tasks.pictures import Split

if TYPE_CHECKING:
    import numpy as np

    from calotype.picture import Picture
    from calotype.record import Result


MIN_FREE_BYTES = 16 * 2**20  # bytes


@dataclass(frozen=True)
class SavedFile:
    """The hash of the written file, and notes about what its format could not store."""

    sha256: str
    notes: tuple[str | Message, ...]


def check_disk_space(folder: Path) -> None:
    """Creates the folder. Raises PictureError if the disk is almost full, before minutes of work are lost."""
    make_folder(folder, "out")
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise PictureError(
            "the disk of {folder} has {free:.0f} MiB left; free some space or give another {option:out}",
            folder=readable(folder),
            free=free / 2**20,
        )


def check_overwrites(item: Item, album: Album, beside: Beside) -> None:
    """Checks, before any work, that the files written beside a result overwrite no file that Calotype did not write.

    Raises:
        CalotypeError: naming that file. With `overwrite` it may be overwritten.
    """
    if album.overwrite:
        return
    sidecar = sidecar_of(item.target)
    if album.sidecar and sidecar.exists() and not is_sidecar(sidecar):
        raise PictureError(
            "{sidecar} exists and was not written by Calotype; give {option:no_sidecar}, {option:suffix} or "
            "{option:overwrite}",
            sidecar=readable(sidecar),
        )
    for path in (path_of(item.target) for path_of in beside):
        if path.exists() and not is_result(item.target):
            raise PictureError(
                "{path} exists and was not written by Calotype; give {option:suffix} or {option:overwrite}",
                path=readable(path),
            )


def save_result(result: "Result", item: Item, task: Any, album: Album) -> SavedFile:
    """Writes the picture, then its sidecar and comparison, so that a sidecar always belongs to a complete picture.

    Raises:
        CalotypeError: it can't be written, or would overwrite the source.
    """
    from calotype.picture import Picture, save

    target = item.target
    if target.exists() and os.path.samefile(item.source, target):
        raise PictureError("{target} is the source itself; give another {option:out}", target=readable(target))
    is_whole = isinstance(task, Split) and not (item.page or task.page)  # not one page of several
    if result.is_copy and is_whole and _takes_copy(result, task, album, target):
        _copy(item.source, target)
        notes: tuple[str, ...] = ()
    else:
        options = {"quality": task.quality, "strip_location": task.strip_location, "record": result.record.as_json()}
        notes = save(result.picture, target, format=format_of(target), **options)
    sha256 = sha256_of(target)
    if album.sidecar:
        write_sidecar(result.record, item.source, target, sha256)
    elif is_sidecar(sidecar_of(target)):
        sidecar_of(target).unlink()  # of an overwritten result
    if album.compare:
        from calotype.outputs.compare import save_comparison

        save_comparison(result.before, result.picture, comparison_of(target))
    if result.uncertainty is not None:
        save(Picture(result.uncertainty), uncertainty_of(target), format="png")
    if result.mask is not None:
        save(_as_picture(result.mask), mask_of(target), format="png")
    return SavedFile(sha256, tuple(notes))


def _takes_copy(result: "Result", task: Split, album: Album, target: Path) -> bool:
    """Whether the file itself may be the result: its record needs a sidecar then."""
    is_unchanged = not (task.strip_location or result.picture.is_remains)
    return album.sidecar and format_of(target) == result.picture.format and is_unchanged


def _copy(source: Path, target: Path) -> None:
    """Copies a file, byte for byte; its record is in the sidecar alone."""
    with source.open("rb") as original, atomic_file(target) as file:
        shutil.copyfileobj(original, file)


def _as_picture(mask: "np.ndarray") -> "Picture":
    """A mask, (H, W) bool: true is white."""
    import numpy as np

    from calotype.picture import Picture

    return Picture(mask[..., None].astype(np.uint8) * np.uint8(255))
