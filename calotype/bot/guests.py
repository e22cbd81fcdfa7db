"""Which servers the bot serves, and who of those who write to it directly is on one of them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection

import discord

from calotype.bot.channels import UNREACHED
from calotype.bot.wording import shortened
from calotype.languages import language_of, translate

LOG = logging.getLogger("calotype.bot")
KNOWN_SECONDS = 600.0  # for which Discord is not asked again whether somebody is on a server
ASKED_SECONDS = 1.5  # for all servers: a command has to be answered within three
MAX_KNOWN = 10_000


class Guests:
    """People who write to the bot directly, as members of the servers that it serves.

    Args:
        servers: gives the ids of these servers; of none: all that the bot is on.
    """

    def __init__(
        self,
        client: discord.Client,
        servers: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._client, self._servers, self._clock = client, servers, clock
        self._known: dict[int, tuple[float, discord.Member | None]] = {}

    def serves(self, guild_id: int) -> bool:
        return not self._servers() or str(guild_id) in self._servers()

    def get(self, user_id: int) -> discord.Member | None:
        """Somebody who was met."""
        return self._known.get(user_id, (0.0, None))[1]

    async def meet(self, user_id: int) -> discord.Member | None:
        """The membership of a person that is the oldest; None: of no server of the bot."""
        until, member = self._known.get(user_id, (0.0, None))
        if until > self._clock():
            return member
        found: list[discord.Member] = []

        async def ask(guild: discord.Guild) -> None:
            with contextlib.suppress(discord.NotFound, discord.Forbidden):
                found.append(await guild.fetch_member(user_id))

        guilds = [guild for guild in self._client.guilds if self.serves(guild.id)]
        try:
            async with asyncio.timeout(ASKED_SECONDS):
                await asyncio.gather(*map(ask, guilds))
        except UNREACHED as fault:
            LOG.warning("whether a person is on a server is not known: %s", fault)
            return member
        member = min(found, key=lambda member: member.joined_at or discord.utils.utcnow(), default=None)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[user_id] = self._clock() + KNOWN_SECONDS, member
        return member

    async def leave_unserved(self) -> None:
        """Leaves the servers that the bot does not serve."""
        for guild in self._client.guilds:
            if not self.serves(guild.id):
                await self.leave(guild)

    async def leave(self, guild: discord.Guild) -> None:
        """Says why in the channel where the server is told of newcomers, if there is one, and leaves."""
        text = translate("This bot serves the servers of its owner only, and leaves.", _language(guild))
        with contextlib.suppress(discord.HTTPException):
            if guild.system_channel is not None:
                await guild.system_channel.send(shortened(text))
        try:
            await guild.leave()
        except discord.HTTPException as fault:
            LOG.warning("server %s cannot be left: %s", guild.id, fault)


def _language(guild: discord.Guild) -> str:
    return language_of(guild.preferred_locale.value)
