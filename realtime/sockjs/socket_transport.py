"""SockJS over a WebSocket: the same frames as over HTTP, each in a message of its own.

`app` has `websocket.serve` speak it. A WebSocket is its own session, whatever the names in its URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Message

from realtime.connections import Transport
from realtime.registry import Registry
from realtime.sockjs import framing
from realtime.sockjs.receiving import HEART_BEAT_SECONDS
from realtime.websocket import payload, wrapping

KIND: Final = "sockjs-websocket"


class SocketTransport:
    """`connections.Transport` over another one that carries plain messages."""

    kind = KIND

    def __init__(self, carrier: Transport, registry: Registry) -> None:
        self._carrier = carrier
        self.wrap = wrapping(carrier, framing.message)
        self.put = carrier.put
        self.buffered = carrier.buffered
        self.space = carrier.space
        self.say(framing.OPEN)
        registry.wheel.visit_in(HEART_BEAT_SECONDS, self._keep_alive)

    def _keep_alive(self, now: float) -> float | None:
        """The wheel's visits: a heart-beat every now and then, for proxies."""
        return HEART_BEAT_SECONDS if self.say(framing.HEART_BEAT) else None

    def say(self, frame: bytes) -> bool:
        """Writes a frame that is no message."""
        return self.put(self._carrier.wrap(frame))

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """See `connections.Transport`; the last frame says why."""
        frames = [framing.message(each) for each in payloads]
        self._carrier.end([*frames, framing.close(code, reason)], code, reason)


def decode(message: Message) -> list[bytes]:
    """What a WebSocket message from the client holds; nothing of an empty one."""
    data = payload(message)
    return framing.messages(data) if data else []
