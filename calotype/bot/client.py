"""The bot: commands, buttons, and the loop that keeps messages up to date, on one connection to Discord."""

import asyncio
import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

import discord
from discord import app_commands

from calotype.bot.buttons import JobButton, JobSelect, region_view
from calotype.bot.channels import Channels
from calotype.bot.follow import LOOK_SECONDS, Follower
from calotype.bot.interactions import (
    TOKEN_ENDED,
    acknowledge,
    fetched,
    language_for,
    person_of,
    place_of,
    refusing,
)
from calotype.bot.message import filled, job_facts
from calotype.bot.regions import regions_picture
from calotype.bot.remix import REMIXED, RegionModal, RemixModal
from calotype.bot.studio import CommandPlace, Person, Queued, Studio, picture_of
from calotype.bot.wording import address
from calotype.errors import CalotypeError, Message, plural
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import Job
from calotype.languages import language_of, translate

LOG = logging.getLogger("calotype.bot")
MAX_TEXT = 1900  # characters of a text message
MODAL_SECONDS = 1.5  # for the store, before a window opens: it cannot be acknowledged first


class CatalogTranslator(app_commands.Translator):
    """Names and descriptions of commands from the gettext catalogs."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: app_commands.TranslationContextTypes
    ) -> str | None:
        text = translate(string.message, language_of(locale.value))
        return text if text != string.message else None


class Bot(discord.Client):
    """Calotype on Discord; `commands.new_bot` adds the commands.

    Args:
        studio: what it does in the job store.
        look_seconds: between two looks into the store.
    """

    def __init__(self, studio: Studio, *, look_seconds: float = LOOK_SECONDS):
        intents = discord.Intents.none()
        intents.guilds = True
        super().__init__(intents=intents, allowed_mentions=discord.AllowedMentions.none())
        self.studio = studio
        self.channels = Channels(self)
        self.follower = Follower(self, studio, look_seconds)
        self.tree = app_commands.CommandTree(self)
        self._loop_task: asyncio.Task | None = None
        self._turns: dict[str, asyncio.Lock] = {}

    async def setup_hook(self) -> None:
        self.add_dynamic_items(JobButton, JobSelect)
        await self.tree.set_translator(CatalogTranslator())
        await self.tree.sync()

        self.tree.on_error = self.report

    async def report(self, interaction: discord.Interaction, fault: Exception) -> None:
        """An error of the program in a command: the person learns of it, the log has the traceback."""
        LOG.error("a command failed", exc_info=fault)
        with contextlib.suppress(discord.HTTPException):
            await self.refuse(interaction, Message("this did not work: an error in Calotype itself; it is in the log"))

    async def on_ready(self) -> None:
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self.follower.run(), name="follower")

    async def close(self) -> None:
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await super().close()

    # Commands

    def is_owner(self, interaction: discord.Interaction) -> bool:
        """Whether the person may use the owner's commands."""
        if str(interaction.user.id) in self.studio.settings.owner:
            return True
        app = self.application
        team = {member.id for member in app.team.members} if app and app.team else set()
        return bool(app) and interaction.user.id in {app.owner.id if app.owner else 0, *team}

    async def queue(
        self,
        interaction: discord.Interaction,
        work: Callable[[CommandPlace, list[bytes]], Queued],
        *,
        attachments: Sequence[discord.Attachment] = (),
        is_private: bool = False,
    ) -> None:
        """Queues the jobs of a command by `work` in a thread, and shows them.

        The jobs have messages of their own in the channel, or direct ones
        if `is_private`, for which the token of the interaction is not needed.

        Args:
            work: takes the place of the messages, and the contents of the attachments.
        """
        language, channel = language_for(interaction), None
        if is_private:
            channel = (await interaction.user.create_dm()).id
        contents = [await fetched(attachment, self.studio.service.max_upload) for attachment in attachments]
        queued = await asyncio.to_thread(work, place_of(interaction, channel), contents)
        await self.show_queued(interaction, queued)
        notes = [*queued.notes]
        if is_private:
            notes.insert(0, Message("The pictures come as direct messages."))
        if queued.refused:
            count = plural(len(queued.jobs), "1 job is in the queue", "{count} jobs are in the queue")
            notes.append(Message("{done}; the next one: {reason}", done=count, reason=queued.refused))
        if notes:
            await self.say(interaction, "\n".join(filled(language, note) for note in notes))
        else:
            with contextlib.suppress(discord.HTTPException):  # nobody needs it any more
                await interaction.delete_original_response()

    async def say(self, interaction: discord.Interaction, text: str, **more: Any) -> None:
        """To the person alone; in a direct message where the interaction has ended."""
        try:
            if interaction.response.is_done():
                await interaction.followup.send(text[:MAX_TEXT], ephemeral=True, suppress_embeds=True, **more)
            else:
                await interaction.response.send_message(text[:MAX_TEXT], ephemeral=True, suppress_embeds=True, **more)
        except discord.HTTPException as fault:
            if fault.code not in TOKEN_ENDED:
                raise
            with contextlib.suppress(discord.Forbidden):
                await interaction.user.send(text[:MAX_TEXT], suppress_embeds=True)

    async def refuse(self, interaction: discord.Interaction, fault: CalotypeError | Message) -> None:
        """Says to the person alone why something is not done."""
        text = filled(language_for(interaction), fault)
        await self.say(interaction, text)

    # Buttons

    async def press(self, interaction: discord.Interaction, action: str, job_id: str, index: int) -> None:
        """A button was pressed. Presses of the same button by the same person run one after the other."""
        key = f"{action}.{job_id}.{index}"
        async with refusing(interaction):
            if action in REMIXED and await self._opens_remix(interaction, action, job_id, index):
                return
            await acknowledge(interaction, is_button=True)
            async with self._turns.setdefault(f"{interaction.user.id}.{key}", asyncio.Lock()):
                await self._press(interaction, action, job_id, index)

    async def _press(self, interaction: discord.Interaction, action: str, job_id: str, index: int) -> None:
        studio, person = self.studio, person_of(interaction)
        message = await asyncio.to_thread(studio.chat.message, job_id)
        job = await asyncio.to_thread(studio.service.store.get, job_id)
        language = language_for(interaction)
        await asyncio.to_thread(studio.check_presser, message, person.id)
        if action == "i":
            await self.say(interaction, await asyncio.to_thread(job_facts, job, index, language))
        elif action == "vr":
            await self._ask_regions(interaction, job, index, language)
        elif action == "u":
            await self._show_picture(interaction, message, job, index)
        elif action in ("c", "t", "h"):
            await self._steer(interaction, action, person, message, job, language)
        else:
            await self._derive(interaction, action, person, job, index)

    async def _opens_remix(self, interaction: discord.Interaction, action: str, job_id: str, index: int) -> bool:
        """Opens the window that asks for the prompt, for those who want it. Raises CalotypeError."""
        found = await self._in_time(self.studio.remixed, person_of(interaction), job_id)
        if found is not None:
            message, job = found
            await interaction.response.send_modal(RemixModal(message, job, action, index, language_for(interaction)))
        return found is not None

    async def _in_time(self, read: Callable[..., Any], *args: Any) -> Any:
        """Reads the store before a window opens. Raises CalotypeError if that takes too long."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(read, *args), MODAL_SECONDS)
        except TimeoutError:
            raise CalotypeError("the queue is busy; press the button again") from None

    async def _ask_regions(self, interaction: discord.Interaction, job: Job, index: int, language: str) -> None:
        """Vary (region), its first step: the regions of the picture, and a list to choose from."""
        content = await asyncio.to_thread(regions_picture, self.studio.service, job, index)
        file = discord.File(
            io.BytesIO(content), "regions.jpg", spoiler=await self.follower.hides(interaction.channel_id)
        )
        text = translate("Which regions are drawn anew? A window then asks what they show.", language)
        await self.say(interaction, text, file=file, view=region_view(job, index, language))

    async def choose(
        self, interaction: discord.Interaction, action: str, job_id: str, index: int, numbers: list[int]
    ) -> None:
        """Numbers of a list were chosen: of faces, which are restored alone, or of regions, which are drawn anew."""
        person = person_of(interaction)
        async with refusing(interaction):
            if action == "g":
                message, job = await self._in_time(self.studio.shown, person, job_id)
                modal = RegionModal(message, job, index, numbers, language_for(interaction))
                await interaction.response.send_modal(modal)
                return
            await acknowledge(interaction, is_button=True)
            _, job = await asyncio.to_thread(self.studio.shown, person, job_id)
            await self._derive(interaction, "n", person, job, index, ",".join(map(str, numbers)))

    async def _show_picture(self, interaction: discord.Interaction, message: ChatMessage, job: Job, index: int) -> None:
        """U1 to U4: one picture, once for a grid; it costs nothing."""
        studio, key = self.studio, f"u.{job.id}.{index}"
        async with self._turns.setdefault(key, asyncio.Lock()):
            if known := await asyncio.to_thread(studio.chat.pressed, key):
                await self._say_where(interaction, known)
                return
            language = language_for(interaction)
            result = picture_of(job, index)
            parent = await self.channels.address(message.channel, message.message)
            line = Message(
                "picture {number} of [this grid]({address}), by {mention}",
                number=index,
                address=parent,
                mention=interaction.user.mention,
            )
            text = await asyncio.to_thread(filled, language, line)
            sent = await self.follower.send_picture(message, job, result, index, text)
            await asyncio.to_thread(studio.chat.press, key, await self.channels.address(message.channel, sent))

    async def _derive(
        self, interaction: discord.Interaction, action: str, person: Person, job: Job, index: int, faces: str = ""
    ) -> None:
        """A job made of a picture; pressed twice by the same person, it is the same job."""
        where = interaction.message.id if interaction.message else job.id
        parent = address(interaction.guild_id, interaction.channel_id, where)
        place = place_of(interaction, parent=parent)
        key = f"{where}.{action}.{faces or index}"
        queued = await asyncio.to_thread(self.studio.press, person, action, job, index, key, place, faces)
        await self.show_queued(interaction, queued)

    async def show_queued(self, interaction: discord.Interaction, queued: Queued) -> None:
        """Shows jobs in messages of their own, or says where they stand already."""
        for job in queued.jobs:
            await self.follower.update(job.id)
        if not queued.is_new:
            known = await asyncio.to_thread(self.studio.chat.message, queued.jobs[0].id)
            await self._say_where(interaction, await self.channels.address(known.channel, known.message))

    async def _say_where(self, interaction: discord.Interaction, where: str) -> None:
        line = Message("this was pressed before: [here it is]({address})", address=where)
        await self.say(interaction, filled(language_for(interaction), line))

    async def _steer(
        self,
        interaction: discord.Interaction,
        action: str,
        person: Person,
        message: ChatMessage,
        job: Job,
        language: str,
    ) -> None:
        """Cancel, try again, favourite: for the person whose job it is."""
        store = self.studio.service.store
        if message.member != person.id and not self.is_owner(interaction):
            raise CalotypeError("this job belongs to somebody else")
        if action == "c":
            await asyncio.to_thread(store.cancel, job.id)
        elif action == "t":
            await asyncio.to_thread(self.studio.retry, person, job, place_of(interaction))
        else:
            await asyncio.to_thread(store.favourite, job.id, job.owner, True)
            await self.say(interaction, translate("Kept: it is not deleted to make room.", language))
        await self.follower.update(job.id)
