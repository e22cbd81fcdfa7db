"""What every request passes first: checks of Host, Origin and size, headers of the answer, a line in the log.

Host names are checked against DNS rebinding: a page of another site whose name was pointed at this computer. Addresses
cannot be rebound. Origin and Sec-Fetch-Site are checked against requests that pages of other sites make.
"""

import ipaddress
import json
import logging
import socket
import time
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calotype.api.errors import Refusal, error_response, internal_error
from calotype.api.wording import prefer

log = logging.getLogger("calotype.api")
access_log = logging.getLogger("calotype.api.access")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}  # a route may set its own instead
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def host_name(header: str) -> str:
    """The name in a Host header, in lower case: "localhost" of "LOCALHOST:7860", "::1" of "[::1]:7860"."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return False


def check_host(headers: Headers, names: Iterable[str]) -> None:
    """Raises Refusal if the request names a host that is not this service."""
    name = host_name(headers.get("host", ""))
    if not (is_address(name) or name in names):
        raise Refusal(
            421,
            "the service is not known as {name!r}; the owner can add the name to its hosts",
            name=name[:100],
        )


def check_origin(method: str, headers: Headers) -> None:
    """Raises Refusal for a request made by a page of another site."""
    origin = headers.get("origin")
    host = headers.get("host", "").lower()
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise Refusal(403, "pages of another site may not use this service ({origin!r})", origin=origin[:100])
    is_opened = method == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a person followed a link
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_opened:
        raise Refusal(403, "pages of another site may not use this service")


class SecurityMiddleware:
    """Checks requests, adds headers, and logs one JSON line a request, without query, prompt or file name."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], max_body: int):
        self.app, self.max_body = app, max_body
        self.hosts = frozenset({"localhost", socket.gethostname().lower(), *(name.lower() for name in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, response = time.perf_counter(), {"status": 500, "is_started": False}
        headers = Headers(scope=scope)
        prefer(headers.get("accept-language", ""), headers.get("calotype-options", ""))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.update(status=message["status"], is_started=True)
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._check(scope)
            await self.app(scope, self._limited(receive), send_with_headers)
        except Refusal as fault:
            await error_response(fault, scope["path"])(scope, receive, send_with_headers)
        except Exception as fault:
            log.error("internal error in %s", getattr(scope.get("route"), "path", "?"), exc_info=fault)
            if not response["is_started"]:
                await internal_error(scope["path"])(scope, receive, send_with_headers)
        finally:
            self._record(scope, response["status"], time.perf_counter() - started)

    async def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_host(headers, self.hosts)
        check_origin(scope["method"], headers)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or len(length) > 18:
            raise Refusal(400, "the length of the body is not a number")
        if int(length) > self.max_body:
            raise too_large(self.max_body)

    def _limited(self, receive: Receive) -> Receive:
        """Counts the body, whose length a request in chunks does not declare."""
        count = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.max_body:
                raise too_large(self.max_body)
            return message

        return limited

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        user = scope.get("state", {}).get("user_id", "")
        scope["app"].state.service.metrics.add_request(scope["method"], route, status, seconds)
        facts = {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        access_log.info(json.dumps({"time": round(time.time(), 3), **facts, "user": user}))


def too_large(limit: int) -> Refusal:
    return Refusal(413, "the body of the request is larger than {limit:,} bytes, the limit here", limit=limit)
