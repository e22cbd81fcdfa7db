"""What the routes work with."""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from anyio import CapacityLimiter
from fastapi import Request
from sqlalchemy import Connection

from calotype.api.downloads import Downloads
from calotype.api.errors import Refusal
from calotype.api.events import EventHub
from calotype.api.imports import Imports
from calotype.api.limiter import OpenLimiter, Rate, RateLimiter
from calotype.api.metrics import Metrics
from calotype.api.orders import Order
from calotype.api.settings import GIB, MIB, ServiceSettings
from calotype.checkpoints.names import allowed_names
from calotype.checkpoints.store import ModelStore
from calotype.jobs.account import Account
from calotype.jobs.jobs import UNLIMITED, Budget, Job, OverBudget
from calotype.jobs.links import Links
from calotype.jobs.presets import Presets
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings
from calotype.tasks.limits import LIMITS, Limits

log = logging.getLogger("calotype.api")

BODIES = 64  # files that are received at the same time
MAX_UPLOADS = 8  # of them, of one owner
TOO_MANY_UPLOADS = "{limit} uploads of this account arrive already, its limit; send the next one after them"
MAX_FETCHES = 8  # pictures that are fetched from their addresses at the same time, each by a thread that waits
TOO_MANY_FETCHES = (
    "{limit} pictures are being fetched from their addresses already, the limit here; try again, or send the picture"
)
MAX_WAITING = 50  # connections of one owner: streams of events, and requests of other programs' APIs
TOO_MANY_WAITING = (
    "{limit} connections of this account wait for jobs, its limit; end one, or ask for the state of a job"
)


@dataclass(frozen=True)
class Caller:
    """Who makes a request."""

    owner: str  # of jobs in the store
    account: Account | None = None  # None: the only user

    @property
    def is_admin(self) -> bool:
        return self.account is None or self.account.is_admin

    @property
    def budget(self) -> Budget:
        return self.account.budget if self.account else UNLIMITED

    @property
    def limits(self) -> Limits:
        """Of the work of one request."""
        return self.account.limits if self.account else LIMITS


@dataclass
class Service:
    """The parts of one service. `accounts` is None where there is always a single user without login."""

    store: JobStore
    settings: Settings
    service: ServiceSettings
    accounts: Accounts | None = None
    has_tagger: bool = False  # of its workers
    metrics: Metrics = field(default_factory=Metrics)
    downloads: Downloads = field(default_factory=Downloads)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    requests: RateLimiter = field(default_factory=lambda: RateLimiter(Rate(300, 1200)))  # of an account
    failures: RateLimiter = field(default_factory=lambda: RateLimiter(Rate(20, 6)))  # wrong tokens of an address
    bodies: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(BODIES))  # threads that receive files
    waiting: OpenLimiter = field(default_factory=lambda: OpenLimiter(MAX_WAITING, TOO_MANY_WAITING))  # of an owner
    uploads: OpenLimiter = field(default_factory=lambda: OpenLimiter(MAX_UPLOADS, TOO_MANY_UPLOADS))  # of an owner
    fetches: OpenLimiter = field(default_factory=lambda: OpenLimiter(MAX_FETCHES, TOO_MANY_FETCHES))  # of all owners
    sign_ups: RateLimiter = field(default_factory=lambda: RateLimiter(Rate(5, 0.2)))  # of an address

    def __post_init__(self) -> None:
        self.hub = EventHub(self.store, self.stopping)
        self.imports = Imports(self.service.import_folder)
        self.presets, self.links = Presets(self.store.database), Links(self.store.database)
        self.may_be_open = self.accounts is None or self.service.is_local  # until `is_open` finds an account

    def is_open(self) -> bool:
        """Whether requests need no token: where only this computer reaches the service, until an account is added.
        Reads the store where `may_be_open` is set."""
        if self.may_be_open and self.accounts is not None:
            self.may_be_open = not self.accounts.exist()
        return self.may_be_open

    @property
    def max_upload(self) -> int:
        return self.service.max_upload * MIB

    def names_for(self, caller: Caller) -> Callable[[str], Collection[str]]:
        """The names that a caller may use, by their kind."""
        return allowed_names(self.settings, caller.owner)

    def submit(
        self,
        caller: Caller,
        order: Order,
        key: str | None = None,
        also: Callable[[Connection, str], object] | None = None,
    ) -> Job:
        """Puts an order into the queue; `key` and `also` are those of the store.

        Raises NotFound for uploads and parents of others, Conflict for the key of another request, OverBudget.
        """
        job = self.store.submit(
            caller.owner,
            order.kind,
            order.task,
            files=order.files,
            output=order.output,
            models=order.models,
            work=order.work,
            priority=order.priority,
            parent=order.parent,
            key=key,
            budget=caller.budget,
            also=also,
        )
        if self.service.log_prompts:
            log.info(json.dumps({"job": job.id, "kind": job.kind, "task": job.task}))
        return job

    def check_storage(self, caller: Caller) -> None:
        """Raises OverBudget if the account has too many uploads and models of its own."""
        if self.accounts and caller.account:
            limit = caller.account.allowance.max_stored
            size = self.accounts.stored(caller.owner) + ModelStore(self.settings).size_of(caller.owner)
            if size >= limit * GIB:
                raise OverBudget(
                    "the uploads and models of this account have {limit:g} GiB, its limit; delete some", limit=limit
                )

    def spent(self, caller: Caller) -> float:
        """Device seconds that count against the budget."""
        return self.store.spent(caller.budget.account or caller.owner, caller.budget.is_daily)

    def check_open(self) -> None:
        """Raises Refusal while the service stops."""
        if self.stopping.is_set():
            raise Refusal(503, "the service is stopping; try again in a minute", headers={"Retry-After": "60"})


def service_of(request: Request) -> Service:
    return request.app.state.service


def address_of(request: Request) -> str:
    """Where a request comes from: an IPv4 address, or the /64 network of an IPv6 address, all of which one has."""
    host = request.client.host if request.client else ""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if found.version == 4 or found.ipv4_mapped:
        return str(getattr(found, "ipv4_mapped", None) or found)
    return str(ipaddress.ip_network((found, 64), strict=False))
