"""What two web processes say to each other over a Unix socket: maps in MessagePack, each behind its length.

A question which process has a session, its answer, and the ASGI messages of a request between them. Used by `peers`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.types import Message, Scope

from brokers.errors import BrokerError

MAX_BYTES: Final = 8 * 1024 * 1024
"""More than any part of a request or answer has."""
_LENGTH_BYTES: Final = 4
_PASSED_ON: Final = ("method", "path", "query_string", "headers", "client", "scheme", "http_version", "root_path")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


class PeerFailure(BrokerError):
    """Another process of this server said what none of them says."""


def asked_of(scope: Scope) -> dict[str, Any]:
    """What a request's scope is elsewhere."""
    return {name: scope[name] for name in _PASSED_ON if name in scope}


def scope_of(asked: dict[str, Any]) -> Scope:
    """The scope of a request that another process passes on."""
    headers = [(bytes(name), bytes(value)) for name, value in asked["headers"]]
    return asked | {"type": "http", "headers": headers, "extensions": {}}


async def write(writer: asyncio.StreamWriter, message: Message) -> None:
    """Writes one message; waits while the other end does not read. Raises: OSError."""
    data = _encoder.encode(message)
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    await writer.drain()


async def read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None when the other end has gone. Raises: PeerFailure."""
    try:
        size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if size > MAX_BYTES:
            raise PeerFailure(f"a message of {size} bytes from another process")
        return _decoder.decode(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, OSError):
        return None
    except msgspec.DecodeError as error:
        raise PeerFailure("what came from another process is no message") from error
