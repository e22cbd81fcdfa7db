"""Findings about captions: missing, empty, equal, truncated or not English."""

import unicodedata
from collections.abc import Iterator, Sequence

from calotype.errors import Message, plural
from calotype.training.data.dataset import Example
from calotype.training.lora.lint import limits
from calotype.training.lora.lint.run_summary import RunSummary, names_of

CAPTION_SUFFIXES = (".txt", ".caption", ".cap")  # usual suffixes of caption files
EAST_ASIAN = 0x2E80  # first code point of East Asian scripts


def check_captions(run: RunSummary) -> Iterator[Message]:
    photos = [photo for photo, *_ in run.train]
    extensions = [run.subsets[photo.subset].caption_extension for photo in photos]
    yield from _missing(photos, extensions, run.task.dataset_config is not None)
    yield from _alike(photos)
    yield from _truncated(photos, run)
    foreign = [photo for photo in photos if any(_is_foreign(letter) for letter in photo.caption)]
    if foreign:
        yield Message(
            "{photos} words in the caption that are not English ({names}); CLIP, the text encoder, knows only English, "
            "so write captions in English without other characters",
            photos=_have(foreign),
            names=names_of(foreign),
        )


def _have(photos: Sequence[Example]) -> Message:
    return plural(len(photos), "1 photo has", "{count} photos have")


def _missing(photos: Sequence[Example], extensions: Sequence[str], is_configured: bool) -> Iterator[Message]:
    """Args: is_configured: by a dataset config, whose folders' names have no meaning."""
    uncaptioned = [photo for photo in photos if not photo.has_caption_file]
    empty = [photo for photo in photos if photo.has_caption_file and not photo.caption]
    extension = next((e for photo, e in zip(photos, extensions, strict=True) if not photo.has_caption_file), "")
    ending, misnamed = _differently_named(uncaptioned, extension)
    if misnamed:
        without = len(uncaptioned) - len(misnamed)
        yield Message(
            "{count} of {total} photos have no caption ending in {extension}, but {misnamed} of them one in {ending} "
            "({names}){rest}; give {option:caption_extension} {ending}, or rename the files",
            count=len(uncaptioned),
            total=len(photos),
            extension=extension,
            misnamed=len(misnamed),
            ending=ending,
            names=names_of(misnamed),
            rest=plural(without, ", and 1 none at all", ", and {count} none at all") if without else "",
        )
    elif uncaptioned and len(uncaptioned) == len(photos):
        yield _none(photos)
    elif uncaptioned:
        yield Message(
            "{photos} no caption file ({names}), so the caption is {caption}; write what they show, or run "
            "`{task:caption} PHOTOS`",
            caption=Message("the subset's class_tokens") if is_configured else Message("the folder's name"),
            photos=_have(uncaptioned),
            names=names_of(uncaptioned),
        )
    if empty:
        yield Message(
            "{files} empty ({names}): no word of a prompt will call what these photos show. Write what they show",
            files=plural(len(empty), "1 caption file is", "{count} caption files are"),
            names=names_of(empty),
        )


def _differently_named(uncaptioned: Sequence[Example], extension: str) -> tuple[str, list[Example]]:
    """Another usual ending of caption files, and the photos that have one; the ending that most have."""
    endings = [ending for ending in CAPTION_SUFFIXES if ending != f".{extension.removeprefix('.')}"]
    found = {ending: [photo for photo in uncaptioned if photo.path.with_suffix(ending).is_file()] for ending in endings}
    ending = max(found, key=lambda ending: len(found[ending]))
    return ending, found[ending]


def _none(photos: Sequence[Example]) -> Message:
    names = sorted({photo.caption for photo in photos})
    if names == [""]:
        return Message(
            "no photo has a caption, so no word of a prompt will call the LoRA's subject; `{task:caption} PHOTOS "
            "{option:trigger} WORD` writes captions"
        )
    return Message(
        "no photo has a caption file; all captions are the name of a folder or subset ({names}). Captions that also "
        "describe the rest of a photo separate it from the subject: `{task:caption} PHOTOS`",
        names=", ".join(names[:3]),
    )


def _alike(photos: Sequence[Example]) -> Iterator[Message]:
    captions = [photo.caption for photo in photos if photo.has_caption_file and photo.caption]
    if len(captions) >= limits.MIN_PHOTOS_FOR_CAPTIONS and len(captions) == len(photos) and len(set(captions)) == 1:
        yield Message(
            "all {count} captions are equal ({caption!r}), so what photos have in common by chance, such as the room, "
            "is learned too; write what differs",
            count=len(captions),
            caption=captions[0][:60],
        )


def _truncated(photos: Sequence[Example], run: RunSummary) -> Iterator[Message]:
    max_tokens = run.task.max_token_length
    long = [(photo, run.tokens(photo.caption)) for photo in photos if len(photo.caption) > max_tokens // 2]
    long = sorted((item for item in long if item[1] > max_tokens), key=lambda item: -item[1])
    if long:
        values = {
            "captions": plural(len(long), "1 caption is", "{count} captions are"),
            "most": max_tokens,
            "longest": long[0][1],
            "names": names_of(photo for photo, _ in long),
        }
        if max_tokens < 225:
            yield Message(
                "{captions} longer than {most} tokens (up to {longest}) and will be truncated ({names}); give "
                "{option:max_token_length} 225, or write less",
                **values,
            )
        else:
            yield Message(
                "{captions} longer than {most} tokens (up to {longest}) and will be truncated ({names}); write less, "
                "the most important first",
                **values,
            )


def _is_foreign(letter: str) -> bool:
    return letter.isalpha() and (ord(letter) >= EAST_ASIAN or "CYRILLIC" in unicodedata.name(letter, ""))
