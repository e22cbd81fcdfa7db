"""How answers word messages, in the language that the request prefers (Accept-Language): options by their names, or by
their titles in forms where it asks for that (`Calotype-Options: titles`), as the page does.
"""

import functools
from contextvars import ContextVar

from calotype.dialects.openai_api import OpenAIWording
from calotype.errors import Wording
from calotype.languages import ENGLISH, language_accepted
from calotype.options import title, visible
from calotype.tasks import TASKS

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)  # of the request that is being answered
_has_titles: ContextVar[bool] = ContextVar("has_titles", default=False)  # likewise


def prefer(accept_language: str, options: str) -> None:
    """Sets language and words of the answer to this request, by its headers."""
    _language.set(language_accepted(accept_language))
    _has_titles.set(options.strip().lower() == "titles")


class FormWording(Wording):
    """Names options by their titles in forms, such as “Rank of the LoRA”; by their names where they stand in none."""

    def option(self, name: str) -> str:
        found = _titles().get(name)
        return name if found is None else f"“{self.translate(found)}”"


@functools.cache
def _titles() -> dict[str, str]:
    """The titles of the options of all tasks."""
    return {spec.name: title(spec) for cls in TASKS.values() for spec in visible(cls)}


class ResponseWording(Wording):
    @property
    def language(self) -> str:
        return _language.get()

    def option(self, name: str) -> str:
        return FormWording(self.language).option(name) if _has_titles.get() else super().option(name)


class OpenAIResponseWording(ResponseWording, OpenAIWording):
    """With OpenAI's names of options."""


WORDING = ResponseWording()
OPENAI = OpenAIResponseWording()
