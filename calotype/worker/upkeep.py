"""What is done for the queue again and again: jobs are taken from workers that have disappeared, old files deleted."""

import logging
import time

from calotype.jobs.jobs import Job
from calotype.jobs.store import JobStore
from calotype.worker.worker_options import WorkerOptions

SWEEP_SECONDS = 5.0
RETAIN_SECONDS = 300.0

LOG = logging.getLogger("calotype.worker")


class Schedule:
    """When something is done again, by its name."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True


class Upkeep:
    """Keeps a store in order; several processes may do so at once."""

    def __init__(self, store: JobStore, options: WorkerOptions):
        self.store, self.options, self._schedule = store, options, Schedule()

    def run(self) -> None:
        """Does what is due."""
        if self._schedule.is_due("sweep", min(SWEEP_SECONDS, self.options.lease / 3)):
            self._report(self.store.sweep())
        if self._schedule.is_due("retain", RETAIN_SECONDS):
            days = self.options.keep_days or 365e3
            self.store.retain(self.options.keep_space * 2**30, days * 86400)
            self.store.delete_orphans()

    @staticmethod
    def _report(taken: list[Job]) -> None:
        for job in taken:
            LOG.warning("job %s was taken from a worker that has disappeared; it is %s now", job.id, job.state)
