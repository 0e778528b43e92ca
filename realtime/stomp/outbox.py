"""SENDs of one session on their way: what comes while some are being stored is stored together next.

A lone SEND is stored at once; a client that sends one after the other shares the flushes of PostgreSQL with itself.
They are delivered in order, each has its receipt when it is stored, and the first that is refused ends the connection.
Filled by the session, which lets everything else wait until it is empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from brokers.errors import BrokerError
from realtime.stomp import sending
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context

log = logging.getLogger("waystation.realtime")

MAX_FRAMES: Final = 200
"""That wait while others are being stored; then nothing more is read from the client."""
MAX_BYTES: Final = 512 * 1024
"""Of their bodies, about: the last one is taken as it is."""


class Outbox:
    """Those of one session, on its event loop."""

    __slots__ = ("_bytes", "_context", "_delivered", "_task", "_waiting")

    def __init__(self, context: Context, delivered: Callable[[Sequence[Frame]], None]) -> None:
        self._context = context
        self._delivered = delivered
        self._waiting: list[Frame] = []
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, frame: Frame) -> bool:
        """Takes a SEND; False when it takes no more until it is `empty`."""
        self._waiting.append(frame)
        self._bytes += len(frame.body)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="waystation-stomp-send")
        return len(self._waiting) < MAX_FRAMES and self._bytes < MAX_BYTES

    async def empty(self) -> None:
        """Returns once all is delivered that can be; a SEND that was refused has ended the connection by then."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        connection = self._context.connection
        try:
            while self._waiting and connection.last_error is None:
                frames, self._waiting, self._bytes = self._waiting, [], 0
                done, error = await sending.send_many(self._context, frames)
                self._delivered(frames[:done])
                if error is not None:
                    connection.fail(error, frames[done].headers.get("receipt"))
        except Exception:  # a fault of ours, which nobody waits for: the client must hear of it
            log.exception("frames could not be delivered")
            connection.fail(BrokerError("the server has failed; what was not receipted may not be stored"))
        finally:
            self._waiting, self._bytes, self._task = [], 0, None
