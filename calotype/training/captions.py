"""Captions of training pictures: read, and changed for each step in the order of kohya's sd-scripts."""

import random
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError

ENCODINGS = ("utf-8-sig", "utf-16", "gb18030")  # what people's editors write; tried in this order
LONGEST = 100_000  # letters


@dataclass(frozen=True, kw_only=True)
class CaptionWays:
    """How a caption is changed each time that its picture is used."""

    shuffle: bool = False
    keep_tokens: int = 0  # tags at the beginning that stay where they are
    dropout: float = 0.0  # how often there is no caption
    tag_dropout: float = 0.0  # how often a tag that may move is left out
    separator: str = ","

    @property
    def changes(self) -> bool:
        """Whether a picture's caption is not always the same."""
        return bool(self.shuffle or self.dropout or self.tag_dropout)


def read_caption(path: Path) -> str:
    """The first line of a caption file, in UTF-8, UTF-16 or GB18030.

    Raises:
        CalotypeError: it cannot be read as text, or is far too long.
    """
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise CalotypeError(f"{path} cannot be read: {fault.strerror}") from None
    text = _decoded(data, path)
    if len(text) > LONGEST:
        raise CalotypeError(f"{path} is no caption: it has {len(text):,} letters; a caption is one line")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _decoded(data: bytes, path: Path) -> str:
    has_mark = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ENCODINGS[1:2] if has_mark else (ENCODINGS[0], ENCODINGS[2]):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise CalotypeError(f"{path} is no text in UTF-8, UTF-16 or GBK; save the caption as UTF-8")


def changed(caption: str, ways: CaptionWays, dice: random.Random) -> str:
    """The caption for one step: dropped, or its tags shuffled behind those that are kept, some left out."""
    if ways.dropout and dice.random() < ways.dropout:
        return ""
    if not (ways.shuffle or ways.tag_dropout):
        return caption
    tags = [tag.strip() for tag in caption.split(ways.separator)]
    kept, loose = tags[: ways.keep_tokens], tags[ways.keep_tokens :]
    if ways.shuffle:
        dice.shuffle(loose)
    if ways.tag_dropout:
        loose = [tag for tag in loose if dice.random() >= ways.tag_dropout]
    return ", ".join(kept + loose)
