"""Connections over a real server and real sockets: handshakes, bounds, slow consumers, draining, disconnecting."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from brokers import wakeup
from brokers.access import Principal
from realtime import frame_protocol, registry, websocket
from realtime.connections import Connection
from realtime.frame_protocol import MAX_QUEUED_BYTES, FrameTransport
from realtime.registry import Registry
from tests.web_process import eventually, serving

SOMEBODY = Principal("somebody", False)


class Echo:
    """A session that answers with what it gets, and remembers that it was closed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.over = False
        connection.on_fail = lambda error, receipt_id: f"ERROR {error.code}".encode()
        connection.principal = SOMEBODY
        connection.opened = True

    async def received(self, data: bytes) -> None:
        self.connection.write(data)

    async def closed(self) -> None:
        self.over = True


class Site:
    """What serves, and everything it holds."""

    def __init__(self, make: Callable[[Connection], Any] = Echo) -> None:
        self.hub = wakeup.Hub(lambda kind, name: None)
        self.registry = Registry(self.hub)
        self.live: Any = SimpleNamespace(registry=self.registry)
        self.sessions: list[Any] = []
        self._make = make
        self.address = ""

    def _session(self, connection: Connection) -> Any:
        session = self._make(connection)
        self.sessions.append(session)
        return session

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await websocket.serve(scope, receive, send, self.live, self._session)

    @property
    def connection(self) -> Connection:
        """The last that was opened."""
        found: Connection = self.sessions[-1].connection
        return found


@asynccontextmanager
async def site(make: Callable[[Connection], Any] = Echo, **options: Any) -> AsyncIterator[Site]:
    made = Site(make)
    made.registry.start()
    try:
        async with serving(made, **options) as made.address:
            yield made
    finally:
        await made.registry.stop()


def dialled(where: Site, **options: Any) -> connect:
    return connect(f"ws://{where.address}/ws", compression=None, **options)


async def closed_with(client: ClientConnection) -> tuple[int, list[str | bytes]]:
    """The close code, and what came before it."""
    came: list[str | bytes] = []
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(15):
            while True:
                came.append(await client.recv())
    return (caught.value.rcvd.code if caught.value.rcvd else 1006), came


async def test_text_is_text_and_other_bytes_are_binary() -> None:
    async with site() as where, dialled(where) as client:
        for message in ("short", "grüß", "x" * 126, "y" * 65535, "z" * 65536, "w" * 300_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(b"\xff\x00")
        assert await client.recv() == b"\xff\x00"


async def test_an_idle_connection_keeps_neither_its_handshake_nor_a_queue() -> None:
    async with site() as where, dialled(where, additional_headers={"cookie": "a=" + "b" * 4000}) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        transport = where.connection.transport
        assert isinstance(transport, FrameTransport)
        protocol = transport._protocol
        assert not protocol.request.headers
        assert not protocol.response.headers
        assert not protocol.scope["headers"]
        assert protocol.out.maxlen == 0


async def test_a_plain_asgi_server_serves_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(ws="websockets-sansio") as where, dialled(where) as client:
        for message in ("short", "grüß", "z" * 65536):
            await client.send(message)
            assert await client.recv() == message
        assert where.connection.transport.__class__.__name__ == "AsgiTransport"
        where.registry.drain()
        assert await closed_with(client) == (1001, [])
        await eventually(lambda: where.sessions[0].over)


async def test_the_session_is_closed_when_the_client_goes() -> None:
    async with site() as where:
        async with dialled(where) as client:
            await client.send("hello")
            await client.recv()
            assert len(where.registry.connections) == 1
        await eventually(lambda: where.sessions[0].over)
        assert where.registry.connections == {}
        assert where.connection.ended


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        (["v10.stomp", "v12.stomp", "v11.stomp"], "v12.stomp"),
        (["v11.stomp", "other"], "v11.stomp"),
    ],
)
async def test_the_best_common_subprotocol_is_chosen(offered: Any, chosen: str | None) -> None:
    async with site() as where, dialled(where, subprotocols=offered) as client:
        assert client.subprotocol == chosen


async def refused(where: Site, **options: Any) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught:
        async with dialled(where, **options):
            pass
    return caught.value


async def test_handshakes_are_refused_before_the_upgrade(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    async with site() as where:
        assert (await refused(where, origin="https://evil.example")).response.status_code == 403
        assert (await refused(where, origin="null")).response.status_code == 403
        assert (await refused(where, subprotocols=["mqtt"])).response.status_code == 400
        answer = (await refused(where, additional_headers={"Authorization": "Basic eDp5"})).response
        assert answer.status_code == 401
        assert b"unauthenticated" in (answer.body or b"")
        where.registry._limit = 0
        assert (await refused(where)).response.status_code == 503
        where.registry._limit = 1
        async with dialled(where, origin=f"http://{where.address}"):
            assert (await refused(where)).response.status_code == 503
    assert caplog.records == []


async def test_who_does_not_log_in_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Echo):
        def __init__(self, connection: Connection) -> None:
            super().__init__(connection)
            connection.opened = False

    monkeypatch.setattr(registry, "LOGIN_SECONDS", 0.2)
    async with site(Silent) as where, dialled(where) as client:
        assert await closed_with(client) == (1008, ["ERROR login_timeout"])


async def stalled(where: Site) -> socket.socket:
    """A client that has shaken hands and reads nothing more, with little room in its kernel."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.setblocking(False)
    host, port = where.address.split(":")
    await loop.sock_connect(client, (host, int(port)))
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {where.address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    await loop.sock_sendall(client, request.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(client, 1)
    assert answer.startswith(b"HTTP/1.1 101")
    return client


async def test_a_client_that_does_not_read_costs_a_bound_and_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_protocol, "GRACE_SECONDS", 0.3)
    async with site() as where, dialled(where) as reader:
        await reader.send("hello")
        await reader.recv()
        good = where.connection
        client = await stalled(where)
        await eventually(lambda: len(where.sessions) == 2)
        slow = where.connection
        frame = slow.transport.wrap(b"x" * 20_000)
        most = 0
        for _ in range(400):
            slow.put(frame)
            most = max(most, slow.transport.buffered())
            good.write(b"tick")
            assert await reader.recv() == "tick"
        assert slow.ended
        assert slow.last_error == "slow_consumer"
        assert slow.dropped > 0
        assert MAX_QUEUED_BYTES // 2 < most < MAX_QUEUED_BYTES + 2 * 65536 + 2 * len(frame)
        # Only cutting it off frees it: the close waits behind what is not read.
        await eventually(lambda: where.sessions[1].over and len(where.registry.connections) == 1)
        protocol: Any = slow.transport
        await eventually(lambda: protocol._protocol.disconnected)
        client.close()


async def test_a_client_that_reads_again_in_time_learns_why_it_is_closed() -> None:
    async with site() as where:
        client = await stalled(where)
        await eventually(lambda: len(where.sessions) == 1)
        slow = where.connection
        while slow.write(b"x" * 20_000):
            await asyncio.sleep(0)
        loop, came = asyncio.get_running_loop(), b""
        async with asyncio.timeout(10):
            while not came.endswith(b"\x03\xf0slow_consumer"):
                more = await loop.sock_recv(client, 65536)
                assert more, "cut off before the close"
                came = (came + more)[-100:]
        assert b"\x81\x13ERROR slow_consumer\x88" in came
        client.close()


async def test_whoever_catches_up_waits_for_space() -> None:
    async with site() as where:
        client = await stalled(where)
        await eventually(lambda: len(where.sessions) == 1)
        connection, written = where.connection, 0

        async def catch_up() -> bool:
            nonlocal written
            for _ in range(300):
                if not await connection.space():
                    return False
                connection.write(b"x" * 20_000)
                written += 1
            return True

        task = asyncio.create_task(catch_up())
        loop = asyncio.get_running_loop()
        await eventually(lambda: connection.transport.buffered() > MAX_QUEUED_BYTES // 2)
        before = written
        for _ in range(20):
            await asyncio.sleep(0)
        assert (written, connection.ended) == (before, False)
        got = 0
        while got < 300 * 20_000:
            got += len(await loop.sock_recv(client, 65536))
        assert await task
        assert not connection.ended

        more = asyncio.create_task(catch_up())
        await eventually(lambda: connection.transport.buffered() > MAX_QUEUED_BYTES // 2)
        connection.end(1001, "")
        assert await more is False
        client.close()


async def test_a_frame_beyond_the_limit_is_refused_with_1009() -> None:
    async with site() as where, dialled(where) as client:
        await client.send("x" * (1024 * 1024 + 1))
        code, _ = await closed_with(client)
        assert code == 1009


async def test_draining_closes_all_with_1001() -> None:
    async with site() as where, dialled(where) as one, dialled(where) as other:
        await eventually(lambda: len(where.sessions) == 2)
        where.registry.drain()
        assert await closed_with(one) == (1001, [])
        assert await closed_with(other) == (1001, [])
        await eventually(lambda: all(session.over for session in where.sessions))
        assert (await refused(where)).response.status_code == 503


async def test_the_server_says_1001_itself_when_it_stops() -> None:
    async with site() as where:
        client = await dialled(where)
        await eventually(lambda: len(where.sessions) == 1)
    assert await closed_with(client) == (1001, [])


async def test_a_hint_disconnects_one_connection() -> None:
    async with site() as where, dialled(where) as one, dialled(where) as other:
        await eventually(lambda: len(where.sessions) == 2)
        where.hub._hear(f"d{where.sessions[0].connection.id} dunknown")
        assert await closed_with(one) == (1008, ["ERROR disconnected"])
        await other.send("still here")
        assert await other.recv() == "still here"


async def test_a_user_may_have_as_many_connections_as_the_setting_says(settings: Settings) -> None:
    settings.LIVE_CONNECTIONS_PER_USER = 2

    async with site() as where:
        connections = []
        for _ in range(3):
            client = await dialled(where)
            connections.append(client)
        await eventually(lambda: len(where.sessions) == 3)
        where.registry.admit(where.sessions[0].connection, SOMEBODY, None)
        where.registry.admit(where.sessions[1].connection, SOMEBODY, None)
        where.registry.admit(where.sessions[1].connection, SOMEBODY, None)
        with pytest.raises(Exception, match="2 live connections"):
            where.registry.admit(where.sessions[2].connection, SOMEBODY, None)
        await connections[0].close()
        await eventually(lambda: where.sessions[0].over)
        where.registry.admit(where.sessions[2].connection, SOMEBODY, None)
        for client in connections[1:]:
            await client.close()
