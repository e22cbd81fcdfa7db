"""Starts the process of a worker, and starts it again when it ends: a job that crashes it fails alone."""

import contextlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from calotype.errors import CalotypeError
from calotype.jobs.store import JobStore
from calotype.options import as_data, read
from calotype.settings import Settings
from calotype.worker.worker_options import ServerOptions, WorkerOptions

if TYPE_CHECKING:
    from calotype.worker.remote_store import RemoteStore

START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from calotype.worker import supervisor; "
START += "sys.exit(supervisor.serve())"
STOP_SECONDS = 60.0  # for a job to reach the end of its step
STEADY_SECONDS = 60.0  # a process that has run for so long is started again without delay
MAX_DELAY = 30.0
POLL_SECONDS = 0.2
NICENESS = 10  # of the worker process, of 19
BAD_SETTINGS = 2  # exit status of a process that can't start

LOG = logging.getLogger("calotype.worker")


@dataclass(frozen=True)
class ProcessSetup:
    """What a worker process is started with."""

    settings: Settings
    options: WorkerOptions
    name: str
    server: ServerOptions = ServerOptions()

    @property
    def folder(self) -> Path:
        return self.settings.home / "service"

    def open_store(self) -> "JobStore | RemoteStore":
        if self.server.server:
            from calotype.worker.remote_store import RemoteStore

            device = re.sub(r"\W", "-", self.settings.device)  # workers of several devices share no files
            folder = self.settings.home / "worker" / device
            return RemoteStore(self.server.server, self.server.worker_token, folder)
        return JobStore(self.options.store, self.folder, max_attempts=self.options.attempts)


def new_name(device: str) -> str:
    """A name of a worker, unique in the world: the computer, the device and a random number."""
    return f"{socket.gethostname()[:60]}:{device[:20]}:{secrets.token_hex(4)}"


class Supervisor:
    """Keeps a worker process running until `stop`.

    A process that ends by itself has crashed: its job goes back into the queue at once, or fails if that happened
    too often, and another process takes its place. It stops when this process ends, however that happens.
    """

    def __init__(self, settings: Settings, options: WorkerOptions, server: ServerOptions | None = None):
        self._setup = ProcessSetup(settings, options, new_name(settings.device), server or ServerOptions())
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends `run`. Safe to call from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Runs the worker until `stop`.

        Raises:
            CalotypeError: the store can't be opened, or the process can't start.
        """
        store, delay = self._setup.open_store(), 0.0
        try:
            if self._setup.server.server:
                store.check()
            while not self._stopping.wait(delay):
                started = time.monotonic()
                status = self._run_process()
                if self._stopping.is_set():
                    break
                if status == BAD_SETTINGS:
                    raise CalotypeError("the worker can't start; its message stands above")
                LOG.error("the worker process ended (%s); it is started again", _cause(status))
                delay = 0.0 if time.monotonic() - started > STEADY_SECONDS else min(MAX_DELAY, 2 * delay + 0.5)
                self._take_back(store)
            self._take_back(store)
        finally:
            store.close()

    def _run_process(self) -> int:
        """Runs the process to its end. Returns its status."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(sys.path)], stdin=subprocess.PIPE, env=environment
        )
        _lower_priority(process)
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(_packed(self._setup)).encode() + b"\n")
                process.stdin.flush()
            while process.poll() is None and not self._stopping.wait(POLL_SECONDS):
                pass
            with contextlib.suppress(OSError):
                process.stdin.close()  # it stops at the end of its input
            try:
                return process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                LOG.warning("the worker did not stop in time and is killed; its job goes back into the queue")
                return -9
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _take_back(self, store: "JobStore | RemoteStore") -> None:
        try:
            for job in store.worker_ended(self._setup.name):
                LOG.warning("job %s ran in it; it is %s now", job.id, job.state)
        except CalotypeError as fault:  # its lease ends later
            LOG.error("%s", fault)


def serve() -> int:
    """The process: reads its setup from standard input, runs jobs, and stops at the end of the input or by a signal."""
    setup = _unpacked(json.loads(sys.stdin.readline()))
    configure_log()
    from calotype.engine import Engine
    from calotype.worker.worker import Worker

    try:
        store = setup.open_store()
    except CalotypeError as fault:
        LOG.error("%s", fault)
        return BAD_SETTINGS
    worker = Worker(store, Engine(setup.settings), setup.options, setup.name)

    def read_to_end() -> None:
        sys.stdin.read()
        worker.stop()

    threading.Thread(target=read_to_end, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()
    store.close()
    return 0


def configure_log() -> None:
    """Log lines of workers go to standard error: the time, the level and the message; never a prompt."""
    if not LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)


def _packed(setup: ProcessSetup) -> dict[str, Any]:
    return {name: as_data(getattr(setup, name)) for name in ("settings", "options", "name", "server")}


def _unpacked(data: dict[str, Any]) -> ProcessSetup:
    settings, options = read(Settings, data["settings"]), read(WorkerOptions, data["options"])
    return ProcessSetup(settings, options, data["name"], read(ServerOptions, data["server"]))


def _lower_priority(process: subprocess.Popen) -> None:
    """Lets other programs go first, the one that answers requests above all: a busy worker would delay them."""
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process(process.pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else NICENESS)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return signal.strsignal(-status) or f"signal {-status}"
