"""One SockJS session over plain HTTP requests: what waits between two of them, and how it ends.

The `connections.Transport` of its connection. A receiving request takes frames out of it by `next_frame`; what comes
while there is none waits, within the bounds of every live connection. `sessions` makes it and lets it expire.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from brokers.errors import Unauthenticated
from realtime import credentials, origins
from realtime.credentials import Credential
from realtime.frame_protocol import GRACE_SECONDS, MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES
from realtime.sockjs import framing

if TYPE_CHECKING:
    from realtime.connections import Connection
    from realtime.websocket import Session

_LAST_WORDS: Final = 16
"""Payloads beyond the bound that `end` may add."""


class Receiver:
    """One receiving request."""

    __slots__ = ("abort", "is_ending", "kind", "over")

    def __init__(self, kind: str, abort: Callable[[], None] | None) -> None:
        self.kind = kind
        self.abort = abort
        """Cuts off the client, where the server has a way to."""
        self.is_ending = False
        """The end of its answer is being written: the client may ask again before that returns."""
        self.over = False

    def give_up(self) -> None:
        """Cuts off a client that has not read its answer by now."""
        if not self.over and self.abort is not None:
            self.abort()


class HttpSession:
    """A session, from the request that opened it until it expires."""

    def __init__(self, name: str, kind: str, origin: str | None, credential: Credential | None) -> None:
        self.name = name
        """What the client chose, unique to it."""
        self.kind = kind
        self.wrap = framing.json_string
        self.connection: Connection | None = None
        self.protocol: Session | None = None
        self.on_end: Callable[[], None] | None = None
        self.idle_since = time.monotonic()
        self._origin = origin
        self._credential = credential
        self._greeted = False
        self._waiting: deque[bytes] = deque(maxlen=MAX_QUEUED_FRAMES + _LAST_WORDS)
        self._waiting_bytes = 0
        self._on_its_way = 0
        self._overflowed = False
        self.interrupted = False
        """A receiver was cut off, so that the client may not know of the end: whatever it sends should tell it."""
        self._close: bytes | None = None
        self._receiver: Receiver | None = None
        self._leaving: Receiver | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def is_of(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request may use the session: from the page's origin, with the credentials that it was opened with.

        The name alone has 40 random bits as sockjs-client makes it. A browser leaves out Origin where a page asks its
        own server by GET.
        """
        pairs = list(headers)
        try:
            shown = (credentials.of_authorization(pairs), credentials.of_cookies(pairs))
        except Unauthenticated:
            return False
        if self._credential is not None and self._credential not in shown:
            return False
        origin = origins.header(pairs, b"origin")
        if origin is None:
            return True
        if self._origin is None:
            self._origin = origin
        return origin == self._origin

    # -- connections.Transport ------------------------------------------------------------------------------------

    def put(self, frame: bytes) -> bool:
        """Queues the message; False when the client does not fetch what waits, or is gone."""
        if self._close is not None:
            return False
        size = len(frame)
        waiting = self._waiting_bytes + self._on_its_way
        if waiting and (waiting + size > MAX_QUEUED_BYTES or len(self._waiting) >= MAX_QUEUED_FRAMES):
            self._overflowed = True
            return False
        self._append(frame)
        return True

    def _append(self, frame: bytes) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        self._changed.set()

    def buffered(self) -> int:
        """Bytes that wait for the client."""
        return self._waiting_bytes + self._on_its_way

    async def space(self) -> None:
        """Returns once the queue is less than half full, or the session has ended."""
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    def _has_room(self) -> bool:
        few = self.buffered() < MAX_QUEUED_BYTES // 2 and len(self._waiting) < MAX_QUEUED_FRAMES // 2
        return few or self._close is not None

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """Leaves these and the close to be fetched; a receiver that does not read is cut off after the grace time.

        What waited still goes before them, unless it was too much.
        """
        if self._close is not None:
            return
        if self._overflowed:
            self._waiting.clear()
            self._waiting_bytes = 0
        for payload in payloads[-_LAST_WORDS:]:
            self._append(self.wrap(payload))
        self._close = framing.close(code, reason)
        self._changed.set()
        self._room.set()
        if self._receiver is not None and self._receiver.abort is not None:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._receiver.give_up)
        if self.on_end is not None:
            self.on_end()

    # -- receiving requests ---------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether nothing more comes in or is delivered but the close."""
        return self._close is not None

    @property
    def receiving(self) -> bool:
        """Whether a request waits for frames now."""
        return self._receiver is not None

    def attach(self, receiver: Receiver) -> bytes | None:
        """Begins a receiving request; else the frame that it is refused with: there can be one at a time."""
        earlier = self._receiver
        if earlier is not None:
            if not earlier.is_ending or (self._leaving is not None and not self._leaving.over):
                return self._close or framing.close(*framing.STILL_OPEN)
            self._leaving = earlier
            asyncio.get_running_loop().call_later(GRACE_SECONDS, earlier.give_up)
        self._receiver = receiver
        self.kind = receiver.kind
        return None

    def detach(self, receiver: Receiver) -> None:
        """The receiving request is over; what it was given has been written."""
        receiver.over = True
        if self._receiver is receiver:
            self._receiver = None
            self._on_its_way = 0
            self.idle_since = time.monotonic()

    def interrupt(self, receiver: Receiver) -> None:
        """The receiving request was cut off: what was on its way may be lost, so the session is over."""
        receiver.over = True
        if self._receiver is not receiver:
            return
        self.detach(receiver)
        self.interrupted = True
        if self._close is None and self.connection is not None:
            self.connection.last_error = "connection_interrupted"
            self.connection.end(*framing.INTERRUPTED)

    async def next_frame(self, seconds: float) -> bytes:
        """The next frame for the receiver: `o` once, what waits as one array, the close; `h` after so long."""
        self._on_its_way = 0
        if not self._greeted:
            self._greeted = True
            return framing.OPEN
        if self._has_room():
            self._room.set()
        try:
            async with asyncio.timeout(seconds):
                while not self._waiting and self._close is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return framing.HEART_BEAT
        if self._waiting:
            strings = list(self._waiting)
            self._on_its_way, self._waiting_bytes = self._waiting_bytes, 0
            self._waiting.clear()
            return framing.array(strings)
        assert self._close is not None
        return self._close

    def is_last(self, frame: bytes) -> bool:
        """Whether the session has nothing more after this frame."""
        return frame is self._close
