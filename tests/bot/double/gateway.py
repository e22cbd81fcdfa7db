"""The gateway: sessions, heartbeats, and events that a resumed session gets again."""

import asyncio
import contextlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

EVENT, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
UNKNOWN_TOKEN, DISALLOWED_INTENT = 4004, 4014  # close codes
PRIVILEGED = 1 << 1 | 1 << 8 | 1 << 15  # intents: members, presences, content of messages
GUILDS, MESSAGES, DIRECT_MESSAGES = 1 << 0, 1 << 9, 1 << 12
NEEDS = {"GUILD": GUILDS, "CHANNEL": GUILDS, "THREAD": GUILDS, "MESSAGE": MESSAGES}


class Socket:
    """A connection. What is sent at once leaves in order."""

    def __init__(self, response: web.WebSocketResponse, request: web.Request):
        self.response, self._request = response, request
        self._order, self._tasks = asyncio.Lock(), set()

    def send(self, data: dict[str, Any]) -> None:
        task = asyncio.ensure_future(self._send(json.dumps(data)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, text: str) -> None:
        async with self._order:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self.response.send_str(text)

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


@dataclass
class Session:
    """A session of one client. It outlives its socket until it is invalidated."""

    id: str
    intents: int
    socket: Socket | None
    events: list[dict[str, Any]] = field(default_factory=list)

    def dispatch(self, name: str, data: dict[str, Any]) -> None:
        """Sends an event, and keeps it for a client that resumes."""
        event = {"op": EVENT, "t": name, "s": len(self.events) + 1, "d": data}
        self.events.append(event)
        self.send(event)

    def send(self, frame: dict[str, Any]) -> None:
        if self.socket is not None:
            self.socket.send(frame)


class Gateway:
    """The side of the gateway that Discord runs.

    Args:
        heartbeat: seconds between two heartbeats of the client.
    """

    def __init__(self, heartbeat: float = 41.25):
        self.heartbeat = heartbeat
        self.sessions: dict[str, Session] = {}
        self.identified = self.resumed = self.heartbeats = 0
        self.privileged = 0  # intents of these that the page of the app allows
        self.is_open = True
        self._ready: Any = None

    def start(self, ready: Any) -> None:
        """`ready`: gives the data of READY, and the servers that follow it, and the token."""
        self._ready = ready

    def emit(self, name: str, data: dict[str, Any]) -> bool:
        """Sends an event to all sessions. False if no client is connected, or can resume."""
        needed = NEEDS.get(name.partition("_")[0], 0)
        if name.startswith("MESSAGE") and "guild_id" not in data:
            needed = DIRECT_MESSAGES
        for session in self.sessions.values():
            if not needed or session.intents & needed:
                session.dispatch(name, data)
        return bool(self.sessions)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        if not self.is_open:
            raise web.HTTPServiceUnavailable
        response = web.WebSocketResponse()
        await response.prepare(request)
        socket = Socket(response, request)
        socket.send({"op": HELLO, "d": {"heartbeat_interval": int(self.heartbeat * 1000)}})
        async for frame in response:
            if frame.type is WSMsgType.TEXT:
                await self._receive(socket, json.loads(frame.data))
        for session in self.sessions.values():
            if session.socket is socket:
                session.socket = None
        return response

    async def _receive(self, socket: Socket, frame: dict[str, Any]) -> None:
        op, data = frame["op"], frame["d"]
        if op == HEARTBEAT:
            self.heartbeats += 1
            socket.send({"op": ACK})
        elif op == IDENTIFY:
            await self._identify(socket, data)
        elif op == RESUME:
            await self._resume(socket, data)

    async def _identify(self, socket: Socket, data: dict[str, Any]) -> None:
        ready, guilds, token = self._ready()
        if data["token"] != token:
            await socket.response.close(code=UNKNOWN_TOKEN, message=b"Authentication failed.")
            return
        if data["intents"] & PRIVILEGED & ~self.privileged:
            await socket.response.close(code=DISALLOWED_INTENT, message=b"Disallowed intent(s).")
            return
        self.identified += 1
        session = Session(secrets.token_hex(8), data["intents"], socket)
        self.sessions[session.id] = session
        session.dispatch("READY", {**ready, "session_id": session.id})
        for guild in guilds:
            session.dispatch("GUILD_CREATE", guild)

    async def _resume(self, socket: Socket, data: dict[str, Any]) -> None:
        if data["token"] != self._ready()[2]:
            await socket.response.close(code=UNKNOWN_TOKEN, message=b"Authentication failed.")
            return
        session = self.sessions.get(data["session_id"] or "")
        if session is None:
            socket.send({"op": INVALID, "d": False})
            return
        self.resumed += 1
        session.socket = socket
        for event in session.events[data["seq"] or 0 :]:
            session.send(event)
        session.dispatch("RESUMED", {})

    # Faults

    def drop(self) -> None:
        """Cuts all sockets without a word. Their sessions can be resumed."""
        for session in self.sessions.values():
            if session.socket is not None:
                session.socket.cut()
            session.socket = None

    def ask_to_reconnect(self) -> None:
        for session in self.sessions.values():
            session.send({"op": RECONNECT, "d": None})

    def invalidate(self) -> None:
        """Ends all sessions: what happens from now on, no client learns until it identifies again."""
        ended, self.sessions = self.sessions, {}
        for session in ended.values():
            session.send({"op": INVALID, "d": False})

    def forget(self) -> None:
        """Ends sessions without a socket: their client is gone."""
        self.sessions = {id: session for id, session in self.sessions.items() if session.socket is not None}

    @property
    def is_connected(self) -> bool:
        return any(session.socket is not None for session in self.sessions.values())
