"""People of a chat and the accounts that are charged for them.

Everybody has an account of their own, which the bot opens. While somebody is linked to an account of the page, that one
is charged instead, and their own one rests. How much a day an own account has is decided by what its person was given,
or else by the bot's settings, and by the person's roles; `visit` brings the account to that, so that the account tells
the truth to workers and to the page.
"""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from calotype.jobs.account import TRIAL, Account, Allowance
from calotype.jobs.database import Database
from calotype.jobs.jobs import Conflict, NotFound
from calotype.jobs.rows import upsert
from calotype.jobs.schema import JOBS, UPLOADS, USAGE_DAYS
from calotype.jobs.tables import CHAT_CODES, CHAT_MEMBERS, CHAT_MESSAGES, CHAT_OPTIONS, CHAT_ROLES, INVITATIONS
from calotype.jobs.usage import DAY, add_usage, spent
from calotype.jobs.users import CHAT_NAME, Accounts, hash_of_code

MAX_NAME = 100  # characters of a name in the chat
ROLE_SECONDS = 7 * DAY  # for which roles count on a server where the person does not come by: it may have left


@dataclass(frozen=True)
class ChatMember:
    """A person in the chat, and the account that is charged."""

    id: str
    account: Account
    is_own: bool  # the account is the one that was opened for the chat, not one of the page
    is_banned: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""  # as the chat shows it; by an untrusted person


@dataclass(frozen=True)
class Terms:
    """What somebody has who was given nothing else: device seconds.

    Attributes:
        daily: each day.
        trial: for ever, of a newcomer; None: the person is none.
    """

    daily: float
    trial: float | None = None


class ChatPeople:
    """The tables of people in the database of the job store."""

    def __init__(self, database: Database, accounts: Accounts, clock: Callable[[], float] = time.time):
        self._database, self._accounts, self._clock = database, accounts, clock

    def member(self, member_id: str) -> ChatMember | None:
        with self._database.reading() as db:
            row = _row(db, member_id)
            return None if row is None else self._member(db, row)

    def _member(self, db: Connection, row: Row) -> ChatMember:
        account, is_own = self._accounts.get_within(db, row.user), _is_own(row)
        return ChatMember(row.id, account, is_own, row.is_banned, row.options, row.name)

    def visit(
        self, member_id: str, terms: Terms, *, name: str = "", roles: Sequence[str] | None = None, server: str = ""
    ) -> ChatMember:
        """A person who comes by; an account is opened at the first time. The trial of somebody who is no newcomer any
        more ends.

        Args:
            name: as the chat shows it; empty: as before.
            roles: those on the server; None: as before. Those on other servers stay.
        """
        name = name.encode("utf-8", "replace").decode()[:MAX_NAME]
        with self._database.reading() as db:
            row = _row(db, member_id)
            is_known = row is not None and name in ("", row.name) and self._knows_roles(db, member_id, roles, server)
            if is_known and not self._due(db, row, terms):
                return self._member(db, row)
        with self._database.writing() as db:
            if _row(db, member_id) is None:
                self._open(db, member_id, terms)
            self.change_within(db, member_id, **({"name": name} if name else {}))
            self._set_roles(db, member_id, roles, server)
            self._settle(db, _row(db, member_id), terms)
            return self._member(db, _row(db, member_id))

    def settle(self, terms: Terms) -> None:
        """Brings everybody who is no newcomer to the bot's settings, which may have changed.

        Whether somebody was given something is not known of a store from before migration 0006: who has as much as the
        settings give was given nothing else.
        """
        with self._database.writing() as db:
            is_unknown = CHAT_MEMBERS.c.is_granted.is_(False), CHAT_MEMBERS.c.granted.is_not(None)
            usual = update(CHAT_MEMBERS).where(*is_unknown, CHAT_MEMBERS.c.granted == terms.daily)
            db.execute(usual.values(granted=None))
            db.execute(update(CHAT_MEMBERS).where(*is_unknown).values(is_granted=True))
            for row in db.execute(select(CHAT_MEMBERS)).all():
                if self._accounts.get_within(db, row.own_user).invitation is None:
                    self._settle(db, row, terms)

    def keep_servers(self, servers: Collection[str], terms: Terms) -> None:
        """Forgets the roles of people on all other servers: the bot has left them."""
        gone = CHAT_ROLES.c.server.not_in(("", *servers))
        with self._database.reading() as db:  # usually there is none, and nothing is locked
            if db.scalar(select(CHAT_ROLES.c.member).where(gone).limit(1)) is None:
                return
        with self._database.writing() as db:
            for member_id in set(db.scalars(delete(CHAT_ROLES).where(gone).returning(CHAT_ROLES.c.member))):
                self._settle_roles(db, member_id, terms)

    def _open(self, db: Connection, member_id: str, terms: Terms) -> None:
        invitation = None if terms.trial is None else self._trial(db, terms.trial)
        given = Allowance(seconds=terms.daily) if invitation is None else TRIAL
        account = self._accounts.add_within(db, f"{CHAT_NAME}{member_id}", given, invitation)
        values = {"id": member_id, "user": account.id, "own_user": account.id, "is_banned": False}
        values |= {"options": {}, "name": "", "is_granted": False, "granted": None}
        db.execute(insert(CHAT_MEMBERS).values(**values, created=self._clock()))

    def _trial(self, db: Connection, seconds: float) -> str:
        """The id of an invitation that nobody else can use: its hash fits no token."""
        id = secrets.token_hex(8)
        values = {"id": id, "hash": "", "max_accounts": 1, "seconds": seconds, "is_disabled": True}
        db.execute(insert(INVITATIONS).values(**values, created=self._clock()))
        return id

    def _due(self, db: Connection, row: Row, terms: Terms) -> dict[str, Any]:
        """What has to change of a person's own account; `trial` stands for the seconds of its own trial."""
        account = self._accounts.get_within(db, row.own_user)
        given = self._given(db, row, terms.daily)
        if account.invitation is None:
            return {} if account.allowance.seconds == given else {"seconds": given}
        if terms.trial is None or row.is_granted or self._roles(db, row):
            return {**asdict(Allowance(seconds=given)), "invitation": None}
        if account.trial_seconds != terms.trial and self._is_alone(db, account):
            return {"trial": terms.trial}
        return {}

    def _settle(self, db: Connection, row: Row, terms: Terms) -> None:
        changes = self._due(db, row, terms)
        if not changes:
            return
        account = self._accounts.get_within(db, row.own_user)
        if "trial" in changes:
            trial = update(INVITATIONS).where(INVITATIONS.c.id == account.invitation)
            db.execute(trial.values(seconds=changes.pop("trial")))
        self._accounts.change_within(db, account.id, **changes)

    def _given(self, db: Connection, row: Row, daily: float) -> float | None:
        """Device seconds a day of a person who is no newcomer: the most of what the person and the roles were given."""
        own = row.granted if row.is_granted or row.granted is not None else daily
        limits = [own, *self._roles(db, row)]
        return None if None in limits else max(limits)

    def _roles(self, db: Connection, row: Row) -> list[float | None]:
        """What the roles of a person were given, on whatever server."""
        ids = {f"role-{role}" for there in self._roles_by_server(db, row.id) for role in there.roles}
        found = db.scalars(select(CHAT_OPTIONS.c.options).where(CHAT_OPTIONS.c.id.in_(ids))) if ids else ()
        return [options["seconds"] for options in found if "seconds" in options]

    def _roles_by_server(self, db: Connection, member_id: str) -> Sequence[Row]:
        """Those that count still."""
        is_new = CHAT_ROLES.c.seen > self._clock() - ROLE_SECONDS
        return db.execute(select(CHAT_ROLES).where(CHAT_ROLES.c.member == member_id, is_new)).all()

    def _knows_roles(self, db: Connection, member_id: str, roles: Sequence[str] | None, server: str) -> bool:
        known = {row.server: row for row in self._roles_by_server(db, member_id)}
        if roles is None or (not roles and not known):
            return True
        there = known.get(server)
        is_new = there is not None and there.roles == sorted(roles) and there.seen > self._clock() - DAY
        return is_new and (not server or "" not in known)

    def _set_roles(self, db: Connection, member_id: str, roles: Sequence[str] | None, server: str) -> None:
        """Remembers the roles of a person on a server. Those of a server that was not known end with the first that
        is."""
        if roles is None:
            return
        if server:
            db.execute(delete(CHAT_ROLES).where(CHAT_ROLES.c.member == member_id, CHAT_ROLES.c.server == ""))
        values = {"roles": sorted(roles), "seen": self._clock()}
        upsert(db, CHAT_ROLES, {"member": member_id, "server": server, **values}, values)

    def _is_alone(self, db: Connection, account: Account) -> bool:
        """Whether the invitation of an account is the account's own trial."""
        return db.scalar(select(INVITATIONS.c.hash).where(INVITATIONS.c.id == account.invitation)) == ""

    def change_member(self, member_id: str, **values: Any) -> None:
        """Changes `options` or `is_banned`."""
        with self._database.writing() as db:
            self.change_within(db, member_id, **values)

    def change_within(self, db: Connection, member_id: str, **values: Any) -> None:
        if values:
            db.execute(update(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id).values(**values))

    # What the owner gives

    def grant(self, member_id: str, seconds: float | None, terms: Terms, *, is_usual: bool = False) -> None:
        """Device seconds a day for a person, None: without limit; a trial ends with it. Of somebody who is linked, the
        account of the page gets them too.

        Args:
            is_usual: what the bot's settings give instead, also when they change; an account of the page, of which they
                say nothing, stays as it is.
        """
        with self._database.writing() as db:
            self.change_within(db, member_id, is_granted=not is_usual, granted=None if is_usual else seconds)
            row = _row(db, member_id)
            self._settle(db, row, Terms(terms.daily))
            if not _is_own(row) and not is_usual:
                self._accounts.allow_within(db, row.user, seconds)

    def grant_role(self, role: str, seconds: float | None, terms: Terms, *, is_usual: bool = False) -> None:
        """Device seconds a day for everybody with a role who has no more; `is_usual`: none for the role any more."""
        with self._database.writing() as db:
            if is_usual:
                db.execute(delete(CHAT_OPTIONS).where(CHAT_OPTIONS.c.id == f"role-{role}"))
            else:
                options = {"seconds": seconds}
                upsert(db, CHAT_OPTIONS, {"id": f"role-{role}", "options": options}, {"options": options})
            for member_id in {row.member for row in db.execute(select(CHAT_ROLES)) if role in row.roles}:
                self._settle_roles(db, member_id, terms)

    def _settle_roles(self, db: Connection, member_id: str, terms: Terms) -> None:
        """Brings a person whose roles have changed to what they give; who is a newcomer stays one."""
        row = _row(db, member_id)
        account = self._accounts.get_within(db, row.own_user)
        self._settle(db, row, Terms(terms.daily, account.trial_seconds if account.invitation else None))

    def join(self, member_id: str, invitation: str) -> ChatMember:
        """Has a newcomer share the trial of an invitation, instead of a trial of their own; what they have used counts
        there.

        Raises:
            NotFound: the invitation is not valid.
            OverBudget: it is used up.
            Conflict: the person has more than a trial, or this invitation already.
        """
        with self._database.writing() as db:
            row = _row(db, member_id)
            account = self._accounts.get_within(db, row.own_user)
            if account.invitation is None or not _is_own(row):
                raise Conflict("an invitation is for newcomers; you have a budget of each day already")
            found = self._accounts.invitation_within(db, invitation, account.id)
            used = db.scalar(select(func.sum(USAGE_DAYS.c.seconds)).where(USAGE_DAYS.c.account == account.id)) or 0.0
            add_usage(db, f"invitation-{found}", self._today, used)
            self._accounts.change_within(db, account.id, invitation=found)
            return self._member(db, row)

    # The account on the page

    def link(self, member_id: str, code: str) -> ChatMember:
        """Gives a person the account of a code, with its budget. What the person's own account has used today counts
        there, and its jobs and uploads belong to it from now on.

        Raises:
            NotFound: the code is unknown, used or too old.
            Conflict: the person, or the account, is linked already.
        """
        with self._database.writing() as db:
            row = _row(db, member_id)
            if not _is_own(row):
                name = self._accounts.get_within(db, row.user).name
                raise Conflict("you are linked to the account {name} already; /unlink ends that", name=name)
            valid = CHAT_CODES.c.hash == hash_of_code(code), CHAT_CODES.c.until >= self._clock()
            user = db.scalar(delete(CHAT_CODES).where(*valid).returning(CHAT_CODES.c.user))
            if user is None:
                raise NotFound("this code is not valid, or no longer; ask for a new one")
            account = self._accounts.get_within(db, user)
            if account.is_disabled:
                raise Conflict("the owner has disabled the account {name}", name=account.name)
            linked = select(CHAT_MEMBERS.c.name).where(CHAT_MEMBERS.c.user == user)
            if known := db.execute(linked).first():
                template = "the account {name} is linked already, to {person} on Discord, who can end that by /unlink"
                raise Conflict(template, name=account.name, person=known.name or "?")
            used = spent(db, row.own_user, True, self._clock())
            self._move_today(db, row.own_user, account, used)
            self.change_within(db, member_id, user=user, moved=used, moved_day=self._today)
            _move(db, row.own_user, user)
            self._accounts.change_within(db, user)
            return self._member(db, _row(db, member_id))

    def unlink(self, member_id: str) -> ChatMember:
        """Gives a person the own account back, with what it had used; the account of the page keeps jobs and uploads.

        Raises:
            Conflict: the person is not linked.
        """
        with self._database.writing() as db:
            row = _row(db, member_id)
            if _is_own(row):
                raise Conflict("your Discord account is not linked to an account of the page")
            if row.moved_day == self._today:  # else linking again and again would give a new budget
                account = self._accounts.get_within(db, row.user)
                left = [spent(db, key, True, self._clock()) for key in (account.id, account.budget.account)]
                self._move_today(db, row.own_user, account, -min(row.moved, *left))  # a part may be given back already
            self.change_within(db, member_id, user=row.own_user)
            return self._member(db, _row(db, member_id))

    def _move_today(self, db: Connection, own: str, account: Account, seconds: float) -> None:
        """Counts what an own account has used today for another one instead. A trial stays as used as it was."""
        add_usage(db, own, self._today, -seconds)
        for key in {account.id, account.budget.account}:
            add_usage(db, key, self._today, seconds)

    @property
    def _today(self) -> int:
        return int(self._clock() // DAY)

    def open_jobs(self, member_id: str) -> list[str]:
        """Ids of the jobs that a person has given in the chat, and that have not ended, whoever is charged."""
        query = select(JOBS.c.id).join(CHAT_MESSAGES, CHAT_MESSAGES.c.job == JOBS.c.id)
        query = query.where(CHAT_MESSAGES.c.member == member_id, JOBS.c.finished.is_(None))
        with self._database.reading() as db:
            return list(db.scalars(query))


def _row(db: Connection, member_id: str) -> Row | None:
    return db.execute(select(CHAT_MEMBERS).where(CHAT_MEMBERS.c.id == member_id)).first()


def _is_own(row: Row) -> bool:
    """Whether the account that is charged was opened for the chat."""
    return row.user == row.own_user


def _move(db: Connection, old: str, new: str) -> None:
    """Gives jobs and uploads to another owner."""
    taken = select(JOBS.c.key).where(JOBS.c.owner == new, JOBS.c.key.is_not(None))
    db.execute(update(JOBS).where(JOBS.c.owner == old, JOBS.c.key.in_(taken)).values(key=None))
    db.execute(update(JOBS).where(JOBS.c.owner == old).values(owner=new))
    for row in db.execute(select(UPLOADS).where(UPLOADS.c.owner == old)).all():
        upsert(db, UPLOADS, {**row._mapping, "owner": new}, {"used": row.used})
    db.execute(delete(UPLOADS).where(UPLOADS.c.owner == old))
