"""A SockJS service in the test's own event loop, with sessions that send back what they get, or close at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from brokers import wakeup
from realtime.connections import Connection
from realtime.registry import Registry
from realtime.sockjs.app import SockJs
from tests.web_process import serving

ORIGIN = "http://localhost"
"""Of pages that may connect: the service is asked under this name."""


class Echo:
    """A session that sends back what it gets."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.over = False
        connection.opened = True

    async def received(self, data: bytes) -> None:
        self.connection.write(data)

    async def closed(self) -> None:
        self.over = True


class Close(Echo):
    """A session that is closed at once, in good order."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        connection.end(1000, "")


class Service:
    """One process of a service, and a client of it."""

    def __init__(self, make: Callable[[Connection], Any], directory: Path, response_bytes: int) -> None:
        self.hub = wakeup.Hub(lambda kind, name: None)
        self.registry = Registry(self.hub)
        self.sessions: list[Any] = []
        self._make = make
        live: Any = SimpleNamespace(registry=self.registry)
        self.sockjs = SockJs(live, self._session, directory=directory, response_bytes=response_bytes)
        self.address = ""
        self.client: httpx.AsyncClient

    def _session(self, connection: Connection) -> Any:
        session = self._make(connection)
        self.sessions.append(session)
        return session

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.sockjs(scope, receive, send, scope["path"].removeprefix("/ws/"))

    async def post(self, path: str, content: str = "", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, content=content, headers=named)

    @asynccontextmanager
    async def streamed(self, method: str, path: str, **headers: str) -> AsyncIterator[Answer]:
        """An answer that is read as it comes."""
        async with self.client.stream(method, path, headers=headers) as response:
            yield Answer(response)


class Answer:
    """A streaming answer."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._parts = response.aiter_raw()
        self._held = b""

    async def read(self, size: int) -> bytes:
        """So many bytes; fewer at the answer's end."""
        while len(self._held) < size:
            part = await anext(self._parts, None)
            if part is None:
                break
            self._held += part
        found, self._held = self._held[:size], self._held[size:]
        return found


@asynccontextmanager
async def service(
    directory: Path, make: Callable[[Connection], Any] = Echo, *, response_bytes: int = 4096, **options: Any
) -> AsyncIterator[Service]:
    """A running process of a service, its server with these options; its client says no Origin."""
    made = Service(make, directory, response_bytes)
    made.registry.wheel.start()
    try:
        async with serving(made, **options) as address:
            made.address = address
            base = f"http://{address}/ws/"
            async with httpx.AsyncClient(base_url=base, headers={"Host": "localhost"}, timeout=10) as client:
                made.client = client
                yield made
                made.registry.drain()
    finally:
        await made.sockjs.stop()
        made.registry.wheel.stop()
