"""/blend."""

from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.blend import blend
from calotype.bot.interactions import _, answering
from calotype.bot.studio import CommandPlace, Queued
from calotype.jobs.chat import ChatMember

if TYPE_CHECKING:
    from calotype.bot.client import Bot


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("blend"), description=_("Blend two to five pictures into one"))
    @app_commands.describe(
        picture1=_("a picture"),
        picture2=_("a picture"),
        picture3=_("a picture"),
        picture4=_("a picture"),
        picture5=_("a picture"),
        shape=_("of the result; square where not given"),
        prompt=_("what it shows; the prompts of the pictures where not given"),
    )
    @app_commands.rename(
        picture1=_("picture1"),
        picture2=_("picture2"),
        picture3=_("picture3"),
        picture4=_("picture4"),
        picture5=_("picture5"),
        shape=_("shape"),
        prompt=_("prompt"),
    )
    @app_commands.choices(
        shape=[
            app_commands.Choice(name=_("portrait"), value="portrait"),
            app_commands.Choice(name=_("square"), value="square"),
            app_commands.Choice(name=_("landscape"), value="landscape"),
        ]
    )
    async def blend_pictures(
        interaction: discord.Interaction,
        picture1: discord.Attachment,
        picture2: discord.Attachment,
        picture3: discord.Attachment | None = None,
        picture4: discord.Attachment | None = None,
        picture5: discord.Attachment | None = None,
        shape: str = "square",
        prompt: app_commands.Range[str, 0, 1000] = "",
    ) -> None:
        given = (picture1, picture2, picture3, picture4, picture5)
        pictures = [picture for picture in given if picture is not None]
        key = str(interaction.id)

        def work(member: ChatMember, place: CommandPlace, contents: list[bytes]) -> Queued:
            return blend(bot.studio, member, contents, shape, prompt, key, place)

        async with answering(interaction):
            await bot.queue(interaction, work, command="blend", attachments=pictures)
