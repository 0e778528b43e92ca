"""How a stream is written while the server's `send` is held up, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

from realtime.connections import GOING_AWAY
from realtime.sse.transport import MAX_QUEUED, MAX_QUEUED_BYTES, StreamTransport
from tests.web_process import eventually


class Server:
    """An ASGI server's `send`, which can be held up or lost."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.more = True
        self.open = asyncio.Event()
        self.open.set()
        self.lost = False

    async def __call__(self, message: Any) -> None:
        if self.lost:
            raise OSError("gone")
        await self.open.wait()
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            self.more = message["more_body"]


async def begun(server: Server) -> StreamTransport:
    made = StreamTransport(server)
    await made.begin(200, [])
    return made


async def test_what_is_put_goes_out_at_once_and_in_order() -> None:
    server = Server()
    transport = StreamTransport(server)
    assert transport.put(b"a")
    assert server.bodies == []
    await transport.begin(200, [])
    assert server.bodies == [b"a"]
    assert transport.put(b"b")
    assert transport.put(b"c")
    assert (server.bodies, transport.buffered()) == ([b"a", b"b", b"c"], 0)


async def test_what_waits_is_joined() -> None:
    server = Server()
    transport = await begun(server)
    server.open.clear()
    for n in range(50):
        assert transport.put(b"%02d" % n)
    assert transport.buffered() == 100
    server.open.set()
    await eventually(lambda: not transport.buffered())
    assert server.bodies == [b"00", b"".join(b"%02d" % n for n in range(1, 50))]


async def test_it_holds_so_many_bytes_and_no_more() -> None:
    server = Server()
    transport = await begun(server)
    server.open.clear()
    while transport.put(b"x" * 10_000):
        continue
    assert transport.buffered() <= MAX_QUEUED_BYTES
    assert transport.put(b"") is True


async def test_it_holds_so_many_payloads_and_no_more() -> None:
    server = Server()
    transport = await begun(server)
    server.open.clear()
    assert sum(transport.put(b"x") for _ in range(2 * MAX_QUEUED)) == MAX_QUEUED + 1


async def test_one_payload_may_be_of_any_size() -> None:
    transport = await begun(Server())
    assert transport.put(b"x" * (2 * MAX_QUEUED_BYTES))


async def test_space_is_there_when_half_is_read() -> None:
    server = Server()
    transport = await begun(server)
    server.open.clear()
    while transport.put(b"x" * 10_000):
        continue
    waiting = asyncio.ensure_future(transport.space())
    await asyncio.sleep(0)
    assert not waiting.done()
    server.open.set()
    await asyncio.wait_for(waiting, 5)


async def test_the_last_word_replaces_what_waits() -> None:
    server = Server()
    transport = await begun(server)
    server.open.clear()
    transport.put(b"under way")
    transport.put(b"waits")
    waiting = asyncio.ensure_future(transport.space())
    transport.end([b"last"], 1008, "slow_consumer")
    transport.end([b"again"], 1000, "")
    await asyncio.wait_for(waiting, 5)
    assert transport.put(b"more") is False
    server.open.set()
    await eventually(lambda: not server.more)
    assert server.bodies == [b"under way", b"last"]


async def test_a_stopping_server_tells_when_to_come_back() -> None:
    server = Server()
    transport = await begun(server)
    transport.end([], GOING_AWAY, "the server is stopping")
    [last] = server.bodies
    assert last.startswith(b"retry: ")
    assert 1000 <= int(last.split()[1]) <= 5000
    assert server.more is False


async def test_a_client_that_is_gone_takes_nothing() -> None:
    server = Server()
    transport = await begun(server)
    server.lost = True
    transport.put(b"x")
    assert transport.put(b"y") is False
    assert transport.buffered() == 0
    await asyncio.wait_for(transport.space(), 5)
