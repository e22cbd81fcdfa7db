"""Captions that are not there, say nothing, or are cut."""

import unicodedata
from collections.abc import Iterator, Sequence

from calotype.errors import Message, plural
from calotype.training.data.dataset import Example
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.course import RunSummary, some

OTHER_ENDINGS = (".txt", ".caption", ".cap")  # that people's captions have
FOREIGN = 0x2E80  # from this letter on East Asian scripts begin


def of_words(course: RunSummary) -> Iterator[Message]:
    photos = [photo for photo, *_ in course.learnt]
    yield from _missing(photos, course.task.caption_extension)
    yield from _alike(photos)
    yield from _cut(photos, course)
    foreign = [photo for photo in photos if any(_is_foreign(letter) for letter in photo.caption)]
    if foreign:
        yield Message(
            "{photos} words in the caption that are not English ({names}); CLIP, which reads them, knows English "
            "alone, so describe in English and keep other signs out",
            photos=_have(foreign),
            names=some(foreign),
        )


def _have(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo has", "{count} photos have")


def _missing(photos: Sequence[Example], extension: str) -> Iterator[Message]:
    without = [photo for photo in photos if not photo.has_caption_file]
    empty = [photo for photo in photos if photo.has_caption_file and not photo.caption]
    if without and len(without) == len(photos):
        yield _none(photos, extension)
    elif without:
        yield Message(
            "{photos} no caption file ({names}) and will be called by the folder's name; write what they show, or let "
            "`{task:caption} PHOTOS` do it",
            photos=_have(without),
            names=some(without),
        )
    if empty:
        yield Message(
            "{files} empty ({names}): what these photos show is learnt without a word that calls it. Write what they "
            "show",
            files=plural(len(empty), "1 caption file is", "{count} caption files are"),
            names=some(empty),
        )


def _none(photos: Sequence[Example], extension: str) -> Message:
    for ending in OTHER_ENDINGS:
        if ending != extension and any(photo.path.with_suffix(ending).is_file() for photo in photos):
            return Message(
                "no photo has a caption ending in {extension}, but some in {ending}; give {option:caption_extension} "
                "{ending}",
                extension=extension,
                ending=ending,
            )
    names = sorted({photo.caption for photo in photos})
    if names == [""]:
        return Message(
            "no photo has a caption, so no word will call what is learnt; `{task:caption} PHOTOS {option:trigger} "
            "WORD` writes captions"
        )
    return Message(
        "no photo has a caption file; all go by their folder's name ({names}). Captions that tell what else a photo "
        "shows keep that out of what is learnt: `{task:caption} PHOTOS`",
        names=", ".join(names[:3]),
    )


def _alike(photos: Sequence[Example]) -> Iterator[Message]:
    captions = [photo.caption for photo in photos if photo.has_caption_file and photo.caption]
    if len(captions) >= limits.FEW_PHOTOS and len(captions) == len(photos) and len(set(captions)) == 1:
        yield Message(
            "all {count} captions say the same ({caption!r}), so what photos share by chance, such as the room, is "
            "learnt too; write what differs",
            count=len(captions),
            caption=captions[0][:60],
        )


def _cut(photos: Sequence[Example], course: RunSummary) -> Iterator[Message]:
    most = course.task.max_token_length
    long = [(photo, course.tokens(photo.caption)) for photo in photos if len(photo.caption) > most // 2]
    long = sorted((one for one in long if one[1] > most), key=lambda one: -one[1])
    if long:
        values = {
            "captions": plural(len(long), "1 caption is", "{count} captions are"),
            "most": most,
            "longest": long[0][1],
            "names": some(photo for photo, _ in long),
        }
        if most < 225:
            yield Message(
                "{captions} longer than {most} tokens (up to {longest}) and will be cut ({names}); give "
                "{option:max_token_length} 225, or write less",
                **values,
            )
        else:
            yield Message(
                "{captions} longer than {most} tokens (up to {longest}) and will be cut ({names}); write less, the "
                "most important first",
                **values,
            )


def _is_foreign(letter: str) -> bool:
    return letter.isalpha() and (ord(letter) >= FOREIGN or "CYRILLIC" in unicodedata.name(letter, ""))
