"""What the store keeps for a chat: people and their accounts, messages and jobs, options of channels and roles."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, insert, select, update

from calotype.jobs.chat_people import ChatMember, ChatPeople, Terms
from calotype.jobs.figures import UsageFigures, figures
from calotype.jobs.jobs import Job, NotFound
from calotype.jobs.rows import upsert
from calotype.jobs.schema import JOBS
from calotype.jobs.tables import CHAT_MEMBERS, CHAT_MESSAGES, CHAT_OPTIONS, CHAT_PRESSES

__all__ = ["Chat", "ChatMember", "ChatMessage", "Terms"]


@dataclass(frozen=True)
class ChatMessage:
    """The message of a job. `number`: of the last event that it shows.

    Attributes:
        message: its id; empty until it is sent.
        parent: the address of the message whose button was pressed, or empty.
        state, requested, last_event: of the job.
    """

    job: str
    member: str
    channel: str
    message: str
    parent: str
    text: str
    language: str
    number: int
    is_final: bool
    state: str
    requested: str
    last_event: int

    @classmethod
    def of_page(cls, job: Job, member: str, language: str) -> "ChatMessage":
        """Of a job from the page, which has no message."""
        return cls(job.id, member, "", "", "", "", language, 0, True, job.state, job.requested, job.last_event)


class Chat(ChatPeople):
    """The tables of the chat in the database of the job store."""

    # Messages

    def add_message(
        self, db: Connection, job: str, member: str, channel: str, *, parent: str = "", text: str = "", language: str
    ) -> bool:
        """Remembers where a job is to be shown, in the transaction that queues it: no job is without its message.

        Returns False if it is known already: the same command or press a second time.
        """
        if db.scalar(select(CHAT_MESSAGES.c.job).where(CHAT_MESSAGES.c.job == job)):
            return False
        values = {"job": job, "member": member, "channel": channel, "message": "", "parent": parent}
        values |= {"text": text, "language": language, "number": 0, "is_final": False}
        db.execute(insert(CHAT_MESSAGES).values(**values))
        return True

    def message(self, job: str) -> ChatMessage:
        """Raises NotFound if the job has no message, or was deleted."""
        if (found := self.messages((job,)).get(job)) is None:
            raise NotFound("this job is not there any more; its pictures were deleted to make room")
        return found

    def messages(self, jobs: Collection[str]) -> dict[str, ChatMessage]:
        """The messages of those jobs that have one, by the job."""
        with self._database.reading() as db:
            rows = db.execute(_MESSAGES.where(CHAT_MESSAGES.c.job.in_(jobs)))
            return {row.job: ChatMessage(**row._mapping) for row in rows}

    def open_messages(self) -> list[ChatMessage]:
        """Messages that do not show the end of their job yet, oldest jobs first."""
        query = _MESSAGES.where(CHAT_MESSAGES.c.is_final.is_(False)).order_by(JOBS.c.created, JOBS.c.position)
        with self._database.reading() as db:
            return [ChatMessage(**row._mapping) for row in db.execute(query)]

    def change_message(self, job: str, **values: Any) -> None:
        with self._database.writing() as db:
            db.execute(update(CHAT_MESSAGES).where(CHAT_MESSAGES.c.job == job).values(**values))

    def end_message(self, job: str, number: int) -> None:
        """The message shows the end of its job, after its event of this number; not if it is tried again meanwhile."""
        has_ended = exists().where(JOBS.c.id == job, JOBS.c.last_event == number)
        values = {"is_final": True, "number": number}
        with self._database.writing() as db:
            db.execute(update(CHAT_MESSAGES).where(CHAT_MESSAGES.c.job == job, has_ended).values(**values))

    # Buttons

    def pressed(self, *keys: str) -> str:
        """The address of the message that a button brought, by the first of its keys that has one; empty if it was not
        pressed yet."""
        with self._database.reading() as db:
            rows = db.execute(select(CHAT_PRESSES.c.key, CHAT_PRESSES.c.address).where(CHAT_PRESSES.c.key.in_(keys)))
            known = {row.key: row.address for row in rows}
        return next((known[key] for key in keys if key in known), "")

    def pictures(self, job: str) -> set[str]:
        """The ids of the messages that the buttons U1 to U4 of a job brought."""
        query = select(CHAT_PRESSES.c.address).where(CHAT_PRESSES.c.key.startswith(f"u.{job}."))
        with self._database.reading() as db:
            return {address.rpartition("/")[2] for address in db.scalars(query)}

    def press(self, key: str, address: str) -> None:
        with self._database.writing() as db:
            upsert(db, CHAT_PRESSES, {"key": key, "address": address}, {"address": address})

    # Options of people, channels and roles

    def choices(self) -> dict[str, dict[str, Any]]:
        """The options of everybody who has chosen some, by the person."""
        with self._database.reading() as db:
            found = db.execute(select(CHAT_MEMBERS.c.id, CHAT_MEMBERS.c.options)).all()
        return {id: options for id, options in found if options}

    def options(self, id: str) -> dict[str, Any]:
        """Of "channel-ID" or "role-ID"."""
        with self._database.reading() as db:
            return db.scalar(select(CHAT_OPTIONS.c.options).where(CHAT_OPTIONS.c.id == id)) or {}

    def set_options(self, id: str, options: Mapping[str, Any]) -> None:
        with self._database.writing() as db:
            upsert(db, CHAT_OPTIONS, {"id": id, "options": dict(options)}, {"options": dict(options)})

    # Figures

    def figures(self, *days: int) -> list[UsageFigures]:
        """Who used what in the last days, today included, wherever it was asked for."""
        return figures(self._database, self._clock(), days)


_MESSAGES = select(CHAT_MESSAGES, JOBS.c.state, JOBS.c.requested, JOBS.c.last_event).join(
    JOBS, JOBS.c.id == CHAT_MESSAGES.c.job
)
