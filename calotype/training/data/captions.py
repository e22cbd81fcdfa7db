"""Captions of training pictures: read, and changed for each step in the order of kohya's sd-scripts."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.files import read_text
from calotype.tasks.training import TrainLora

LONGEST = 100_000  # letters


@dataclass(frozen=True, kw_only=True)
class CaptionWays:
    """How a caption is changed each time that its picture is used."""

    shuffle: bool = False
    keep_tokens: int = 0  # tags at the beginning that stay where they are
    dropout: float = 0.0  # how often there is no caption
    tag_dropout: float = 0.0  # how often a tag that may move is left out
    separator: str = ","
    prefix: str = ""
    suffix: str = ""
    has_wildcards: bool = False  # one of several lines, and one of each {this|or that}; {{ and }} are braces
    every_n_epochs: int = 0  # each n-th epoch goes without captions
    keep_separator: str = ""  # parts the tags that stay; a second one begins those that stay at the end
    secondary_separator: str = ""  # parts tags that stay together; in the end the separator stands for it

    @property
    def changes(self) -> bool:
        """Whether a picture's caption is not always the same."""
        return bool(self.shuffle or self.dropout or self.tag_dropout or self.has_wildcards or self.every_n_epochs)


def ways_of(task: TrainLora) -> CaptionWays:
    return CaptionWays(
        shuffle=task.shuffle_caption,
        keep_tokens=task.keep_tokens,
        dropout=task.caption_dropout_rate,
        tag_dropout=task.caption_tag_dropout_rate,
        separator=task.caption_separator,
        prefix=task.caption_prefix,
        suffix=task.caption_suffix,
        has_wildcards=task.enable_wildcard,
        every_n_epochs=task.caption_dropout_every_n_epochs,
        keep_separator=task.keep_tokens_separator,
        secondary_separator=task.secondary_separator,
    )


def read_caption(path: Path, is_whole: bool = False) -> str:
    """The first line of a caption file that says something, or all such lines; in UTF-8, UTF-16 or GB18030.

    Raises:
        CalotypeError: it cannot be read as text, or is far too long.
    """
    text = read_text(path)
    if len(text) > LONGEST:
        raise CalotypeError(
            "{path} is no caption: it has {count:,} letters; a caption is one line", path=path, count=len(text)
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines if is_whole else lines[:1])


def changed(caption: str, ways: CaptionWays, dice: random.Random, epoch: int = 1) -> str:
    """The caption for one step: dropped, or one of its variants, its tags shuffled behind those that are kept.

    Args:
        epoch: counted from 1.
    """
    caption = " ".join(part for part in (ways.prefix, caption, ways.suffix) if part)
    if ways.dropout and dice.random() < ways.dropout:
        return ""
    if ways.every_n_epochs and epoch % ways.every_n_epochs == 0:
        return ""
    if ways.has_wildcards:
        caption = _chosen(dice.choice(caption.split("\n")), dice)
    if ways.shuffle or ways.tag_dropout or (ways.keep_separator and ways.keep_separator in caption):
        caption = _arranged(caption, ways, dice)
    return caption.replace(ways.secondary_separator, ways.separator) if ways.secondary_separator else caption


def _chosen(caption: str, dice: random.Random) -> str:
    """One of each {this|or that}."""

    def one(told: re.Match[str]) -> str:
        return {"{{": "{", "}}": "}"}.get(told[0]) or dice.choice(told[1].split("|"))

    return re.sub(r"\{\{|\}\}|\{([^{}]+)\}", one, caption)


def _arranged(caption: str, ways: CaptionWays, dice: random.Random) -> str:
    if ways.keep_separator and ways.keep_separator in caption:
        parts = [_tags(part, ways.separator) for part in caption.split(ways.keep_separator, 2)]
        first, loose, last = (*parts, [])[:3]
    else:
        tags = [tag.strip() for tag in caption.split(ways.separator)]
        first, loose, last = tags[: ways.keep_tokens], tags[ways.keep_tokens :], []
    if ways.shuffle:
        dice.shuffle(loose)
    if ways.tag_dropout:
        loose = [tag for tag in loose if dice.random() >= ways.tag_dropout]
    return ", ".join(first + loose + last)


def _tags(text: str, separator: str) -> list[str]:
    return [tag.strip() for tag in text.split(separator) if tag.strip()]
