"""The kernel's buffer towards a live client, kept small: what waits is to be seen here, where it is bounded."""

from __future__ import annotations

import contextlib
import socket
from asyncio import BaseTransport
from typing import Final

SEND_BUFFER_BYTES: Final = 128 * 1024
"""What the kernel may hold of one connection, instead of the 4 MiB that it would take."""


def bound(transport: BaseTransport | None) -> None:
    """Has the kernel keep no more than that for a client; one that is gone already has no buffer."""
    connected: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if connected is not None and connected.fileno() >= 0:
        with contextlib.suppress(OSError):  # a bound that could not be set costs memory, not the connection
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
