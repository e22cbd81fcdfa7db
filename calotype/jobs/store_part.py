"""What the parts of the job store have in common."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import select

from calotype.jobs.database import Database
from calotype.jobs.files import FileStore
from calotype.jobs.jobs import MAX_ATTEMPTS, Job
from calotype.jobs.schema import UPLOADS


class StorePart:
    """The database and the files of the queue.

    Args:
        url: of the database; empty: SQLite in `folder`.
        folder: for files, and for SQLite.
        clock: seconds since 1970.
        max_attempts: how often a job is started whose worker disappears.
    Raises:
        CalotypeError: the database can't be opened, or a newer version has written it.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        clock: Callable[[], float] = time.time,
        *,
        max_attempts: int = MAX_ATTEMPTS,
    ):
        self.folder, self.files = folder, FileStore(folder)
        self._clock, self._max_attempts = clock, max_attempts
        self.database = Database(url or f"sqlite:///{folder / 'jobs.sqlite3'}")

    def close(self) -> None:
        self.database.close()

    def _delete_result_files(self, job: Job) -> None:
        for result in job.results:
            self.files.delete_result(result.id)

    def _delete_unowned(self, upload_ids: Iterable[str]) -> None:
        """Deletes the files of uploads that nobody owns any more, once the store has forgotten them."""
        with self.database.writing() as db:  # nobody adds one of them meanwhile
            for upload_id in upload_ids:
                if db.execute(select(UPLOADS.c.id).where(UPLOADS.c.id == upload_id)).first() is None:
                    self.files.delete_upload(upload_id)
