"""Who follows a number that grows: streams of notifications and of progress, each of one row.

A hint says that a row has changed; a look at all followed rows each second finds what no hint told. One per process,
made by `sse.app`; it looks while somebody follows, and lives on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from brokers import wakeup
from brokers.errors import Unavailable
from brokers.settings import POLL_INTERVAL_SECONDS
from realtime import notifications, progress

log = logging.getLogger("waystation.realtime")


class Follower(Protocol):
    """A stream that shows one row."""

    @property
    def hint(self) -> str:
        """What is announced when its row changes; `n` and an inbox, or `u` and a task."""

    @property
    def number(self) -> int:
        """The number up to which it has shown everything."""

    def moved(self) -> None:
        """Called when there may be more; returns at once."""


class Following:
    """The followers of one process."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self._followers: dict[str, set[Follower]] = {}
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        hub.watch(self._heard)

    def add(self, follower: Follower) -> None:
        """Has `follower.moved` called from now on."""
        self._followers.setdefault(follower.hint, set()).add(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._poll(), name="waystation-following")

    def remove(self, follower: Follower) -> None:
        """Ends that."""
        same = self._followers.get(follower.hint)
        if same is not None:
            same.discard(follower)
            if not same:
                del self._followers[follower.hint]
        if not self._followers and self._task is not None:
            self._task.cancel()
            self._task = None

    def _heard(self, hint: str) -> None:
        if not hint:
            self._look.set()
        for follower in tuple(self._followers.get(hint, ())):
            follower.moved()

    async def _poll(self) -> None:
        away = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_SECONDS * random.uniform(0.9, 1.1)):  # noqa: S311 - no secret
                    await self._look.wait()
            self._look.clear()
            asked = list(self._followers)
            try:
                found = await self._numbers(asked)
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the database is away", extra={"error": error.detail})
                away = True
                continue
            for hint in asked:
                number = found.get(hint)  # none of a row that is gone
                for follower in tuple(self._followers.get(hint, ())):
                    if number is None or follower.number < number:
                        follower.moved()

    @staticmethod
    async def _numbers(hints: list[str]) -> dict[str, int]:
        inboxes = [int(hint[1:]) for hint in hints if hint.startswith("n")]
        tasks = [hint[1:] for hint in hints if hint.startswith("u")]
        found = await notifications.numbers(inboxes) if inboxes else {}
        return found | await progress.numbers(tasks) if tasks else found


class Reading:
    """Calls `read` after each `moved`, never twice at once, in a task that is there only while it reads."""

    def __init__(self, read: Callable[[], Awaitable[None]]) -> None:
        self._read = read
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def moved(self) -> None:
        """There may be more."""
        self._again = True
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="waystation-stream-reading")
            self._task.add_done_callback(self._done)

    def stop(self) -> None:
        """Reads no more."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self) -> None:
        while self._again:
            self._again = False
            await self._read()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Unavailable):  # after that, a look comes within a second
            log.error("a stream could not be read", exc_info=error)
