"""Words that no prompt may contain."""

import re
import unicodedata
from pathlib import Path

from calotype.errors import CalotypeError, Message
from calotype.files import readable


def check_words(text: str, path: Path | None, appeal: str = "") -> None:
    """Raises CalotypeError if a text contains a word of the list, in any case or width, as a whole word.

    Words without spaces between them, as in Chinese, are found anywhere.
    """
    if path is None:
        return
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        raise CalotypeError("the list {path} cannot be read; ask the owner of the bot", path=readable(path)) from None
    plain = _plain(text)
    for word in filter(None, map(_plain, lines)):
        edges = (r"\b", r"\b") if word.isascii() else ("", "")
        if not word.startswith("#") and re.search(edges[0] + re.escape(word) + edges[1], plain):
            whom = appeal or Message("the owner of the bot")
            raise CalotypeError(
                "the word {word} is not allowed here; if that is a mistake, ask {whom}", word=word, whom=whom
            )


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
