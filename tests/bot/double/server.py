"""The double on a port of 127.0.0.1."""

import contextlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yarl
from aiohttp import web
from discord.gateway import DiscordWebSocket
from discord.http import Route

from tests.bot.double.gateway import Gateway
from tests.bot.double.interactions import Interactions
from tests.bot.double.people import Person
from tests.bot.double.rules import Refused, check_commands
from tests.bot.double.world import Clock, Guild, World

TOKEN = "MTA.double-of-a-token.not-a-secret-of-anybody"
API = "/api/v10"
VIA = {"Via": "1.1 google"}  # of Discord's own answers; one of the network before it has none


@dataclass
class Fault:
    """What is answered instead. `is_lost`: the request is carried out, and the answer is lost."""

    method: str
    path: re.Pattern[str]
    times: float
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False


@dataclass
class Rate:
    """So many requests in each window of so many seconds, for each channel."""

    count: int
    seconds: float
    windows: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0]))  # start, requests

    def take(self, key: str) -> tuple[bool, int, float]:
        """Whether one more is allowed, how many more then are, and the seconds until all are."""
        now, window = time.monotonic(), self.windows[key]
        if now - window[0] >= self.seconds:
            window[:] = [now, 0]
        window[1] += 1
        return window[1] <= self.count, max(0, self.count - int(window[1])), window[0] + self.seconds - now


class Discord:
    """`async with Discord() as discord:` runs it.

    Args:
        rate: requests of one kind in a channel, and in how many seconds.
        heartbeat: seconds between two heartbeats.
        clock: if others use it too.
    """

    def __init__(self, *, rate: tuple[int, float] = (5, 5.0), heartbeat: float = 41.25, clock: Clock | None = None):
        self.gateway = Gateway(heartbeat)
        self.clock = clock or Clock()
        self.world = World(self.gateway.emit, self.clock)
        self.interactions = Interactions(self.world)
        self.token = TOKEN
        self.flags = 0  # of the app
        self.is_public = False
        self.without_commands: set[str] = set()  # servers that were joined without the scope of commands
        self.requests: list[tuple[str, str, int]] = []  # method, path and status
        self.in_flight = 0  # requests
        self.faults: list[Fault] = []
        self.hooks: list[Callable[[str, str], None]] = []  # called before a request is carried out
        self._rate = rate
        self._rates: dict[str, Rate] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "Discord":
        app = web.Application(client_max_size=200 * 2**20)
        app.router.add_get("/gateway/", self.gateway.handle)
        app.router.add_get("/attachments/{path:.+}", self._file)
        app.router.add_route("*", API + "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.world.base = f"http://127.0.0.1:{port}"
        self.gateway.start(self._ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gateway.drop()
        await self._runner.cleanup()

    @property
    def base(self) -> str:
        return self.world.base

    @property
    def invalid(self) -> int:
        """Requests that Discord counts as invalid: it closes to whoever makes 10,000 of them in ten minutes."""
        return sum(status in (401, 403, 429) for _, _, status in self.requests)

    def person(self, name: str, guild: Guild | None = None, *, locale: str = "en-US", **more: Any) -> Person:
        """A person, on a server if one is given. `more`: `age` of the account, `since` and `roles` of the member."""
        age = {"age": more.pop("age")} if "age" in more else {}
        user = self.world.add_user(name, **age)
        if guild is not None:
            self.world.add_member(guild, user, **more)
        return Person(self, user["id"], locale)

    def fail(
        self,
        method: str,
        path: str,
        status: int = 503,
        *,
        times: float = 1,
        code: int = 0,
        body: Any = None,
        headers: dict[str, str] | None = None,
        is_lost: bool = False,
    ) -> Fault:
        """Answers the next requests, whose path a regular expression matches, with a fault."""
        body = {"message": f"fault {code or status}", "code": code} if body is None else body
        fault = Fault(method, re.compile(path), times, status, body, {**VIA, **(headers or {})}, is_lost)
        self.faults.append(fault)
        return fault

    def limit(self, method: str, path: str, retry_after: float, times: float = 1, is_global: bool = False) -> Fault:
        """A 429 of Discord itself."""
        body = {"message": "You are being rate limited.", "retry_after": retry_after, "global": is_global}
        return self.fail(method, path, 429, times=times, body=body)

    def block(self, method: str, path: str, times: float = 1) -> Fault:
        """A 429 of the network before Discord: a page of HTML, without a bucket."""
        fault = self.fail(method, path, 429, times=times, body="<html>error code: 1015</html>")
        fault.headers = {"Retry-After": "1"}
        return fault

    # Requests

    def _ready(self) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
        guilds = [guild.payload() for guild in self.world.guilds.values()]
        data = {"v": 10, "user": self.world.bot, "guilds": [{"id": g["id"], "unavailable": True} for g in guilds]}
        data |= {"resume_gateway_url": self.base.replace("http", "ws") + "/gateway/"}
        return data | {"application": {"id": self.world.bot["id"], "flags": self.flags}}, guilds, self.token

    async def _file(self, request: web.Request) -> web.Response:
        content = self.world.files.get(request.match_info["path"])
        return web.Response(body=content) if content is not None else web.Response(status=404)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        self.in_flight += 1
        try:
            response = await self._response(request, path)
        finally:
            self.in_flight -= 1
        self.requests.append((request.method, path, response.status))
        return response

    async def _response(self, request: web.Request, path: str) -> web.Response:
        body, files = await _read(request)
        for hook in self.hooks:
            hook(request.method, path)
        fault = next(
            (f for f in self.faults if f.times > 0 and f.method in ("*", request.method) and f.path.search(path)), None
        )
        if fault:
            fault.times -= 1
            if fault.is_lost:
                with contextlib.suppress(Refused):
                    self._carry_out(request, path, body, files)
                request.transport.abort()
                return web.Response(status=499)
            return _answer(fault.status, fault.body, fault.headers)
        headers, wait = self._limited(request.method, path)
        if wait is not None:
            body = {"message": "You are being rate limited.", "retry_after": wait, "global": False}
            return _answer(429, body, {**VIA, **headers, "Retry-After": str(wait)})
        try:
            return _answer(200, self._carry_out(request, path, body, files), {**VIA, **headers})
        except Refused as fault:
            return _answer(fault.status, fault.body, {**VIA, **headers, **fault.headers})

    def _limited(self, method: str, path: str) -> tuple[dict[str, str], float | None]:
        """Headers about the rate, and how long to wait if there were too many."""
        if not (found := re.match(r"/channels/(\d+)/messages", path)) or method not in ("POST", "PATCH"):
            return {}, None
        rate = self._rates.setdefault(method, Rate(*self._rate))
        is_allowed, left, seconds = rate.take(found[1])
        headers = {"X-RateLimit-Limit": str(rate.count), "X-RateLimit-Remaining": str(left)}
        headers |= {"X-RateLimit-Reset-After": f"{seconds:.3f}", "X-RateLimit-Reset": f"{time.time() + seconds:.3f}"}
        return headers | {"X-RateLimit-Bucket": f"bucket-{method}"}, None if is_allowed else seconds

    def _carry_out(self, request: web.Request, path: str, body: Any, files: dict[str, tuple[str, bytes]]) -> Any:
        needs_token = not path.startswith(("/webhooks/", "/interactions/"))
        if needs_token and request.headers.get("Authorization") != f"Bot {self.token}":
            raise Refused(401, 0, "401: Unauthorized")
        for method, pattern, work in ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, path)):
                return work(self, body, files, request.query, *found.groups())
        raise Refused(404, 0, f"404: {request.method} {path} is not in the double")

    def _application(self) -> dict[str, Any]:
        world = self.world
        data = {"id": world.bot["id"], "name": "calotype", "description": "", "icon": None, "owner": world.maker}
        data |= {"bot_public": self.is_public, "bot_require_code_grant": False, "verify_key": "", "flags": self.flags}
        return data | {"rpc_origins": None, "summary": "", "team": None, "hook": True}

    def _register(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        check_commands(commands)
        world = self.world
        world.commands = [
            {"id": world.new_id(), "application_id": world.bot["id"], **c, "version": "1"} for c in commands
        ]
        for command in world.commands:
            command.setdefault("description", "")
            command.setdefault("type", 1)
        return world.commands

    def _user(self, id: str) -> dict[str, Any]:
        if id not in self.world.users:
            raise Refused(404, 10013, "Unknown User")
        return self.world.users[id]

    def _delete(self, channel: str, message: str) -> None:
        self.world.delete(self.world.message(channel, message))

    # Clients

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Clients of this process connect to the double."""
        before = Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
        redirect(self.base)
        try:
            yield
        finally:
            Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before


def redirect(base: str) -> None:
    """Clients of this process connect to the double at `base` from now on."""
    Route.BASE = base + API
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(base.replace("http", "ws") + "/gateway/")


async def _read(request: web.Request) -> tuple[Any, dict[str, tuple[str, bytes]]]:
    """The JSON and the files of a request."""
    if request.content_type != "multipart/form-data":
        text = await request.text()
        return json.loads(text) if text else {}, {}
    form = await request.post()
    files = {n: (v.filename, v.file.read()) for n, v in form.items() if isinstance(v, web.FileField)}
    return json.loads(form["payload_json"]), files


def _answer(status: int, data: Any, headers: dict[str, str]) -> web.Response:
    if isinstance(data, str):
        return web.Response(status=status, text=data, content_type="text/html", headers=headers)
    if data is None:
        return web.Response(status=204, headers=headers)
    response = web.json_response(data, status=status, headers=headers)
    response.headers["Content-Type"] = "application/json"
    return response


def _guild_commands(discord: Discord, guild: str) -> list[Any]:
    if guild in discord.without_commands:
        raise Refused(403, 50001, "Missing Access")
    return []


ID = r"(\d+)"
MESSAGES = rf"/channels/{ID}/messages"
HOOK = r"/webhooks/\d+/([\w-]+)"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/users/@me", lambda d, b, f, q: d.world.bot),
    ("GET", "/oauth2/applications/@me", lambda d, b, f, q: d._application()),
    ("GET", "/applications/@me", lambda d, b, f, q: d._application()),
    ("GET", "/gateway/bot", lambda d, b, f, q: {"url": d.base, "shards": 1, "session_start_limit": {}}),
    ("PUT", rf"/applications/{ID}/commands", lambda d, b, f, q, _: d._register(b)),
    ("GET", rf"/applications/{ID}/commands", lambda d, b, f, q, _: d.world.commands),
    ("GET", rf"/applications/{ID}/guilds/{ID}/commands", lambda d, b, f, q, _, guild: _guild_commands(d, guild)),
    (
        "GET",
        "/users/@me/guilds",
        lambda d, b, f, q: [guild.payload() for guild in d.world.guilds.values()],
    ),
    ("GET", rf"/guilds/{ID}", lambda d, b, f, q, id: d.world.guilds[id].payload()),
    ("GET", rf"/guilds/{ID}/channels", lambda d, b, f, q, id: d.world.guilds[id].payload()["channels"]),
    ("GET", rf"/guilds/{ID}/members/{ID}", lambda d, b, f, q, id, member: d.world.guilds[id].members[member]),
    ("GET", rf"/users/{ID}", lambda d, b, f, q, id: d._user(id)),
    ("POST", "/users/@me/channels", lambda d, b, f, q: d.world.direct(str(b["recipient_id"])).payload()),
    ("GET", rf"/channels/{ID}", lambda d, b, f, q, id: d.world.channel(id).payload()),
    ("POST", MESSAGES, lambda d, b, f, q, channel: d.world.send(channel, b, f).payload()),
    (
        "GET",
        MESSAGES,
        lambda d, b, f, q, channel: [
            m.payload() for m in d.world.history(channel, q.get("before"), q.get("after"), int(q.get("limit", 50)))
        ],
    ),
    ("GET", rf"{MESSAGES}/{ID}", lambda d, b, f, q, channel, id: d.world.message(channel, id).payload()),
    ("PATCH", rf"{MESSAGES}/{ID}", lambda d, b, f, q, channel, id: d.world.edit(channel, id, b, f).payload()),
    ("DELETE", rf"{MESSAGES}/{ID}", lambda d, b, f, q, channel, id: d._delete(channel, id)),
    ("POST", rf"/interactions/{ID}/([\w-]+)/callback", lambda d, b, f, q, i, t: d.interactions.answer(i, t, b, f)),
    ("POST", HOOK, lambda d, b, f, q, token: d.interactions.follow(token, b, f).payload()),
    ("GET", HOOK + r"/messages/(@original|\d+)", lambda d, b, f, q, t, m: d.interactions.message(t, m).payload()),
    ("PATCH", HOOK + r"/messages/(@original|\d+)", lambda d, b, f, q, t, m: d.interactions.edit(t, m, b, f).payload()),
    ("DELETE", HOOK + r"/messages/(@original|\d+)", lambda d, b, f, q, t, m: d.interactions.delete(t, m)),
]
