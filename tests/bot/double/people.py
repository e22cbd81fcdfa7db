"""Those who type commands and press buttons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bot.double.interactions import Interaction
from tests.bot.double.rules import (
    ATTACHMENT,
    CHANNEL,
    INTEGER,
    MESSAGE_MENU,
    NUMBER,
    ROLE,
    SLASH,
    TEXT,
    USER,
    USER_MENU,
)
from tests.bot.double.world import DIRECT, Channel, Message

if TYPE_CHECKING:
    from tests.bot.double.server import Discord

PRESS, COMMAND, TYPING, SUBMIT = 3, 2, 4, 5  # types of interactions


@dataclass
class Person:
    """A person with a client of Discord. `id` is the account's."""

    discord: "Discord"
    id: str
    locale: str = "en-US"

    @property
    def user(self) -> dict[str, Any]:
        return self.discord.world.users[self.id]

    async def slash(self, channel: Channel, name: str, /, **options: Any) -> Interaction:
        """Types a command, and waits until the person reads something.

        Args:
            options: values by name; (name, content) for a file, a Person for a person, an id of a role or channel.
        """
        return await self.give(channel, name, **options).wait()

    def give(self, channel: Channel, name: str, /, **options: Any) -> Interaction:
        """Types a command, and does not wait."""
        command = self._command(name, SLASH)
        data = {"id": command["id"], "name": name, "type": SLASH, **self._options(command, channel, options)}
        return self._send(COMMAND, data, channel)

    async def menu(self, name: str, target: "Message | Person", channel: Channel | None = None) -> Interaction:
        """Chooses an entry of the menu of a message or person."""
        if isinstance(target, Person):
            command, resolved = self._command(name, USER_MENU), {"users": {target.id: target.user}}
            if channel.guild:
                resolved["members"] = {target.id: self._member(channel, target.id)}
        else:
            command, channel = self._command(name, MESSAGE_MENU), target.channel
            resolved = {"messages": {target.id: target.payload()}}
        data = {"id": command["id"], "name": name, "type": command["type"], "target_id": target.id}
        return await self._send(COMMAND, data | {"resolved": resolved}, channel).wait()

    async def click(self, message: Message, label: str) -> Interaction:
        """Presses a button, and waits until the press was taken."""
        return await self.press(message, label).wait_for_answer()

    def press(self, message: Message, label: str) -> Interaction:
        """Presses a button, by what it shows."""
        data = {"component_type": 2, "custom_id": message.buttons[label], "id": 1}
        return self._send(PRESS, data, message.channel, message)

    async def choose(self, message: Message, label: str, *values: str) -> Interaction:
        """Chooses from a list below a message."""
        data = {"component_type": 3, "custom_id": message.buttons[label], "values": list(values), "id": 1}
        return await self._send(PRESS, data, message.channel, message).wait_for_answer()

    async def submit(self, form: Interaction, **values: str) -> Interaction:
        """Sends a form that a button has opened, with other values for its fields by their custom ids."""
        rows = []
        for row in form.form["components"]:
            child = row.get("component") or row["components"][0]
            value = values.get(child["custom_id"], child.get("value", ""))
            field = {"type": child["type"], "custom_id": child["custom_id"], "value": value, "id": 2}
            rows.append(
                {"type": 18, "id": 1, "component": field} if "component" in row else {"type": 1, "components": [field]}
            )
        data = {"custom_id": form.form["custom_id"], "components": rows}
        return await self._send(SUBMIT, data, form.channel, form.source).wait_for_answer()

    async def type(self, channel: Channel, name: str, option: str, text: str = "") -> list[dict[str, Any]]:
        """What is suggested while an option is typed."""
        command = self._command(name, SLASH)
        options = [{"name": option, "type": TEXT, "value": text, "focused": True}]
        data = {"id": command["id"], "name": name, "type": SLASH, "options": options}
        return (await self._send(TYPING, data, channel).wait()).choices

    def _command(self, name: str, type: int) -> dict[str, Any]:
        known = [c for c in self.discord.world.commands if c["name"] == name and c.get("type", SLASH) == type]
        assert known, f"the bot has registered no {name}"
        return known[0]

    def _options(self, command: Mapping[str, Any], channel: Channel, given: Mapping[str, Any]) -> dict[str, Any]:
        known = {option["name"]: option for option in command.get("options", ())}
        assert not given.keys() - known.keys(), f"/{command['name']} has no {given.keys() - known.keys()}"
        missing = {name for name, option in known.items() if option.get("required")} - given.keys()
        assert not missing, f"/{command['name']} needs {missing}"
        options, resolved = [], {}
        for name, value in given.items():
            kind = known[name]["type"]
            if kind == ATTACHMENT:
                file = self.discord.world.store(*value, channel.id)
                resolved.setdefault("attachments", {})[file["id"]] = file
                value = file["id"]
            elif isinstance(value, Person):
                resolved.setdefault("users", {})[value.id] = value.user
                resolved.setdefault("members", {})[value.id] = self._member(channel, value.id)
                value = value.id
            elif kind == ROLE or (
                kind not in (USER, CHANNEL) and value in (channel.guild.roles if channel.guild else ())
            ):
                resolved.setdefault("roles", {})[value] = channel.guild.roles[value]
            elif kind == TEXT:
                assert known[name].get("min_length", 0) <= len(value) <= known[name].get("max_length", 6000)
            elif kind in (INTEGER, NUMBER):
                assert known[name].get("min_value", value) <= value <= known[name].get("max_value", value)
            options.append({"name": name, "type": kind, "value": value})
        return {"options": options} | ({"resolved": resolved} if resolved else {})

    def _member(self, channel: Channel, id: str) -> dict[str, Any]:
        member = dict(channel.guild.members[id])
        return member | {"permissions": str(channel.guild.permissions(id, channel).value)}

    def _send(self, type: int, data: dict[str, Any], channel: Channel, source: Message | None = None) -> Interaction:
        world = self.discord.world
        interaction = self.discord.interactions.new(channel, self.user, source)
        payload: dict[str, Any] = {
            "id": interaction.id,
            "application_id": world.bot["id"],
            "type": type,
            "token": interaction.token,
            "version": 1,
            "data": data,
            "channel_id": channel.id,
            "channel": channel.payload(),
            "locale": self.locale,
            "entitlements": [],
            "authorizing_integration_owners": {},
            "context": 1 if channel.type == DIRECT else 0,
            "attachment_size_limit": 10 * 2**20,
        }
        if channel.type == DIRECT:
            payload |= {"user": self.user, "app_permissions": "0"}
        else:
            guild = channel.guild
            granted = guild.permissions(world.bot["id"], channel)
            payload |= {"guild_id": guild.id, "member": self._member(channel, self.id), "guild_locale": "en-US"}
            payload |= {"app_permissions": str(granted.value)}
        if source is not None:
            payload["message"] = source.payload()
        interaction.is_delivered = self.discord.gateway.emit("INTERACTION_CREATE", payload)
        return interaction
