"""What is likely to go wrong in a training run, said before it starts: what it is, and what to do.

Nothing here stops a run: a person may know better. Each finding is one or two sentences.
"""

from collections.abc import Iterator

from calotype.errors import Message
from calotype.training.lora.lint.course import RunSummary
from calotype.training.lora.lint.numbers import of_numbers
from calotype.training.lora.lint.pictures import of_pictures
from calotype.training.lora.lint.words import of_words

__all__ = ["RunSummary", "findings"]


def findings(course: RunSummary) -> Iterator[Message]:
    yield from of_numbers(course)
    yield from of_pictures(course)
    yield from of_words(course)
