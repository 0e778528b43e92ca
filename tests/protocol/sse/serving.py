"""A server of streams alone, in the test's own event loop, and a client that reads them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from django.db import connections

from brokers import access, database, topics
from brokers.access import Principal
from brokers.coalescer import Coalescer
from brokers.wakeup import Hub
from realtime.hub import LiveHub
from realtime.sse.app import StreamApplication
from tests.events import Event, EventReader


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs synchronous database code beside the event loop."""

    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for a condition; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def forget(kind: str, name: str) -> None:
    """What a web process does at a change that is announced."""
    if kind == "t":
        topics.forget(name)
    elif kind == "k":
        access.forget(name)


@dataclass
class Reader:
    """One open stream."""

    response: httpx.Response
    reader: EventReader = field(default_factory=EventReader)
    events: list[Event] = field(default_factory=list)
    ended: bool = False
    _parts: Any = None

    async def read(self) -> None:
        """Takes the next bytes."""
        if self._parts is None:
            self._parts = self.response.aiter_raw()
        try:
            self.events += self.reader.feed(await anext(self._parts))
        except StopAsyncIteration:
            self.ended = True

    async def next(self, seconds: float = 10.0) -> Event:
        """The next event."""
        async with asyncio.timeout(seconds):
            while not self.events and not self.ended:
                await self.read()
        return self.events.pop(0)

    async def take(self, count: int) -> list[Event]:
        """So many events."""
        return [await self.next() for _ in range(count)]

    async def rest(self, seconds: float = 10.0) -> list[Event]:
        """All events until the server ends the stream."""
        async with asyncio.timeout(seconds):
            while not self.ended:
                await self.read()
        found, self.events = self.events, []
        return found


@dataclass
class Streams:
    """A running server."""

    live: LiveHub
    application: StreamApplication
    client: httpx.AsyncClient
    port: int

    @asynccontextmanager
    async def open(self, path: str, **options: Any) -> AsyncIterator[Reader]:
        """A stream that must be there."""
        async with self.client.stream("GET", path, **options) as response:
            assert response.status_code == 200, await response.aread()
            yield Reader(response)

    def connections(self) -> list[Any]:
        """What the registry holds."""
        return list(self.live.registry.connections.values())


@asynccontextmanager
async def streams(token: str | None = None) -> AsyncIterator[Streams]:
    """The server, with a client that sends this token."""
    hub = Hub(forget)
    live = LiveHub(hub, Coalescer())
    application = StreamApplication(live)
    hub.start()
    live.start()
    await until(lambda: hub.connected)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application, lifespan="off", log_config=None, access_log=False, http="httptools")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    port = listener.getsockname()[1]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        await until(lambda: server.started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
            yield Streams(live, application, client, port)
    finally:
        live.drain()
        server.should_exit = True
        await serving
        await live.stop()
        await hub.stop()
        await database.close()
        listener.close()


def principal(name: str) -> Principal:
    """A user."""
    return Principal(name, False)
