"""A web server in the test's own event loop, so that tests see both ends of a connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def serving(application: Any, **options: Any) -> AsyncIterator[str]:
    """uvicorn as `up` configures it, without a lifespan; yields `127.0.0.1:<port>`."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `up` does; connections inherit it
    given: dict[str, Any] = {
        "ws": "realtime.frame_protocol:FrameProtocol",
        "http": "httptools",
        "ws_max_size": 1024 * 1024,
        "ws_per_message_deflate": False,
        "lifespan": "off",
        "log_level": "warning",
        "timeout_graceful_shutdown": 2,
    }
    server = uvicorn.Server(uvicorn.Config(application, **(given | options)))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # of older versions
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        host, port = listener.getsockname()
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def eventually(condition: Any, seconds: float = 10.0) -> None:
    """Returns when the condition holds; fails when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
