"""Warnings about a training run before it starts: what is likely to go wrong, and how to avoid it.

A finding never stops a run. Each is one or two sentences.
"""

from collections.abc import Iterator

from calotype.errors import Message
from calotype.training.lora.lint.numbers import check_options
from calotype.training.lora.lint.pictures import check_photos
from calotype.training.lora.lint.run_summary import RunSummary
from calotype.training.lora.lint.words import check_captions

__all__ = ["RunSummary", "findings"]


def findings(run: RunSummary) -> Iterator[Message]:
    yield from check_options(run)
    yield from check_photos(run)
    yield from check_captions(run)
