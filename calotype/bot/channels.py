"""Where channels are: on which server, and whose rules hold in them."""

from dataclasses import dataclass

import aiohttp
import discord

from calotype.bot.wording import address

UNREACHED = (discord.DiscordException, aiohttp.ClientError, OSError)  # whatever a request to Discord may end in


@dataclass(frozen=True)
class Location:
    """Attributes:
    guild: the server; None for direct messages.
    ruled_by: the channel whose rules hold: of a thread its parent.
    """

    guild: int | None
    ruled_by: str


class Channels:
    """Looks channels up, in what the connection knows and else at Discord; neither answer changes later."""

    def __init__(self, client: discord.Client):
        self._client = client
        self._known: dict[str, Location] = {}

    async def find(self, channel: str | int) -> Location:
        """Where a channel is. One that is gone counts as one of direct messages, without rules of another.

        Raises:
            discord.HTTPException: Discord does not say it at present.
        """
        id = str(channel)
        if id not in self._known:
            found = self._client.get_channel(int(id))
            try:
                found = found or await self._client.fetch_channel(int(id))
            except (discord.NotFound, discord.Forbidden):
                return Location(None, id)
            self._known[id] = location_of(found, id)
        return self._known[id]

    async def address(self, channel: str | int, message: str | int) -> str:
        """The address of a message, on the server of its channel; empty if Discord does not say which that is."""
        try:
            return address((await self.find(channel)).guild, channel, message)
        except discord.HTTPException:
            return ""


def location_of(channel: object, id: str | int) -> Location:
    guild, parent = getattr(channel, "guild", None), getattr(channel, "parent_id", None)
    return Location(guild.id if guild else None, str(parent or id))
