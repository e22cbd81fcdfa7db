"""What the parts of the job store have in common."""

import time
from collections.abc import Callable
from pathlib import Path

from calotype.jobs.database import Database
from calotype.jobs.files import FileStore
from calotype.jobs.jobs import MAX_ATTEMPTS, Job


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
