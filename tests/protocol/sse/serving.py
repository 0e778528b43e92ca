"""A server of streams alone, in the test's own event loop, and a client that reads them."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from django.contrib.auth.models import User
from django.db import connection, connections

from brokers import access, database, tokens, topics
from brokers.access import GrantRule
from brokers.coalescer import Coalescer
from brokers.models import ApiToken
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

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Streams]:
        """The same server to a client that sends no token, and keeps cookies."""
        async with httpx.AsyncClient(base_url=self.client.base_url, timeout=20) as client:
            yield Streams(self.live, self.application, client, self.port)

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


async def issued(name: str, *rules: tuple[str, str, str]) -> str:
    """A token of a user, who is made when there is none; each rule an operation, a type and a name, or "" for all."""

    def issue() -> str:
        user, _ = User.objects.get_or_create(username=name)
        grants = [
            GrantRule(operation, kind, on, "literal" if on else "prefix", "allow") for operation, kind, on in rules
        ]
        return tokens.issue(user, f"of {name} {secrets.token_hex(4)}", grants)[1]

    text: str = await in_thread(issue)
    return text


async def revoke(name: str) -> None:
    """Revokes the tokens of a user."""

    def run() -> None:
        for token in ApiToken.objects.filter(owner__username=name):
            tokens.revoke(token.token_id)

    await in_thread(run)


async def execute(statement: str, *parameters: Any) -> None:
    """Runs a statement beside the event loop."""

    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    await in_thread(run)
