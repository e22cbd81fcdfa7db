"""Public links: results that anybody may see who has the address. Its secret part is stored only as a hash."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Row, delete, func, insert, select

from calotype.jobs.database import Database
from calotype.jobs.jobs import NotFound, OverBudget
from calotype.jobs.tables import LINKS

MAX_LINKS = 1000  # of one owner


@dataclass(frozen=True)
class PublicLink:
    """A public result; the public file, without metadata, is stored under the id of the link."""

    id: str
    job: str
    result: str
    suffix: str
    media_type: str
    created: float


class Links:
    """The links in the database of the job store."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database, self._clock = database, clock

    def create(
        self, owner: str, link_id: str, job: str, result: str, suffix: str, media_type: str
    ) -> tuple[PublicLink, str]:
        """The link, and the secret part of its address, which has 256 random bits. Raises OverBudget."""
        secret = secrets.token_urlsafe(32)
        link = PublicLink(link_id, job, result, suffix, media_type, self._clock())
        with self._database.writing() as db:
            count = db.scalar(select(func.count()).select_from(LINKS).where(LINKS.c.owner == owner))
            if count >= MAX_LINKS:
                raise OverBudget("there are {limit} links already; delete some", limit=MAX_LINKS)
            db.execute(insert(LINKS).values(hash=_digest(secret), owner=owner, **vars(link)))
        return link, secret

    def find(self, owner: str) -> list[PublicLink]:
        """The owner's links, the newest first."""
        query = select(LINKS).where(LINKS.c.owner == owner).order_by(LINKS.c.created.desc())
        with self._database.reading() as db:
            return [_link(row) for row in db.execute(query)]

    def get(self, owner: str, link_id: str) -> PublicLink:
        """Raises NotFound."""
        with self._database.reading() as db:
            row = db.execute(select(LINKS).where(LINKS.c.owner == owner, LINKS.c.id == link_id)).first()
        if row is None:
            raise NotFound("there is no link {id}", id=link_id)
        return _link(row)

    def open(self, secret: str) -> PublicLink:
        """Raises NotFound."""
        with self._database.reading() as db:
            row = db.execute(select(LINKS).where(LINKS.c.hash == _digest(secret))).first()
        if row is None:
            raise NotFound("there is nothing at this address, or not any more")
        return _link(row)

    def delete(self, owner: str, link_id: str) -> None:
        """Raises NotFound."""
        with self._database.writing() as db:
            done = db.execute(delete(LINKS).where(LINKS.c.owner == owner, LINKS.c.id == link_id))
            if not done.rowcount:
                raise NotFound("there is no link {id}", id=link_id)


def _link(row: Row) -> PublicLink:
    return PublicLink(row.id, row.job, row.result, row.suffix, row.media_type, row.created)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
