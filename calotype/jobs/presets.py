"""Presets: options of a kind of task under a name, each account's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select

from calotype.jobs.database import Database
from calotype.jobs.jobs import NotFound, OverBudget
from calotype.jobs.tables import PRESETS
from calotype.options import shown

MAX_PRESETS = 500  # of one owner


@dataclass(frozen=True)
class SavedPreset:
    name: str
    kind: str
    task: dict[str, Any]


class Presets:
    """The presets in the database of the job store."""

    def __init__(self, database: Database):
        self._database = database

    def find(self, owner: str) -> list[SavedPreset]:
        query = select(PRESETS).where(PRESETS.c.owner == owner).order_by(PRESETS.c.name)
        with self._database.reading() as db:
            return [SavedPreset(row.name, row.kind, row.task) for row in db.execute(query)]

    def get(self, owner: str, name: str) -> SavedPreset:
        """Raises NotFound."""
        query = select(PRESETS).where(PRESETS.c.owner == owner, PRESETS.c.name == name)
        with self._database.reading() as db:
            row = db.execute(query).first()
        if row is None:
            raise _not_found(name)
        return SavedPreset(row.name, row.kind, row.task)

    def put(self, owner: str, name: str, kind: str, task: Mapping[str, Any]) -> SavedPreset:
        """Replaces the preset of this name. Raises OverBudget if the owner has too many."""
        own = PRESETS.c.owner == owner
        with self._database.writing() as db:
            db.execute(delete(PRESETS).where(own, PRESETS.c.name == name))
            if db.scalar(select(func.count()).select_from(PRESETS).where(own)) >= MAX_PRESETS:
                raise OverBudget("there are {limit} presets already; delete some", limit=MAX_PRESETS)
            db.execute(insert(PRESETS).values(owner=owner, name=name, kind=kind, task=dict(task)))
        return SavedPreset(name, kind, dict(task))

    def delete(self, owner: str, name: str) -> None:
        """Raises NotFound."""
        with self._database.writing() as db:
            done = db.execute(delete(PRESETS).where(PRESETS.c.owner == owner, PRESETS.c.name == name))
            if not done.rowcount:
                raise _not_found(name)


def _not_found(name: str) -> NotFound:
    return NotFound("there is no preset {name}", name=shown(name))
