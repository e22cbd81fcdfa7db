"""/restore and /upscale, also in the menu of a message with a picture."""

import asyncio
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from calotype.bot.interactions import _, is_private, person_of, refusing
from calotype.bot.studio import CommandPlace, Queued
from calotype.errors import CalotypeError

if TYPE_CHECKING:
    from calotype.bot.client import Bot

MAX_NAME = 60  # characters of a file's name


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("restore"), description=_("Restore the faces of an old photo, and enlarge it"))
    @app_commands.describe(
        picture=_("the photo"),
        strength=_("how much of each face is restored, from 0 to 1"),
        faces=_("numbers of the faces, such as 1,3; all where not given"),
    )
    @app_commands.rename(picture=_("picture"), strength=_("strength"), faces=_("faces"))
    async def restore(
        interaction: discord.Interaction,
        picture: discord.Attachment,
        strength: app_commands.Range[float, 0.0, 1.0] | None = None,
        faces: app_commands.Range[str, 1, 100] | None = None,
    ) -> None:
        task = {} if strength is None else {"strength": f"{strength:g}"}
        task |= {} if faces is None else {"faces": faces}
        await work_on(bot, interaction, "restore", task, picture)

    @bot.tree.command(name=_("upscale"), description=_("Enlarge a picture"))
    @app_commands.describe(picture=_("the picture"), scale=_("how many times larger; 2 where not given"))
    @app_commands.rename(picture=_("picture"), scale=_("scale"))
    async def upscale(
        interaction: discord.Interaction,
        picture: discord.Attachment,
        scale: app_commands.Range[float, 1.0, 8.0] = 2.0,
    ) -> None:
        await work_on(bot, interaction, "upscale", {"scale": scale}, picture)

    @bot.tree.context_menu(name=_("Restore faces"))
    async def restore_message(interaction: discord.Interaction, message: discord.Message) -> None:
        async with refusing(interaction):
            await work_on(bot, interaction, "restore", {}, picture_in(message))

    @bot.tree.context_menu(name=_("Upscale 2x"))
    async def upscale_message(interaction: discord.Interaction, message: discord.Message) -> None:
        async with refusing(interaction):
            await work_on(bot, interaction, "upscale", {"scale": 2.0}, picture_in(message))


async def work_on(
    bot: "Bot",
    interaction: discord.Interaction,
    kind: str,
    task: Mapping[str, Any],
    picture: discord.Attachment,
) -> None:
    """Queues the work on one attached picture."""
    person = person_of(interaction)
    name = picture.filename[-MAX_NAME:].lstrip(". ") or "picture"

    def work(place: CommandPlace, content: bytes | None) -> Queued:
        return bot.studio.work_on(person, kind, task, io.BytesIO(content or b""), name, str(interaction.id), place)

    async with refusing(interaction):
        hidden = await asyncio.to_thread(is_private, bot.studio, person)
        await bot.queue(interaction, work, attachment=picture, is_private=hidden)


def picture_in(message: discord.Message) -> discord.Attachment:
    """The first picture of a message. Raises CalotypeError if it has none."""
    for attachment in message.attachments:
        if (attachment.content_type or "image/").startswith("image/"):
            return attachment
    raise CalotypeError("this message has no picture")
