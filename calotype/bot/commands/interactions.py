"""What all commands have in common."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.studio import Person
from calotype.errors import CalotypeError

if TYPE_CHECKING:
    from calotype.bot.client import Bot

LOG = logging.getLogger("calotype.bot")
_ = app_commands.locale_str  # names and descriptions, translated by the catalogs


def person_of(interaction: discord.Interaction) -> Person:
    """Who gave a command or pressed a button."""
    user = interaction.user
    joined = getattr(user, "joined_at", None)
    roles = tuple(str(role.id) for role in getattr(user, "roles", ()))
    created = discord.utils.snowflake_time(user.id).timestamp()
    return Person(str(user.id), created, joined.timestamp() if joined else None, roles)


def is_private(bot: "Bot", person: Person) -> bool:
    """Whether the person wants results as direct messages."""
    member = bot.studio.chat.member(person.id)
    return member is not None and bool(member.options.get("private"))


async def fetched(bot: "Bot", attachment: discord.Attachment) -> bytes:
    """The content of an attachment.

    Raises:
        CalotypeError: it is too large, or not there any more.
    """
    limit = bot.studio.service.max_upload
    if attachment.size > limit:
        raise CalotypeError("{name} has more than {limit} MiB", name=attachment.filename, limit=limit >> 20)
    try:
        return await attachment.read()
    except discord.HTTPException:
        raise CalotypeError(
            "{name} is not there any more; attach it again", name=attachment.filename, option="picture"
        ) from None


@contextlib.asynccontextmanager
async def refusing(bot: "Bot", interaction: discord.Interaction) -> AsyncIterator[None]:
    """Says errors that a person can mend to that person alone."""
    try:
        yield
    except CalotypeError as fault:
        await bot.refuse(interaction, fault)
