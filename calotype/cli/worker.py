"""`calotype worker`."""

import importlib.util
import signal
from typing import Any

from calotype.cli.flags import flags, given_options, set_signature
from calotype.errors import CalotypeError, Remedy
from calotype.files import readable
from calotype.settings import Settings, gathered
from calotype.worker.worker_options import ServerOptions, WorkerOptions


def worker(**values: Any) -> int:
    """Run the jobs of the queue on a device of this computer.

    `calotype serve` starts one itself; this command is for more devices, and for other computers: those that use the
    same database and see the same home folder, and any other ones with --server. It stops at Ctrl-C or SIGTERM, and its
    job goes back into the queue.
    """
    settings = Settings.gather(given_options(Settings, values))
    options = gathered(WorkerOptions, given_options(WorkerOptions, values))
    server = gathered(ServerOptions, given_options(ServerOptions, values))
    check_packages(*(("httpx",) if server.server else ()))
    check_tagger(options)
    from calotype.worker.supervisor import Supervisor, configure_log

    configure_log()
    supervisor = Supervisor(settings, options, server)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()
    return 0


set_signature(worker, *flags(ServerOptions, WorkerOptions, Settings))


def check_tagger(options: WorkerOptions) -> None:
    """Raises CalotypeError if the tagger of the worker does not exist."""
    if options.tagger and not options.tagger.exists():
        raise CalotypeError("{path} does not exist; check the name", path=readable(options.tagger), option="tagger")


def check_packages(*names: str) -> None:
    """Raises CalotypeError if the packages of the queue, or of these names, are not installed."""
    if not all(importlib.util.find_spec(name) for name in ("sqlalchemy", "alembic", *names)):
        raise CalotypeError("the queue of jobs needs more packages", remedy=Remedy("install", "serve"))
