"""The queue in a database: jobs, their events and results, uploads, and usage by account."""

from calotype.jobs.claims import Claims
from calotype.jobs.owner_jobs import OwnerJobs
from calotype.jobs.places import Places
from calotype.jobs.retention import Retention
from calotype.jobs.uploads import Uploads


class JobStore(OwnerJobs, Uploads, Claims, Places, Retention):
    """Jobs of all owners. Safe to use from several threads and processes at once. See `StorePart`
    for its arguments."""
