"""What the double knows: people, servers, channels, messages, interactions, and the time."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import discord

from tests.bot.double.rules import UPLOAD_LIMITS, Refused, check_message, invalid

EPOCH = 1420070400.0  # of snowflakes, in seconds since 1970
TEXT_CHANNEL, DIRECT, THREAD = 0, 1, 11
EPHEMERAL, LOADING = 1 << 6, 1 << 7
TOKEN_SECONDS, ANSWER_SECONDS, NONCE_SECONDS = 900.0, 3.0, 300.0
HOUR = 3600.0
OLD_EDITS = (3, 20.0)  # edits of messages older than an hour, by channel, in so many seconds
USUAL = discord.Permissions(
    view_channel=True, send_messages=True, send_messages_in_threads=True, attach_files=True, read_message_history=True
)
Overwrites = dict[str, tuple[int, int]]  # allowed and denied, by the id of a role or person


@dataclass
class Channel:
    """A channel, a thread, or a direct message."""

    id: str
    type: int
    name: str = ""
    guild: "Guild | None" = None
    overwrites: Overwrites = field(default_factory=dict)
    parent: "Channel | None" = None
    is_archived: bool = False
    is_locked: bool = False
    recipient: dict[str, Any] | None = None
    messages: dict[str, "Message"] = field(default_factory=dict)
    edits: list[float] = field(default_factory=list)  # times of edits of old messages

    def payload(self) -> dict[str, Any]:
        data: dict[str, Any] = {"id": self.id, "type": self.type}
        if self.type == DIRECT:
            return data | {"recipients": [self.recipient]}
        data |= {"name": self.name, "guild_id": self.guild.id, "position": 0, "flags": 0}
        if self.parent:
            state = {"archived": self.is_archived, "locked": self.is_locked, "auto_archive_duration": 60}
            data |= {"parent_id": self.parent.id, "owner_id": self.guild.me, "message_count": 0, "member_count": 1}
            return data | {"thread_metadata": state | {"archive_timestamp": stamp(time.time())}}
        overwrites = [
            {"id": id, "type": int(id not in self.guild.roles), "allow": str(allow), "deny": str(deny)}
            for id, (allow, deny) in self.overwrites.items()
        ]
        return data | {"permission_overwrites": overwrites}


@dataclass
class Guild:
    """A server. `me`: id of the bot."""

    id: str
    name: str
    me: str
    owner: str
    level: int = 0
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        channels = [channel.payload() for channel in self.channels.values()]
        return {
            "id": self.id,
            "name": self.name,
            "owner_id": self.owner,
            "premium_tier": self.level,
            "roles": list(self.roles.values()),
            "members": [self.members[self.me]],
            "channels": [channel for channel in channels if channel["type"] != THREAD],
            "threads": [channel for channel in channels if channel["type"] == THREAD],
            "member_count": len(self.members),
            "features": [],
            "large": False,
        }

    def permissions(self, person: str, channel: Channel | None = None) -> discord.Permissions:
        """As Discord computes them: roles, then the channel's overwrites for everybody, the roles and the person."""
        if person == self.owner:
            return discord.Permissions.all()
        roles = [self.id, *self.members[person]["roles"]]
        value = 0
        for role in roles:
            value |= int(self.roles[role]["permissions"])
        if discord.Permissions(value).administrator:
            return discord.Permissions.all()
        overwrites = (channel.parent or channel).overwrites if channel else {}
        for group in ([self.id], roles[1:], [person]):
            found = [overwrites[id] for id in group if id in overwrites]
            for _, deny in found:
                value &= ~deny
            for allow, _ in found:
                value |= allow
        return discord.Permissions(value)


@dataclass
class Message:
    """A message of the bot. `is_loading`: "is thinking"."""

    id: str
    channel: Channel
    created: float
    flags: int = 0
    content: str = ""
    embeds: list[Any] = field(default_factory=list)
    components: list[Any] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    author: dict[str, Any] = field(default_factory=dict)
    nonce: str | None = None
    edits: int = 0

    def payload(self) -> dict[str, Any]:
        data = {
            "id": self.id,
            "channel_id": self.channel.id,
            "author": self.author,
            "content": self.content,
            "timestamp": stamp(self.created),
            "edited_timestamp": stamp(self.created) if self.edits else None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": self.attachments,
            "embeds": self.embeds,
            "components": self.components,
            "pinned": False,
            "type": 0,
            "flags": self.flags,
        }
        return data | ({"nonce": self.nonce} if self.nonce else {})

    @property
    def buttons(self) -> dict[str, str]:
        """Custom ids of buttons and lists, by what they show."""
        children = [child for row in self.components for child in row.get("components", ()) if "custom_id" in child]
        return {shown(child): child["custom_id"] for child in children}


class Clock:
    """The time, in seconds since 1970, which a test can move."""

    def __init__(self) -> None:
        self._shift = 0.0

    def __call__(self) -> float:
        return time.time() + self._shift

    def move(self, seconds: float) -> None:
        self._shift += seconds


class World:
    """All of Discord that the double has.

    Args:
        emit: sends an event to the sessions of the gateway. Returns whether there is one.
    """

    def __init__(self, emit: Callable[[str, dict[str, Any]], bool], clock: Clock):
        self._emit, self.now = emit, clock
        self._numbers: Iterator[int] = itertools.count(1)
        self.users: dict[str, dict[str, Any]] = {}
        self.guilds: dict[str, Guild] = {}
        self.channels: dict[str, Channel] = {}
        self.commands: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.closed_to: set[str] = set()  # people who take no direct messages
        self.bot = self.add_user("calotype", is_bot=True)
        self.maker = self.add_user("maker")
        self.base = ""

    def new_id(self, at: float | None = None) -> str:
        milliseconds = int(((self.now() if at is None else at) - EPOCH) * 1000)
        return str((milliseconds << 22) + next(self._numbers) % 2**22)

    # Setting up

    def add_user(self, name: str, *, age: float = 1000 * 86400.0, is_bot: bool = False) -> dict[str, Any]:
        """A person whose account is `age` seconds old."""
        id = self.new_id(self.now() - age)
        self.users[id] = {"id": id, "username": name, "discriminator": "0", "global_name": name, "avatar": None}
        self.users[id] |= {"bot": is_bot, "public_flags": 0}
        return self.users[id]

    def add_guild(self, name: str = "family", permissions: discord.Permissions = USUAL, level: int = 0) -> Guild:
        id = self.new_id()
        guild = Guild(id, name, self.bot["id"], self.maker["id"], level)
        self.guilds[id] = guild
        self.add_role(guild, "@everyone", discord.Permissions.none(), id)
        role = self.add_role(guild, "calotype", permissions)
        self.add_member(guild, self.bot, roles=[role])
        self.add_member(guild, self.maker)
        self._emit("GUILD_CREATE", guild.payload())
        return guild

    def add_role(self, guild: Guild, name: str, permissions: discord.Permissions, id: str = "") -> str:
        id = id or self.new_id()
        role = {"id": id, "name": name, "permissions": str(permissions.value), "position": len(guild.roles), "color": 0}
        role |= {"hoist": False, "managed": False, "mentionable": False, "flags": 0}
        guild.roles[id] = role | {"colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}}
        return id

    def add_member(
        self, guild: Guild, user: dict[str, Any], *, since: float = 100 * 86400.0, roles: list[str] | None = None
    ) -> None:
        """Somebody who joined the server so many seconds ago."""
        joined = stamp(self.now() - since)
        member = {"user": user, "roles": roles or [], "joined_at": joined, "deaf": False, "mute": False, "flags": 0}
        guild.members[user["id"]] = member | {"nick": None, "avatar": None, "pending": False, "premium_since": None}

    def add_channel(self, guild: Guild, name: str = "studio", overwrites: Overwrites | None = None) -> Channel:
        channel = Channel(self.new_id(), TEXT_CHANNEL, name, guild, overwrites or {})
        guild.channels[channel.id] = self.channels[channel.id] = channel
        self._emit("CHANNEL_CREATE", channel.payload())
        return channel

    def add_thread(self, parent: Channel, name: str = "thread") -> Channel:
        thread = Channel(self.new_id(), THREAD, name, parent.guild, parent=parent)
        parent.guild.channels[thread.id] = self.channels[thread.id] = thread
        self._emit("THREAD_CREATE", thread.payload())
        return thread

    def delete_channel(self, channel: Channel) -> None:
        del self.channels[channel.id]
        if channel.guild:
            del channel.guild.channels[channel.id]
        self._emit("CHANNEL_DELETE", channel.payload())

    # What the bot may do

    def direct(self, user_id: str) -> Channel:
        if user_id not in self.users:
            raise Refused(400, 50033, "Invalid Recipient(s)")
        for channel in self.channels.values():
            if channel.type == DIRECT and channel.recipient["id"] == user_id:
                return channel
        channel = Channel(self.new_id(), DIRECT, recipient=self.users[user_id])
        self.channels[channel.id] = channel
        return channel

    def channel(self, id: str) -> Channel:
        """A channel that the bot sees."""
        if id not in self.channels:
            raise Refused(404, 10003, "Unknown Channel")
        channel = self.channels[id]
        self._need(channel, "view_channel")
        return channel

    def _need(self, channel: Channel, *names: str) -> None:
        if channel.type == DIRECT:
            return
        granted = channel.guild.permissions(self.bot["id"], channel)
        if not granted.view_channel:
            raise Refused(403, 50001, "Missing Access")
        if not all(getattr(granted, name) for name in names):
            raise Refused(403, 50013, "Missing Permissions")

    def message(self, channel_id: str, id: str) -> Message:
        channel = self.channel(channel_id)
        if id not in channel.messages:
            raise Refused(404, 10008, "Unknown Message")
        return channel.messages[id]

    def history(self, channel_id: str, before: str | None, after: str | None, limit: int) -> list[Message]:
        channel = self.channel(channel_id)
        self._need(channel, "read_message_history")
        found = [m for m in channel.messages.values() if not m.flags & EPHEMERAL]
        found = [m for m in found if (not before or int(m.id) < int(before)) and (not after or int(m.id) > int(after))]
        found.sort(key=lambda message: int(message.id), reverse=after is None)
        return sorted(found[:limit], key=lambda message: int(message.id), reverse=True)

    def send(self, channel_id: str, body: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> Message:
        channel = self.channel(channel_id)
        self.check_size(channel, files)
        name = "send_messages_in_threads" if channel.type == THREAD else "send_messages"
        self._need(channel, name, *(["attach_files"] if files else []))
        if channel.type == DIRECT and channel.recipient["id"] in self.closed_to:
            raise Refused(403, 50007, "Cannot send messages to this user")
        if channel.is_locked:
            raise Refused(403, 160005, "Thread is locked")
        check_message(body, len(files))
        reference = body.get("message_reference") or {"fail_if_not_exists": False}
        if reference.get("fail_if_not_exists", True) and reference["message_id"] not in channel.messages:
            raise invalid("message_reference", "Unknown message")
        if body.get("enforce_nonce"):
            for known in channel.messages.values():
                if known.nonce == body["nonce"] and self.now() - known.created < NONCE_SECONDS:
                    return known
        channel.is_archived = False
        message = Message(self.new_id(), channel, self.now(), author=self.bot, nonce=body.get("nonce"))
        self._fill(message, body, files)
        channel.messages[message.id] = message
        self._emit("MESSAGE_CREATE", message.payload())
        return message

    def edit(
        self, channel_id: str, id: str, body: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]
    ) -> Message:
        message = self.message(channel_id, id)
        if message.author["id"] != self.bot["id"]:
            raise Refused(403, 50005, "Cannot edit a message authored by another user")
        if message.channel.is_archived:
            raise Refused(400, 50083, "Thread is archived")
        self.check_size(message.channel, files)
        if self.now() - message.created > HOUR:
            self._count_old_edit(message.channel)
        self.change(message, body, files)
        return message

    def _count_old_edit(self, channel: Channel) -> None:
        most, seconds = OLD_EDITS
        channel.edits = [time for time in channel.edits if self.now() - time < seconds]
        if len(channel.edits) >= most:
            text = "Maximum number of edits to messages older than 1 hour reached. Try again later."
            raise Refused(429, 30046, text, {"Via": "1.1 google"}, retry_after=0.05)
        channel.edits.append(self.now())

    def change(self, message: Message, body: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> None:
        """Edits a message, also one of an interaction."""
        known = [attachment["id"] for attachment in message.attachments]
        check_message(body, len(files), known, is_new=False)
        self._fill(message, body, files)
        message.edits += 1
        if not message.flags & EPHEMERAL:
            self._emit("MESSAGE_UPDATE", message.payload())

    def delete(self, message: Message) -> None:
        message.channel.messages.pop(message.id, None)
        channel = message.channel
        data = {"id": message.id, "channel_id": channel.id}
        self._emit("MESSAGE_DELETE", data | ({"guild_id": channel.guild.id} if channel.guild else {}))

    def check_size(self, channel: Channel, files: Mapping[str, tuple[str, bytes]]) -> None:
        limit = UPLOAD_LIMITS[channel.guild.level if channel.guild else 0] * 2**20
        if sum(len(content) for _, content in files.values()) > limit:
            raise Refused(413, 40005, "Request entity too large")

    def _fill(self, message: Message, body: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> None:
        message.content = body["content"] or "" if "content" in body else message.content
        message.embeds = body.get("embeds", message.embeds)
        message.components = body.get("components", message.components)
        if "attachments" in body:
            kept = {attachment["id"]: attachment for attachment in message.attachments}
            rows = [row for row in body["attachments"] if str(row["id"]) in kept]
            message.attachments = [kept[str(row["id"])] for row in rows]
        for name, content in files.values():
            message.attachments.append(self.store(name, content, message.channel.id))

    def store(self, name: str, content: bytes, channel: str) -> dict[str, Any]:
        """A file, with its address, as an attachment."""
        id = self.new_id()
        self.files[f"{channel}/{id}/{name}"] = content
        url = f"{self.base}/attachments/{channel}/{id}/{name}"
        data = {"id": id, "filename": name, "size": len(content), "url": url, "proxy_url": url}
        return data | {"content_type": "image/jpeg" if name.endswith(".jpg") else "image/png"}


def shown(component: Mapping[str, Any]) -> str:
    """What a button or list shows."""
    return component.get("label") or component.get("placeholder") or (component.get("emoji") or {}).get("name", "")


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
