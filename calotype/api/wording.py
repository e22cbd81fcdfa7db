"""How answers word messages, in the language that the request prefers (Accept-Language): options by their names, or by
their titles in forms where it asks for that, as the page does (`Calotype-Options: titles`, or `titles restore` where
the form of that task is open).
"""

import functools
from contextvars import ContextVar

from calotype.dialects.openai_api import OpenAIWording
from calotype.errors import Wording
from calotype.languages import ENGLISH, language_accepted
from calotype.options import title, visible
from calotype.tasks import TASKS

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)  # of the request that is being answered
_form: ContextVar[str | None] = ContextVar("form", default=None)  # likewise: the task whose titles; None: names


def prefer(accept_language: str, options: str) -> None:
    """Sets language and words of the answer to this request, by its headers."""
    _language.set(language_accepted(accept_language))
    style, _, kind = options.strip().partition(" ")
    _form.set((kind if kind in TASKS else "") if style == "titles" else None)


class FormWording(Wording):
    """Names options by their titles in forms, such as “Rank of the LoRA”; by their names where they stand in none."""

    def __init__(self, language: str = ENGLISH, kind: str = ""):
        """Args:
        kind: the task whose form it is, as titles of one name may differ.
        """
        Wording.__init__(self, language)
        self.kind = kind

    def option(self, name: str) -> str:
        found = _titles(self.kind).get(name)
        return name if found is None else f"“{self.translate(found)}”"


@functools.cache
def _titles(kind: str) -> dict[str, str]:
    """The titles of the options of all tasks, and of this one before others."""
    own = (TASKS[kind],) if kind in TASKS else ()
    return {spec.name: title(spec) for cls in (*TASKS.values(), *own) for spec in visible(cls)}


class ResponseWording(Wording):
    def __init__(self, kind: str = ""):
        """Args:
        kind: the task that is told of; the one that the request names where not given.
        """
        super().__init__()
        self.kind = kind

    @property
    def language(self) -> str:
        return _language.get()

    def option(self, name: str) -> str:
        form = _form.get()
        return super().option(name) if form is None else FormWording(self.language, self.kind or form).option(name)


class OpenAIResponseWording(OpenAIWording, ResponseWording):
    """With OpenAI's names of options, whatever the request prefers: clients read them."""


WORDING = ResponseWording()
OPENAI = OpenAIResponseWording()
