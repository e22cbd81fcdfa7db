"""Prepares photos for training: captions, and face crops. The photos themselves are only read."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError, Message
from calotype.files import write_atomic
from calotype.ops.color import to_uint8_rgb
from calotype.picture import Picture
from calotype.picture.save import save
from calotype.tasks import Note, Progress, note
from calotype.tasks.captions import Caption
from calotype.tasks.events import Failed, Saved, Skipped
from calotype.training.data.captions import read_caption, split_tags
from calotype.training.data.dataset import Folder, advised_repeats, find_folders
from calotype.training.data.face_crop import largest, window

Tags = Callable[[np.ndarray], list[str]]  # tags of (H, W, 3) uint8 RGB


EXISTS = Message("already exists; {option:overwrite} replaces it")


def caption(task: Caption, models: Models) -> Iterator[Progress | Note | Saved | Skipped | Failed]:
    """Processes one photo after the other; a failure does not stop the rest.

    Raises:
        CalotypeError: no photos, nothing to write into captions, unknown tagger, disk full, no face in any photo.
    """
    folders = find_folders(task.photos)
    photos = [(folder, path) for folder in folders for path in folder.pictures]
    if not photos:
        raise CalotypeError("{photos} has no pictures in it; put photos there", photos=task.photos)
    tag = _tagger(task, models)
    if not (tag or task.trigger or task.face) and not any(folder.name for folder in folders):
        raise CalotypeError(
            "there is nothing to write into captions for {photos}; name its folders N_name, or give "
            "{option:trigger} WORD or {option:tagger}",
            photos=task.photos,
        )
    captioner = _Faces(task, models, tag) if task.face else _Captions(task, models, tag)
    yield Progress(0, len(photos), "photos")
    done = failed = 0
    for n, (folder, path) in enumerate(photos, 1):
        try:
            for step in captioner.process(folder, path):
                done += isinstance(step, Saved | Skipped)
                yield step
        except _Unreadable as fault:
            failed += 1
            yield Failed(str(path), fault.args[0])
        yield Progress(n, len(photos), "photos")
    if task.face and not done and failed < len(photos):
        raise CalotypeError(
            "no face was found in any photo of {photos}, so there are no crops; use photos with larger faces",
            photos=task.photos,
        )


class _Unreadable(Exception):
    """This photo or its caption cannot be read; the others can be processed."""


def _tagger(task: Caption, models: Models) -> Tags | None:
    if task.tagger is None:
        return None
    from calotype.training.data.tagger import Tagger, spaced

    tagger = Tagger(task.tagger, task.tagger_tags, models.settings.threads)
    excluded = frozenset(spaced(tag).casefold() for tag in split_tags(task.exclude_tags))
    return lambda pixels: tagger.tags(pixels, task.threshold, task.character_threshold, excluded)


class _Captions:
    """Writes captions beside the photos, or into a separate folder."""

    def __init__(self, task: Caption, models: Models, tag: Tags | None):
        self.task, self.tag, self.max_pixels = task, tag, models.settings.max_pixels
        self.ending = "." + task.caption_extension.removeprefix(".")

    def process(self, folder: Folder, path: Path) -> Iterator[Note | Saved | Skipped]:
        target = self._target(folder, path).with_suffix(self.ending)
        is_prefixed_in_place = self.task.prefix and self.task.out is None  # prefixing replaces the existing file
        if target.exists() and not self.task.overwrite and not is_prefixed_in_place:
            yield Skipped(str(path), str(target), EXISTS)
            return
        old_caption, picture = self._old_caption(path) if self.task.prefix else "", self._open(path)
        text = self._text(folder, old_caption, lambda: to_uint8_rgb(picture.pixels))
        if old_caption and text == old_caption and is_prefixed_in_place:
            yield Skipped(str(path), str(target), Message("already begins with the trigger word"))
            return
        if not text:
            yield note("{path}: no tags were found, so it has no caption", path=path.name)
            return
        _write_caption(target, text)
        yield Saved(str(path), str(target), {"text": text})

    def _target(self, folder: Folder, path: Path) -> Path:
        out = self.task.out
        return path if out is None else out / folder.folder.relative_to(self.task.photos) / path.name

    def _old_caption(self, path: Path) -> str:
        """The existing caption beside the photo, with all its lines."""
        caption_path = path.with_suffix(self.ending)
        try:
            return read_caption(caption_path, all_lines=True) if caption_path.is_file() else ""
        except CalotypeError as fault:
            raise _Unreadable(fault) from fault

    def _open(self, path: Path) -> Picture:
        try:
            return Picture.open(path, self.max_pixels).on_white()  # removes colours hidden by transparency
        except CalotypeError as fault:
            raise _Unreadable(fault) from fault

    def _text(self, folder: Folder, old_caption: str, get_pixels: Callable[[], np.ndarray]) -> str:
        """The trigger word, then the existing caption, or the folder name and tags."""
        if old_caption:
            trigger = self.task.trigger if self.task.prefix else ""
            return "\n".join(_with_trigger(trigger, split_tags(line)) for line in old_caption.split("\n"))
        return _with_trigger(self.task.trigger, [folder.name, *(self.tag(get_pixels()) if self.tag else [])])


class _Faces(_Captions):
    """Writes face crops with captions into `N_name` subfolders of a separate folder."""

    def __init__(self, task: Caption, models: Models, tag: Tags | None):
        super().__init__(task, models, tag)
        self.find = models.detector().find
        self.out = task.out or task.photos.resolve().with_name(task.photos.resolve().name + "-faces")
        if self.out.resolve().is_relative_to(task.photos.resolve()):
            raise CalotypeError(
                "{out} is within the folder of the photos; give another {option:out} for the crops", out=self.out
            )
        self._taken: set[Path] = set()

    def process(self, folder: Folder, path: Path) -> Iterator[Note | Saved | Skipped]:
        target = self._free_target(self._folder(folder), path)
        if target.exists() and not self.task.overwrite:
            yield Skipped(str(path), str(target), EXISTS)
            return
        old_caption, picture = self._old_caption(path), self._open(path)
        pixels = to_uint8_rgb(picture.pixels)
        face, count = largest(self.find(pixels))
        if face is None:
            yield note("{path}: no face was found, so it is skipped", path=path.name)
            return
        if count > 1:
            yield note("{path}: the largest of {count} faces is used", path=path.name, count=count)
        rows, columns = window(face, pixels.shape[:2], self.task.face_shape, self.task.face_margin)
        crop = picture.then(picture.pixels[rows, columns])
        text = self._text(folder, old_caption, lambda: np.ascontiguousarray(pixels[rows, columns]))
        target.parent.mkdir(parents=True, exist_ok=True)
        save(crop, target, format="png")
        caption_path = target.with_suffix(self.ending)
        if text and (self.task.overwrite or not caption_path.exists()):
            _write_caption(caption_path, text)
        yield Saved(str(path), str(target), {"text": text})

    def _folder(self, folder: Folder) -> Path:
        """The name of the photos' folder; if it has no repeats, with the recommended number for so many photos."""
        if folder.repeats:
            return self.out / folder.folder.name
        return self.out / f"{advised_repeats(len(folder.pictures))}_{_safe_name(self.task.trigger) or 'face'}"

    def _free_target(self, folder: Path, path: Path) -> Path:
        """A target that no other photo has: `a.jpg` and `a.webp` get different files."""
        target = folder / f"{path.stem}.png"
        if target in self._taken:
            target = folder / f"{path.name.replace('.', '-')}.png"
        self._taken.add(target)
        return target


def _with_trigger(trigger: str, words: list[str]) -> str:
    """The trigger word and the tags, separated by commas, without duplicates (case-insensitive)."""
    words = [word.strip() for word in words if word.strip()]
    first = trigger.strip()
    if first and not (words and words[0].casefold().startswith(first.casefold())):
        words = [first, *words]
    return ", ".join({word.casefold(): word for word in reversed(words)}[key] for key in _unique_keys(words))


def _unique_keys(words: list[str]) -> list[str]:
    return list(dict.fromkeys(word.casefold() for word in words))


def _safe_name(text: str) -> str:
    """A word without characters that a folder name cannot have."""
    return re.sub(r"[^\w -]", "", text).strip()


def _write_caption(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, (text + "\n").encode("utf-8", "replace"))
