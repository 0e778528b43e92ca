"""uvicorn's WebSocket protocol with a way past its `send`: frames made once, written by reference, in bounded queues.

uvicorn is told of it by `--ws realtime.frame_protocol:FrameProtocol`; `websocket` finds it in the scope. An ASGI `send`
costs several microseconds a message and waits behind a client that does not read, and only the socket itself can be cut
off then. It leans on names inside of uvicorn's class, whose version is pinned; `tests/integration/realtime/
test_connections.py` says when they change, and other servers are served through `asgi_transport`.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from realtime import send_buffers

EXTENSION: Final = "waystation.frames"
"""Under this name the scope's extensions hold the protocol."""
MAX_QUEUED_BYTES: Final = 512 * 1024
MAX_QUEUED_FRAMES: Final = 1000
GRACE_SECONDS: Final = 5.0
"""How long a client may take to read the last word and answer the close."""
GOING_AWAY: Final = 1001
_NOTHING: Final[deque[bytes]] = deque(maxlen=0)
"""The queue of all connections that were never held up."""


class FrameProtocol(WebSocketsSansIOProtocol):
    """One connection. `put` takes whole WebSocket frames, as `message_frame` makes them."""

    ended = False
    paused = False
    out_bytes = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """uvicorn: the connection is there."""
        super().connection_made(transport)
        self.out = _NOTHING
        self.room: asyncio.Future[None] | None = None
        send_buffers.bound(transport)

    def handle_connect(self, event: Request) -> None:
        """uvicorn: the handshake's request."""
        super().handle_connect(event)
        event.headers.clear()  # the parser keeps them as long as the connection; the scope has them
        if hasattr(self, "scope"):  # a request that is no handshake was answered already
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def put(self, frame: bytes) -> bool:
        """Writes the frame, or queues it; False when the client reads too slowly, or is gone."""
        if self.ended or self.close_sent or self.transport.is_closing():
            return False
        if not self.paused:
            self.transport.write(frame)
            return True
        size = len(frame)
        # An empty queue takes a frame of any size: it is not the client's fault.
        if self.out and (self.out_bytes + size > MAX_QUEUED_BYTES or len(self.out) >= MAX_QUEUED_FRAMES):
            return False
        self._queue((frame,))
        self.out_bytes += size
        return True

    def _queue(self, frames: Sequence[bytes]) -> None:
        if self.out is _NOTHING:
            self.out = deque(maxlen=MAX_QUEUED_FRAMES)  # never reached: `put` refuses before
        self.out.extend(frames)

    def buffered(self) -> int:
        """Bytes that wait in this process."""
        return self.out_bytes + (0 if self.transport.is_closing() else self.transport.get_write_buffer_size())

    async def space(self) -> None:
        """Returns once the queue is less than half full, or the connection has ended."""
        while not self._has_room():
            if self.room is None:
                self.room = self.loop.create_future()
            await asyncio.shield(self.room)

    def _has_room(self) -> bool:
        gone = self.ended or self.disconnected or self.transport.is_closing()
        return gone or (self.out_bytes < MAX_QUEUED_BYTES // 2 and len(self.out) < MAX_QUEUED_FRAMES // 2)

    def _tell_room(self) -> None:
        if self.room is not None and self._has_room():
            if not self.room.done():
                self.room.set_result(None)
            self.room = None

    def end(self, frames: Sequence[bytes], code: int, reason: str) -> None:
        """Writes these frames and the close, instead of what waits; aborts when the client does not answer in time.

        Only `abort` frees a connection whose client does not read: every close waits behind the full buffer.
        """
        if self.ended or self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        last = [*frames, *self._close_frames(code, reason)]
        self.ended = self.close_sent = True
        self.out.clear()
        self.out_bytes = 0
        if self.paused:
            self._queue(last)
        else:
            self.transport.write(b"".join(last))
        if self.read_paused:  # to see the client's close
            self.read_paused = False
            self.transport.resume_reading()
        # uvicorn's own timer: with it set, the end of the application does not close the transport at once.
        self.close_timer = self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._tell_room()

    def _close_frames(self, code: int, reason: str) -> list[bytes]:
        if self.conn.state is not State.OPEN:
            return []
        self.conn.send_close(code, reason[:120])
        return self.conn.data_to_send()

    async def send(self, message: ASGISendEvent) -> None:
        """uvicorn: the application's messages; used to accept or to refuse, not for what is delivered."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.response.headers.clear()
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # answered in full: else uvicorn logs an error for each refusal

    def handle_close(self, event: Frame) -> None:
        """uvicorn: the client closes, or answers the close."""
        super().handle_close(event)
        self._abort_soon()

    def handle_parser_exception(self) -> None:
        """uvicorn: what came is no WebSocket; the close was made by the parser."""
        super().handle_parser_exception()
        self._abort_soon()

    def keepalive_timeout(self) -> None:
        """uvicorn: a ping was not answered."""
        super().keepalive_timeout()
        self._abort_soon()

    def _abort_soon(self) -> None:
        """A closing transport still waits for its client to read what was written."""
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        self._tell_room()

    def pause_writing(self) -> None:
        """The transport: its buffer is full."""
        super().pause_writing()
        self.paused = True

    def resume_writing(self) -> None:
        """The transport: its buffer is empty enough."""
        super().resume_writing()
        self.paused = False
        while self.out and not self.paused:  # a write may pause again
            frame = self.out.popleft()
            self.out_bytes = max(0, self.out_bytes - len(frame))
            self.transport.write(frame)
        self._tell_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn: the connection is gone."""
        self.out.clear()
        self.out_bytes = 0
        super().connection_lost(exc)
        self._tell_room()

    def shutdown(self) -> None:
        """uvicorn: the server stops; it says 1012, which clients take for an error."""
        if self.handshake_complete and not self.close_sent:
            self.end((), GOING_AWAY, "the server is stopping")
        elif self.ended and not self.paused:
            return  # the close is on its way, and its timer set
        else:
            super().shutdown()


class FrameTransport:
    """`connections.Transport` over a `FrameProtocol`, with a wrapping of one's own."""

    __slots__ = ("_protocol", "buffered", "kind", "put", "space", "wrap")

    def __init__(self, protocol: FrameProtocol, kind: str, wrap: Callable[[bytes], bytes]) -> None:
        self._protocol = protocol
        self.kind = kind
        self.wrap = wrap
        self.put = protocol.put
        self.buffered = protocol.buffered
        self.space = protocol.space

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """See `connections.Transport`."""
        self._protocol.end([self.wrap(payload) for payload in payloads], code, reason)


def message_frame(payload: bytes) -> bytes:
    """A payload as one WebSocket message: text where it is UTF-8, else binary (RFC 6455, section 5.2).

    A server's frames are not masked, so that the same bytes serve every client.
    """
    return frame(payload, "text" if _is_text(payload) else "binary")


def frame(payload: bytes, kind: Literal["text", "binary"]) -> bytes:
    """A whole, final, unmasked WebSocket frame."""
    first = b"\x81" if kind == "text" else b"\x82"
    size = len(payload)
    if size < 126:
        return first + bytes((size,)) + payload
    if size < 65536:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


def _is_text(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
