"""Who used what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from calotype.jobs.database import Database
from calotype.jobs.jobs import EXPLAINING
from calotype.jobs.rows import as_text
from calotype.jobs.schema import JOBS, RESULTS, USAGE_DAYS
from calotype.jobs.tables import CHAT_MEMBERS, USERS
from calotype.jobs.usage import DAY

# In the facts of a grid, or of a picture that explains another one: these are no pictures of their own.
NO_PICTURE = ('%"sheet": true%', *(f'%"beside": "{name}"%' for name in EXPLAINING))


@dataclass
class Use:
    """What was used in some days. Jobs are those that ended then, and are not deleted."""

    seconds: float = 0.0  # of devices, charged
    pictures: int = 0
    jobs: dict[str, int] = field(default_factory=dict)  # by kind


@dataclass(frozen=True)
class UsageFigures:
    """An account that was used. Of somebody who is linked, the own account counts as the one of the page.

    Attributes:
        name: of the account; empty for what was made without login.
        people: names of those in the chat whose account it is, by untrusted people.
        uses: of so many days, today in UTC included.
    """

    name: str
    people: tuple[str, ...]
    uses: Mapping[int, Use]


def figures(database: Database, now: float, days: tuple[int, ...]) -> list[UsageFigures]:
    """Of all accounts that were used in the longest of these times; the most used first."""
    with database.reading() as db:
        names = {row.id: row.name for row in db.execute(select(USERS.c.id, USERS.c.name))}
        members = db.execute(select(CHAT_MEMBERS)).all()
        main = {row.own_user: row.user for row in members}
        uses = {count: _uses(db, int(now // DAY) - count + 1, main) for count in days}
    people: dict[str, list[str]] = {}
    for row in members:
        people.setdefault(row.user, []).append(row.name or row.id)
    longest = uses[max(days)]
    found = [
        UsageFigures(
            names.get(id, ""), tuple(people.get(id, ())), {count: uses[count].get(id, Use()) for count in days}
        )
        for id in longest
    ]
    return sorted(found, key=lambda figure: (-figure.uses[max(days)].seconds, figure.name))


def _uses(db: Connection, first: int, main: Mapping[str, str]) -> dict[str, Use]:
    """Uses from a day on, by account."""
    uses: dict[str, Use] = {}

    def use(account: str) -> Use:
        return uses.setdefault(main.get(account, account), Use())

    is_of_person = ~USAGE_DAYS.c.account.startswith("invitation-"), USAGE_DAYS.c.seconds > 0
    seconds = select(USAGE_DAYS.c.account, func.sum(USAGE_DAYS.c.seconds)).where(USAGE_DAYS.c.day >= first)
    for account, total in db.execute(seconds.where(*is_of_person).group_by(USAGE_DAYS.c.account)):
        use(account).seconds += total
    ended = JOBS.c.finished >= first * DAY
    jobs = select(JOBS.c.owner, JOBS.c.kind, func.count()).where(ended).group_by(JOBS.c.owner, JOBS.c.kind)
    for owner, kind, count in db.execute(jobs):
        use(owner).jobs[kind] = use(owner).jobs.get(kind, 0) + count
    facts = as_text(RESULTS.c.facts)
    is_picture = RESULTS.c.media_type.startswith("image/"), *(~facts.like(pattern) for pattern in NO_PICTURE)
    pictures = select(JOBS.c.owner, func.count()).join(RESULTS, RESULTS.c.job == JOBS.c.id).where(ended, *is_picture)
    for owner, count in db.execute(pictures.group_by(JOBS.c.owner)):
        use(owner).pictures += count
    return uses
