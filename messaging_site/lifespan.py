"""The life of one web process: starts what REST needs, reports the process alive, and drains it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.types import Receive, Scope, Send

from brokers.errors import Unavailable
from brokers.processes import RENEW_SECONDS, Heartbeat
from brokers.rest.app import RestApplication

log = logging.getLogger("waystation.web")


class Lifespan:
    """An ASGI application for the scope `lifespan`."""

    def __init__(self, rest: RestApplication) -> None:
        self._rest = rest
        self._heartbeat: asyncio.Task[None] | None = None
        self.draining = False

    def ensure_started(self) -> None:
        """Starts everything once; needs the running event loop."""
        if self._heartbeat is None:
            self._rest.start()
            self._heartbeat = asyncio.create_task(self._report(), name="waystation-heartbeat")

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
        self.draining = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat
            await self._rest.stop()

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
