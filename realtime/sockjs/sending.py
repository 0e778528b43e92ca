"""`xhr_send`: the request that brings the client's messages to its session, where a WebSocket would carry them.

Answered when the messages are handled, so that a client which sends faster than that is held back.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive

from brokers.errors import BrokerError
from realtime.connections import Connection
from realtime.errors import FrameTooLarge, ProtocolError
from realtime.sockjs import framing
from realtime.sockjs.framing import BrokenJson
from realtime.sockjs.session import HttpSession

MAX_BODY_BYTES: Final = 2 * 1024 * 1024 + 128 * 1024
"""A STOMP frame of 1 MiB with its headers: as a JSON string it may be twice as long."""
MAX_BODY_BYTES_BEFORE_LOGIN: Final = 64 * 1024
BODY_SECONDS: Final = 30.0
"""How long a body may take to arrive."""


async def take(session: HttpSession, receive: Receive) -> tuple[int, str]:
    """Handles what one request brings: the status and the text of its answer (sockjs-protocol, XhrPolling)."""
    connection, protocol = session.connection, session.protocol
    if session.ended or connection is None or protocol is None:
        return 204, ""  # the close says more, and is fetched by a receiver
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(receive, MAX_BODY_BYTES if connection.opened else MAX_BODY_BYTES_BEFORE_LOGIN)
    except TimeoutError:
        return 408, "The payload did not arrive in time."
    except FrameTooLarge as error:
        connection.fail(error)
        return 413, error.detail
    if body is None:
        return 204, ""
    if not body:
        return 500, "Payload expected."
    try:
        found = framing.messages(body)
    except BrokenJson as error:
        return 500, error.detail
    except ProtocolError as error:
        refuse(connection, error)
        return 500, error.detail
    try:
        connection.heard()
        for data in found:
            if connection.ended:
                break
            await protocol.received(data)
    except BrokerError as error:
        connection.fail(error)
    return 204, ""


def refuse(connection: Connection, error: ProtocolError) -> None:
    """Ends the connection for what is no array of messages."""
    if not connection.ended:
        connection.last_error = error.code
        last = connection.on_fail(error, None) if connection.on_fail is not None else None
        connection.end(*framing.INTERRUPTED, [last] if last else ())


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None when the client went away before. Raises: FrameTooLarge."""
    gathered = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        gathered += message.get("body", b"")
        if len(gathered) > most:
            raise FrameTooLarge(f"the payload has more than {most} bytes")
        if not message.get("more_body", False):
            return bytes(gathered)
