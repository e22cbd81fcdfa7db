"""`calotype bot --check`: what the bot lacks on Discord. It only asks, and does not connect to the gateway."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import discord

from calotype.errors import Message, plural

NEEDED = {
    "view_channel": Message("see the channel"),
    "send_messages": Message("send messages"),
    "send_messages_in_threads": Message("send messages in threads"),
    "attach_files": Message("attach files"),
    "read_message_history": Message("read older messages"),
}  # permissions, and what they are called
MISSING_ACCESS = 50001
MAX_NAMED = 5  # channels in a sentence

Channel = discord.abc.GuildChannel


@dataclass(frozen=True)
class Findings:
    """What the bot does not work without, and what is good to know."""

    missing: Sequence[Message]
    hints: Sequence[Message] = ()


async def findings(client: discord.Client) -> Findings:
    """What a client that has logged in lacks.

    Raises:
        discord.HTTPException: Discord does not answer.
    """
    app = await client.application_info()
    missing, hints = [], []
    if app.bot_public:
        hints.append(Message('anybody can add the bot to a server; switch off "Public Bot" on the page of the app'))
    guilds = [guild async for guild in client.fetch_guilds(limit=None)]
    if not guilds:
        address = invitation(app.id)
        missing.append(Message("the bot is on no server yet; open its invitation address: {address}", address=address))
    for guild in guilds:
        found = await _of_guild(client, app.id, guild.id)
        missing += found.missing
        hints += found.hints
    return Findings(missing, hints)


async def _of_guild(client: discord.Client, app: int, guild_id: int) -> Findings:
    guild = await client.fetch_guild(guild_id)
    me = await guild.fetch_member(client.user.id)
    channels = [
        channel
        for channel in await guild.fetch_channels()
        if isinstance(channel, (discord.TextChannel, discord.ForumChannel))
    ]
    missing = list(missing_permissions(guild, me, channels))
    if not await _has_commands(client, app, guild_id):
        missing.insert(
            0,
            Message(
                "on {guild}, the bot may not have commands; open its invitation address again: {address}",
                guild=guild.name,
                address=invitation(app),
            ),
        )
    hidden = sum(not channel.permissions_for(me).view_channel for channel in channels)
    if not 0 < hidden < len(channels):
        return Findings(missing)
    count = plural(hidden, "1 channel", "{count} channels")
    unseen = Message(
        "on {guild}, the bot does not see {channels}; what is asked for there comes as a direct message",
        guild=guild.name,
        channels=count,
    )
    return Findings(missing, [unseen])


async def _has_commands(client: discord.Client, app: int, guild: int) -> bool:
    """Whether the server was joined with the scope "applications.commands"."""
    try:
        await client.http.get_guild_commands(app, guild)
    except discord.Forbidden as fault:
        if fault.code != MISSING_ACCESS:
            raise
        return False
    return True


def missing_permissions(guild: discord.Guild, me: discord.Member, channels: Sequence[Channel]) -> Iterator[Message]:
    """What the bot may not do in the channels that it sees: in none of them, or in some."""
    visible = [channel for channel in channels if channel.permissions_for(me).view_channel]
    everywhere = "on {guild}, the bot may not {permission}; give its role that permission"
    somewhere = "on {guild}, the bot may not {permission} in {channels}; allow it in the settings of the channel"
    if not visible:
        yield Message(everywhere, guild=guild.name, permission=NEEDED["view_channel"])
        return
    for name, words in NEEDED.items():
        lacking = [channel for channel in visible if name in _lacks(channel, me)]
        if len(lacking) == len(visible):
            yield Message(everywhere, guild=guild.name, permission=words)
        elif lacking:
            yield Message(somewhere, guild=guild.name, permission=words, channels=_named(lacking))


def _lacks(channel: Channel, me: discord.Member) -> set[str]:
    """Names of permissions. Who may not send messages attaches no files; that needs no word of its own."""
    granted = channel.permissions_for(me)
    lacking = {name for name in NEEDED if not getattr(granted, name)}
    if isinstance(channel, discord.ForumChannel):  # the bot writes in its threads only
        return lacking - {"send_messages", "attach_files"}
    return lacking - {"attach_files"} if "send_messages" in lacking else lacking


def _named(channels: Iterable[Channel]) -> str:
    names = [f"#{channel.name}" for channel in channels]
    return ", ".join(names[:MAX_NAMED]) + (" …" if len(names) > MAX_NAMED else "")


def invitation(app: int) -> str:
    """The address that adds the bot to a server, with what it needs."""
    permissions = discord.Permissions(**dict.fromkeys(NEEDED, True))
    return discord.utils.oauth_url(app, permissions=permissions, scopes=("bot", "applications.commands"))
