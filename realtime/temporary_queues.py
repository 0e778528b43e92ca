"""Temporary queues of live connections, declared and deleted in bunches: one change of the topology for all at once.

One bunch is under way at a time, and what is asked for meanwhile forms the next. A queue whose connection is gone is
deleted with it; that of a process that is gone expires soon after.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from brokers.errors import BrokerError, Unavailable
from brokers.queues import temporary, topology
from brokers.queues.temporary import Wanted
from brokers.queues.topology import QueueInfo
from realtime.threads import in_thread

log = logging.getLogger("waystation.realtime")

EXPIRES_MS: Final = 60_000
"""How long such a queue is kept without a consumer."""
_AT_ONCE: Final = 500
_WAITING_LIMIT: Final = 20_000
_Asked = tuple[Wanted, "asyncio.Future[None]"]


class TemporaryQueues:
    """Those of one process, on its event loop."""

    def __init__(self) -> None:
        self._asked: list[_Asked] = []
        self._unwanted: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def make(self, exchange: str | None = None, routing_key: str = "", prefix: str = "live") -> QueueInfo:
        """A new queue, bound to an exchange if one is given.

        Raises `ExchangeNotFound`, `AccessDenied` for the default exchange, `InvalidValue` and `Unavailable`.
        """
        if len(self._asked) >= _WAITING_LIMIT:
            raise Unavailable("too many temporary queues wait to be declared; try again in a second")
        name = f"{prefix}.{secrets.token_hex(16)}"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append((Wanted(name, EXPIRES_MS, exchange, routing_key), done))
        self._go_on()
        try:
            await done
        except asyncio.CancelledError:
            self.discard(name)
            raise
        return await topology.aqueue(name)

    def discard(self, name: str) -> None:
        """Has a queue deleted soon; it expires if that fails."""
        if len(self._unwanted) < _WAITING_LIMIT:
            self._unwanted.append(name)
        self._go_on()

    async def drain(self) -> None:
        """Waits until all is done that was asked for."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _go_on(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="temporary-queues")

    async def _run(self) -> None:
        try:
            while self._asked or self._unwanted:
                asked, self._asked = self._asked[:_AT_ONCE], self._asked[_AT_ONCE:]
                if asked:
                    await self._declare(asked)
                unwanted, self._unwanted = self._unwanted[:_AT_ONCE], self._unwanted[_AT_ONCE:]
                if unwanted:
                    await self._delete(unwanted)
        finally:
            self._task = None

    async def _declare(self, asked: list[_Asked]) -> None:
        try:
            refused = await in_thread(temporary.declare, [wanted for wanted, _ in asked])
        except BrokerError as error:
            refused = dict.fromkeys((wanted.name for wanted, _ in asked), error)
        for wanted, done in asked:
            if done.done():
                continue
            if wanted.name in refused:
                done.set_exception(refused[wanted.name])
            else:
                done.set_result(None)

    async def _delete(self, unwanted: list[str]) -> None:
        try:
            await in_thread(temporary.delete, unwanted)
        except Unavailable as error:
            log.info("temporary queues expire later", extra={"queues": len(unwanted), "error": error.detail})
