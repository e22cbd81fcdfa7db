"""What the store keeps for a chat: people and their accounts, messages and jobs, options of channels and roles."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from calotype.jobs.account import TRIAL, Account, Allowance
from calotype.jobs.database import Database
from calotype.jobs.jobs import Job, NotFound
from calotype.jobs.rows import upsert
from calotype.jobs.schema import JOBS, USAGE_DAYS
from calotype.jobs.tables import (
    CHAT_CODES,
    CHAT_MEMBERS,
    CHAT_MESSAGES,
    CHAT_OPTIONS,
    CHAT_PRESSES,
    INVITATIONS,
    USERS,
)
from calotype.jobs.usage import DAY
from calotype.jobs.users import Accounts, hash_of_code


@dataclass(frozen=True)
class ChatMember:
    """A person in the chat, and the account that is charged."""

    id: str
    account: Account
    is_own: bool  # the account was opened for the chat
    is_banned: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


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


class Chat:
    """The tables of the chat in the database of the job store."""

    def __init__(self, database: Database, accounts: Accounts, clock: Callable[[], float] = time.time):
        self._database, self._accounts, self._clock = database, accounts, clock

    # People

    def member(self, member_id: str) -> ChatMember | None:
        with self._database.reading() as db:
            row = db.execute(select(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id)).first()
        return self._member(row) if row else None

    def _member(self, row: Row) -> ChatMember:
        return ChatMember(row.id, self._accounts.get(row.user), row.is_own, row.is_banned, row.options)

    def open_account(self, member_id: str, allowance: Allowance, trial_seconds: float | None = None) -> ChatMember:
        """The account of a person, opened if there is none yet.

        Args:
            trial_seconds: device seconds for ever, of a newcomer; None: the allowance, each day.
        """
        with self._database.writing() as db:
            row = db.execute(select(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id)).first()
            if row is None:
                invitation = None if trial_seconds is None else self._trial(db, trial_seconds)
                given = allowance if invitation is None else TRIAL
                account = self._accounts.add_within(db, f"discord-{member_id}", given, invitation)
                values = {"id": member_id, "user": account.id, "is_own": True, "is_banned": False}
                db.execute(insert(CHAT_MEMBERS).values(**values, options={}, created=self._clock()))
        return self.member(member_id)

    def _trial(self, db: Connection, seconds: float) -> str:
        """The id of an invitation that nobody else can use: its hash fits no token."""
        id = secrets.token_hex(8)
        values = {"id": id, "hash": "", "max_accounts": 1, "seconds": seconds, "is_disabled": True}
        db.execute(insert(INVITATIONS).values(**values, created=self._clock()))
        return id

    def change_member(self, member_id: str, **values: Any) -> None:
        """Changes `options` or `is_banned`."""
        with self._database.writing() as db:
            db.execute(update(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id).values(**values))

    def grant(self, member: ChatMember, seconds: float | None) -> None:
        """Device seconds a day, None: without limit; a trial ends with it."""
        values = asdict(Allowance(seconds=seconds)) if member.account.invitation else {"seconds": seconds}
        with self._database.writing() as db:
            db.execute(update(USERS).where(USERS.c.id == member.account.id).values(**values, invitation=None))

    def link(self, member_id: str, code: str) -> ChatMember:
        """Gives a person the account of a code, with its budget. What the account before has used today counts there.

        Raises:
            NotFound: the code is unknown, used or too old.
        """
        with self._database.writing() as db:
            valid = CHAT_CODES.c.hash == hash_of_code(code), CHAT_CODES.c.until >= self._clock()
            user = db.scalar(delete(CHAT_CODES).where(*valid).returning(CHAT_CODES.c.user))
            if user is None:
                raise NotFound("this code is not valid, or no longer; ask for a new one")
            before = db.execute(select(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id)).first()
            values = {"user": user, "is_own": False}
            row = {"id": member_id, **values, "is_banned": False, "options": {}, "created": self._clock()}
            upsert(db, CHAT_MEMBERS, row, values)
            if before and before.is_own:
                self._move_usage(db, before.user, user)
        return self.member(member_id)

    def _move_usage(self, db: Connection, old: str, new: str) -> None:
        """What was used today counts for the new account; jobs and uploads stay with the old one."""
        invitation = db.scalar(select(USERS.c.invitation).where(USERS.c.id == old))
        account = f"invitation-{invitation}" if invitation else old
        today = USAGE_DAYS.c.account == account, USAGE_DAYS.c.day == int(self._clock() // DAY)
        seconds = db.scalar(select(USAGE_DAYS.c.seconds).where(*today))
        if seconds:
            db.execute(update(USAGE_DAYS).where(*today).values(seconds=0.0))
            row = {"account": new, "day": int(self._clock() // DAY), "seconds": seconds}
            upsert(db, USAGE_DAYS, row, {"seconds": USAGE_DAYS.c.seconds + seconds})

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
        with self._database.reading() as db:
            row = db.execute(_MESSAGES.where(CHAT_MESSAGES.c.job == job)).first()
        if row is None:
            raise NotFound("this job is not there any more; its pictures were deleted to make room")
        return ChatMessage(**row._mapping)

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

    def pressed(self, key: str) -> str:
        """The address of the message that a button brought; empty if it was not pressed yet."""
        with self._database.reading() as db:
            return db.scalar(select(CHAT_PRESSES.c.address).where(CHAT_PRESSES.c.key == key)) or ""

    def press(self, key: str, address: str) -> None:
        with self._database.writing() as db:
            upsert(db, CHAT_PRESSES, {"key": key, "address": address}, {"address": address})

    # Options of channels and roles

    def options(self, id: str) -> dict[str, Any]:
        """Of "channel-ID" or "role-ID"."""
        with self._database.reading() as db:
            return db.scalar(select(CHAT_OPTIONS.c.options).where(CHAT_OPTIONS.c.id == id)) or {}

    def set_options(self, id: str, options: Mapping[str, Any]) -> None:
        with self._database.writing() as db:
            upsert(db, CHAT_OPTIONS, {"id": id, "options": dict(options)}, {"options": dict(options)})

    # Figures

    def figures(self, days: int = 1) -> list[tuple[str, int, float]]:
        """Who used what: the person, the number of jobs, and their device seconds; the most first."""
        since = self._clock() - days * DAY
        seconds = func.sum(JOBS.c.cost)
        query = select(CHAT_MESSAGES.c.member, func.count(), seconds).join(JOBS, JOBS.c.id == CHAT_MESSAGES.c.job)
        query = query.where(JOBS.c.created >= since).group_by(CHAT_MESSAGES.c.member).order_by(seconds.desc())
        with self._database.reading() as db:
            return [tuple(row) for row in db.execute(query)]


_MESSAGES = select(CHAT_MESSAGES, JOBS.c.state, JOBS.c.requested, JOBS.c.last_event).join(
    JOBS, JOBS.c.id == CHAT_MESSAGES.c.job
)
