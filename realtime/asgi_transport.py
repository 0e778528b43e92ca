"""A live connection over nothing but ASGI's `send`: for daphne, and for any server but uvicorn with `FrameProtocol`.

A queue with the same bounds and one task that writes while there is something to write. What the server itself
gathers behind its `send` cannot be seen here: daphne's grows while a client does not read (docs/operating.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from starlette.types import Send

from realtime.frame_protocol import GRACE_SECONDS, MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES


class AsgiTransport:
    """`connections.Transport` over ASGI messages; its `wrap` makes the content of a message, not a frame."""

    def __init__(self, send: Send, kind: str, wrap: Callable[[bytes], bytes]) -> None:
        self.kind = kind
        self.wrap = wrap
        self._send = send
        self._out: deque[bytes] = deque(maxlen=MAX_QUEUED_FRAMES)  # never reached: `put` refuses before
        self._out_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._close: tuple[int, str] | None = None
        self._gone = asyncio.Event()
        self._room = asyncio.Event()

    def put(self, frame: bytes) -> bool:
        """Queues the message; False when the client reads too slowly, or is gone."""
        size = len(frame)
        if self._close is not None or self._gone.is_set():
            return False
        if self._out and (self._out_bytes + size > MAX_QUEUED_BYTES or len(self._out) >= MAX_QUEUED_FRAMES):
            return False
        self._append(frame)
        return True

    def _append(self, frame: bytes) -> None:
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="waystation-websocket-writer")

    def buffered(self) -> int:
        """Bytes that wait in the queue."""
        return self._out_bytes

    async def space(self) -> None:
        """Returns once the queue is less than half full, or the connection has ended."""
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    def _has_room(self) -> bool:
        ended = self._close is not None or self._gone.is_set()
        return ended or (self._out_bytes < MAX_QUEUED_BYTES // 2 and len(self._out) < MAX_QUEUED_FRAMES // 2)

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """Writes these instead of what waits, then closes; gives up after the grace time."""
        if self._close is not None or self._gone.is_set():
            return
        self._close = (code, reason)
        self._out.clear()
        self._out_bytes = 0
        for payload in payloads:
            self._append(self.wrap(payload))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="waystation-websocket-writer")
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self.gone)
        self._room.set()

    def gone(self) -> None:
        """The peer has gone: nothing more is written."""
        self._out.clear()
        self._out_bytes = 0
        self._gone.set()
        self._room.set()
        if self._writer is not None:
            self._writer.cancel()

    @property
    def closing(self) -> bool:
        """Whether a last word and a close are still to be written."""
        return self._close is not None

    async def wait_gone(self) -> None:
        """Returns when the close is written, or the peer has gone; the application may return then."""
        await self._gone.wait()

    async def _write(self) -> None:
        try:
            while self._out:
                frame = self._out.popleft()
                self._out_bytes -= len(frame)
                if self._has_room():
                    self._room.set()
                await self._send(_message(frame))
            if self._close is not None:
                code, reason = self._close
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                self._gone.set()
        except (OSError, RuntimeError):
            self._gone.set()  # servers say in one of these ways that the client has gone
            self._room.set()
        finally:
            self._writer = None


def _message(content: bytes) -> dict[str, object]:
    try:
        return {"type": "websocket.send", "text": content.decode()}
    except UnicodeDecodeError:
        return {"type": "websocket.send", "bytes": content}


def content(payload: bytes) -> bytes:
    """The `wrap` of a plain WebSocket: ASGI servers make the frame."""
    return payload
