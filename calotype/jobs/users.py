"""Accounts: who may use the service, and how much of it.

A token is `cal_ID_SECRET`; the table has its id and an argon2 hash. Accounts that came with the same invitation are a
group: its seconds of trial, and its jobs at a time, are for all of them together, so that more accounts give no more.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy import delete as delete_from

from calotype.errors import CalotypeError
from calotype.jobs.account import LOCAL, TRIAL, TRIAL_SECONDS, Account, Allowance
from calotype.jobs.database import Database
from calotype.jobs.jobs import Conflict, NotFound, OverBudget
from calotype.jobs.schema import JOBS, UPLOADS
from calotype.jobs.tables import CHAT_CODES, CHAT_MEMBERS, INVITATIONS, LINKS, PRESETS, TOKENS, USERS
from calotype.jobs.usage import set_limits
from calotype.options import shown

NAME = re.compile(r"\w[\w.@-]{0,63}")
TOKEN = re.compile(r"(cal|inv)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
SESSION = re.compile(r"ses_([0-9a-f]{16})_(\d{1,12})_([0-9a-f]{64})")
KNOWN_SECONDS = 300.0  # for which a verified token is not hashed again
MAX_KNOWN = 10_000
CHAT_NAME = "discord-"  # how names of accounts begin that the bot has opened
CODE_SECONDS = 900.0  # for which a code that links an account to a chat is valid


class Accounts:
    """The accounts in the database of the job store."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database, self._clock = database, clock
        self._known: dict[bytes, float] = {}  # digests of verified tokens: until when
        self._ended: set[str] = set()  # sessions that were ended, and whose cookies were deleted
        self._key = secrets.token_bytes(32)

    # Accounts

    def add(self, name: str, allowance: Allowance | None = None, *, is_admin: bool = False) -> Account:
        """Adds an account. What was made before there were accounts belongs to the first administrator.

        Raises:
            Conflict: the name is taken.
            CalotypeError: it is invalid.
        """
        with self._database.writing() as db:
            return self._add(db, name, allowance or Allowance(), is_admin, None)

    def add_first(self, name: str, allowance: Allowance | None = None) -> tuple[Account, str]:
        """Adds the first account, which is the owner's. Returns it with its token.

        Raises:
            Conflict: there is an account already, of a request at the same time perhaps.
            CalotypeError: the name is invalid.
        """
        with self._database.writing() as db:
            if _exist(db):
                raise Conflict("the service has an owner already; log in with a token of theirs")
            account = self._add(db, name, allowance or Allowance(), True, None)
            return account, self._add_token(db, account.id)

    def add_within(self, db: Connection, name: str, allowance: Allowance, invitation: str | None) -> Account:
        """`add` in a transaction of the caller, with the id of an invitation, for the bot."""
        return self._add(db, name, allowance, False, invitation, is_chat=True)

    def _add(
        self,
        db: Connection,
        name: str,
        allowance: Allowance,
        is_admin: bool,
        invitation: str | None,
        *,
        is_chat: bool = False,
    ) -> Account:
        if not NAME.fullmatch(name):
            raise CalotypeError(
                "{option} is up to 64 letters, digits, dots and dashes, not {value}", option="name", value=shown(name)
            )
        if name.startswith(CHAT_NAME) and not is_chat:
            reserved = "names that begin with {prefix} are those of people on Discord; choose another name"
            raise CalotypeError(reserved, prefix=CHAT_NAME, option="name")
        values = {"id": secrets.token_hex(16), "name": name, "is_admin": is_admin, "is_disabled": False}
        values |= {"invitation": invitation, "created": self._clock(), **asdict(allowance)}
        if db.scalar(select(USERS.c.id).where(USERS.c.name == name)):
            raise Conflict("there is already an account {name}; choose another name", name=name, option="name")
        is_first = is_admin and db.scalar(select(USERS.c.id).where(USERS.c.is_admin).limit(1)) is None
        db.execute(insert(USERS).values(**values))
        if is_first:
            for table in (JOBS, UPLOADS, PRESETS, LINKS):
                db.execute(update(table).where(table.c.owner == LOCAL).values(owner=values["id"]))
            db.execute(update(JOBS).where(JOBS.c.account == LOCAL).values(account=values["id"]))
        return _account(self._row(db, name))

    def list(self) -> list[Account]:
        with self._database.reading() as db:
            return [_account(row) for row in db.execute(_ACCOUNTS.order_by(USERS.c.created, USERS.c.name))]

    def people(self) -> dict[str, tuple[str, ...]]:
        """Names on Discord of those whose account it is, by the name of the account; by untrusted people. Of somebody
        who is linked, the own account, which rests meanwhile, has the name too."""
        is_account = USERS.c.id.in_((CHAT_MEMBERS.c.user, CHAT_MEMBERS.c.own_user))
        query = select(USERS.c.name, CHAT_MEMBERS.c.name.label("person")).join(USERS, is_account)
        found: dict[str, tuple[str, ...]] = {}
        with self._database.reading() as db:
            for row in db.execute(query.where(CHAT_MEMBERS.c.name != "").order_by(CHAT_MEMBERS.c.name)):
                found[row.name] = (*found.get(row.name, ()), row.person)
        return found

    def exist(self) -> bool:
        """Whether there is any account, besides those that the bot has opened: nobody logs in with them."""
        with self._database.reading() as db:
            return _exist(db)

    def find(self, name: str) -> Account:
        """Raises NotFound."""
        with self._database.reading() as db:
            return _account(self._row(db, name))

    def get(self, id: str) -> Account:
        """The account of an id. Raises NotFound."""
        with self._database.reading() as db:
            return self.get_within(db, id)

    def get_within(self, db: Connection, id: str) -> Account:
        """`get` in a transaction of the caller."""
        row = db.execute(_ACCOUNTS.where(USERS.c.id == id)).first()
        if row is None:
            raise NotFound("there is no account {name}", name=id)
        return _account(row)

    def change(self, name: str, **changes: Any) -> Account:
        """Changes fields of the allowance, or `is_disabled`: then all tokens of the account are refused. A trial ends
        where device seconds of a day are given."""
        with self._database.writing() as db:
            account = _account(self._row(db, name))
            if "seconds" in changes and changes["seconds"] != account.allowance.seconds:
                self.allow_within(db, account.id, changes["seconds"])
                own = update(CHAT_MEMBERS).where(CHAT_MEMBERS.c.own_user == account.id)
                db.execute(own.values(is_granted=True, granted=changes["seconds"]))
            kept = {key: value for key, value in changes.items() if value != getattr(account.allowance, key, None)}
            return self.change_within(db, account.id, **kept)

    def allow_within(self, db: Connection, user: str, seconds: float | None) -> Account:
        """Gives an account device seconds a day, None: without limit, which ends a trial."""
        account, changes = self.get_within(db, user), {"seconds": seconds}
        if account.invitation:  # limits of trials that nobody changed end with it
            usual = asdict(Allowance(seconds=seconds))
            changes |= {
                key: usual[key] for key, value in asdict(TRIAL).items() if getattr(account.allowance, key) == value
            }
        return self.change_within(db, user, **changes, invitation=None)

    def change_within(self, db: Connection, user: str, **changes: Any) -> Account:
        """Changes an account of this id in a transaction of the caller. Its jobs that have not ended follow."""
        before = self.get_within(db, user).invitation
        if "invitation" in changes and before not in (None, changes["invitation"]):  # its place there stays taken
            place = update(INVITATIONS).where(INVITATIONS.c.id == before)
            db.execute(place.values(max_accounts=INVITATIONS.c.max_accounts - 1))
        if changes:
            db.execute(update(USERS).where(USERS.c.id == user).values(**changes))
        account = self.get_within(db, user)
        set_limits(db, account.id, account.budget)
        return account

    def _row(self, db: Connection, name: str) -> Row:
        row = db.execute(_ACCOUNTS.where(USERS.c.name == name)).first()
        if row is None:
            raise NotFound("there is no account {name}", name=name if NAME.fullmatch(name) else shown(name))
        return row

    def stored(self, user: str) -> int:
        """Bytes of the uploads of an account."""
        with self._database.reading() as db:
            return int(db.scalar(select(func.sum(UPLOADS.c.size)).where(UPLOADS.c.owner == user)) or 0)

    # Tokens

    def add_token(self, name: str) -> str:
        """A new token of an account; only its hash is stored."""
        with self._database.writing() as db:
            return self._add_token(db, self._row(db, name).id)

    def _add_token(self, db: Connection, user: str) -> str:
        token, id = _new_secret("cal")
        values = {"id": id, "user": user, "hash": self._hasher.hash(token), "created": self._clock()}
        db.execute(insert(TOKENS).values(**values))
        return token

    def remove_tokens(self, name: str) -> int:
        """Revokes all tokens of an account; returns how many."""
        with self._database.writing() as db:
            user = self._row(db, name).id
            return db.execute(delete_from(TOKENS).where(TOKENS.c.user == user)).rowcount

    def verify(self, token: str) -> Account | None:
        """The account of a valid token; None for any other text, in the same time."""
        match = TOKEN.fullmatch(token)
        hash, account = self._token_row(match[2] if match else "")
        is_valid = self._is_valid(hash or None, token)
        return account if account is not None and is_valid and not account.is_disabled else None

    def _is_valid(self, hash: str | None, token: str) -> bool:
        """Whether the token has this hash; a dummy is hashed where there is none."""
        digest = hmac.new(self._key, f"{hash} {token}".encode("utf-8", "replace"), hashlib.sha256).digest()
        if self._known.get(digest, 0) > self._clock():
            return True
        is_valid = _verify(self._hasher, hash or self._dummy, token) and hash is not None
        if is_valid:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[digest] = self._clock() + KNOWN_SECONDS
        return is_valid

    @cached_property
    def _hasher(self) -> Any:
        from argon2 import PasswordHasher

        return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

    @cached_property
    def _dummy(self) -> str:
        return self._hasher.hash(secrets.token_hex(16))

    def add_code(self, account: Account) -> str:
        """A code with which a person in a chat takes this account, once, within a quarter of an hour."""
        code = secrets.token_urlsafe(12)
        with self._database.writing() as db:
            db.execute(delete_from(CHAT_CODES).where(CHAT_CODES.c.until < self._clock()))
            values = {"hash": hash_of_code(code), "user": account.id, "until": self._clock() + CODE_SECONDS}
            db.execute(insert(CHAT_CODES).values(**values))
        return code

    # Sessions

    def open_session(self, token: str, seconds: float) -> str | None:
        """A text that stands for a valid token for so many seconds, and ends with it; None for any other text.

        It is signed with the hash of the token, so that nothing is stored.
        """
        if self.verify(token) is None:
            return None
        token_id, until = TOKEN.fullmatch(token)[2], int(self._clock() + seconds)
        hash, _ = self._token_row(token_id)
        return f"ses_{token_id}_{until}_{_signature(hash, token_id, until)}"

    def of_session(self, session: str) -> Account | None:
        """The account of a session; None if it has ended, or its token was revoked."""
        match = SESSION.fullmatch(session) if session not in self._ended else None
        hash, account = self._token_row(match[1]) if match else ("", None)
        if account is None or account.is_disabled or int(match[2]) < self._clock():
            return None
        return account if hmac.compare_digest(match[3], _signature(hash, match[1], int(match[2]))) else None

    def end_session(self, session: str) -> None:
        """Makes a valid session invalid, for as long as this process runs."""
        if self.of_session(session) is not None and len(self._ended) < MAX_KNOWN:
            self._ended.add(session)

    def _token_row(self, token_id: str) -> tuple[str, Account | None]:
        """The hash of a token and its account."""
        query = _ACCOUNTS.join(TOKENS, TOKENS.c.user == USERS.c.id).add_columns(TOKENS.c.hash)
        with self._database.reading() as db:
            row = db.execute(query.where(TOKENS.c.id == token_id)).first()
        return (row.hash, _account(row)) if row else ("", None)

    # Invitations

    def invite(self, max_accounts: int = 1, seconds: float = TRIAL_SECONDS) -> str:
        """An invitation, with which up to `max_accounts` accounts can be opened; these have `seconds` together."""
        invitation, id = _new_secret("inv")
        values = {"id": id, "hash": self._hasher.hash(invitation), "max_accounts": max_accounts, "seconds": seconds}
        with self._database.writing() as db:
            db.execute(insert(INVITATIONS).values(**values, is_disabled=False, created=self._clock()))
        return invitation

    def sharing(self, invitation: str) -> int:
        """How many accounts share the trial of an invitation."""
        with self._database.reading() as db:
            return db.scalar(select(func.count()).select_from(USERS).where(USERS.c.invitation == invitation)) or 0

    def sign_up(self, invitation: str, name: str) -> tuple[Account, str]:
        """A new account, and its token. Raises NotFound for an invalid invitation, OverBudget for a used up one."""
        with self._database.writing() as db:
            account = self._add(db, name, TRIAL, False, self.invitation_within(db, invitation))
            return account, self._add_token(db, account.id)

    def invitation_within(self, db: Connection, invitation: str, user: str = "") -> str:
        """The id of an invitation that has a place for one more account, in a transaction of the caller.

        Args:
            user: the account that wants to come, if there is one already.
        Raises:
            NotFound: the invitation is not valid.
            OverBudget: it is used up.
            Conflict: the account came with it already.
        """
        match = TOKEN.fullmatch(invitation.strip())
        row = db.execute(select(INVITATIONS).where(INVITATIONS.c.id == (match[2] if match else ""))).first()
        if not self._is_valid(row and row.hash, invitation.strip()) or row is None or row.is_disabled:
            raise NotFound("this invitation is not valid", option="invitation")
        users = db.scalars(select(USERS.c.id).where(USERS.c.invitation == row.id)).all()
        if user in users:
            raise Conflict("you have this invitation already")
        if len(users) >= row.max_accounts:
            raise OverBudget("this invitation is used up: {count} accounts came with it", count=len(users))
        return row.id


def hash_of_code(code: str) -> str:
    """Codes are random and short-lived, so that a plain hash is enough."""
    return hashlib.sha256(code.strip().encode("utf-8", "replace")).hexdigest()


_JOINED = USERS.join(INVITATIONS, INVITATIONS.c.id == USERS.c.invitation, isouter=True)
_ACCOUNTS = select(USERS, INVITATIONS.c.seconds.label("trial_seconds")).select_from(_JOINED)


def _exist(db: Connection) -> bool:
    """Whether there is any account with which somebody logs in."""
    own = select(CHAT_MEMBERS.c.own_user)
    return db.execute(select(USERS.c.id).where(USERS.c.id.not_in(own)).limit(1)).first() is not None


def _account(row: Row) -> Account:
    allowance = Allowance(**{spec.name: getattr(row, spec.name) for spec in fields(Allowance)})
    return Account(
        row.id, row.name, row.is_admin, row.is_disabled, allowance, row.invitation, row.created, row.trial_seconds
    )


def _new_secret(prefix: str) -> tuple[str, str]:
    """A token or invitation, and the id in it."""
    id = secrets.token_hex(8)
    return f"{prefix}_{id}_{secrets.token_urlsafe(32)}", id


def _signature(hash: str, token_id: str, until: int) -> str:
    return hmac.new(hash.encode(), f"session {token_id} {until}".encode(), hashlib.sha256).hexdigest()


def _verify(hasher: Any, hash: str, token: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return hasher.verify(hash, token.encode("utf-8", "replace"))
    except (Argon2Error, InvalidHashError):
        return False
