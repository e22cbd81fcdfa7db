"""The languages of the page, and its texts in them."""

import json
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request

from calotype.api.wording import FormWording
from calotype.languages import NAMES, language_accepted

LANGUAGE_COOKIE = "calotype_language"
STATIC = Path(__file__).parent / "static"
_CALL = re.compile(r'\b_\(\s*("(?:[^"\\\n]|\\.)*")')  # of a script: _("{count} photos", ...)


class Texts:
    """Texts of the page in one language: `_("Photos")`, and with values `_("{count} photos", count=3)`."""

    def __init__(self, language: str):
        self.language, self.wording = language, FormWording(language)

    def __call__(self, template: str, **values: object) -> str:
        return self.wording.translate(template).format(**values)

    def of_scripts(self) -> dict[str, str]:
        """The templates in the scripts, with their translations."""
        return {template: self.wording.translate(template) for template in script_templates()}


@cache
def script_templates() -> tuple[str, ...]:
    """All templates that scripts translate."""
    found = (
        json.loads(text) for path in sorted(STATIC.glob("*.js")) for text in _CALL.findall(path.read_text("utf-8"))
    )
    return tuple(dict.fromkeys(found))


def language_of(request: Request) -> str:
    """The language of the page for a browser."""
    return preferred(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))


def preferred(cookie: str | None, accepted: str) -> str:
    """The language of the switch, else the one that the browser asks for."""
    return cookie if cookie in NAMES else language_accepted(accepted)
