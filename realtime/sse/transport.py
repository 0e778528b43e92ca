"""What carries a stream: an HTTP answer that is written to while it lasts, without a task of its own.

ASGI's `send` of a server that is not held up ends in one step, so it is taken step by step here; what comes while it
is held up waits in a queue with the bounds of every live connection. A client that stops reading is cut off by the
server's own transport, which uvicorn's `send` belongs to; other servers give no such thing (daphne: docs/operating.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from starlette.types import Message, Send

from realtime import send_buffers
from realtime.connections import GOING_AWAY
from realtime.sse import event

MAX_QUEUED_BYTES: Final = 512 * 1024
"""What waits for a client that reads too slowly."""
MAX_QUEUED: Final = 1000
"""Payloads among them."""
GRACE_SECONDS: Final = 5.0
"""How long a last word may take to be read."""
_JOINED_BYTES: Final = 64 * 1024


def unwrapped(payload: bytes) -> bytes:
    """The `wrap` of a stream: payloads are events already."""
    return payload


class StreamTransport:
    """`connections.Transport` over a streaming answer; nothing is written before `begin`."""

    kind = "sse"

    def __init__(self, send: Send) -> None:
        self.wrap = unwrapped
        self._send = send
        self._out: deque[bytes] = deque(maxlen=MAX_QUEUED)  # never dropped from: `put` refuses before
        self._out_bytes = 0
        self._sending: Coroutine[Any, Any, None] | None = None
        self._sending_bytes = 0
        self._room: list[asyncio.Future[None]] = []
        self._begun = False
        self._ending = False
        self._finished = False
        self._gone = False
        self._raw: asyncio.Transport | None = getattr(getattr(send, "__self__", None), "transport", None)

    async def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Starts the answer; what was put before follows."""
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        send_buffers.bound(self._raw)
        self._begun = True
        self._flush()

    def put(self, frame: bytes) -> bool:
        """Writes, or queues; False when the client reads too slowly, or is gone."""
        if self._ending or self._gone:
            return False
        size = len(frame)
        waiting = self._out_bytes + self._sending_bytes
        if waiting and (waiting + size > MAX_QUEUED_BYTES or len(self._out) >= MAX_QUEUED):
            return False
        self._out.append(frame)
        self._out_bytes += size
        self._flush()
        return True

    def buffered(self) -> int:
        """Bytes that wait here and in the server's transport."""
        waiting = self._raw.get_write_buffer_size() if self._raw is not None and not self._raw.is_closing() else 0
        return self._out_bytes + self._sending_bytes + waiting

    async def space(self) -> None:
        """Returns once the queue is less than half full, or the stream has ended."""
        while not self._has_room():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(future)
            await future

    def _has_room(self) -> bool:
        ended = self._ending or self._gone
        waiting = self._out_bytes + self._sending_bytes
        return ended or (waiting < MAX_QUEUED_BYTES // 2 and len(self._out) < MAX_QUEUED // 2)

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """Ends the answer after these payloads; the client comes back after the time that it was last told.

        When the server stops, that is told anew, and differently to each client. `reason` goes nowhere.
        """
        if self._ending or self._gone:
            return
        self._ending = True
        self._out.clear()
        self._out.extend(payloads)
        if code == GOING_AWAY:
            self._out.append(event.retry(event.busy_retry_ms()))
        self._out_bytes = sum(map(len, self._out))
        if self._raw is not None:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._raw.abort)
        self._wake()
        self._flush()

    def gone(self) -> None:
        """The client has gone, or all is written: nothing more will be."""
        self._gone = True
        self._out.clear()
        self._out_bytes = 0
        self._wake()

    def _wake(self) -> None:
        waiting, self._room = self._room, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _flush(self) -> None:
        """Sends what waits, until `send` is held up."""
        while self._begun and self._sending is None and not self._gone and not self._finished:
            if not self._out and not self._ending:
                return
            message = self._next()
            self._sending = self._send(message)  # type: ignore[assignment]  # ASGI servers make coroutines of it
            self._step()

    def _next(self) -> Message:
        """What waits, joined: a write costs more than its bytes do."""
        parts: list[bytes] = []
        size = 0
        while self._out and (not parts or size + len(self._out[0]) <= _JOINED_BYTES):
            parts.append(self._out.popleft())
            size += len(parts[-1])
        self._out_bytes -= size
        self._sending_bytes = size
        self._finished = self._ending and not self._out
        return {"type": "http.response.body", "body": b"".join(parts), "more_body": not self._finished}

    def _step(self) -> None:
        """Takes `send` on to where it waits next, as a task would."""
        assert self._sending is not None
        try:
            held_up = self._sending.send(None)
        except StopIteration:
            self._sent()
        except (OSError, RuntimeError, asyncio.CancelledError):  # servers say in one of these ways that it is over
            self._sent()
            self.gone()
        else:
            if held_up is None:
                asyncio.get_running_loop().call_soon(self._step_on, None)
            else:
                held_up._asyncio_future_blocking = False
                held_up.add_done_callback(self._step_on)

    def _step_on(self, waited_for: asyncio.Future[Any] | None) -> None:
        self._step()
        self._flush()

    def _sent(self) -> None:
        self._sending = None
        self._sending_bytes = 0
        if self._room and self._has_room():
            self._wake()
