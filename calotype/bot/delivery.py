"""How a message reaches its channel or person: edited, sent anew or sent directly; whole, smaller or as plain text."""

import asyncio
import contextlib
import functools
import hashlib
import io
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import discord

from calotype.bot.buttons import TEMPLATE
from calotype.bot.channels import UNREACHED, Channels
from calotype.bot.studio import Studio, suffix_of
from calotype.bot.wording import WORDINGS, shortened
from calotype.errors import CalotypeError, Message
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import NotFound, StoredResult
from calotype.outputs.publish import fitting

LOG = logging.getLogger("calotype.bot")
UPLOAD_LIMIT = 10 * 2**20  # bytes of a file in a direct message, or on a server without boosts
SMALLER = (UPLOAD_LIMIT, 2**21, 2**19)  # bytes, one after the other where Discord takes a file for too large
HEADROOM = 2**14  # bytes of a request besides its file
GONE = "gone"  # in place of a message that was deleted: the next one is sent at the end
OLD_SECONDS = 55 * 60.0  # Discord takes few edits of a message of more than an hour
NONCE_SECONDS = 60.0  # for which a nonce is certainly known
PAUSES = (1.0, 3.0, 6.0)  # seconds between tries of a message that nobody would send later
SEARCHED = 500  # messages of a channel
MAX_NONCE = 25  # characters
UNKNOWN_MESSAGE, OLD_MESSAGE, TOO_LARGE = 10008, 30046, 40005
ELSEWHERE = (
    *(UNKNOWN_MESSAGE, OLD_MESSAGE),
    *(10003, 50001, 50007, 50013),  # unknown channel, no access, no direct messages, no permission
    *(50005, 50008, 50083),  # written by somebody else, no text channel, archived thread
)  # codes of errors that no other content would mend
LATER = (401, 408, 429)  # statuses below 500 of errors that may pass: a token that was replaced, a limit of requests
OVERLOADED = (40333, 130000)  # codes of such errors


class Refused(Exception):
    """Discord does not take a message in this place, now or later."""

    def __init__(self, reason: Exception, code: int, *, is_too_large: bool = False):
        super().__init__(str(reason))
        self.code, self.is_too_large = code, is_too_large


@dataclass(frozen=True)
class Content:
    """What a message shows. `files`: None leaves those of an edited message as they are."""

    text: str
    view: discord.ui.View | None = None
    files: Sequence[discord.File] | None = None


Make = Callable[[int], Awaitable[Content]]  # with a file of at most so many bytes; 0: without one


class Delivery:
    """Sends and edits messages, with all that takes their place where Discord refuses them.

    What may succeed later is raised as Discord or the connection raised it: `is_for_later`.
    """

    def __init__(self, client: discord.Client, studio: Studio):
        self.channels = Channels(client)
        self._client, self._studio = client, studio
        self._started = studio.clock()

    async def deliver(self, message: ChatMessage, make: Make, *, is_end: bool, since: float) -> bool:
        """Edits the message of a job, or sends it where there is none: in its channel, else directly to the person.

        Where it cannot be edited any more, a new one shows the end of the job; the bot deletes one that is only too old
        for that, so that it does not say for ever that the job waits. Nobody may be reached; then the message is final,
        and the person finds the job by /show.

        Args:
            since: when the job was queued, in seconds since 1970.
        Returns:
            False if the message stays as it is until the job ends.
        """
        is_stale = False
        if message.message not in ("", GONE):
            fault = await self._edited(message, make)
            if fault is None:
                return True
            is_stale = fault.code == OLD_MESSAGE
            if not is_end:
                if fault.code == UNKNOWN_MESSAGE:
                    await self._change(message, message=GONE)
                return False
        if known := await self._sent_before(message, since):
            await self._change(message, message=known)
            if await self._edited(replace(message, message=known), make) is None:
                return True
        plain, source = _plain(message), (message.job, message.message)
        sent = await self.send(message.channel, message.member, make, plain, *source)
        if sent is None:
            LOG.warning("job %s: nobody can be reached", message.job)
            await self._change(message, is_final=True)
        else:
            await self._change(message, channel=sent[0], message=sent[1])
            if is_stale:
                await self._delete(message)
        return True

    async def _edited(self, message: ChatMessage, make: Make) -> Refused | None:
        """Why a message could not be edited; None if it was."""
        try:
            await self._edit(message, make)
        except Refused as fault:
            LOG.warning("job %s: its message cannot be edited: %s", message.job, fault)
            return fault
        return None

    async def _delete(self, message: ChatMessage) -> None:
        """Deletes a message that another one has replaced; it stays where Discord does not do that now."""
        place = self._client.get_partial_messageable(int(message.channel))
        try:
            await place.get_partial_message(int(message.message)).delete()
        except UNREACHED as fault:
            LOG.warning("job %s: its old message stays: %s", message.job, fault)

    async def _sent_before(self, message: ChatMessage, since: float) -> str:
        """The id of another message of a job that its channel has, as the bot was killed before it could remember it;
        empty if there is none. Discord knows a nonce for some minutes only."""
        if since > max(self._started, self._studio.clock() - NONCE_SECONDS):
            return ""
        pictures = {message.message, *await asyncio.to_thread(self._studio.chat.pictures, message.job)}
        place = self._client.get_partial_messageable(int(message.channel))
        after = discord.Object(discord.utils.time_snowflake(datetime.fromtimestamp(since, UTC)))
        try:
            async for known in place.history(limit=SEARCHED, after=after, oldest_first=True):
                is_ours = known.author.id == self._client.user.id and str(known.id) not in pictures
                if is_ours and message.job in _jobs_of(known):
                    return str(known.id)
        except (discord.Forbidden, discord.NotFound):
            return ""
        return ""

    async def send(
        self, channel: str, person: str, make: Make, plain: str, *source: str | int
    ) -> tuple[str, str] | None:
        """Sends a message to a channel, else directly to the person.

        Args:
            source: what it is sent for. Sent again for the same, because the answer was lost, it is one message.
        Returns:
            Its channel and its id; None if nobody can be reached.
        """
        try:
            place = self._client.get_partial_messageable(int(channel))
            return await self._send(place, make, plain, nonce_of(channel, *source))
        except Refused as fault:
            LOG.warning("channel %s takes no message: %s", channel, fault)
        try:
            with _refusals():
                direct = await (await self._client.fetch_user(int(person))).create_dm()
            return await self._send(direct, make, plain, nonce_of(person, *source))
        except Refused as fault:
            LOG.warning("person %s takes no direct message: %s", person, fault)
            return None

    async def send_now(self, *args: Any) -> tuple[str, str] | None:
        """`send` of what no later round would send: tried again over some seconds where it may succeed then."""
        for pause in PAUSES:
            try:
                return await self.send(*args)
            except Exception as fault:
                wait = max(pause, getattr(fault, "retry_after", 0.0))
                if not is_for_later(fault) or wait > NONCE_SECONDS / 2:
                    raise
                LOG.warning("a message cannot be sent; it is tried again in %.0f s: %s", wait, fault)
            await asyncio.sleep(wait)
        return await self.send(*args)

    async def attempt(self, put: Callable[[Content], Awaitable[Any]], channel: int, make: Make, plain: str) -> Any:
        """What `put` returns for the best content that Discord takes: whole, with a smaller picture, without it, plain.

        Raises:
            Refused: it takes none.
        """
        limit = self.limit(channel)
        while True:
            content = await make(max(0, limit - HEADROOM))
            try:
                with _refusals():
                    return await put(content)
            except Refused as fault:
                if fault.code in ELSEWHERE:
                    raise
                LOG.warning("Discord does not take a message: %s", fault)
                if not (fault.is_too_large and content.files):
                    break
                size = max(file.fp.seek(0, io.SEEK_END) for file in content.files)
                limit = next((smaller for smaller in SMALLER if smaller < min(size, limit)), 0)
        with _refusals():
            return await put(Content(plain, files=()))

    async def _edit(self, message: ChatMessage, make: Make) -> None:
        channel = self._client.get_partial_messageable(int(message.channel))
        partial = channel.get_partial_message(int(message.message))

        try:
            await self.attempt(functools.partial(_edit, partial), channel.id, make, _plain(message))
        except discord.RateLimited as fault:
            if not self.is_old(message):
                raise
            raise Refused(fault, OLD_MESSAGE) from fault

    async def _send(self, channel: Any, make: Make, plain: str, nonce: str) -> tuple[str, str]:
        sent = await self.attempt(functools.partial(_send, channel, nonce), channel.id, make, plain)
        return str(channel.id), str(sent.id)

    async def _change(self, changed: ChatMessage, **values: Any) -> None:
        await asyncio.to_thread(self._studio.chat.change_message, changed.job, **values)

    def is_old(self, message: ChatMessage) -> bool:
        """Whether Discord takes only few edits of a message that was sent."""
        sent = discord.utils.snowflake_time(int(message.message)).timestamp()
        return self._studio.clock() - sent > OLD_SECONDS

    async def is_there(self, channel: str, message: str) -> bool:
        """Whether a message was not deleted, as far as the bot can see."""
        place = self._client.get_partial_messageable(int(channel))
        try:
            await place.get_partial_message(int(message)).fetch()
        except discord.NotFound:
            return False
        except UNREACHED as fault:
            LOG.warning("message %s cannot be read: %s", message, fault)
        return True

    def limit(self, channel: int) -> int:
        """Bytes of a request to a channel."""
        guild = getattr(self._client.get_channel(channel), "guild", None)
        return guild.filesize_limit if guild else UPLOAD_LIMIT

    async def picture(
        self, result: StoredResult, channel: int | str, limit: int
    ) -> tuple[list[discord.File], list[Message]]:
        """A result as a file of at most so many bytes, and what is to be said of it; no file if it cannot be read."""
        if limit <= 0:
            return [], [Message("The picture is too large for Discord, even made smaller; it is on the page.")]
        service = self._studio.service
        path, name, notes = service.store.files.result(result.id), f"picture{suffix_of(result)}", []
        try:
            if result.size <= limit:
                content = await asyncio.to_thread(_read, path)
            else:
                content = await asyncio.to_thread(fitting, path, limit, service.settings.max_pixels)
                name = "picture.jpg"
                notes = [Message("The picture is too large for this server and was sent smaller, as JPEG.")]
        except CalotypeError as fault:
            return [], [Message("The picture cannot be shown: {reason}", reason=fault)]
        return [discord.File(io.BytesIO(content), name, spoiler=await self.hides(channel))], notes

    async def pictures(
        self, result: StoredResult, faces: bytes | None, channel: int | str, limit: int
    ) -> tuple[list[discord.File], list[Message]]:
        """A result as `picture` has it, and a photo with its faces numbered, where both have room."""
        if faces is None or 2 * len(faces) > limit:
            return await self.picture(result, channel, limit)
        files, notes = await self.picture(result, channel, limit - len(faces))
        return [*files, discord.File(io.BytesIO(faces), "faces.jpg", spoiler=await self.hides(channel))], notes

    async def hides(self, channel: int | str) -> bool:
        """Whether pictures of this channel, or of the one that a thread belongs to, are covered until clicked."""
        ruled_by = (await self.channels.find(channel)).ruled_by
        options = await asyncio.to_thread(self._studio.chat.options, f"channel-{ruled_by}")
        return bool(options.get("spoiler"))


def _jobs_of(message: discord.Message) -> set[str]:
    """The jobs that the buttons of a message belong to."""
    children = [child for row in message.components for child in getattr(row, "children", ())]
    found = (TEMPLATE.fullmatch(getattr(child, "custom_id", None) or "") for child in children)
    return {match["job"] for match in found if match}


def is_for_later(fault: BaseException) -> bool:
    """Whether the same may succeed later."""
    if not isinstance(fault, discord.HTTPException):
        return isinstance(fault, discord.RateLimited | aiohttp.ClientError | OSError)
    if fault.code in ELSEWHERE:
        return False
    return fault.status >= 500 or fault.status in LATER or fault.code in OVERLOADED


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Errors that stay, as `Refused`."""
    try:
        yield
    except discord.HTTPException as fault:
        if is_for_later(fault):
            raise
        is_too_large = fault.status == 413 or fault.code == TOO_LARGE
        raise Refused(fault, fault.code, is_too_large=is_too_large) from fault


def plain_text(person: str, job: str, language: str) -> str:
    """Instead of a message that Discord does not take."""
    line = Message("Discord does not take the message of this job; /show {job} shows the job", job=f"`{job}`")
    return f"<@{person}> {WORDINGS[language].fill(line)}"


def _plain(message: ChatMessage) -> str:
    return plain_text(message.member, message.job, message.language)


def nonce_of(*source: str | int) -> str:
    """The same for the same source: Discord takes a second message of a nonce, within minutes, for the first."""
    return hashlib.sha256(".".join(map(str, source)).encode()).hexdigest()[:MAX_NONCE]


async def _send(channel: Any, nonce: str, content: Content) -> Any:
    more = {"view": content.view} if content.view else {}
    more |= {"files": list(content.files or ()), "allowed_mentions": discord.AllowedMentions.none()}
    more["suppress_embeds"] = True  # an address in a prompt shows no page below it
    text = shortened(content.text)
    try:
        sent = await channel.send(text, **more, nonce=nonce)
    except discord.NotFound as fault:
        if fault.code != UNKNOWN_MESSAGE:
            raise
        # it was sent before, the answer was lost, and it was deleted
        return await channel.send(text, **{**more, "files": copied(more["files"])})
    if sent.content.strip() != text.strip() or len(sent.attachments) != len(more["files"]):
        await _edit(sent, replace(content, files=copied(more["files"])))  # it was sent before, and the answer was lost
    return sent


async def _edit(message: Any, content: Content) -> None:
    files = {} if content.files is None else {"attachments": list(content.files)}
    await message.edit(content=shortened(content.text), view=content.view, **files)


def copied(files: Sequence[discord.File]) -> list[discord.File]:
    """Files to send once more: those that were sent may be closed with the next request."""
    return [discord.File(io.BytesIO(file.fp.getvalue()), file.filename, spoiler=file.spoiler) for file in files]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound("the file is not there any more") from None
