"""STOMP sessions over a transport that the tests read, on real stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager

from django.db import connections

from brokers import database, topics
from brokers.access import GrantRule, Principal
from brokers.coalescer import Coalescer
from brokers.queues import topology
from brokers.wakeup import Hub
from realtime.hub import LiveHub
from realtime.stomp.encoder import encode
from realtime.stomp.frame import Frame
from realtime.stomp.session import StompSession
from realtime.threads import threads
from tests.integration.realtime.following import until

ADMIN = Principal("admin", True)


def granted(name: str, *rules: tuple[str, str, str, str]) -> Principal:
    """Somebody who may do what the rules say: operation, resource type, name, literal or prefix."""
    return Principal(name, False, tuple(GrantRule(*rule, "allow") for rule in rules))


def _as_it_is(payload: bytes) -> bytes:
    return payload


class Wire:
    """A transport whose peer reads all, or nothing while `stalled`."""

    kind = "test"
    wrap: Callable[[bytes], bytes] = staticmethod(_as_it_is)

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.closed: tuple[int, str] | None = None
        self.unread = 0
        self._stalled = False
        self._room = asyncio.Event()
        self._room.set()

    @property
    def stalled(self) -> bool:
        """The peer does not read."""
        return self._stalled

    @stalled.setter
    def stalled(self, value: bool) -> None:
        self._stalled = value
        if value:
            self._room.clear()
        else:
            self.unread = 0
            self._room.set()

    def put(self, frame: bytes) -> bool:
        if self.closed is not None:
            return False
        if self._stalled:
            if self.unread and self.unread + len(frame) > 512 * 1024:
                return False
            self.unread += len(frame)
        self._read(frame)
        return True

    def buffered(self) -> int:
        return self.unread

    async def space(self) -> None:
        if self.unread > 256 * 1024:
            await self._room.wait()

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        for payload in payloads:
            self._read(payload)
        self.closed = (code, reason)
        self._room.set()

    def _read(self, data: bytes) -> None:
        self.frames += _decoded(data)


def _decoded(data: bytes) -> list[Frame]:
    """Server frames, whose bodies are as long as they say or end at the NUL."""
    frames = []
    while data := data.lstrip(b"\n"):
        head, _, rest = data.partition(b"\n\n")
        command, *lines = head.decode().split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, value.replace("\\c", ":").replace("\\n", "\n").replace("\\\\", "\\"))
        size = int(headers["content-length"]) if "content-length" in headers else rest.index(b"\0")
        frames.append(Frame(command, headers, rest[:size]))
        assert rest[size : size + 1] == b"\0"
        data = rest[size + 1 :]
    return frames


class Client:
    """One session and what it was sent."""

    def __init__(self, live: LiveHub, principal: Principal, version: str) -> None:
        self.wire = Wire()
        self.live = live
        self.connection = live.registry.open("stomp", self.wire, principal=principal)
        self.session = StompSession(self.connection, live)
        self.version = version

    async def say(self, command: str, body: bytes | str = b"", **headers: str) -> None:
        """Sends a `frame` and waits until it is handled."""
        await self.pour(self.frame(command, body, **headers))

    def frame(self, command: str, body: bytes | str = b"", **headers: str) -> bytes:
        """A frame's bytes; `_` in names of headers are dashes."""
        named = {name.strip("_").replace("_", "-"): value for name, value in headers.items()}
        raw = body.encode() if isinstance(body, str) else body
        return encode(Frame(command, named, raw), self.version)

    async def pour(self, *frames: bytes) -> None:
        """Sends frames in one piece and waits until they are handled."""
        await self.session.received(b"".join(frames))
        await self.session.done()

    async def leave(self) -> None:
        """Its peer has gone, as far as the session can tell."""
        self.live.registry.close(self.connection)
        await self.session.closed()

    async def connect(self) -> None:
        await self.say("CONNECT", accept_version=self.version, host="test")
        assert self.wire.frames.pop().command == "CONNECTED"

    @property
    def messages(self) -> list[Frame]:
        return [frame for frame in self.wire.frames if frame.command == "MESSAGE"]

    @property
    def bodies(self) -> list[str]:
        return [frame.body.decode() for frame in self.messages]

    @property
    def error(self) -> str | None:
        """The code of the ERROR that ended it."""
        found = [frame for frame in self.wire.frames if frame.command == "ERROR"]
        return found[0].headers["message"] if found else None

    @property
    def receipts(self) -> list[str]:
        return [frame.headers["receipt-id"] for frame in self.wire.frames if frame.command == "RECEIPT"]

    async def got(self, count: int) -> list[Frame]:
        """That many messages, as soon as they are there."""
        await until(lambda: len(self.messages) >= count or self.error is not None)
        assert len(self.messages) == count, self.wire.frames
        return self.messages

    async def failed(self) -> str:
        """The code of the ERROR that ends it."""
        await until(lambda: self.error is not None)
        assert self.error is not None
        return self.error


class Live:
    """The hub of a process, and its clients."""

    def __init__(self, hub: LiveHub) -> None:
        self.hub = hub
        self.clients: list[Client] = []

    async def client(self, principal: Principal = ADMIN, version: str = "1.2") -> Client:
        made = Client(self.hub, principal, version)
        self.clients.append(made)
        await made.connect()
        return made


def _close_connections() -> None:
    """Those of the threads that sessions use."""
    together = threading.Barrier(threads.size)

    def close() -> None:
        together.wait(10)
        connections.close_all()

    wait([threads.executor.submit(close) for _ in range(threads.size)])


@asynccontextmanager
async def live() -> AsyncIterator[Live]:
    """A running hub; its clients are gone at the end."""

    def forget(kind: str, name: str) -> None:
        if kind == "t":
            topics.forget(name)
        elif kind == "x":
            topology.forget()

    hub = Hub(forget)
    made = LiveHub(hub, Coalescer())
    hub.start()
    made.start()
    found = Live(made)
    try:
        await until(lambda: hub.connected and made.broadcasts.connected)
        yield found
    finally:
        for client in found.clients:
            await client.leave()
        await made.stop()
        await hub.stop()
        await database.close()
        await asyncio.to_thread(_close_connections)
