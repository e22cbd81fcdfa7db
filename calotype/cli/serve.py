"""`calotype serve`: the service over HTTP."""

import contextlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from calotype.api.settings import ServiceSettings
from calotype.cli.flags import flag, flags, given_options, set_signature
from calotype.cli.show import print_error, print_json
from calotype.cli.wording import WORDING
from calotype.cli.worker import check_packages, check_tagger
from calotype.errors import CalotypeError, Message
from calotype.files import readable
from calotype.settings import Settings, gathered
from calotype.worker.worker_options import WorkerOptions

COPIED = "{count} files and the queue are in {folder}"
PACKAGES = ("fastapi", "uvicorn", "argon2", "prometheus_client", "httpx", "mcp")


def serve(**values: Any) -> int:
    """Serve all kinds of tasks over HTTP, to programs and to several people, from a queue of jobs.

    On 127.0.0.1 there is one user without login. Any other address needs accounts: `calotype users add NAME`. It stops
    at Ctrl-C or SIGTERM; a running job goes back into the queue and continues at the next start.
    """
    settings = Settings.gather(given_options(Settings, values))
    service = gathered(ServiceSettings, given_options(ServiceSettings, values))
    options = gathered(WorkerOptions, given_options(WorkerOptions, values))
    check_packages(*PACKAGES)
    if not values["no_worker"]:
        check_tagger(options)
    if values["backup"] or values["restore"]:
        return _copy(settings, options, values["backup"], values["restore"])
    from calotype.api.app import create_app
    from calotype.api.server import address, bind, run
    from calotype.jobs.users import Accounts
    from calotype.worker.supervisor import ProcessSetup

    set_up_log(quiet=values["quiet"])
    with contextlib.closing(ProcessSetup(settings, options, "").open_store()) as store:
        app = create_app(store, settings, service, accounts=Accounts(store.database), has_tagger=bool(options.tagger))
        if has_page():
            from calotype.web.page import add_page

            add_page(app)
        with contextlib.closing(bind(service)) as listener:
            if values["json"]:
                print_json(
                    {"event": "listening", "address": address(listener), "accounts": not app.state.service.is_open()}
                )
            else:
                print(WORDING.fill(Message("Calotype listens on {address}", address=address(listener))), flush=True)
            if service.worker_token:  # workers on other computers go on with their jobs while the service is down
                store.extend_leases(options.lease)
            with _upkeep(store, options) if values["no_worker"] else worker_process(settings, options):
                run(app, listener)
    return 0


def has_page() -> bool:
    """Whether Gradio is installed, which the page needs and the API does not."""
    return importlib.util.find_spec("gradio") is not None


def _copy(settings: Settings, options: WorkerOptions, backup: Path | None, restore: Path | None) -> int:
    """Writes or unpacks a copy of the queue and its files."""
    from calotype.jobs import backup as backups
    from calotype.worker.supervisor import ProcessSetup

    setup = ProcessSetup(settings, options, "")
    if backup and restore:
        raise CalotypeError("a backup is made or put back, not both; give {option:backup} or {option:restore}")
    if restore:
        count = backups.restore(restore, setup.folder)
        print(WORDING.fill(Message(COPIED, count=count, folder=setup.folder)))
        return 0
    damaged: list[Message] = []
    with contextlib.closing(setup.open_store()) as store:
        count = backups.back_up(store, backup, damaged.append)
    for message in damaged:
        print_error(WORDING.fill(message))
    print(WORDING.fill(Message(COPIED, count=count, folder=readable(backup))))
    return 1 if damaged else 0


@contextlib.contextmanager
def worker_process(settings: Settings, options: WorkerOptions) -> Iterator[None]:
    """A worker process for as long as the block lasts; its job goes back into the queue then."""
    from calotype.worker.supervisor import Supervisor, configure_log

    configure_log()
    supervisor = Supervisor(settings, options)
    with _thread(lambda: _run(supervisor), supervisor.stop):
        yield


@contextlib.contextmanager
def _upkeep(store: Any, options: WorkerOptions) -> Iterator[None]:
    """What a worker does for the queue, where all of them are on other computers."""
    from calotype.worker.upkeep import Upkeep

    upkeep, stopping = Upkeep(store, options), threading.Event()

    def run() -> None:
        while not stopping.wait(1.0):
            with contextlib.suppress(CalotypeError):  # the next time
                upkeep.run()

    with _thread(run, stopping.set):
        yield


@contextlib.contextmanager
def _thread(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Runs a function in a thread for as long as the block lasts; `stop` makes it end."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


def _run(supervisor: Any) -> None:
    try:
        supervisor.run()
    except CalotypeError as fault:  # the service still takes jobs; the next worker runs them
        print_error(WORDING.fill(fault))


def set_up_log(quiet: bool) -> None:
    """One JSON object a line on standard error, without prompts, file names and tokens."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("calotype.api", "calotype.api.access"):
        logging.getLogger(name).setLevel(logging.ERROR if quiet else logging.INFO)
    logging.getLogger("calotype.api").addHandler(handler)
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.addHandler(handler)
    uvicorn.setLevel(logging.WARNING)


set_signature(
    serve,
    *flags(ServiceSettings, WorkerOptions, Settings),
    flag("no_worker", "start no worker; workers of their own run the jobs", panel="Service"),
    flag(
        "backup",
        "copy the queue, uploads and results into this new .tar file, also while the service runs, and end",
        kind=Path | None,
        panel="Service",
    ),
    flag(
        "restore", "unpack such a file into a home folder without a queue, and end", kind=Path | None, panel="Service"
    ),
    flag("json", "print the address as JSON", panel="Messages"),
    flag("quiet", "log errors only", "-q", "--quiet", panel="Messages"),
)
