"""The real client of the bot, on the double of Discord, over a real job store."""

import asyncio
import time

import pytest

from calotype.bot.commands import new_bot
from tests.bot.conftest import work
from tests.bot.double.server import Discord
from tests.bot.double.world import Clock

LOOK_SECONDS = 0.05  # between two looks into the store


async def eventually(condition, seconds=15.0):
    """Waits until a condition holds. Returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return found


class Stage:
    """The double with a server and a channel, and the bot in this process."""

    def __init__(self, discord, studio):
        self.discord, self.studio, self.world = discord, studio, discord.world
        self.store, self.chat = studio.service.store, studio.chat
        self.guild = discord.world.add_guild()
        self.channel = discord.world.add_channel(self.guild)
        self.bot = self._running = None

    async def start(self):
        self.bot = new_bot(self.studio, look_seconds=LOOK_SECONDS)
        self.bot._connection.guild_ready_timeout = 0.05  # seconds without a further server
        self.bot.before_identify_hook = _at_once
        self._running = asyncio.create_task(self.bot.start(self.discord.token))
        ready = asyncio.create_task(self.bot.wait_until_ready())
        await asyncio.wait((self._running, ready), return_when="FIRST_COMPLETED")
        if self._running.done():
            ready.cancel()
            self._running.result()

    async def stop(self):
        if self.bot is not None:
            await self.bot.close()
            await asyncio.wait((self._running,))
            self.discord.gateway.forget()
            self.bot = None

    def person(self, name, **more):
        return self.discord.person(name, self.guild, **more)

    async def imagine(self, person, prompt, channel=None):
        """A command, until its jobs have their messages."""
        given = await person.slash(channel or self.channel, "imagine", prompt=prompt)
        await eventually(lambda: all(message.message for message in self.chat.open_messages()))
        return given

    async def work(self, **more):
        """Runs the next job as a worker would."""
        return await asyncio.to_thread(work, self.store, **more)

    async def settled(self):
        """All messages show the end of their jobs."""
        await eventually(lambda: not self.chat.open_messages())

    @property
    def messages(self):
        """What everybody sees in the channel, oldest first."""
        return seen(self.channel)


def seen(channel):
    """What everybody sees in a channel, oldest first."""
    return [message for message in channel.messages.values() if not message.flags & 64]


@pytest.fixture
def clock():
    return Clock()


async def _at_once(shard_id, *, initial=False):
    """Discord asks for 5 seconds before a second IDENTIFY; the double does not."""


@pytest.fixture
def perform(studio, clock):
    """Runs `perform(scene)`, a coroutine function of a stage. `more`: arguments of the double."""

    def run(scene, is_started=True, **more):
        async def whole():
            async with Discord(**{"rate": (5, 0.2), "clock": clock, **more}) as discord:
                with discord.redirected():
                    stage = Stage(discord, studio)
                    try:
                        if is_started:
                            await stage.start()
                        await scene(stage)
                    finally:
                        await stage.stop()

        asyncio.run(whole())

    return run
