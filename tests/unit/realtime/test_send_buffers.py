"""The kernel's buffer of a live connection, also of one whose client has left before it is set."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from realtime import send_buffers
from realtime.send_buffers import SEND_BUFFER_BYTES

Loop = Callable[[], asyncio.AbstractEventLoop]


async def _measured() -> int:
    """The size of a connection's buffer, which is bounded once more when the connection is closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(lambda reader, writer: writer.close(), sock=listener)
    async with server:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        send_buffers.bound(writer.transport)
        size: int = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        writer.transport.abort()
        while writer.get_extra_info("socket").fileno() >= 0:
            await asyncio.sleep(0)
        send_buffers.bound(writer.transport)
        return size


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_buffer_is_bounded_and_a_client_that_is_gone_disturbs_nobody(loop: Loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(_measured()) <= 2 * SEND_BUFFER_BYTES  # Linux counts twice what was asked for


def test_what_has_no_transport_has_no_buffer() -> None:
    send_buffers.bound(None)
