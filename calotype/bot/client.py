"""The bot: commands, buttons, and the loop that keeps messages up to date, on one connection to Discord."""

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
import discord
from discord import app_commands

from calotype.bot.buttons import JobButton, JobSelect, job_view, picture_view, region_view
from calotype.bot.channels import UNREACHED
from calotype.bot.delivery import GONE, Content, Make, copied, is_for_later, plain_text
from calotype.bot.follow import LOOK_SECONDS, Follower
from calotype.bot.guests import Guests
from calotype.bot.interactions import (
    ANSWERED_BEFORE,
    TOKEN_ENDED,
    acknowledge,
    answering,
    fetched,
    is_acknowledged,
    is_ephemeral,
    language_for,
    open_window,
    person_of,
    place_of,
    refusing,
)
from calotype.bot.message import filled, job_facts, state
from calotype.bot.regions import faces_picture, regions_picture
from calotype.bot.remix import REGIONAL, REMIXED, PromptWindow, Redrawing, redraw, typed
from calotype.bot.studio import CommandPlace, Person, Queued, Studio, command_of, grid_of, picture_of
from calotype.bot.wording import shortened
from calotype.errors import CalotypeError, Message, plural
from calotype.jobs.chat import ChatMember, ChatMessage
from calotype.jobs.jobs import Job
from calotype.languages import language_of, translate

LOG = logging.getLogger("calotype.bot")
FREE = ("i", "c", "h")  # buttons that bring no message to the channel
MAX_RATE_LIMIT = 30.0  # seconds that a request waits for its turn, the least of discord.py; the follower has others
INTENTS = discord.Intents(guilds=True)  # none of them is privileged
OWNING_ROLES = (discord.TeamMemberRole.admin, discord.TeamMemberRole.developer)  # in the team of an app
DIRECTLY = Message("The pictures come as direct messages.")
CLOSED = Message(
    "Discord does not let the bot send you direct messages. Allow them in the privacy settings of this "
    "server; /show has these pictures once they are done, for you alone."
)
WINDOW_SECONDS = 0.4  # to find out what a window shows: it is the first answer, which is due within three
THREADS = 64  # that may wait for the store, which has as many connections; they look up Discord's addresses, too


def owners_of(app: discord.AppInfo) -> set[int]:
    """Ids of those whom an app belongs to. Of a team: its owner, and the members who have taken their invitation and
    may change the app; the others only read."""
    if app.team is None:
        return {app.owner.id}
    joined = (member for member in app.team.members if member.membership_state is discord.TeamMembershipState.accepted)
    return {app.team.owner_id} | {member.id for member in joined if member.role in OWNING_ROLES}


class CatalogTranslator(app_commands.Translator):
    """Names and descriptions of commands from the gettext catalogs."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: app_commands.TranslationContextTypes
    ) -> str | None:
        text = translate(string.message, language_of(locale.value))
        return text if text != string.message else None


class Tree(app_commands.CommandTree):
    """The commands, for those whom the bot serves."""

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        async with refusing(interaction):
            return await self.client.serves(interaction)
        return False


class Bot(discord.Client):
    """Calotype on Discord; `commands.new_bot` adds the commands.

    Args:
        studio: what it does in the job store.
        look_seconds: between two looks into the store.
        clock: of the follower, in seconds.
    """

    def __init__(
        self, studio: Studio, *, look_seconds: float = LOOK_SECONDS, clock: Callable[[], float] = time.monotonic
    ):
        super().__init__(
            intents=INTENTS,
            allowed_mentions=discord.AllowedMentions.none(),
            max_ratelimit_timeout=MAX_RATE_LIMIT,
        )
        self.studio = studio
        self.follower = Follower(self, studio, look_seconds, clock)
        self.channels = self.follower.delivery.channels
        self.guests = Guests(self, lambda: studio.settings.servers)
        self.tree = Tree(self)
        self.choices: dict[str, Mapping[str, Any]] = {}  # of /settings, by the person
        self._loop_task: asyncio.Task | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # while somebody has or awaits one

    async def setup_hook(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "bot"))
        self.choices = await asyncio.to_thread(self.studio.chat.choices)
        self.add_dynamic_items(JobButton, JobSelect)
        await self.tree.set_translator(CatalogTranslator())
        await self.tree.sync()

        self.tree.on_error = self.report

    async def report(self, interaction: discord.Interaction, fault: Exception) -> None:
        """An error in a command: the person learns of it; the log has the traceback, if the program is at fault."""
        line = Message("Discord does not answer at present; try again in a minute")
        if is_for_later(cause := getattr(fault, "original", fault)):
            LOG.warning("a command failed: %s", cause)
        else:
            LOG.error("a command failed", exc_info=fault)
            line = Message("this did not work: an error in Calotype itself; it is in the log")
        with contextlib.suppress(discord.HTTPException, aiohttp.ClientError, OSError):
            await self.refuse(interaction, line)

    async def on_ready(self) -> None:
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self.follower.run(), name="follower")
        await self.guests.leave_unserved()
        await self._keep_servers()

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        if self.is_ready():
            await self._keep_servers()

    async def _keep_servers(self) -> None:
        """Forgets who had which roles on servers that the bot has left, also while it was not running."""
        servers = [str(guild.id) for guild in self.guilds if self.guests.serves(guild.id)]
        await asyncio.to_thread(self.studio.chat.keep_servers, servers, self.studio.terms())

    async def on_guild_join(self, guild: discord.Guild) -> None:
        if not self.guests.serves(guild.id):
            await self.guests.leave(guild)

    on_guild_available = on_guild_join  # of one that it joined during an outage

    async def close(self) -> None:
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await super().close()

    # Commands

    async def serves(self, interaction: discord.Interaction) -> bool:
        """Whether the bot serves the server, or the person who writes directly; who is not served is told so. Who
        writes directly is looked up at Discord, after the interaction was acknowledged."""
        is_typing = interaction.type is discord.InteractionType.autocomplete
        if interaction.guild_id is not None:
            is_served = self.guests.serves(interaction.guild_id)
        else:
            if not is_typing:
                await acknowledge(interaction)
            member = await self.guests.meet(interaction.user.id)  # also for `person_of`
            is_served = member is not None or self._serves_unknown(interaction)
        if not is_served and not is_typing:
            await self.refuse(interaction, Message("this bot serves the servers of its owner only"))
        return is_served

    async def _is_served(self, interaction: discord.Interaction) -> bool:
        """As `serves`, by as little as is needed, and nothing is said."""
        if interaction.guild_id is not None:
            return self.guests.serves(interaction.guild_id)
        return self._serves_unknown(interaction) or await self.guests.meet(interaction.user.id) is not None

    def _serves_unknown(self, interaction: discord.Interaction) -> bool:
        """Whether somebody who writes directly is served without being on a server of the bot."""
        return not self.studio.settings.servers or self.is_owner(interaction)

    def wants(self, interaction: discord.Interaction, name: str) -> bool:
        """Whether the person has chosen something by /settings."""
        return bool(self.choices.get(str(interaction.user.id), {}).get(name))

    def is_owner(self, interaction: discord.Interaction) -> bool:
        """Whether the person may use the owner's commands."""
        if str(interaction.user.id) in self.studio.settings.owner:
            return True
        app = self.application
        return app is not None and interaction.user.id in owners_of(app)

    async def admit(self, interaction: discord.Interaction, command: str) -> ChatMember:
        """The person, if a command may be given here and now. Raises CalotypeError."""
        channel = place_of(interaction).ruling_channel
        return await asyncio.to_thread(self.studio.admit, person_of(interaction), command, channel)

    async def queue(
        self,
        interaction: discord.Interaction,
        work: Callable[[ChatMember, CommandPlace, list[bytes]], Queued],
        *,
        command: str,
        attachments: Sequence[discord.Attachment] = (),
    ) -> None:
        """Queues the jobs of a command by `work` in a thread, and shows them.

        The jobs have messages of their own in the channel, or direct ones for who wants that, for which the token of
        the interaction is not needed.

        Args:
            work: takes the person, the place of the messages, and the contents of the attachments.
            command: that is admitted before its attachments are read.
        """
        member = await self.admit(interaction, command)
        place = await self.place_for(interaction)
        contents = [await fetched(attachment, self.studio.service.max_upload) for attachment in attachments]
        queued = await asyncio.to_thread(work, member, place, contents)
        await self.respond(interaction, queued, place)

    async def place_for(self, interaction: discord.Interaction, pressed: ChatMessage | None = None) -> CommandPlace:
        """Where all that the person asks for is shown: here, or in direct messages for who wants that.

        Args:
            pressed: the message of the job whose button was pressed.
        """
        parent = await self.origin(interaction, pressed) if pressed else ""
        channel = (await interaction.user.create_dm()).id if self.wants(interaction, "private") else None
        return place_of(interaction, channel, parent)

    async def respond(
        self, interaction: discord.Interaction, queued: Queued, place: CommandPlace, note: Message | None = None
    ) -> None:
        """Shows jobs that are queued, and tells the person what there is to know. `note`: that comes first.

        What fails here is logged alone: the jobs are in the queue and are shown later, so nobody has to try again.
        """
        try:
            await self._respond(interaction, queued, place, note)
        except (CalotypeError, *UNREACHED) as fault:
            LOG.warning("an interaction was not answered, and its jobs are in the queue: %s", fault)

    async def _respond(
        self, interaction: discord.Interaction, queued: Queued, place: CommandPlace, note: Message | None
    ) -> None:
        language, notes = language_for(interaction), [*([note] if note else []), *queued.notes]
        await self.show_queued(interaction, queued)
        if queued.is_new and place.channel != str(interaction.channel_id):
            notes.insert(0, await self._private_note(queued))
        if queued.refused:
            count = plural(len(queued.jobs), "1 job is in the queue", "{count} jobs are in the queue")
            notes.append(Message("{done}; the next one: {reason}", done=count, reason=queued.refused))
        if notes:
            await self.say(interaction, "\n".join(filled(language, note) for note in notes))
        elif interaction.type is discord.InteractionType.application_command:
            with contextlib.suppress(discord.HTTPException):  # nobody needs it any more
                await interaction.delete_original_response()

    async def _private_note(self, queued: Queued) -> Message:
        """Where results are that only the person sees. Whether direct messages arrive is known once one was sent."""
        job = queued.jobs[0].id
        await self.follower.show(job)
        message = await asyncio.to_thread(self.studio.chat.message, job)
        return CLOSED if message.is_final and not message.message else DIRECTLY

    async def say(self, interaction: discord.Interaction, text: str, **more: Any) -> None:
        """To the person alone; in a direct message where the interaction has ended: after 15 minutes, or at a time when
        nobody reached Discord.

        Args:
            more: `files` and `view`.
        """
        text = shortened(text)
        try:
            await self._say(interaction, text, **more)
        except discord.HTTPException as fault:
            if fault.code not in TOKEN_ENDED:
                raise
            with contextlib.suppress(discord.Forbidden):
                more["files"] = copied(more.get("files", ()))
                await interaction.user.send(text, suppress_embeds=True, **more)

    async def _say(self, interaction: discord.Interaction, text: str, **more: Any) -> None:
        if not is_acknowledged(interaction):
            try:
                await interaction.response.send_message(text, ephemeral=True, suppress_embeds=True, **more)
                return
            except discord.HTTPException as fault:
                if fault.code != ANSWERED_BEFORE:
                    raise
            more["files"] = copied(more.get("files", ()))
        await interaction.followup.send(text, ephemeral=True, suppress_embeds=True, **more)

    async def refuse(self, interaction: discord.Interaction, fault: CalotypeError | Message) -> None:
        """Says to the person alone why something is not done."""
        text = filled(language_for(interaction), fault)
        await self.say(interaction, text)

    async def show(self, interaction: discord.Interaction, job: Job) -> None:
        """One job again, to the person alone, with its picture and its buttons."""
        delivery, language, result = self.follower.delivery, language_for(interaction), grid_of(job)
        facts = await asyncio.to_thread(job_facts, job, 1, language)
        faces = await asyncio.to_thread(faces_picture, self.studio.service, job)

        async def make(limit: int) -> Content:
            files, notes = [], []
            if result is not None:
                files, notes = await delivery.pictures(result, faces, interaction.channel_id, limit)
            text = "\n".join([facts, *(filled(language, note) for note in notes)])
            return Content(text, job_view(job, language), files)

        await self._show_alone(interaction, make, facts)

    async def _show_alone(self, interaction: discord.Interaction, make: Make, plain: str) -> None:
        """Shows pictures and buttons to the person alone."""

        async def put(content: Content) -> None:
            view = {"view": content.view} if content.view else {}
            await self.say(interaction, content.text, files=list(content.files or ()), **view)

        await self.follower.delivery.attempt(put, interaction.channel_id, make, plain)

    # Buttons

    async def press(self, interaction: discord.Interaction, action: str, job_id: str, index: int) -> None:
        """A button was pressed. Presses of the same button by the same person run one after the other."""
        async with refusing(interaction):
            if action in REMIXED and self.wants(interaction, "remix"):
                await self._open_window(interaction, Redrawing(action, job_id, index))
                return
            await acknowledge(interaction)
            if not await self.serves(interaction):
                return
            turn = self._turns.setdefault(f"{interaction.user.id}.{action}.{job_id}.{index}", asyncio.Lock())
            async with turn:
                await self._press(interaction, action, job_id, index)

    async def _press(self, interaction: discord.Interaction, action: str, job_id: str, index: int) -> None:
        person, language = person_of(interaction), language_for(interaction)
        message, job = await asyncio.to_thread(self.studio.pressed, person, job_id, language)
        if action in ("u", "vr"):
            await self.admit(interaction, command_of(action, job))
        elif action in FREE:
            await asyncio.to_thread(self.studio.admit_alone, person)
        if action == "i":
            await self.say(interaction, await asyncio.to_thread(job_facts, job, index, language))
        elif action == "vr":
            await self._ask_regions(interaction, job, index, language)
        elif action == "u":
            await self._show_picture(interaction, message, job, index)
        elif action in ("c", "t", "h"):
            await self._steer(interaction, action, person, message, job, language)
        else:
            await self._derive(interaction, action, person, message, job, index)

    async def _open_window(self, interaction: discord.Interaction, redrawing: Redrawing) -> None:
        """Opens the window that asks for the prompt of what is drawn. Raises CalotypeError, also where what it shows
        cannot be found out in time."""
        person, language, found = person_of(interaction), language_for(interaction), None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WINDOW_SECONDS):
                if await self._is_served(interaction):
                    found = await asyncio.to_thread(self.studio.pressed, person, redrawing.job, language)
        if found is not None:
            await open_window(interaction, PromptWindow(redrawing, *found, language))
        elif await self.serves(interaction):  # who writes directly is known the next time
            raise CalotypeError("the queue is busy; press the button again")

    async def _ask_regions(self, interaction: discord.Interaction, job: Job, index: int, language: str) -> None:
        """Vary (region), its first step: the regions of the picture, and a list to choose from."""
        content = await asyncio.to_thread(regions_picture, self.studio.service, job, index)
        hides = await self.follower.delivery.hides(interaction.channel_id)
        file = discord.File(io.BytesIO(content), "regions.jpg", spoiler=hides)
        text = translate("Which regions are drawn anew? A window then asks what they show.", language)
        await self.say(interaction, text, files=[file], view=region_view(job, index, language))

    async def choose(
        self, interaction: discord.Interaction, action: str, job_id: str, index: int, numbers: list[int]
    ) -> None:
        """Numbers of a list were chosen: of faces, which are restored alone, or of regions, which are drawn anew."""
        async with refusing(interaction):
            if action == REGIONAL:
                await self._open_window(interaction, Redrawing(action, job_id, index, tuple(numbers)))
                return
            await acknowledge(interaction)
            if not await self.serves(interaction):
                return
            person = person_of(interaction)
            message, job = await asyncio.to_thread(self.studio.pressed, person, job_id)
            await self._derive(interaction, "n", person, message, job, index, ",".join(map(str, numbers)))

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """A window was sent, maybe one that was open while the bot was started again; all else has other ways."""
        if interaction.type is discord.InteractionType.modal_submit:
            redrawing = Redrawing.of(interaction.data.get("custom_id", ""))
            if redrawing is not None:
                await self._redraw(interaction, redrawing)

    async def _redraw(self, interaction: discord.Interaction, redrawing: Redrawing) -> None:
        """A prompt was typed into a window."""
        async with answering(interaction):
            if not await self.serves(interaction):
                return
            person, language, text = person_of(interaction), language_for(interaction), typed(interaction)
            message, job = await asyncio.to_thread(self.studio.pressed, person, redrawing.job, language)
            member = await self.admit(interaction, "imagine")
            place, key = await self.place_for(interaction, message), str(interaction.id)
            queued = await asyncio.to_thread(redraw, self.studio, member, redrawing, text, key, place, message, job)
            await self.respond(interaction, queued, place)

    async def _show_picture(self, interaction: discord.Interaction, message: ChatMessage, job: Job, index: int) -> None:
        """U1 to U4: one picture, once for a grid, or for a person who sees it alone; it costs nothing. One that was
        deleted is sent again. Below a message that only the person sees, the answer is another such message."""
        studio, delivery = self.studio, self.follower.delivery
        language, person, here = language_for(interaction), str(interaction.user.id), str(interaction.channel_id)
        place = await self.place_for(interaction, message)
        is_alone = is_ephemeral(interaction)
        channel = here if is_alone else place.channel
        shared = f"u.{job.id}.{index}"
        own = f"{shared}.{person}"  # of a picture that the person has directly
        keys = (shared, own) if channel == here else (own,)
        turn = self._turns.setdefault(keys[0], asyncio.Lock())
        async with turn:
            known = "" if is_alone else await asyncio.to_thread(studio.chat.pressed, *keys)
            if known and await delivery.is_there(*(sent := known.split("/")[-2:])):
                await self._say_where(interaction, await self.address_of(*sent))
                return
            result, mention = picture_of(job, index), interaction.user.mention
            line = Message("picture {number} of job `{job}`, by {mention}", number=index, job=job.id, mention=mention)
            if place.parent:
                line = Message(
                    "picture {number} of [this grid]({address}), by {mention}",
                    number=index,
                    address=place.parent,
                    mention=mention,
                )

            async def make(limit: int) -> Content:
                files, notes = await delivery.picture(result, channel, limit)
                text = "\n".join(filled(language, part) for part in (line, *notes))
                return Content(text, picture_view(job, index, message.language), files)

            plain = plain_text(person, job.id, language)
            if is_alone:
                await self._show_alone(interaction, make, plain)
                return
            sent = await delivery.send_now(channel, person, make, plain, keys[0], known)
            if sent is None and channel == here:
                raise CalotypeError("the picture cannot be sent: this channel takes none, nor do your direct messages")
            is_shared = sent is not None and sent[0] == here  # else the person wants it so, or the channel takes none
            if sent is not None:
                await asyncio.to_thread(studio.chat.press, shared if is_shared else own, "/".join(sent))
            if not is_shared:
                await self.say(interaction, filled(language, DIRECTLY if sent else CLOSED))

    async def address_of(self, channel: str, message: str) -> str:
        """The address of a message; empty where there is none."""
        return "" if message in ("", GONE) else await self.channels.address(channel, message)

    async def origin(self, interaction: discord.Interaction, message: ChatMessage) -> str:
        """The address of the message whose button was pressed; of the job's own where only the person sees that one."""
        if interaction.message is not None and not is_ephemeral(interaction):
            return await self.channels.address(str(interaction.channel_id), str(interaction.message.id))
        return await self.address_of(message.channel, message.message)

    async def _derive(
        self,
        interaction: discord.Interaction,
        action: str,
        person: Person,
        message: ChatMessage,
        job: Job,
        index: int,
        faces: str = "",
    ) -> None:
        """A job made of a picture; pressed twice by the same person, wherever that button is, it is the same job."""
        place, key = await self.place_for(interaction, message), f"{job.id}.{action}.{faces or index}"
        queued = await asyncio.to_thread(self.studio.press, person, action, message, job, index, key, place, faces)
        await self.respond(interaction, queued, place)

    async def show_queued(self, interaction: discord.Interaction, queued: Queued) -> None:
        """Has jobs shown in messages of their own, or says where they are shown already."""
        self.follower.wake()
        if queued.is_new:
            return
        chat = self.studio.chat
        known = await asyncio.to_thread(chat.message, queued.jobs[0].id)
        where = await self.address_of(known.channel, known.message)
        if where and not await self.follower.delivery.is_there(known.channel, known.message):
            await asyncio.to_thread(chat.change_message, known.job, message=GONE, is_final=False)
            self.follower.wake()
            where = ""
        await self._say_where(interaction, where)

    async def _say_where(self, interaction: discord.Interaction, where: str) -> None:
        line = Message("this was pressed before: its message is on the way")
        if where:
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
        self.follower.wake()
        if action != "h" and is_ephemeral(interaction):  # of /show: it stays as it is
            changed = await asyncio.to_thread(store.get, job.id)
            await self.say(interaction, filled(language, state(changed)))
