"""Messages follow their jobs: one loop looks into the store for all of them; each channel has a task of its own, which
edits or sends what has changed there."""

import asyncio
import io
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import discord

from calotype.bot.buttons import job_view
from calotype.bot.delivery import GONE, Content, Delivery, is_for_later
from calotype.bot.message import job_text, waiting
from calotype.bot.regions import faces_picture
from calotype.bot.studio import Studio, grid_of
from calotype.bot.training import kept_name
from calotype.errors import CalotypeError
from calotype.jobs.chat import ChatMessage
from calotype.jobs.jobs import DONE, FINISHED_STATES, QUEUED, Job, NotFound
from calotype.jobs.places import Place

LOG = logging.getLogger("calotype.bot")
LOOK_SECONDS = 1.0  # between two looks into the store
EDIT_SECONDS = 3.0  # between two edits of a message
PLACE_SECONDS = 10.0  # between two looks at the places in the queue
EDITS, EDITS_SECONDS = 4, 5.0  # Discord takes five edits in five seconds in a channel; one is for the end of a job
SLOW_SECONDS = 8.0  # for which the other jobs of a channel wait for one message; more than a full limit of requests
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds before a message is tried again; each wait is twice the one before
JITTER = 0.25  # part of a wait


@dataclass
class _Shown:
    """What a message shows at present, and when it is touched again. Times are those of the follower."""

    mark: tuple[int, str]  # the last event of the job, and what its owner requested
    text: str = ""
    place: str = ""
    preview: str | None = None
    edited: float = -math.inf
    tries: int = 0  # that failed, one after the other
    until: float = -math.inf  # not before
    is_quiet: bool = False  # it takes no edits; the end of the job comes in a new one
    end: tuple[bytes | None, str | CalotypeError] | None = None  # of a job that is done: its `_extras`


@dataclass
class _Room:
    """A channel: the messages that are due, and the times of the latest edits besides those of ends of jobs."""

    due: dict[str, ChatMessage] = field(default_factory=dict)
    edits: deque[float] = field(default_factory=lambda: deque([-math.inf] * EDITS, EDITS))
    task: asyncio.Task[None] | None = None

    @property
    def is_at_work(self) -> bool:
        return self.task is not None and not self.task.done()


class Follower:
    """Keeps the messages of all jobs as their jobs are.

    Args:
        every: seconds between two looks into the store.
        clock: seconds, for times between edits.
    """

    def __init__(
        self,
        client: discord.Client,
        studio: Studio,
        every: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.delivery = Delivery(client, studio)
        self._studio, self._every, self._clock = studio, every, clock
        self._shown: dict[str, _Shown] = {}
        self._rooms: dict[str, _Room] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}  # jobs whose messages are being sent
        self._places: dict[str, Place] = {}
        self._places_read = -math.inf
        self._nap: asyncio.Task[None] | None = None
        self._is_woken = False

    async def run(self) -> None:
        """Looks again and again, until cancelled. Whatever fails, the next look tries again."""
        try:
            while True:
                self._is_woken = False
                try:
                    await self._begin()
                except CalotypeError as fault:  # the store is busy
                    LOG.warning("%s", fault)
                except Exception:
                    LOG.exception("the jobs could not be looked at")
                if not self._is_woken:
                    self._nap = asyncio.create_task(asyncio.sleep(self._every))
                    await asyncio.wait((self._nap,))
        finally:
            await self._stop()

    def wake(self) -> None:
        """Has the loop look at once: a job was queued, cancelled or tried again."""
        self._is_woken = True
        if self._nap is not None:
            self._nap.cancel()

    async def look(self) -> None:
        """One look, until all that was due is sent or put off."""
        await self._begin()
        await asyncio.gather(*(room.task for room in self._rooms.values() if room.task))

    async def show(self, job_id: str) -> None:
        """Brings the message of one job up to date now, or goes on without it where that takes long."""
        update = self._busy.get(job_id) or asyncio.create_task(self._update(job_id), name=f"job {job_id}")
        self._busy[job_id] = update
        await asyncio.wait((update,), timeout=SLOW_SECONDS)

    async def _stop(self) -> None:
        tasks = [self._nap, *(room.task for room in self._rooms.values()), *self._busy.values()]
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # What is due

    async def _begin(self) -> None:
        """Finds what is due, and has the tasks of the channels go to work."""
        messages = await asyncio.to_thread(self._studio.chat.open_messages)
        await self._read_places(messages)
        due: dict[str, dict[str, ChatMessage]] = {}
        for message in messages:
            if self._is_due(message):
                due.setdefault(message.channel, {})[message.job] = message
        for channel in due.keys() - self._rooms.keys():
            self._rooms[channel] = _Room()
        for channel, room in list(self._rooms.items()):
            room.due = due.get(channel, {})
            if room.due and not room.is_at_work:
                room.task = asyncio.create_task(self._work(room), name=f"channel {channel}")
            elif not room.is_at_work and self._clock() - room.edits[-1] > EDITS_SECONDS:
                del self._rooms[channel]
        for job in self._shown.keys() - {message.job for message in messages} - self._busy.keys():
            del self._shown[job]

    async def _read_places(self, messages: Sequence[ChatMessage]) -> None:
        """Reads the places of all waiting jobs, if any of them shows one and it is time for that."""
        waits = [message for message in messages if message.state == QUEUED]
        is_time = self._clock() - self._places_read >= PLACE_SECONDS
        if waits and (is_time or any(message.job not in self._places for message in waits)):
            places = await asyncio.to_thread(self._studio.service.store.places)
            self._places = {place.job: place for place in places}
            self._places_read = self._clock()

    def _is_due(self, message: ChatMessage) -> bool:
        shown = self._shown.setdefault(message.job, _Shown((message.number, "run")))
        now = self._clock()
        if message.job in self._busy or now < shown.until:
            return False
        if message.state in FINISHED_STATES or not message.message:
            return True
        if message.message == GONE or shown.is_quiet or self.delivery.is_old(message):
            return False
        if message.requested != shown.mark[1]:
            return True
        if message.last_event != shown.mark[0]:
            return now - shown.edited >= EDIT_SECONDS
        is_moved = message.state == QUEUED and self._place_words(message.job) != shown.place
        return is_moved and now - shown.edited >= PLACE_SECONDS

    def _place_words(self, job: str) -> str:
        return str(waiting(self._places.get(job)))

    # What is sent

    async def _work(self, room: _Room) -> None:
        """Brings the messages of a channel up to date, the most urgent first. One that takes long goes on by itself."""
        while room.due:
            message = min(room.due.values(), key=self._urgency)  # of several, the oldest job's
            del room.due[message.job]
            if message.job in self._busy or not self._may_edit(room, message):
                continue
            update = asyncio.create_task(self._update(message.job), name=f"job {message.job}")
            self._busy[message.job] = update
            await asyncio.wait((update,), timeout=SLOW_SECONDS)

    def _urgency(self, message: ChatMessage) -> tuple[int, float]:
        """Ends of jobs come first, then messages that are not sent yet, then running jobs, then waiting ones; of these,
        what was edited the longest ago."""
        if message.state in FINISHED_STATES:
            return 0, 0.0
        rank = 1 if not message.message else 3 if message.state == QUEUED else 2
        shown = self._shown.get(message.job)
        return rank, shown.edited if shown else -math.inf

    def _may_edit(self, room: _Room, message: ChatMessage) -> bool:
        """Whether a channel has room for an edit now; there always is for the end of a job, and for a new message."""
        if message.state in FINISHED_STATES or not message.message:
            return True
        if self._clock() - room.edits[0] < EDITS_SECONDS:
            return False
        room.edits.append(self._clock())
        return True

    async def _update(self, job_id: str) -> None:
        """Brings the message of one job up to date. Whatever fails is tried again later and later."""
        shown = self._shown.setdefault(job_id, _Shown((0, "run")))
        try:
            message = await asyncio.to_thread(self._studio.chat.message, job_id)
            if not message.is_final:
                job = await asyncio.to_thread(self._studio.service.store.get, job_id)
                if job.is_finished:
                    await self._show_end(message, job, shown)
                else:
                    await self._show(message, job, shown)
            shown.tries = 0
        except NotFound:  # deleted meanwhile
            pass
        except Exception as fault:  # noqa: BLE001 - the messages of other jobs go on
            self._put_off(job_id, shown, fault)
        finally:
            del self._busy[job_id]

    def _put_off(self, job_id: str, shown: _Shown, fault: Exception) -> None:
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**shown.tries) * random.uniform(1 - JITTER, 1 + JITTER)
        wait = max(wait, getattr(fault, "retry_after", 0.0))
        shown.tries, shown.until = shown.tries + 1, self._clock() + wait
        is_known = is_for_later(fault) or isinstance(fault, CalotypeError)
        reason = "job %s: its message cannot be sent; it is tried again in %.0f s: %s"
        LOG.warning(reason, job_id, wait, fault, exc_info=None if is_known else fault)

    async def _show(self, message: ChatMessage, job: Job, shown: _Shown) -> None:
        """Shows a job that waits or runs."""
        if message.message == GONE or shown.is_quiet:
            return
        text = job_text(job, message, self._places.get(job.id))
        has_preview = bool(job.preview) and job.preview != shown.preview

        async def make(limit: int) -> Content:
            files = None if job.preview or shown.text else []  # none of an earlier attempt at the job
            if has_preview and limit:
                files = await self._preview(message, job)
            return Content(text, job_view(job, message.language), files)

        if text != shown.text or has_preview:
            shown.is_quiet = not await self.delivery.deliver(message, make, is_end=False, since=job.created)
            shown.edited = self._clock()
        shown.text, shown.preview, shown.place = text, job.preview, self._place_words(job.id)
        shown.mark = job.last_event, job.requested
        if message.number != job.last_event:
            await asyncio.to_thread(self._studio.chat.change_message, job.id, number=job.last_event)

    async def _preview(self, message: ChatMessage, job: Job) -> list[discord.File] | None:
        try:
            content = await asyncio.to_thread(self._studio.service.store.files.preview(job.id).read_bytes)
        except OSError:  # the job has ended meanwhile
            return None
        hides = await self.delivery.hides(message.channel)
        return [discord.File(io.BytesIO(content), "preview.jpg", spoiler=hides)]

    async def _show_end(self, message: ChatMessage, job: Job, shown: _Shown) -> None:
        result, faces, kept = None, None, ""
        if job.state == DONE:
            result = grid_of(job)
            if shown.end is None:  # once, however often the message is tried
                shown.end = await asyncio.to_thread(self._extras, message, job)
            faces, kept = shown.end

        async def make(limit: int) -> Content:
            files, notes = [], []
            if result is not None:
                files, notes = await self.delivery.pictures(result, faces, message.channel, limit)
            return Content(job_text(job, message, notes=notes, kept=kept), job_view(job, message.language), files)

        await self.delivery.deliver(message, make, is_end=True, since=job.created)
        await asyncio.to_thread(self._studio.chat.end_message, job.id, job.last_event)
        self._shown.pop(job.id, None)  # it may be tried again

    def _extras(self, message: ChatMessage, job: Job) -> tuple[bytes | None, str | CalotypeError]:
        """The photo with its faces numbered, and what became of a LoRA that was trained."""
        kept = kept_name(self._studio, message, job) if job.kind == "train_lora" else ""
        return faces_picture(self._studio.service, job), kept
