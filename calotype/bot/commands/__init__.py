"""The slash commands, each file a group of them."""

from typing import Any

from calotype.bot.client import Bot
from calotype.bot.commands import blend, imagine, mine, owner, pictures, train
from calotype.bot.studio import Studio


def new_bot(studio: Studio, **options: Any) -> Bot:
    """A bot with all commands. `options`: of `Bot`."""
    bot = Bot(studio, **options)
    for group in (imagine, blend, pictures, train, mine, owner):
        group.add(bot)
    return bot
