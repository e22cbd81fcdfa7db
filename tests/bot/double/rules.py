"""What Discord refuses, by its error codes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_CONTENT, MAX_NONCE, MAX_CUSTOM_ID, MAX_LABEL = 2000, 25, 100, 80  # characters
MAX_ROWS, MAX_ROW, MAX_FILES, MAX_EMBEDS, MAX_EMBED = 5, 5, 10, 10, 6000
UPLOAD_LIMITS = {0: 10, 1: 10, 2: 50, 3: 100}  # MiB by the server's level of boosts
SLASH, USER_MENU, MESSAGE_MENU = 1, 2, 3  # types of commands
TEXT, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, ATTACHMENT = 3, 4, 5, 6, 7, 8, 9, 10, 11
NAME = re.compile(r"^[-_'\w]{1,32}$")


class Refused(Exception):
    """A request that Discord answers with an error.

    Args:
        headers: of the answer, besides those of every answer.
        more: fields of its JSON.
    """

    def __init__(self, status: int, code: int, text: str, headers: Mapping[str, str] | None = None, **more: Any):
        super().__init__(f"{status} {code} {text}")
        self.status, self.headers = status, dict(headers or {})
        self.body = {"message": text, "code": code, **more}


def invalid(field: str, text: str) -> Refused:
    """A field of the body that is not valid."""
    errors = {field: {"_errors": [{"code": "INVALID", "message": text}]}}
    return Refused(400, 50035, "Invalid Form Body", errors=errors)


def check_message(body: Mapping[str, Any], files: int, known: Sequence[str] = (), is_new: bool = True) -> None:
    """Checks the body of a message.

    Args:
        files: how many were uploaded with it.
        known: ids of the attachments that the message has already.
    """
    content, embeds = body.get("content") or "", body.get("embeds") or []
    if len(content) > MAX_CONTENT:
        raise invalid("content", f"Must be {MAX_CONTENT} or fewer in length.")
    if len(str(body.get("nonce") or "")) > MAX_NONCE:
        raise invalid("nonce", f"Must be {MAX_NONCE} or fewer in length.")
    if len(embeds) > MAX_EMBEDS or sum(map(_length, embeds)) > MAX_EMBED:
        raise invalid("embeds", "Embed size exceeds maximum size of 6000")
    if files > MAX_FILES:
        raise invalid("files", "Must be 10 or fewer in length.")
    for number, attachment in enumerate(body.get("attachments") or []):
        id = str(attachment.get("id"))
        if id not in known and not (id.isdigit() and int(id) < files):
            raise invalid(f"attachments.{number}.id", "This attachment is not in the message or its files")
    check_components(body.get("components") or [])
    if is_new and not (content or embeds or files or body.get("components")):
        raise Refused(400, 50006, "Cannot send an empty message")


def _length(embed: Mapping[str, Any]) -> int:
    parts = [embed.get("title"), embed.get("description"), (embed.get("footer") or {}).get("text")]
    parts += [field.get(key) for field in embed.get("fields", ()) for key in ("name", "value")]
    return sum(len(part or "") for part in parts)


def check_components(rows: Sequence[Mapping[str, Any]]) -> None:
    if len(rows) > MAX_ROWS:
        raise invalid("components", f"Must be between 1 and {MAX_ROWS} in length.")
    ids: list[str] = []
    for number, row in enumerate(rows):
        children = row.get("components") or [row.get("component")]
        if row.get("type") == 1 and not 1 <= len(children) <= MAX_ROW:
            raise invalid(f"components.{number}", f"Must be between 1 and {MAX_ROW} in length.")
        for child in filter(None, children):
            if len(child.get("label") or "") > MAX_LABEL:
                raise invalid(f"components.{number}", f"Must be {MAX_LABEL} or fewer in length.")
            if child.get("type") == 2 and not (child.get("label") or child.get("emoji")):
                raise invalid(f"components.{number}", "A label or an emoji is required")
            if id := child.get("custom_id"):
                ids.append(id)
    for id in ids:
        if len(id) > MAX_CUSTOM_ID:
            raise invalid("components", f"Must be {MAX_CUSTOM_ID} or fewer in length.")
        if ids.count(id) > 1:
            raise invalid("components", "Component custom id cannot be duplicated")


def check_commands(commands: Sequence[Mapping[str, Any]]) -> None:
    """Checks commands that are registered."""
    if sum(command.get("type", SLASH) == SLASH for command in commands) > 100:
        raise Refused(400, 30032, "Maximum number of application commands reached (100)")
    if any(sum(command.get("type") == menu for command in commands) > 15 for menu in (USER_MENU, MESSAGE_MENU)):
        raise Refused(400, 30032, "Maximum number of application commands reached (15)")
    for command in commands:
        parts = [command, *command.get("options", ())]
        for part in parts:
            names = [part["name"], *(part.get("name_localizations") or {}).values()]
            texts = [part.get("description", ""), *(part.get("description_localizations") or {}).values()]
            is_slash = command.get("type", SLASH) == SLASH
            if is_slash and not all(NAME.match(name) and name == name.lower() for name in names):
                raise invalid(part["name"], "Command name is invalid")
            if any(len(name) > 32 for name in names) or any(len(text) > 100 for text in texts):
                raise invalid(part["name"], "Must be between 1 and 100 in length.")
            if len(part.get("choices") or ()) > 25 or len(command.get("options", ())) > 25:
                raise invalid(part["name"], "Must be 25 or fewer in length.")
