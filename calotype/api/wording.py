"""How answers word messages: options by their names, in the language that the request prefers (Accept-Language)."""

from contextvars import ContextVar

from calotype.dialects.openai_api import OpenAIWording
from calotype.errors import Wording
from calotype.languages import ENGLISH, language_accepted

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)  # of the request that is being answered


def prefer(accept_language: str) -> None:
    """Sets the language of the answer to this request, by its header."""
    _language.set(language_accepted(accept_language))


class ResponseWording(Wording):
    @property
    def language(self) -> str:
        return _language.get()


class OpenAIResponseWording(ResponseWording, OpenAIWording):
    """With OpenAI's names of options."""


WORDING = ResponseWording()
OPENAI = OpenAIResponseWording()
