"""Words that no prompt may contain, also where they are spelled so as not to be found."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from calotype.errors import CalotypeError, Message
from calotype.files import readable
from calotype.tasks.prompts import composition, extras
from calotype.tasks.schedule import schedule

STEPS = 50  # of a prompt whose steps are the model's: schedules are read at each of them
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")  # scripts
_INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"  # fillers, which Unicode calls letters and symbols
_LOOKALIKES = {
    **dict(zip("авеһгіјкԛмнорстухѕԁԝѵ", "abehrijkqmhopctyxsdwv", strict=True)),  # Cyrillic
    **dict(zip("αβγεηικμνορτυχω", "abyenikuvoptuxw", strict=True)),  # Greek
    **dict(zip("օոսհցզյլ", "onuhgqjl", strict=True)),  # Armenian
    **dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz", strict=True)),  # small capitals
    **dict(zip("øđłħŧıɑɐəǝɡɩ", "odlhtiaaeegi", strict=True)),
    **{chr(first + n): chr(97 + n) for first in (0x1F150, 0x1F170, 0x1F1E6) for n in range(26)},  # as emoji
}
_LETTERS = str.maketrans(_LOOKALIKES | dict.fromkeys(_INVISIBLE))
_DIGITS = str.maketrans("013457@$!", "oieastasi")  # in words such as n4ked
_WEIGHT = re.compile(r":\s*[-+]?[\d.]+\s*(?=[)\]])")  # of (word:1.2)
_ENDS = re.compile(r"[\s,;:!?|/&+、。…]+")  # between words; other signs may stand within one: na-ked, na(ked)
_SPELLED = re.compile(r"(?<!\S)\w(?: \w)+(?!\S)")  # n a k e d


def check_words(text: str, path: Path | None, appeal: str = "", steps: int = STEPS) -> None:
    """Raises CalotypeError if a prompt in A1111's syntax contains a word of the list, as a whole word.

    Case, width, accents, invisible characters, letters that look alike, weights and separators make no difference.
    Words of scripts without spaces, as Chinese, are found anywhere. What a prompt weighs negatively, it may contain.
    """
    if path is None:
        return
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        raise CalotypeError("the list {path} cannot be read; ask the owner of the bot", path=readable(path)) from None
    spellings = {spelling for part in _parts(text, steps) for spelling in _spellings(part)}
    for line in lines:
        word = " ".join(_words(_plain(line)))
        if word and not line.startswith("#") and any(_contains(spelling, word) for spelling in spellings):
            whom = appeal or Message("the owner of the bot")
            raise CalotypeError(
                "the word {word} is not allowed here; if that is a mistake, ask {whom}", word=line.strip(), whom=whom
            )


def _parts(text: str, steps: int) -> set[str]:
    """What the picture is to show, at all steps together."""
    positive = [part for part, weight in composition(extras(text)[0]) if weight > 0]
    return {step_text for part in positive for _, step_text in schedule(part, steps)}


def _plain(text: str) -> str:
    """Lower case, without accents and invisible characters, each letter as the Latin one that looks like it."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn", "Me")).translate(_LETTERS)


def _spellings(part: str) -> Iterator[str]:
    """The words of a text with single spaces between, in each way that a reader may join and divide them."""
    plain = _WEIGHT.sub("", _plain(part))
    for text in (plain, plain.translate(_DIGITS)):
        divided = " ".join(_words(text))
        yield divided
        yield _SPELLED.sub(lambda match: match[0].replace(" ", ""), divided)
        yield " ".join("".join(filter(str.isalnum, word)) for word in _ENDS.split(text))


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() else " " for char in text).split()


def _contains(spelling: str, word: str) -> bool:
    if any(unicodedata.name(char, "").startswith(WITHOUT_SPACES) for char in word):
        return word.replace(" ", "") in spelling.replace(" ", "")
    return f" {word} " in f" {spelling} "
