"""The language of texts: English, or one that has a catalog in `locales/`.

As in gettext, the English text is the key, and one without a translation stays English. `errors.Wording` fills in the
templates. The catalogs are extracted, checked and compiled by `tests/catalog.py`.
"""

import gettext
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ENGLISH = "en"
NAMES = {"en": "English", "zh": "简体中文"}  # as each calls itself
FOLDER = Path(__file__).with_name("locales")
VARIABLES = ("CALOTYPE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides


def translate(text: str, language: str) -> str:
    """A text or template in a language; the text itself if there is no translation."""
    return _catalog(language).gettext(text) if text else text  # gettext's own entry "" is the catalog's header


def language_of(name: str) -> str:
    """The language of a locale: `zh` of zh_CN.UTF-8, zh-Hans and zh; English of any other that has no catalog.

    zh_TW, zh_HK and zh-Hant are `zh` too: who reads Traditional Chinese reads Simplified Chinese rather than English.
    """
    code = re.split(r"[-_.@:]", name.strip().lower())[0]
    return code if code in NAMES else ENGLISH


def language_of_environment(environ: Mapping[str, str] | None = None) -> str:
    """The language of this user: by CALOTYPE_LANG, else by the locale; on Windows by that of the system."""
    environ = os.environ if environ is None else environ
    name = next((environ[name] for name in VARIABLES if environ.get(name)), "")
    return language_of(name or _system_locale())


def language_accepted(header: str) -> str:
    """The language that a header Accept-Language prefers: `fr,zh-CN;q=0.9,en;q=0.8` is `zh`."""
    ranked = []
    for part in header.split(",")[:50]:
        name, _, parameters = part.partition(";")
        quality = re.search(r"\bq\s*=\s*(\d(?:\.\d{0,3})?)", parameters)
        weight = float(quality[1]) if quality else 1.0
        code = re.split("[-_]", name.strip().lower())[0]
        if code in NAMES and weight:
            ranked.append((-weight, len(ranked), code))
    return min(ranked)[2] if ranked else ENGLISH


@cache
def _catalog(language: str) -> gettext.NullTranslations:
    if language == ENGLISH or language not in NAMES:
        return gettext.NullTranslations()
    with (FOLDER / language / "LC_MESSAGES" / "calotype.mo").open("rb") as file:
        return gettext.GNUTranslations(file)


def _system_locale() -> str:
    """The locale of the user interface of Windows: `zh_CN`; nothing on other systems."""
    if sys.platform != "win32":
        return ""
    import ctypes
    import locale

    return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
