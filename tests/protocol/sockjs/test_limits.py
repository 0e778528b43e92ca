"""Clients of SockJS that do not read, come too often, or leave a process no room."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers.access import Principal
from realtime.errors import PolicyViolation
from realtime.frame_protocol import MAX_QUEUED_BYTES
from realtime.websocket import Handshake
from tests.protocol.sockjs.echoing import Service, service
from tests.web_process import eventually


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path, response_bytes=10**9) as started:
        yield started


def url() -> str:
    return f"000/{secrets.token_hex(8)}"


@asynccontextmanager
async def unread(process: Service, where: str) -> AsyncIterator[socket.socket]:
    """A streaming answer that its client leaves unread."""
    host, port = process.address.split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"POST /ws/{where}/xhr_streaming HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
        )
        yield client


async def overflow(connection: Any) -> int:
    """Writes until it is too much; how much it was."""
    written = 0
    async with asyncio.timeout(20):
        while connection.write(b"x" * 20_000):
            written += 20_000
            await asyncio.sleep(0)
    return written


async def test_what_nobody_fetches_is_bounded(echo: Service) -> None:
    where = url()
    assert (await echo.post(f"{where}/xhr")).text == "o\n"
    connection = echo.sessions[0].connection
    assert await overflow(connection) <= MAX_QUEUED_BYTES
    assert connection.last_error == "slow_consumer"
    assert connection.transport.buffered() < 20_000
    assert (await echo.post(f"{where}/xhr")).text == 'c[1008,"slow_consumer"]\n'


@pytest.mark.parametrize("passed_on", [False, True])
async def test_a_stream_that_is_not_read_is_cut_off(
    echo: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_on: bool
) -> None:
    monkeypatch.setattr("realtime.sockjs.session.GRACE_SECONDS", 0.3)
    monkeypatch.setattr("realtime.sockjs.peers.SEND_SECONDS", 0.1)
    async with service(tmp_path) as other:
        where = url()
        assert (await echo.post(f"{where}/xhr")).text == "o\n"
        process = other if passed_on else echo
        async with unread(process, where) as client:
            held = echo.sockjs._sessions.get(where[4:])
            assert held is not None
            await eventually(lambda: held.receiving)
            connection = echo.sessions[0].connection
            assert await overflow(connection) < 2 * 1024 * 1024
            assert connection.last_error == "slow_consumer"
            assert held.buffered() <= MAX_QUEUED_BYTES
            await eventually(lambda: not held.receiving)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10):
                try:
                    while await loop.sock_recv(client, 1 << 20):
                        continue
                except ConnectionResetError:
                    pass


async def test_catching_up_waits_for_a_poll(echo: Service) -> None:
    where = url()
    assert (await echo.post(f"{where}/xhr")).text == "o\n"
    connection = echo.sessions[0].connection
    for _ in range(15):
        assert connection.write(b"x" * 20_000)
    waiting = asyncio.create_task(connection.space())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert len((await echo.post(f"{where}/xhr")).content) > 300_000
    poll = asyncio.create_task(echo.post(f"{where}/xhr"))
    assert await waiting
    assert connection.write(b"more")
    assert (await poll).text == 'a["more"]\n'


async def test_sessions_count_as_the_users_connections(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handshake(scope: Any, *, subprotocols: Any = ()) -> Handshake:
        return Handshake(None, Principal("somebody", False), None)

    monkeypatch.setattr("realtime.websocket.handshake", handshake)
    monkeypatch.setattr(echo.registry, "_limit_per_user", 1)
    first, second = url(), url()
    assert (await echo.post(f"{first}/xhr")).text == "o\n"
    assert (await echo.post(f"{second}/xhr")).text == "o\n"
    assert (await echo.post(f"{second}/xhr")).text == 'c[1008,"too_many_connections"]\n'
    assert (await echo.post(f"{second}/xhr_send", '["a"]')).status_code == 204
    assert len(echo.registry.connections) == 1


async def test_a_process_without_room_says_so(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo.registry, "_limit", 0)
    refused = await echo.post(f"{url()}/xhr")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    monkeypatch.setattr(echo.registry, "_limit", 10)
    monkeypatch.setattr("realtime.sockjs.sessions.MAX_CONNECTIONS", 0)
    assert (await echo.post(f"{url()}/xhr")).status_code == 503


async def test_a_process_that_stops_tells_its_receivers(echo: Service) -> None:
    where, polled = url(), url()
    assert (await echo.post(f"{polled}/xhr")).text == "o\n"
    async with echo.streamed("POST", f"{where}/xhr_streaming") as answer:
        await answer.read(2051)
        echo.registry.drain()
        assert await answer.read(100) == b'c[1001,"the server is stopping"]\n'
    assert (await echo.post(f"{polled}/xhr")).text == 'c[1001,"the server is stopping"]\n'
    assert (await echo.post(f"{url()}/xhr")).status_code == 503
    await eventually(lambda: all(each.over for each in echo.sessions))


async def test_an_error_of_a_session_ends_it(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    where = url()
    assert (await echo.post(f"{where}/xhr")).text == "o\n"

    async def received(data: bytes) -> None:
        raise PolicyViolation("too fast", "rate_limited")

    monkeypatch.setattr(echo.sessions[0], "received", received)
    assert (await echo.post(f"{where}/xhr_send", '["a", "b"]')).status_code == 204
    assert (await echo.post(f"{where}/xhr")).text == 'c[1008,"rate_limited"]\n'


async def test_a_body_that_does_not_come_is_not_waited_for(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.sockjs.sending.BODY_SECONDS", 0.2)
    where = url()
    assert (await echo.post(f"{where}/xhr")).text == "o\n"

    async def body() -> AsyncIterator[bytes]:
        yield b'["a'
        await asyncio.sleep(1)
        yield b'"]'

    assert (await echo.client.post(f"{where}/xhr_send", content=body())).status_code == 408


async def test_a_new_receiver_takes_over_from_one_that_is_ending(echo: Service) -> None:
    where = url()
    assert (await echo.post(f"{where}/xhr")).text == "o\n"
    for number in range(100):
        sent, received = await asyncio.gather(
            echo.post(f"{where}/xhr_send", f'["{number}"]'), echo.post(f"{where}/xhr")
        )
        assert (sent.status_code, received.text) == (204, f'a["{number}"]\n')
