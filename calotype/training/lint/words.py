"""Captions that are not there, say nothing, or are cut."""

import unicodedata
from collections.abc import Iterator, Sequence

from calotype.training.lint import limits
from calotype.training.lint.course import Course, are, have, some
from calotype.training.photos import Photo

OTHER_ENDINGS = (".txt", ".caption", ".cap")  # that people's captions have
FOREIGN = 0x2E80  # from this letter on East Asian scripts begin


def of_words(course: Course) -> Iterator[str]:
    photos = [photo for photo, *_ in course.learnt]
    yield from _missing(photos, course.task.caption_extension)
    yield from _alike(photos)
    yield from _cut(photos, course)
    foreign = [photo for photo in photos if any(_is_foreign(letter) for letter in photo.caption)]
    if foreign:
        yield (
            f"{have(len(foreign), 'photo')} words in the caption that are not English ({some(foreign)}); CLIP, which "
            "reads them, knows English alone, so describe in English and keep other signs out"
        )


def _missing(photos: Sequence[Photo], extension: str) -> Iterator[str]:
    without = [photo for photo in photos if not photo.is_told]
    empty = [photo for photo in photos if photo.is_told and not photo.caption]
    if without and len(without) == len(photos):
        yield _none(photos, extension)
    elif without:
        yield (
            f"{have(len(without), 'photo')} no caption file ({some(without)}) and will be called by the folder's name; "
            "write what they show, or let `calotype train caption PHOTOS` do it"
        )
    if empty:
        yield (
            f"{are(len(empty), 'caption file')} empty ({some(empty)}): what these photos show is learnt without a word "
            "that calls it. Write what they show"
        )


def _none(photos: Sequence[Photo], extension: str) -> str:
    for ending in OTHER_ENDINGS:
        if ending != extension and any(photo.path.with_suffix(ending).is_file() for photo in photos):
            return (
                f"no photo has a caption ending in {extension}, but some in {ending}; give --caption-extension {ending}"
            )
    names = sorted({photo.caption for photo in photos})
    if names == [""]:
        return (
            "no photo has a caption, so no word will call what is learnt; `calotype train caption PHOTOS --trigger "
            "WORD` writes captions"
        )
    return (
        f"no photo has a caption file; all go by their folder's name ({', '.join(names[:3])}). Captions that tell what "
        "else a photo shows keep that out of what is learnt: `calotype train caption PHOTOS`"
    )


def _alike(photos: Sequence[Photo]) -> Iterator[str]:
    told = [photo.caption for photo in photos if photo.is_told and photo.caption]
    if len(told) >= limits.FEW_PHOTOS and len(told) == len(photos) and len(set(told)) == 1:
        yield (
            f"all {len(told)} captions say the same ({told[0][:60]!r}), so what photos share by chance, such as the "
            "room, is learnt too; write what differs"
        )


def _cut(photos: Sequence[Photo], course: Course) -> Iterator[str]:
    most = course.task.max_token_length
    long = [(photo, course.tokens(photo.caption)) for photo in photos if len(photo.caption) > most // 2]
    long = sorted((one for one in long if one[1] > most), key=lambda one: -one[1])
    if long:
        more = (
            "; give --max-token-length 225, or write less" if most < 225 else "; write less, the most important first"
        )
        yield (
            f"{are(len(long), 'caption')} longer than {most} tokens (up to {long[0][1]}) and will be cut "
            f"({some(photo for photo, _ in long)}){more}"
        )


def _is_foreign(letter: str) -> bool:
    return letter.isalpha() and (ord(letter) >= FOREIGN or "CYRILLIC" in unicodedata.name(letter, ""))
