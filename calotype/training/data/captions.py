"""Captions of training images: read, and processed for each step in the order of kohya's sd-scripts."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.files import read_text
from calotype.tasks.training import TrainLora

MAX_LENGTH = 100_000  # characters


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """How a caption is processed each time its image is used."""

    shuffle: bool = False
    keep_tokens: int = 0  # leading tags that are not shuffled
    dropout: float = 0.0  # probability of an empty caption
    tag_dropout: float = 0.0  # probability that a tag is dropped, except kept ones
    separator: str = ","
    prefix: str = ""
    suffix: str = ""
    has_wildcards: bool = False  # one line at random, and one choice of each {this|or that}; {{ and }} are braces
    every_n_epochs: int = 0  # captions are empty in each n-th epoch
    keep_separator: str = ""  # separates the kept tags; after a second one come tags kept at the end
    secondary_separator: str = ""  # joins tags that stay together; replaced by the separator at the end

    @property
    def changes(self) -> bool:
        """Whether an image's caption can differ between steps."""
        return bool(self.shuffle or self.dropout or self.tag_dropout or self.has_wildcards or self.every_n_epochs)


def caption_config(task: TrainLora) -> CaptionConfig:
    return CaptionConfig(
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


def read_caption(path: Path, all_lines: bool = False) -> str:
    """The first non-empty line of a caption file, or all of them; in UTF-8, UTF-16 or GB18030.

    Raises:
        CalotypeError: it cannot be read as text, or is too long.
    """
    text = read_text(path)
    if len(text) > MAX_LENGTH:
        raise CalotypeError(
            "{path} is not a caption: it has {count:,} characters; a caption is one line", path=path, count=len(text)
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines if all_lines else lines[:1])


def process_caption(caption: str, config: CaptionConfig, rng: random.Random, epoch: int = 1) -> str:
    """The caption for one step: empty (dropout), or with wildcards resolved and tags shuffled after the kept ones.

    Args:
        epoch: starts at 1.
    """
    caption = " ".join(part for part in (config.prefix, caption, config.suffix) if part)
    if config.dropout and rng.random() < config.dropout:
        return ""
    if config.every_n_epochs and epoch % config.every_n_epochs == 0:
        return ""
    if config.has_wildcards:
        caption = _resolve_wildcards(rng.choice(caption.split("\n")), rng)
    if config.shuffle or config.tag_dropout or (config.keep_separator and config.keep_separator in caption):
        caption = _shuffle_tags(caption, config, rng)
    return caption.replace(config.secondary_separator, config.separator) if config.secondary_separator else caption


def _resolve_wildcards(caption: str, rng: random.Random) -> str:
    """Replaces each {this|or that} by one of its choices."""

    def choose(match: re.Match[str]) -> str:
        return {"{{": "{", "}}": "}"}.get(match[0]) or rng.choice(match[1].split("|"))

    return re.sub(r"\{\{|\}\}|\{([^{}]+)\}", choose, caption)


def _shuffle_tags(caption: str, config: CaptionConfig, rng: random.Random) -> str:
    if config.keep_separator and config.keep_separator in caption:
        parts = [_tags(text, config.separator) for text in caption.split(config.keep_separator, 2)]
        first, loose, last = (*parts, [])[:3]
    else:
        tags = split_tags(caption, config.separator)
        first, loose, last = tags[: config.keep_tokens], tags[config.keep_tokens :], []
    if config.shuffle:
        rng.shuffle(loose)
    if config.tag_dropout:
        loose = [tag for tag in loose if rng.random() >= config.tag_dropout]
    return ", ".join(first + loose + last)


def _tags(text: str, separator: str) -> list[str]:
    return [tag for tag in split_tags(text, separator) if tag]


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The tags of a caption, without spaces around them; the comma may be the full-width or the ideographic one.

    >>> split_tags("1girl，smile、red hat, outdoors")
    ['1girl', 'smile', 'red hat', 'outdoors']
    """
    parts = re.split("[,，、]", text) if separator == "," else text.split(separator)
    return [part.strip() for part in parts]
