"""/train."""

from typing import TYPE_CHECKING

import discord
from discord import app_commands

from calotype.bot.interactions import _, answering
from calotype.bot.studio import CommandPlace, Queued
from calotype.bot.training import check_training, train
from calotype.jobs.chat import ChatMember

if TYPE_CHECKING:
    from calotype.bot.client import Bot


def add(bot: "Bot") -> None:
    @bot.tree.command(name=_("train"), description=_("Train a LoRA of your own on up to ten photos"))
    @app_commands.describe(
        name=_("the word that will stand for what it learns"),
        about=_("what the photos show, such as: dog"),
        photo1=_("a photo"),
        photo2=_("a photo"),
        photo3=_("a photo"),
        photo4=_("a photo"),
        photo5=_("a photo"),
        photo6=_("a photo"),
        photo7=_("a photo"),
        photo8=_("a photo"),
        photo9=_("a photo"),
        photo10=_("a photo"),
    )
    @app_commands.rename(
        name=_("name"),
        about=_("about"),
        photo1=_("photo1"),
        photo2=_("photo2"),
        photo3=_("photo3"),
        photo4=_("photo4"),
        photo5=_("photo5"),
        photo6=_("photo6"),
        photo7=_("photo7"),
        photo8=_("photo8"),
        photo9=_("photo9"),
        photo10=_("photo10"),
    )
    async def train_lora(
        interaction: discord.Interaction,
        name: app_commands.Range[str, 1, 40],
        photo1: discord.Attachment,
        about: app_commands.Range[str, 1, 100] = "",
        photo2: discord.Attachment | None = None,
        photo3: discord.Attachment | None = None,
        photo4: discord.Attachment | None = None,
        photo5: discord.Attachment | None = None,
        photo6: discord.Attachment | None = None,
        photo7: discord.Attachment | None = None,
        photo8: discord.Attachment | None = None,
        photo9: discord.Attachment | None = None,
        photo10: discord.Attachment | None = None,
    ) -> None:
        given = (photo1, photo2, photo3, photo4, photo5, photo6, photo7, photo8, photo9, photo10)
        photos = [photo for photo in given if photo is not None]
        key = str(interaction.id)

        def work(member: ChatMember, place: CommandPlace, contents: list[bytes]) -> Queued:
            files = [(photo.filename, content) for photo, content in zip(photos, contents, strict=True)]
            return train(bot.studio, member, name, about, files, key, place)

        async with answering(interaction):
            check_training(bot.studio.settings, name)
            await bot.queue(interaction, work, command="train", attachments=photos)
