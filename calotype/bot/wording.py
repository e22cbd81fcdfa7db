"""How the bot words options and tasks, and how it shows text in Discord's Markdown."""

import re

from calotype.errors import Wording
from calotype.languages import NAMES

SPECIAL = re.compile(r"([\\*_`~|>#\[\]()-])")
MAX_PROMPT = 900  # characters of a prompt that a message shows
COMMANDS = {"imagine": "/imagine", "restore": "/restore", "upscale": "/upscale", "train_lora": "/train"}


class BotWording(Wording):
    """`/upscale` for a task, options by their names."""

    def task(self, kind: str) -> str:
        return COMMANDS.get(kind, kind)


WORDINGS = {language: BotWording(language) for language in NAMES}


def escaped(text: str) -> str:
    """Text that Discord shows as it is written, shortened to what a message has room for."""
    short = text if len(text) <= MAX_PROMPT else f"{text[:MAX_PROMPT]}…"
    return SPECIAL.sub(r"\\\1", " ".join(short.split()))


def address(guild: int | None, channel: str | int, message: str | int) -> str:
    """The address of a message."""
    return f"https://discord.com/channels/{guild or '@me'}/{channel}/{message}"
