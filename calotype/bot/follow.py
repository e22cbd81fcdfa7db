"""Messages follow their jobs: one loop looks into the store for all of them, and edits or sends what has changed."""

import asyncio
import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import discord

from calotype.bot.buttons import job_view, picture_view
from calotype.bot.channels import Channels
from calotype.bot.message import job_text
from calotype.bot.regions import faces_picture
from calotype.bot.studio import Studio, grid_of, suffix_of
from calotype.bot.training import kept_name
from calotype.errors import CalotypeError
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import DONE, QUEUED, Job, NotFound, StoredResult
from calotype.outputs.publish import fitting

LOG = logging.getLogger("calotype.bot")
LOOK_SECONDS = 1.0  # between two looks into the store
EDIT_SECONDS = 3.0  # between two edits of a message: Discord allows five in five seconds for a channel
PLACE_SECONDS = 10.0  # between two looks at the place in the queue
UPLOAD_LIMIT = 10 * 2**20  # bytes of a file in a direct message, or on a server without boosts
HEADROOM = 2**14  # bytes of a request besides its file
GONE = "gone"  # in place of a message that was deleted: the next one is sent at the end
UNKNOWN_MESSAGE, UNKNOWN_CHANNEL = 10008, 10003
CLOSED_CHANNEL = (50001, 50013, 50007)  # no access, no permission, no direct messages


@dataclass
class _Shown:
    """What a message shows at present."""

    text: str
    preview: str | None
    time: float


class Follower:
    """Keeps the messages of all jobs as their jobs are.

    Args:
        every: seconds between two looks into the store.
    """

    def __init__(self, client: discord.Client, studio: Studio, every: float = LOOK_SECONDS):
        self._client, self._studio, self._every = client, studio, every
        self._channels = Channels(client)
        self._shown: dict[str, _Shown] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Looks again and again, until cancelled. Whatever fails, the next look tries again."""
        while True:
            try:
                await self.look()
            except CalotypeError as fault:  # the store is busy
                LOG.warning("%s", fault)
            except Exception:
                LOG.exception("the jobs could not be looked at")
            await asyncio.sleep(self._every)

    async def look(self) -> None:
        """Brings all messages up to date. Those of different channels do not wait for each other."""
        messages = await asyncio.to_thread(self._studio.chat.open_messages)
        channels: dict[str, list[ChatMessage]] = {}
        for message in messages:
            channels.setdefault(message.channel, []).append(message)
        await asyncio.gather(*map(self._look_at, channels.values()))
        for job in self._shown.keys() - {message.job for message in messages}:
            del self._shown[job]
            self._turns.pop(job, None)

    async def _look_at(self, messages: Sequence[ChatMessage]) -> None:
        for message in messages:
            await self.update(message.job)

    async def update(self, job_id: str) -> None:
        """Brings the message of one job up to date, if it is time for that."""
        async with self._turns.setdefault(job_id, asyncio.Lock()):
            try:
                message = await asyncio.to_thread(self._studio.chat.message, job_id)
                if not message.is_final:
                    job = await asyncio.to_thread(self._studio.service.store.get, job_id)
                    await self._show(message, job)
            except NotFound:  # deleted meanwhile
                self._shown.pop(job_id, None)
            except (discord.HTTPException, OSError) as fault:  # the next look tries again
                LOG.warning("job %s: its message cannot be sent: %s", job_id, fault)
            except Exception:  # a lost connection is none of these; the messages of other jobs go on
                LOG.exception("job %s: its message cannot be sent", job_id)

    async def _show(self, message: ChatMessage, job: Job) -> None:
        if job.is_finished:
            await self._show_end(message, job)
            return
        shown, now = self._shown.get(job.id), asyncio.get_running_loop().time()
        if message.message == GONE or not self._is_due(shown, message, job, now):
            return
        place = None
        if job.state == QUEUED:
            places = await asyncio.to_thread(self._studio.service.store.places, job.owner)
            place = next((place for place in places if place.job == job.id), None)
        text, files = job_text(job, message, place), {}
        if job.preview and (shown is None or shown.preview != job.preview):
            with contextlib.suppress(OSError):
                content = await asyncio.to_thread(self._studio.service.store.files.preview(job.id).read_bytes)
                hides = await self.hides(message.channel)
                files["attachments"] = [discord.File(io.BytesIO(content), "preview.jpg", spoiler=hides)]
        if shown is None or shown.text != text or files:
            view = job_view(job, message.language)
            await self._send(message, is_end=False, content=text, view=view, **files)
        self._shown[job.id] = _Shown(text, job.preview, now)
        await self._change(message, number=job.last_event)

    def _is_due(self, shown: _Shown | None, message: ChatMessage, job: Job, now: float) -> bool:
        if shown is None:
            return not message.message or message.number != job.last_event or job.state == QUEUED
        if message.number != job.last_event:
            return now - shown.time >= EDIT_SECONDS
        return job.state == QUEUED and now - shown.time >= PLACE_SECONDS

    async def _show_end(self, message: ChatMessage, job: Job) -> None:
        result = grid_of(job) if job.state == DONE else None
        files, is_reduced = [], False
        if result is not None:
            file, is_reduced = await self.file(result, int(message.channel), await self.hides(message.channel))
            files.append(file)
            if faces := await asyncio.to_thread(faces_picture, self._studio.service, job):
                files.append(discord.File(io.BytesIO(faces), "faces.jpg", spoiler=file.spoiler))
        kept = ""
        if job.kind == "train_lora" and job.state == DONE:
            kept = await asyncio.to_thread(kept_name, self._studio, message, job)
        text = job_text(job, message, reduced=is_reduced, kept=kept)
        view = job_view(job, message.language)
        await self._send(message, is_end=True, content=text, view=view, attachments=files)
        await self._change(message, is_final=True, number=job.last_event)
        self._shown.pop(job.id, None)

    async def _send(self, message: ChatMessage, *, is_end: bool, **content: Any) -> None:
        """Edits the message, or sends a new one where there is none; in a direct message if the channel is closed.

        One that was deleted is sent again at the end of its job.

        Raises:
            discord.HTTPException: for the moment; the same may succeed later.
        """
        channel = self._client.get_partial_messageable(int(message.channel))
        try:
            if message.message and message.message != GONE:
                try:
                    await channel.get_partial_message(int(message.message)).edit(**content)
                    return
                except discord.NotFound as fault:
                    if fault.code != UNKNOWN_MESSAGE:
                        raise
                    if not is_end:
                        await self._change(message, message=GONE)
                        return
                    _rewind(content)
            # Discord takes a second one of the same nonce, sent because a reply was lost, for the first
            nonce = f"{message.job[:20]}{int(bool(message.message))}"
            sent = await self._new(channel, nonce=nonce, **content)
            await self._change(message, message=str(sent.id))
        except (discord.NotFound, discord.Forbidden) as fault:
            if fault.code not in (UNKNOWN_CHANNEL, *CLOSED_CHANNEL):
                raise
            _rewind(content)
            await self._send_directly(message, **content)

    async def _new(self, channel: discord.abc.Messageable, **content: Any) -> discord.Message:
        files = content.pop("attachments", [])
        view = content.pop("view", None)
        return await channel.send(
            **content,
            files=files,
            **({"view": view} if view else {}),
            allowed_mentions=discord.AllowedMentions.none(),
            suppress_embeds=True,  # an address in a prompt shows no page below it
        )

    async def _send_directly(self, message: ChatMessage, **content: Any) -> None:
        """To the person, where the channel was deleted or closed. Gives up if the person takes no direct messages."""
        try:
            person = await self._client.fetch_user(int(message.member))
            channel = await person.create_dm()
            sent = await self._new(channel, **content)
            await self._change(message, channel=str(channel.id), message=str(sent.id))
        except (discord.NotFound, discord.Forbidden) as fault:
            LOG.warning("job %s: nobody can be reached: %s", message.job, fault)
            await self._change(message, is_final=True)

    async def _change(self, changed: ChatMessage, **values: Any) -> None:
        await asyncio.to_thread(self._studio.chat.change_message, changed.job, **values)

    async def hides(self, channel: str | int) -> bool:
        """Whether pictures of this channel, or of the one that a thread belongs to, are covered until clicked."""
        ruled_by = (await self._channels.find(channel)).ruled_by
        options = await asyncio.to_thread(self._studio.chat.options, f"channel-{ruled_by}")
        return bool(options.get("spoiler"))

    async def file(self, result: StoredResult, channel: int, spoiler: bool) -> tuple[discord.File, bool]:
        """A result to send, and whether it had to be made smaller. Raises NotFound if it was deleted."""
        service = self._studio.service
        path, limit = service.store.files.result(result.id), self._limit(channel) - HEADROOM
        if result.size <= limit:
            content = await asyncio.to_thread(_read, path)
            return discord.File(io.BytesIO(content), f"picture{suffix_of(result)}", spoiler=spoiler), False
        content = await asyncio.to_thread(fitting, path, limit, service.settings.max_pixels)
        return discord.File(io.BytesIO(content), "picture.jpg", spoiler=spoiler), True

    def _limit(self, channel: int) -> int:
        known = self._client.get_channel(channel)
        guild = getattr(known, "guild", None)
        return guild.filesize_limit if guild else UPLOAD_LIMIT

    async def send_picture(self, message: ChatMessage, job: Job, result: StoredResult, index: int, text: str) -> str:
        """Sends one picture of a job into its channel. Returns the id of the new message."""
        file, _ = await self.file(result, int(message.channel), await self.hides(message.channel))
        channel = self._client.get_partial_messageable(int(message.channel))
        view = picture_view(job, index, message.language)
        sent = await self._new(channel, content=text, attachments=[file], view=view)
        return str(sent.id)


def _rewind(content: Any) -> None:
    """The files of a message that was not sent, from their beginning."""
    for file in content.get("attachments", ()):
        file.reset()


def _read(path: Any) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound("the file is not there any more") from None
