"""Photos made ready to be learnt from: captions, and crops around faces. The photos themselves are only read."""

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
from calotype.training.data.captions import read_caption
from calotype.training.data.dataset import Folder, advised_repeats, find_rooms
from calotype.training.data.face_crop import largest, window

Tags = Callable[[np.ndarray], list[str]]  # tags of (H, W, 3) uint8 RGB


STAYS = Message("is there already; {option:overwrite} replaces it")


def caption(task: Caption, models: Models) -> Iterator[Progress | Note | Saved | Skipped | Failed]:
    """One photo after the other; a bad one does not stop the rest.

    Raises:
        CalotypeError: no photos, nothing to write into captions, no such tagger, no room on disk, no face anywhere.
    """
    rooms = find_rooms(task.photos)
    photos = [(room, path) for room in rooms for path in room.pictures]
    if not photos:
        raise CalotypeError("{photos} has no pictures in it; put photos there", photos=task.photos)
    words = _tagger(task, models)
    if not (words or task.trigger or task.face) and not any(room.name for room in rooms):
        raise CalotypeError(
            "there is nothing to say of the photos in {photos}; name its folders N_name, or give "
            "{option:trigger} WORD or {option:tagger}",
            photos=task.photos,
        )
    work = _Faces(task, models, words) if task.face else _Captions(task, models, words)
    yield Progress(0, len(photos), "photos")
    done = failed = 0
    for n, (room, path) in enumerate(photos, 1):
        try:
            for step in work.done(room, path):
                done += isinstance(step, Saved | Skipped)
                yield step
        except _Unreadable as fault:
            failed += 1
            yield Failed(str(path), fault.args[0])
        yield Progress(n, len(photos), "photos")
    if task.face and not done and failed < len(photos):
        raise CalotypeError(
            "no face was found in any photo of {photos}, so there are no crops; take photos in which it is larger",
            photos=task.photos,
        )


class _Unreadable(Exception):
    """This photo or its caption cannot be read; the rest may go on."""


def _tagger(task: Caption, models: Models) -> Tags | None:
    if task.tagger is None:
        return None
    from calotype.training.data.tagger import Tagger, spaced

    tagger = Tagger(task.tagger, task.tagger_tags, models.settings.threads)
    without = frozenset(spaced(tag.strip()).casefold() for tag in task.exclude_tags.split(","))
    return lambda pixels: tagger.tags(pixels, task.threshold, task.character_threshold, without)


class _Captions:
    """Captions beside the photos, or in a folder of their own."""

    def __init__(self, task: Caption, models: Models, words: Tags | None):
        self.task, self.words, self.max_pixels = task, words, models.settings.max_pixels
        self.ending = "." + task.caption_extension.removeprefix(".")

    def done(self, room: Folder, path: Path) -> Iterator[Note | Saved | Skipped]:
        target = self._place(room, path).with_suffix(self.ending)
        goes_before = self.task.prefix and self.task.out is None  # to put it there is to replace what is there
        if target.exists() and not self.task.overwrite and not goes_before:
            yield Skipped(str(path), str(target), STAYS)
            return
        before, picture = self._before(path) if self.task.prefix else "", self._opened(path)
        text = self._text(room, before, lambda: to_uint8_rgb(picture.pixels))
        if before and text == before and goes_before:
            yield Skipped(str(path), str(target), Message("begins with the trigger word already"))
            return
        if not text:
            yield note("{path}: nothing was found to say of it, so it has no caption", path=path.name)
            return
        _put(target, text)
        yield Saved(str(path), str(target), {"text": text})

    def _place(self, room: Folder, path: Path) -> Path:
        out = self.task.out
        return path if out is None else out / room.folder.relative_to(self.task.photos) / path.name

    def _before(self, path: Path) -> str:
        """The caption that is beside the photo; of several lines, all."""
        beside = path.with_suffix(self.ending)
        try:
            return read_caption(beside, is_whole=True) if beside.is_file() else ""
        except CalotypeError as fault:
            raise _Unreadable(fault) from fault

    def _opened(self, path: Path) -> Picture:
        try:
            return Picture.open(path, self.max_pixels).on_white()  # what hides under transparency is not to stay
        except CalotypeError as fault:
            raise _Unreadable(fault) from fault

    def _text(self, room: Folder, before: str, look: Callable[[], np.ndarray]) -> str:
        """The old caption, or the folder's name and tags, behind the trigger word."""
        if before:
            trigger = self.task.trigger if self.task.prefix else ""
            return "\n".join(_called(trigger, line.split(",")) for line in before.split("\n"))
        return _called(self.task.trigger, [room.name, *(self.words(look()) if self.words else [])])


class _Faces(_Captions):
    """Crops around faces, each with its caption, in `N_name` folders of a folder of their own."""

    def __init__(self, task: Caption, models: Models, words: Tags | None):
        super().__init__(task, models, words)
        self.find = models.detector().find
        self.out = task.out or task.photos.resolve().with_name(task.photos.resolve().name + "-faces")
        if self.out.resolve().is_relative_to(task.photos.resolve()):
            raise CalotypeError(
                "{out} lies in the folder of the photos; give another {option:out} for the crops", out=self.out
            )
        self._taken: set[Path] = set()

    def done(self, room: Folder, path: Path) -> Iterator[Note | Saved | Skipped]:
        target = self._free(self._folder(room), path)
        if target.exists() and not self.task.overwrite:
            yield Skipped(str(path), str(target), STAYS)
            return
        before, picture = self._before(path), self._opened(path)
        pixels = to_uint8_rgb(picture.pixels)
        face, count = largest(self.find(pixels))
        if face is None:
            yield note("{path}: no face was found, so it is left out", path=path.name)
            return
        if count > 1:
            yield note("{path}: of {count} faces the largest is taken", path=path.name, count=count)
        rows, columns = window(face, pixels.shape[:2], self.task.face_shape, self.task.face_margin)
        crop = picture.then(picture.pixels[rows, columns])
        text = self._text(room, before, lambda: np.ascontiguousarray(pixels[rows, columns]))
        target.parent.mkdir(parents=True, exist_ok=True)
        save(crop, target, format="png")
        beside = target.with_suffix(self.ending)
        if text and (self.task.overwrite or not beside.exists()):
            _put(beside, text)
        yield Saved(str(path), str(target), {"text": text})

    def _folder(self, room: Folder) -> Path:
        """As the photos' own; where that tells no number, with the number that is usual for so many."""
        if room.repeats:
            return self.out / room.folder.name
        return self.out / f"{advised_repeats(len(room.pictures))}_{_plain(self.task.trigger) or 'face'}"

    def _free(self, folder: Path, path: Path) -> Path:
        """`a.jpg` and `a.webp` do not become one file."""
        target = folder / f"{path.stem}.png"
        if target in self._taken:
            target = folder / f"{path.name.replace('.', '-')}.png"
        self._taken.add(target)
        return target


def _called(trigger: str, words: list[str]) -> str:
    """The trigger word and the others with commas between; none twice, in whatever case."""
    words = [word.strip() for word in words if word.strip()]
    first = trigger.strip()
    if first and not (words and words[0].casefold().startswith(first.casefold())):
        words = [first, *words]
    return ", ".join({word.casefold(): word for word in reversed(words)}[key] for key in _keys(words))


def _keys(words: list[str]) -> list[str]:
    return list(dict.fromkeys(word.casefold() for word in words))


def _plain(text: str) -> str:
    """What of a word may stand in a folder's name."""
    return re.sub(r"[^\w -]", "", text).strip()


def _put(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, (text + "\n").encode("utf-8", "replace"))
