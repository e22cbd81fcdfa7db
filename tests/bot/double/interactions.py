"""Commands, presses and forms, from the person's side to the bot's answers."""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bot.double.rules import Refused, check_components, check_message, invalid
from tests.bot.double.world import ANSWER_SECONDS, EPHEMERAL, LOADING, TOKEN_SECONDS, Channel, Message, World

PONG, SAY, WAIT, WAIT_QUIETLY, UPDATE, CHOICES, FORM = 1, 4, 5, 6, 7, 8, 9  # kinds of answers
Files = Mapping[str, tuple[str, bytes]]


@dataclass
class Interaction:
    """What a person did, and what came back.

    `original` is the first answer, `followups` the rest. `reply` is set at the first answer that says something, or
    that lets the person know that there is nothing to say.
    """

    id: str
    token: str
    channel: Channel
    user: dict[str, Any]
    created: float
    kind: int | None = None
    source: Message | None = None
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    form: dict[str, Any] | None = None
    is_delivered: bool = True
    is_deleted: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    reply: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def texts(self) -> list[str]:
        """All that the person reads."""
        first = [self.original] if self.original and not self.original.flags & LOADING and not self.is_deleted else []
        return [message.content for message in [*first, *self.followups]]

    @property
    def text(self) -> str:
        return self.texts[-1] if self.texts else ""

    async def wait_for_answer(self) -> "Interaction":
        """Until the bot has taken it, or the time for that is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.answered.wait(), ANSWER_SECONDS + 0.5)
        return self

    async def wait(self, seconds: float = 60.0) -> "Interaction":
        """Until something was said, or nothing will be."""
        await self.wait_for_answer()
        if self.kind is not None:
            await asyncio.wait_for(self.reply.wait(), seconds)
        return self

    @property
    def has_failed(self) -> bool:
        """Whether the person read "the application did not respond"."""
        return self.kind is None


class Interactions:
    """Answers to interactions."""

    def __init__(self, world: World):
        self._world = world
        self._known: dict[str, Interaction] = {}

    def new(self, channel: Channel, user: dict[str, Any], source: Message | None = None) -> Interaction:
        world = self._world
        interaction = Interaction(world.new_id(), secrets.token_urlsafe(60), channel, user, world.now(), source=source)
        self._known[interaction.token] = interaction
        return interaction

    def answer(self, id: str, token: str, body: Mapping[str, Any], files: Files) -> dict[str, Any]:
        """The first answer, within three seconds."""
        interaction = self._known.get(token)
        age = self._world.now() - interaction.created if interaction else 0.0
        if interaction is None or interaction.id != id or (interaction.kind is None and age > ANSWER_SECONDS):
            raise Refused(404, 10062, "Unknown interaction")
        if interaction.kind is not None:
            raise Refused(400, 40060, "Interaction has already been acknowledged.")
        kind, data = body["type"], body.get("data") or {}
        self._world.check_size(interaction.channel, files)
        if kind == SAY:
            check_message(data, len(files))
        if kind in (WAIT_QUIETLY, UPDATE) and interaction.source is None:
            raise invalid("type", "There is no message to update")
        interaction.kind = kind
        message = self._begin(interaction, kind, data, files)
        interaction.answered.set()
        if kind not in (WAIT, WAIT_QUIETLY):
            interaction.reply.set()
        shown = {"id": id, "type": 2, "response_message_loading": kind == WAIT}
        resource: dict[str, Any] = {"type": kind}
        if message:
            shown |= {"response_message_id": message.id}
            shown |= {"response_message_ephemeral": bool(message.flags & EPHEMERAL)}
            resource |= {"message": message.payload()}
        return {"interaction": shown, "resource": resource}

    def _begin(self, interaction: Interaction, kind: int, data: Mapping[str, Any], files: Files) -> Message | None:
        if kind == SAY:
            interaction.original = self._new(interaction, data, files)
        elif kind == WAIT:
            interaction.original = self._new(interaction, {"flags": data.get("flags", 0) | LOADING}, {})
        elif kind == UPDATE:
            self._world.change(interaction.source, data, files)
        elif kind == CHOICES:
            if len(data["choices"]) > 25 or any(len(choice["name"]) > 100 for choice in data["choices"]):
                raise invalid("choices", "Must be 25 or fewer in length.")
            interaction.choices = data["choices"]
        elif kind == FORM:
            if len(data["title"]) > 45 or len(data["custom_id"]) > 100:
                raise invalid("title", "Must be between 1 and 45 in length.")
            check_components(data["components"])
            interaction.form = dict(data)
        return interaction.original

    def _new(self, interaction: Interaction, body: Mapping[str, Any], files: Files) -> Message:
        world, flags = self._world, body.get("flags", 0)
        message = Message(world.new_id(), interaction.channel, world.now(), flags=flags, author=world.bot)
        world._fill(message, {key: value for key, value in body.items() if key != "flags"}, files)
        interaction.channel.messages[message.id] = message
        return message

    def _valid(self, token: str) -> Interaction:
        """The interaction of a token that is still valid: for a quarter of an hour, and if it was answered."""
        interaction = self._known.get(token)
        if interaction is None:
            raise Refused(404, 10015, "Unknown Webhook")
        if self._world.now() - interaction.created > TOKEN_SECONDS:
            raise Refused(401, 50027, "Invalid Webhook Token")
        if interaction.kind is None:
            raise Refused(404, 10015, "Unknown Webhook")
        return interaction

    def follow(self, token: str, body: Mapping[str, Any], files: Files) -> Message:
        """A further answer. The first one after "is thinking" takes the place of that."""
        interaction = self._valid(token)
        self._world.check_size(interaction.channel, files)
        check_message(body, len(files))
        original = interaction.original
        if interaction.kind == WAIT and original and original.flags & LOADING and not interaction.is_deleted:
            original.flags &= ~LOADING
            self._world.change(original, body, files)
            message = original
        else:
            message = self._new(interaction, body, files)
            interaction.followups.append(message)
        interaction.reply.set()
        return message

    def message(self, token: str, id: str) -> Message:
        interaction = self._valid(token)
        if id == "@original":
            found = interaction.original or interaction.source
        else:
            found = next((m for m in [*interaction.followups, interaction.original] if m and m.id == id), None)
        if found is None or (found is interaction.original and interaction.is_deleted):
            raise Refused(404, 10008, "Unknown Message")
        return found

    def edit(self, token: str, id: str, body: Mapping[str, Any], files: Files) -> Message:
        message = self.message(token, id)
        self._world.check_size(message.channel, files)
        message.flags &= ~LOADING
        self._world.change(message, body, files)
        self._known[token].reply.set()
        return message

    def delete(self, token: str, id: str) -> None:
        message, interaction = self.message(token, id), self._known[token]
        message.channel.messages.pop(message.id, None)
        interaction.is_deleted |= message is interaction.original
        interaction.followups = [known for known in interaction.followups if known is not message]
        interaction.reply.set()
