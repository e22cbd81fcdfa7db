"""/restore and /upscale, also in the menu of a message with a picture."""

import asyncio
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from calotype.bot.commands.mine import own_job, suggest_jobs
from calotype.bot.interactions import _, answering, fetched, language_for, person_of
from calotype.bot.studio import CommandPlace, Queued
from calotype.bot.tags import tag
from calotype.bot.wording import escaped
from calotype.errors import CalotypeError, Message
from calotype.jobs.chat import ChatMember, ChatMessage
from calotype.jobs.jobs import Job

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
        async with answering(interaction):
            await work_on(bot, interaction, "restore", task, picture)

    @bot.tree.command(name=_("upscale"), description=_("Enlarge a picture"))
    @app_commands.describe(picture=_("the picture"), scale=_("how many times larger; 2 where not given"))
    @app_commands.rename(picture=_("picture"), scale=_("scale"))
    async def upscale(
        interaction: discord.Interaction,
        picture: discord.Attachment,
        scale: app_commands.Range[float, 1.0, 8.0] = 2.0,
    ) -> None:
        async with answering(interaction):
            await work_on(bot, interaction, "upscale", {"scale": scale}, picture)

    @bot.tree.command(
        name=_("describe"), description=_("The prompt that a picture was drawn with, or tags of what it shows")
    )
    @app_commands.describe(picture=_("the picture"))
    @app_commands.rename(picture=_("picture"))
    async def describe(interaction: discord.Interaction, picture: discord.Attachment) -> None:
        async with answering(interaction):
            await say_parameters(bot, interaction, picture)

    @bot.tree.context_menu(name=_("Info"))
    async def describe_message(interaction: discord.Interaction, message: discord.Message) -> None:
        async with answering(interaction):
            await say_parameters(bot, interaction, picture_in(message))

    @bot.tree.command(name=_("vary"), description=_("Four variations of a picture of yours"))
    @app_commands.describe(job=_("the job"), number=_("of the picture in the grid"), strong=_("much, or a little"))
    @app_commands.rename(job=_("job"), number=_("number"), strong=_("strong"))
    async def vary(
        interaction: discord.Interaction,
        job: app_commands.Range[str, 1, 100],
        number: app_commands.Range[int, 1, 4] = 1,
        strong: bool = False,
    ) -> None:
        person, action = person_of(interaction), "vb" if strong else "vs"
        language, key = language_for(interaction), str(interaction.id)

        def find() -> tuple[ChatMessage, Job]:
            return bot.studio.pressed(person, own_job(bot, person, job).id, language)

        async with answering(interaction):
            message, known = await asyncio.to_thread(find)
            place = await bot.place_for(interaction, message)
            queued = await asyncio.to_thread(bot.studio.press, person, action, message, known, number, key, place)
            await bot.respond(interaction, queued, place)

    vary.autocomplete("job")(suggest_jobs(bot))

    @bot.tree.context_menu(name=_("Restore faces"))
    async def restore_message(interaction: discord.Interaction, message: discord.Message) -> None:
        async with answering(interaction):
            await work_on(bot, interaction, "restore", {}, picture_in(message))

    @bot.tree.context_menu(name=_("Upscale 2x"))
    async def upscale_message(interaction: discord.Interaction, message: discord.Message) -> None:
        async with answering(interaction):
            await work_on(bot, interaction, "upscale", {"scale": 2.0}, picture_in(message))


def name_of(picture: discord.Attachment) -> str:
    return picture.filename[-MAX_NAME:].lstrip(". ") or "picture"


async def say_parameters(bot: "Bot", interaction: discord.Interaction, picture: discord.Attachment) -> None:
    """What a picture says about how it was drawn, to the person alone; else its tags, as a job."""
    member = await bot.admit(interaction, "describe")
    content = await fetched(picture, bot.studio.service.max_upload)
    name, place = name_of(picture), await bot.place_for(interaction)
    found = await asyncio.to_thread(bot.studio.describe, member, io.BytesIO(content), name)
    if not found:
        tagged = await asyncio.to_thread(tag, bot.studio, member, io.BytesIO(content), str(interaction.id), place)
        await bot.respond(interaction, tagged, place, Message("It says nothing of a prompt; its tags follow."))
        return
    lines = [f"**{escaped(str(key))}**: {escaped(str(value))}" for key, value in found.items() if value]
    await bot.say(interaction, "\n".join(lines))


async def work_on(
    bot: "Bot",
    interaction: discord.Interaction,
    kind: str,
    task: Mapping[str, Any],
    picture: discord.Attachment,
) -> None:
    """Queues the work on one attached picture."""
    name = name_of(picture)

    def work(member: ChatMember, place: CommandPlace, contents: list[bytes]) -> Queued:
        return bot.studio.work_on(member, kind, task, io.BytesIO(contents[0]), name, str(interaction.id), place)

    await bot.queue(interaction, work, command=kind, attachments=[picture])


def picture_in(message: discord.Message) -> discord.Attachment:
    """The first picture of a message. Raises CalotypeError if it has none."""
    for attachment in message.attachments:
        if (attachment.content_type or "image/").startswith("image/"):
            return attachment
    raise CalotypeError("this message has no picture")
