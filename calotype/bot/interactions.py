"""What all commands have in common."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import discord
from discord import app_commands

from calotype.bot.channels import location_of
from calotype.bot.studio import CommandPlace, Person
from calotype.errors import CalotypeError, Message
from calotype.languages import language_of

LOG = logging.getLogger("calotype.bot")
UNKNOWN_INTERACTION = 10062
ANSWERED_BEFORE = 40060
ACKNOWLEDGED = "acknowledged"  # in `extras` of an interaction: Discord has its first answer
TOKEN_ENDED = (UNKNOWN_INTERACTION, 10015, 50027)  # unknown webhook, invalid token of one
_ = app_commands.locale_str  # names and descriptions, translated by the catalogs


def person_of(interaction: discord.Interaction) -> Person:
    """Who gave a command or pressed a button. In a direct message, what is known from the servers of the bot."""
    user = interaction.user
    if not isinstance(user, discord.Member):
        user = interaction.client.guests.get(user.id) or user
    return as_person(user)


def as_person(user: discord.Member | discord.User) -> Person:
    joined, roles = getattr(user, "joined_at", None), getattr(user, "roles", None)
    server = str(user.guild.id) if isinstance(user, discord.Member) else ""
    return Person(
        str(user.id),
        discord.utils.snowflake_time(user.id).timestamp(),
        joined.timestamp() if joined else None,
        None if roles is None else tuple(str(role.id) for role in roles),
        user.display_name,
        server,
    )


def language_for(interaction: discord.Interaction) -> str:
    """The language of the bot that is nearest to the person's."""
    return language_of(str(interaction.locale))


def place_of(interaction: discord.Interaction, channel: int | None = None, parent: str = "") -> CommandPlace:
    """Where a command was given. `channel`: that its messages go to, if another one."""
    here = interaction.channel_id
    ruled_by = location_of(interaction.channel, here).ruled_by
    return CommandPlace(str(channel or here), parent, language_for(interaction), ruled_by)


def is_ephemeral(interaction: discord.Interaction) -> bool:
    """Whether the message whose button was pressed is seen by that person alone."""
    return interaction.message is not None and interaction.message.flags.ephemeral


async def fetched(attachment: discord.Attachment, limit: int) -> bytes:
    """The content of an attachment of up to so many bytes.

    Raises:
        CalotypeError: it is too large, or not there any more.
    """
    if attachment.size > limit:
        raise CalotypeError("{name} has more than {limit} MiB", name=attachment.filename, limit=limit >> 20)
    try:
        return await attachment.read()
    except (discord.NotFound, discord.Forbidden):
        raise CalotypeError(
            "{name} is not there any more; attach it again", name=attachment.filename, option="picture"
        ) from None


async def acknowledge(interaction: discord.Interaction) -> None:
    """Tells Discord that an answer follows, if that was not done yet; without it an interaction ends after three
    seconds.

    The answer to a command is for the person alone. Where Discord has ended the interaction already, the work is done
    all the same: messages of jobs do not need it, and answers come as direct messages.
    """
    if is_acknowledged(interaction):
        return
    is_command = interaction.type is discord.InteractionType.application_command
    more = {"ephemeral": True, "thinking": True} if is_command else {}
    try:
        await _acknowledge_by(interaction, lambda: interaction.response.defer(**more))
    except discord.HTTPException as fault:
        if fault.code not in TOKEN_ENDED:
            raise
        LOG.warning("an interaction came too late to be acknowledged: %s", fault)


async def open_window(interaction: discord.Interaction, window: discord.ui.Modal) -> None:
    """Opens a window, which has to be the first answer."""
    await _acknowledge_by(interaction, lambda: interaction.response.send_modal(window))


def is_acknowledged(interaction: discord.Interaction) -> bool:
    return interaction.response.is_done() or bool(interaction.extras.get(ACKNOWLEDGED))


async def _acknowledge_by(interaction: discord.Interaction, call: Callable[[], Awaitable[Any]]) -> None:
    """Gives the first answer; once more where the connection broke. Discord may have had it all the same, and says so
    then."""
    try:
        try:
            await call()
        except (aiohttp.ClientError, OSError) as fault:
            LOG.warning("an interaction is acknowledged once more: %s", fault)
            await call()
    except discord.HTTPException as fault:
        if fault.code != ANSWERED_BEFORE:
            raise
    interaction.extras[ACKNOWLEDGED] = True


@contextlib.asynccontextmanager
async def answering(interaction: discord.Interaction) -> AsyncIterator[None]:
    """What every command runs in: it is acknowledged before anything else, and `refusing` says what fails."""
    async with refusing(interaction):
        await acknowledge(interaction)
        yield


@contextlib.asynccontextmanager
async def refusing(interaction: discord.Interaction) -> AsyncIterator[None]:
    """Says to the person alone what failed: what can be mended in its own words, anything else as an error of ours."""
    try:
        yield
    except CalotypeError as fault:
        await interaction.client.refuse(interaction, fault)
    except discord.NotFound as fault:
        if fault.code != UNKNOWN_INTERACTION:
            await interaction.client.report(interaction, fault)
            return
        await interaction.client.refuse(interaction, Message("Discord did not wait for this; please try it again"))
    except Exception as fault:  # noqa: BLE001 - it is logged there
        await interaction.client.report(interaction, fault)
