"""The slash commands, each file a group of them."""

from typing import TYPE_CHECKING

from calotype.bot.commands import imagine, mine, owner, pictures
from calotype.bot.commands.remix import REMIXED, RemixModal

if TYPE_CHECKING:
    from calotype.bot.client import Bot

__all__ = ["REMIXED", "RemixModal", "add"]


def add(bot: "Bot") -> None:
    """Adds all commands to the bot."""
    for group in (imagine, pictures, mine, owner):
        group.add(bot)
