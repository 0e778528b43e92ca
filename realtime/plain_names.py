"""Which names of `/topic` no topic of the log has, and who is to hear when one gets it.

A SEND and a SUBSCRIBE to such a name are plain broadcasts. When a topic of that name is created its subscriptions end,
since what is sent from then on are records. Called by sending and subscribing; one for each process, on its event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Protocol

from brokers import topics, wakeup
from brokers.errors import BrokerError, TopicNotFound, Unavailable
from brokers.settings import POLL_INTERVAL_SECONDS
from brokers.topics import TopicInfo
from realtime import broadcasting
from realtime.errors import ProtocolError

log = logging.getLogger("waystation.realtime")


class Watcher(Protocol):
    """A plain subscription."""

    def stop(self, error: BrokerError) -> None:
        """Ends it and its connection."""


class PlainNames:
    """What this process knows of them."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self._hub = hub
        self._watchers: dict[str, set[Watcher]] = {}
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen for topics that are created."""
        self._hub.watch(self._hear)
        self._task = asyncio.create_task(self._run(), name="plain-names")

    async def stop(self) -> None:
        """Ends that."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def topic(self, name: str) -> TopicInfo | None:
        """The topic of that name, None if there was none within the last seconds. Raises `Unavailable`."""
        if not await broadcasting.ais_log_topic(name):
            return None
        with contextlib.suppress(TopicNotFound):
            return await topics.alookup(name)
        return None

    def watch(self, name: str, watcher: Watcher) -> None:
        """Has the watcher stopped once there is a topic of that name."""
        self._watchers.setdefault(name, set()).add(watcher)

    def forget(self, name: str, watcher: Watcher) -> None:
        """Ends `watch`."""
        watchers = self._watchers.get(name)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[name]

    def _hear(self, hint: str) -> None:
        if not hint:
            broadcasting.forget_plain()
            self._look.set()
        elif hint[0] == "t":
            broadcasting.forget_plain(hint[1:])
            if hint[1:] in self._watchers:
                self._look.set()

    async def _run(self) -> None:
        """Looks when something was heard, and every second since a hint may be lost."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_SECONDS * random.uniform(0.9, 1.1)):  # noqa: S311 - no secret
                    await self._look.wait()
            self._look.clear()
            try:
                await self._look_for_topics()
            except Unavailable as error:
                log.info("names of topics are looked up later", extra={"error": error.detail})

    async def _look_for_topics(self) -> None:
        """Asks for all names in use at once: each SEND to a plain name would ask for its own every two seconds."""
        used = broadcasting.take_used()
        if not used and not self._watchers:
            return
        seen_at = time.monotonic()
        found = await topics.aexisting(used.union(self._watchers))
        broadcasting.renew_plain(used.difference(found), seen_at)
        for name in found:
            broadcasting.forget_plain(name)
            detail = f"a topic {name} was created: subscribe again to receive its records"
            for watcher in self._watchers.pop(name, ()):
                watcher.stop(ProtocolError(detail, "topic_created", close_code=1012))
