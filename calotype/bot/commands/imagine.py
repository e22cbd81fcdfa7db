"""/imagine."""

import io
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.interactions import _, answering
from calotype.bot.studio import CommandPlace, Queued
from calotype.jobs.chat import ChatMember

if TYPE_CHECKING:
    from calotype.bot.client import Bot


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("imagine"), description=_("Draw four pictures from a prompt"))
    @app_commands.describe(
        prompt=_("what the pictures show, and parameters as in Midjourney"),
        picture=_("a picture to begin with"),
    )
    @app_commands.rename(prompt=_("prompt"), picture=_("picture"))
    async def imagine(
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, 6000],
        picture: discord.Attachment | None = None,
    ) -> None:
        async with answering(interaction):

            def work(member: ChatMember, place: CommandPlace, contents: list[bytes]) -> Queued:
                file = io.BytesIO(contents[0]) if contents else None
                return bot.studio.imagine(member, prompt, str(interaction.id), place, file)

            attachments = [picture] if picture else []
            await bot.queue(interaction, work, command="imagine", attachments=attachments)
