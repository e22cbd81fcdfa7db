"""Runs the application until a signal asks it to end, and the worker process beside it."""

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from calotype.api.settings import ServiceSettings
from calotype.errors import CalotypeError, reason_of

GRACE = 10  # seconds for open requests to end
MAX_CONNECTIONS = 2000
KEEP_ALIVE = 30  # seconds for which an idle connection stays open: a client may use it just when it is closed
SWITCH_SECONDS = 0.001  # threads of Python take turns: the one that answers waits less for those that work

log = logging.getLogger("calotype.api")


class _Server(uvicorn.Server):
    """Tells the application that it stops before open streams are waited for."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]):
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)


def bind(service: ServiceSettings) -> socket.socket:
    """A listening socket. Raises CalotypeError if the address or port cannot be used."""
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    try:
        listener = socket.create_server((service.host, service.port), family=family, backlog=2048)
    except OSError as fault:
        raise CalotypeError(
            "{host}, port {port} cannot be used: {reason}; give another {option}",
            host=service.host,
            port=service.port,
            reason=reason_of(fault),
            option="port",
        ) from None
    except OverflowError:
        raise CalotypeError("{host} is not an address of this computer", host=service.host, option="host") from None
    # asyncio sends without delay (TCP_NODELAY) only on sockets that name their protocol: 40 ms an answer otherwise
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listener.detach())


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM: then refuses new jobs, ends streams, and waits for the other requests."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
        limit_concurrency=MAX_CONNECTIONS,
    )
    server = _Server(config, app.state.service.stopping.set)
    sys.setswitchinterval(SWITCH_SECONDS)
    with _ignored_when_raised_again():
        server.run(sockets=[listener])


@contextlib.contextmanager
def _ignored_when_raised_again() -> Iterator[None]:
    """The server raises a signal again once it has stopped, when the work of this process is not done yet."""
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
