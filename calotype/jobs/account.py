"""An account, and what it may use. Imports no database."""

from dataclasses import dataclass, replace

from calotype.jobs.jobs import Budget
from calotype.options import option
from calotype.tasks.limits import LIMITS, Limits

LOCAL = "local"  # owner of all jobs where there are no accounts
TRIAL_LIMITS = replace(LIMITS, picture=2**21, pixels=2**23, cells=16, drawing=3e8, scale=4, training=1.0)  # one request


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What an account may use."""

    TITLE = "Allowance"

    seconds: float | None = option(None, "device seconds a day; no limit where not given", min=0, max=1e9)
    max_running: int = option(2, "jobs that run at a time", min=1, max=1000)
    max_queued: int = option(50, "jobs that wait or are paused", min=1, max=100_000)
    max_stored: float = option(20.0, "GiB of uploads and models", min=0, max=1e6)


TRIAL = Allowance(max_running=1, max_queued=3, max_stored=0.5)
TRIAL_SECONDS = 600.0


@dataclass(frozen=True)
class Account:
    """A user, and what the account may use."""

    id: str
    name: str
    is_admin: bool
    is_disabled: bool
    allowance: Allowance
    invitation: str | None  # id of the invitation that it came with
    created: float
    trial_seconds: float | None = None  # of all accounts of the invitation together

    @property
    def limits(self) -> Limits:
        """Of the work of one request."""
        return TRIAL_LIMITS if self.invitation else LIMITS

    @property
    def budget(self) -> Budget:
        """As the job store takes it. All accounts of an invitation are charged together."""
        queued, running = self.allowance.max_queued, self.allowance.max_running
        if self.invitation:
            return Budget(f"invitation-{self.invitation}", self.trial_seconds, False, queued, running)
        return Budget(self.id, self.allowance.seconds, True, queued, running)
