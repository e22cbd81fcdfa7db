"""/imagine."""

import asyncio
import io
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.commands.interactions import _, is_private, person_of, refusing
from calotype.bot.studio import Place, Queued

if TYPE_CHECKING:
    from calotype.bot.client import Bot


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("imagine"), description=_("Draw four pictures from a prompt"))
    @app_commands.describe(
        prompt=_("what the pictures show, and parameters such as --ar 3:2 --seed 7 --no text"),
        picture=_("a picture to begin with; --iw says how much of it stays"),
    )
    @app_commands.rename(prompt=_("prompt"), picture=_("picture"))
    async def imagine(
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, 6000],
        picture: discord.Attachment | None = None,
    ) -> None:
        async with refusing(bot, interaction):
            person = person_of(interaction)

            def work(place: Place, content: bytes | None) -> Queued:
                file = io.BytesIO(content) if content is not None else None
                return bot.studio.imagine(person, prompt, str(interaction.id), place, file)

            hidden = await asyncio.to_thread(is_private, bot, person)
            await bot.queue(interaction, work, attachment=picture, is_private=hidden)
