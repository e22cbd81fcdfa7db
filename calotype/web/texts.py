"""The languages of the page, and its texts in them."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from calotype.errors import Wording

LANGUAGES = {"en": "English", "zh": "中文"}
STATIC = Path(__file__).parent / "static"
_CALL = re.compile(r'\b_\(\s*("(?:[^"\\\n]|\\.)*")')  # of a script: _("{count} photos", ...)

WORDINGS: dict[str, Callable[[], Wording]] = {}  # by language; those without one are in English


@cache
def wording(language: str) -> Wording:
    return WORDINGS.get(language, Wording)()


class Texts:
    """Texts of the page in one language: `_("Photos")`, and with values `_("{count} photos", count=3)`."""

    def __init__(self, language: str):
        self.language, self.wording = language, wording(language)

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


def preferred(cookie: str | None, accepted: str) -> str:
    """The language that a browser asks for: of the switch, else the first known one of Accept-Language."""
    if cookie in LANGUAGES:
        return cookie
    weighed = []
    for number, entry in enumerate(accepted[:1000].split(",")):
        name, _, weight = entry.partition(";q=")
        with_weight = float(weight) if re.fullmatch(r"[01](\.\d{1,3})?", weight.strip()) else 1.0
        weighed.append((-with_weight, number, name.strip().lower().partition("-")[0]))
    return next((name for weight, _, name in sorted(weighed) if weight and name in LANGUAGES), "en")
