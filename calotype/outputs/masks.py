"""Masks of damage in a folder: that of each photo, by its name."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, plural
from calotype.files import readable
from calotype.outputs.inputs import SHOWN, AlbumPlan, Item
from calotype.outputs.names import MASK, key, natural
from calotype.outputs.sidecar import is_result
from calotype.suffixes import SUFFIXES


def with_masks(plan: AlbumPlan, task: Any) -> AlbumPlan:
    """The plan with a mask for each photo, where the task has a folder of them. Masks beside photos are no photos.

    The mask of `1960/photo.jpg` is `1960/photo-mask.png` in that folder, as a result's mask is named when it is saved,
    or `1960/photo.png`. A photo without one is searched for damage, and a note says so.

    Raises:
        CalotypeError: there is a mask for none of the photos.
    """
    masks = getattr(task, "mask", None)
    if masks is None or not masks.is_dir():
        return plan
    named = {folder: _pictures(masks / folder) for folder in {item.folder for item in plan.items}}
    photos = {key(item.source) for item in plan.items}
    items = [replace(item, mask=_mask(named[item.folder], item, photos)) for item in plan.items]
    taken = {key(item.mask) for item in items if item.mask}
    items = [item for item in items if key(item.source) not in taken]
    missing = [item for item in items if item.mask is None and not item.fault]
    if not any(item.mask for item in items):
        raise CalotypeError(
            "{folder} holds no mask of these photos; name each as its photo, such as {name}",
            option="mask",
            folder=readable(masks),
            name=readable((missing or items)[0].source.stem + MASK + ".png"),
        )
    notes = plan.notes
    if missing:
        names = ", ".join(readable(item.source.name) for item in missing[:SHOWN]) + (", ..." * (len(missing) > SHOWN))
        text = plural(
            len(missing),
            "1 photo has no mask in {folder}, so scratches are searched in it: {names}",
            "{count} photos have no masks in {folder}, so scratches are searched in them: {names}",
            folder=readable(masks),
            names=names,
        )
        notes = (*notes, text)
    return AlbumPlan(tuple(items), notes)


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures of a folder by their names without suffix, in lower case."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=natural) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found.setdefault(path.stem.casefold(), []).append(path)
    return found


def _mask(pictures: Mapping[str, list[Path]], item: Item, photos: Collection[str]) -> Path | None:
    named = (path for stem in _stems(item) for path in pictures.get(stem.casefold(), ()))
    return next((path for path in named if _may_be_mask(path, photos)), None)


def _stems(item: Item) -> Iterator[str]:
    """Names of the mask, the surest first; with the suffix of the photo where two photos differ in it alone."""
    stem, suffix = item.source.stem + item.mark, item.source.suffix.lower().lstrip(".")
    yield from (f"{stem}-{suffix}{MASK}", f"{item.target.stem}{MASK}", f"{stem}{MASK}", stem)


def _may_be_mask(path: Path, photos: Collection[str]) -> bool:
    """A picture of the photo's own name may be a photo of this run, or the result of an earlier one."""
    return path.stem.endswith(MASK) or not (key(path) in photos or is_result(path))
