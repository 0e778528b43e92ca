"""The life of one web process: starts what REST needs, reports the process alive, and drains it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from brokers import processes
from brokers.errors import Unavailable
from brokers.processes import RENEW_SECONDS, Heartbeat
from brokers.rest.app import RestApplication
from realtime.hub import LiveHub

log = logging.getLogger("waystation.web")

END_SECONDS: Final = 5.2
"""From being told to stop until what executors have queued is given up: less than `up` waits before it kills."""
LEAST_SECONDS: Final = 0.2
"""What they have even when open requests took all of that."""


def spare_collector() -> None:
    """Takes what is loaded by now out of the garbage collector's sight, and lets it run less often.

    A request of a thousand records makes thousands of objects that die by reference count alone; at the default
    threshold each such request would have the collector walk over all of Django several times.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class Lifespan:
    """An ASGI application for the scope `lifespan`."""

    def __init__(self, rest: RestApplication, live: LiveHub) -> None:
        self._rest = rest
        self._live = live
        self._heartbeat: asyncio.Task[None] | None = None
        self._told_at: float | None = None
        self.draining = False

    def ensure_started(self) -> None:
        """Starts everything once; needs the running event loop."""
        if self._heartbeat is None:
            self._rest.start()
            self._live.start()
            self._watch_signals()
            spare_collector()
            processes.begin("web")
            self._heartbeat = asyncio.create_task(self._report(), name="waystation-heartbeat")

    def _watch_signals(self) -> None:
        """Lets held calls end as soon as the process is told to stop: the server waits for open requests."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if callable(previous):
                signal.signal(number, partial(self._told_to_stop, loop, previous))

    def _told_to_stop(
        self, loop: asyncio.AbstractEventLoop, previous: Callable[[int, FrameType | None], object], *signalled: Any
    ) -> None:
        loop.call_soon_threadsafe(self._drain)
        previous(*signalled)

    def _drain(self) -> None:
        self.draining = True
        self._told_at = self._told_at or time.monotonic()
        self._rest.hub.close()
        self._live.drain()

    async def _report(self) -> None:
        heartbeat = Heartbeat("web")
        failing = False
        try:
            while True:
                try:
                    await heartbeat.abeat()
                    failing = False
                except Unavailable as error:
                    if not failing:
                        log.warning("the database is away", extra={"error": error.detail})
                    failing = True
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            with contextlib.suppress(Unavailable):
                await heartbeat.aend()

    async def stop(self) -> None:
        """Says that no more requests should come, and lets those under way end."""
        self._drain()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat
            await asyncio.to_thread(processes.end, self._seconds_left())
            await self._live.stop()
            await self._rest.stop()

    def _seconds_left(self) -> float:
        told_at = time.monotonic() if self._told_at is None else self._told_at
        return max(told_at + END_SECONDS - time.monotonic(), LEAST_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the server's start-up and shutdown messages."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.ensure_started()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
