"""All pictures of a LoRA run: from a folder, or from the subsets of sd-scripts' dataset config; and their masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calotype.dialects.sd_scripts.dataset_config import DatasetConfig, Subset, read_dataset_config
from calotype.errors import CalotypeError, Message, listed, plural
from calotype.suffixes import SUFFIXES
from calotype.tasks.training import TrainLora
from calotype.training.data.dataset import (
    MAX_NAMED,
    Dataset,
    Example,
    Folder,
    balanced,
    find_photos,
    folders_with_pictures,
    pictures_in,
    read_examples,
    split_validation,
    with_count,
)
from calotype.training.data.metadata_file import read_metadata_file


@dataclass(frozen=True)
class TrainingSet:
    """Pictures to train on and for validation; each has the options of its subset, `subsets[picture.subset]`."""

    photos: tuple[Example, ...]
    validation: tuple[Example, ...]
    subsets: tuple[TrainLora, ...]
    datasets: tuple[int, ...]  # of each subset; pictures of several datasets are never in one batch
    notes: tuple[Message, ...] = ()


def find_training_set(task: TrainLora) -> TrainingSet:
    """The pictures that a task names, with captions and masks. They are not opened.

    Raises:
        CalotypeError: no such folder, no pictures, a caption that cannot be read, a photo without mask, masks without
            `masked_loss`, or `masked_loss` without masks.
    """
    pictures = _of_folders(task) if task.dataset_config is None else _of_config(task, task.dataset_config)
    is_masked = any(photo.mask or pictures.subsets[photo.subset].alpha_mask for photo in pictures.photos)
    if task.masked_loss and not is_masked:
        raise CalotypeError(
            "{option:masked_loss} needs masks: give their folder by {option:conditioning_data_dir}, or give "
            "{option:alpha_mask} for photos with transparency"
        )
    return pictures


def _of_folders(task: TrainLora) -> TrainingSet:
    found = _listed(task, task.in_json) if task.in_json else _in_folders(task)
    photos, notes = _with_masks(found.photos, task, task.photos)
    photos, validation = _split(photos, task)
    notes = [*found.notes, *notes]
    if task.regular is not None:
        regularization = find_photos(task.regular, task.caption_extension, True, task.enable_wildcard)
        photos += balanced(photos, tuple(replace(picture, subset=1) for picture in regularization.photos))
        notes += regularization.notes
    return TrainingSet(photos, validation, (task, _unmasked(task)), (0, 0), tuple(notes))


def _in_folders(task: TrainLora) -> Dataset:
    return find_photos(task.photos, task.caption_extension, has_wildcards=task.enable_wildcard)


def _listed(task: TrainLora, metadata_file: Path) -> Dataset:
    examples, notes = read_metadata_file(metadata_file, task.photos, task.caption_separator, task.enable_wildcard)
    repeats = max(1, task.dataset_repeats)
    return Dataset(tuple(replace(example, repeats=repeats) for example in examples), tuple(notes))


def _unmasked(task: TrainLora) -> TrainLora:
    """The options of regularization images: they stand for all that the model knows, so that nothing is masked."""
    return replace(task, alpha_mask=False, conditioning_data_dir=None)


def _split(photos: tuple[Example, ...], task: TrainLora) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    seed = task.seed if task.validation_seed is None else task.validation_seed
    return split_validation(photos, task.validation_split, seed)


# ------------------------------------------------------------------ dataset config


def _of_config(task: TrainLora, path: Path) -> TrainingSet:
    config = read_dataset_config(path)
    found = [_SubsetReader(task, config, subset, n) for n, subset in enumerate(config.subsets)]
    notes = [*config.notes, *_ignored_folders(task, path)]
    photos, validation, known = (), (), set()
    for dataset in range(config.subsets[-1].dataset + 1):
        own, regularization = (), ()
        for reader in found:
            if reader.subset.dataset != dataset:
                continue
            key = (dataset, reader.subset.metadata_file or reader.subset.image_dir)
            if key in known or not reader.task.dataset_repeats:
                notes.append(reader.left_out(key in known))
                continue
            known.add(key)
            examples = reader.read()
            notes += reader.notes
            if reader.subset.is_reg:
                regularization += examples
            else:
                own += examples
        if regularization and not own:
            notes.append(
                Message(
                    "{file}, dataset {number} has regularization images alone, which are not used: they belong to the "
                    "photos of their dataset",
                    file=path.name,
                    number=dataset + 1,
                )
            )
        if own:
            own, own_validation = _split(own, next(reader.task for reader in found if reader.subset.dataset == dataset))
            photos, validation = photos + own + balanced(own, regularization), validation + own_validation
    if not photos:
        raise CalotypeError(
            "{path} has no photos to train on, only regularization images; add a subset without is_reg", path=path
        )
    tasks, datasets = ([getattr(reader, name) for reader in found] for name in ("task", "dataset"))
    return TrainingSet(photos, validation, tuple(tasks), tuple(datasets), tuple(dict.fromkeys(notes)))


def _ignored_folders(task: TrainLora, path: Path) -> Iterator[Message]:
    if ignored := [folder for folder in (task.photos, task.regular, task.in_json) if folder]:
        yield Message(
            "{folders} not used: the folders of {file} are, as in sd-scripts",
            folders=plural(len(ignored), "{names} is", "{names} are", names=listed(ignored)),
            file=path.name,
        )


class _SubsetReader:
    """The pictures of one subset."""

    def __init__(self, task: TrainLora, config: DatasetConfig, subset: Subset, index: int):
        self.config, self.subset, self.index, self.dataset = config, subset, index, subset.dataset
        self.notes: list[Message] = []
        base = _unmasked(task) if subset.is_reg else task
        options = {
            name: value
            for name, value in subset.options.items()
            if not (subset.is_reg and name == "alpha_mask" and name not in subset.own)
        }
        try:
            self.task = replace(base, **options)
            if subset.conditioning_data_dir:
                masks = self._located(subset.conditioning_data_dir)
                self.task = replace(self.task, conditioning_data_dir=masks)
        except CalotypeError as fault:
            raise CalotypeError("{where}: {fault}", where=subset.where, fault=fault) from None

    def left_out(self, is_known: bool) -> Message:
        if is_known:
            return Message("{where} is left out: its folder is in this dataset already", where=self.subset.where)
        return Message("{where} is left out: its num_repeats is 0", where=self.subset.where)

    def read(self) -> tuple[Example, ...]:
        subset, task = self.subset, self.task
        folder = self._located(subset.image_dir) if subset.image_dir else None
        if folder is not None and not folder.is_dir():
            raise CalotypeError(
                "{where}: there is no folder {folder}, neither in the working folder nor beside the file; give its "
                "whole path",
                where=subset.where,
                folder=subset.image_dir,
            )
        if subset.metadata_file:
            examples, notes = read_metadata_file(
                self._located(subset.metadata_file), folder, task.caption_separator, task.enable_wildcard
            )
            self.notes += notes
        else:
            examples = self._in_folder(folder)
        examples = [
            replace(e, repeats=task.dataset_repeats, is_regularization=subset.is_reg, subset=self.index)
            for e in examples
        ]
        examples, notes = _with_masks(examples, task, folder)
        self.notes += notes
        return examples

    def _in_folder(self, folder: Path) -> list[Example]:
        """Pictures directly in it, as in sd-scripts; its name has no meaning."""
        errors: list[CalotypeError] = []
        extension = f".{self.task.caption_extension.removeprefix('.')}"
        named = Folder(folder, self.subset.class_tokens)
        examples = read_examples(named, extension, self.subset.is_reg, self.task.enable_wildcard, errors)
        if not examples:
            raise errors[0] if errors else self._no_pictures(folder)
        self.notes += [Message("left out: {fault}", fault=error) for error in errors]
        return examples

    def _no_pictures(self, folder: Path) -> CalotypeError:
        if elsewhere := folders_with_pictures(folder):
            return CalotypeError(
                "{where}: {folder} has no pictures directly in it, but {folders}; give that folder as image_dir",
                where=self.subset.where,
                folder=folder,
                folders=listed(with_count(folder, path, count) for path, count in elsewhere[:MAX_NAMED]),
            )
        return CalotypeError(
            "{where}: {folder} has no pictures in it; put photos there ({suffixes})",
            where=self.subset.where,
            folder=folder,
            suffixes=", ".join(SUFFIXES),
        )

    def _located(self, text: str) -> Path:
        path, is_beside = self.config.located(text)
        if is_beside and not Path(text).is_absolute():
            self.notes.append(
                Message(
                    "{name} of {file} is not in the working folder, where sd-scripts looks for it; {path} is used",
                    name=text,
                    file=self.config.path.name,
                    path=path,
                )
            )
        return path


# ------------------------------------------------------------------ masks


def _with_masks(
    photos: Sequence[Example], task: TrainLora, root: Path | None
) -> tuple[tuple[Example, ...], list[Message]]:
    """The photos with their masks, pictures of the same name in `conditioning_data_dir`; and notes about other masks.

    Args:
        root: the photos' folder; masks may be in subfolders of the same name.
    """
    folder = task.conditioning_data_dir
    if folder is None:
        return tuple(photos), []
    if not task.masked_loss:
        raise CalotypeError(
            "{folder} is for masks, which only {option:masked_loss} uses; give it too, or leave the folder out",
            folder=folder,
        )
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder} for masks; check the name", folder=folder)
    masks = _masks_below(folder)
    masked = [replace(photo, mask=_mask_of(photo, masks, root)) for photo in photos]
    if missing := [photo for photo in masked if photo.mask is None]:
        raise CalotypeError(
            "{photos} no mask in {folder} ({names}); put a picture of the same name and size there, white where the "
            "photo is trained, or take the photo out",
            photos=plural(len(missing), "1 photo has", "{count} photos have"),
            folder=folder,
            names=_named([photo.path for photo in missing]),
        )
    used = {photo.mask for photo in masked}
    unused = sorted(path for path in masks.values() if path not in used)
    if not unused:
        return tuple(masked), []
    note = plural(
        len(unused),
        "1 mask in {folder} has no photo ({names})",
        "{count} masks in {folder} have no photo ({names})",
        folder=folder,
        names=_named(unused),
    )
    return tuple(masked), [note]


def _masks_below(folder: Path) -> dict[tuple[str, str], Path]:
    """Masks by the name of their subfolder, "" for the folder itself, and their name without extension."""
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
    masks: dict[tuple[str, str], Path] = {}
    for name, place in [("", folder), *((path.name, path) for path in subfolders)]:
        for path in pictures_in(place):
            masks.setdefault((name, path.stem), path)
    return masks


def _mask_of(photo: Example, masks: dict[tuple[str, str], Path], root: Path | None) -> Path | None:
    subfolder = photo.path.parent.name if root is not None and photo.path.parent != root else ""
    return masks.get((subfolder, photo.path.stem)) or masks.get(("", photo.path.stem))


def _named(paths: Sequence[Path]) -> Message:
    names, rest = ", ".join(path.name for path in paths[:MAX_NAMED]), len(paths) - MAX_NAMED
    return Message("{names} and {count} more", names=names, count=rest) if rest > 0 else Message("{names}", names=names)
