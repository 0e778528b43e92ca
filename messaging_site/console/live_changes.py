"""Which kinds of things have changed, told to the open pages of the console at most once a second each.

Made of the hints of this process's hub, and of a look at the database's marks each second (`brokers.selectors.changes`)
for what no hint tells. One per process, made by `live_events`; it looks while a page is open, and lives on the event
loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, Protocol

from brokers import wakeup
from brokers.errors import Unavailable
from brokers.selectors import changes
from brokers.settings import POLL_INTERVAL_SECONDS

log = logging.getLogger("waystation.console")

KINDS: Final = (
    "topics",
    "groups",
    "exchanges",
    "queues",
    "dead-letters",
    "replays",
    "alerts",
    "connections",
    "locks",
    "tasks",
    "executors",
)
"""What a page may ask to be told of."""
TELL_SECONDS: Final = 1.0
"""The shortest time between two tellings of one kind."""
BLIND_SECONDS: Final = 5.0
"""How often everything is told of while Redis is away, and no hint comes."""
_OF_HINT: Final[dict[str, tuple[str, ...]]] = {
    "": KINDS,
    "p": ("topics", "groups"),
    "t": ("topics", "groups", "dead-letters"),
    "g": ("groups",),
    "q": ("queues", "exchanges"),
    "x": ("exchanges", "queues"),
    "r": ("replays", "dead-letters"),
    "c": ("connections",),
    "s": ("tasks", "executors", "locks"),
}
"""What may have changed at a hint, by its first letter (`brokers.wakeup`)."""
_WITH_MARK: Final[dict[str, tuple[str, ...]]] = {"queues": ("queues", "exchanges")}
"""What else has changed with a kind that has a mark."""


class Watcher(Protocol):
    """An open page."""

    @property
    def kinds(self) -> frozenset[str]:
        """What it is told of."""

    def changed(self, kind: str) -> None:
        """Something of this kind may look different now; returns at once."""


class Changes:
    """Tells the watchers of one process."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self._hub = hub
        self._watchers: set[Watcher] = set()
        self._told_at: dict[str, float] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._looking: asyncio.Task[None] | None = None
        self._has_looked = asyncio.Event()
        hub.watch(self._hear)

    def add(self, watcher: Watcher) -> None:
        """Has `watcher.changed` called from now on."""
        self._watchers.add(watcher)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="waystation-console-changes")

    async def begun(self) -> None:
        """Returns once every later change will be told of."""
        await self._has_looked.wait()

    def remove(self, watcher: Watcher) -> None:
        """Ends that."""
        self._watchers.discard(watcher)
        if not self._watchers and self._looking is not None:
            self._looking.cancel()
            self._looking = None
            self._has_looked.clear()
            for waiting in self._waiting.values():
                waiting.cancel()
            self._waiting.clear()

    def _hear(self, hint: str) -> None:
        if self._watchers:
            for kind in _OF_HINT.get(hint[:1], ()):
                self.tell(kind)

    def tell(self, kind: str) -> None:
        """Tells of a change now, or when a second has gone by since this kind was told of last."""
        if kind in self._waiting:
            return
        loop = asyncio.get_running_loop()
        wait = self._told_at.get(kind, -TELL_SECONDS) + TELL_SECONDS - loop.time()
        if wait <= 0:
            self._tell(kind)
        else:
            self._waiting[kind] = loop.call_later(wait, self._tell, kind)

    def _tell(self, kind: str) -> None:
        self._waiting.pop(kind, None)
        self._told_at[kind] = asyncio.get_running_loop().time()
        for watcher in tuple(self._watchers):
            if kind in watcher.kinds:
                watcher.changed(kind)

    async def _look(self) -> None:
        """Compares the marks each second, until it is cancelled."""
        known: dict[str, str] = {}
        away = False
        blind_for = 0.0
        while True:
            try:
                found = await changes.marks()
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the database is away", extra={"error": error.detail})
                away, found = True, known
            for kind, mark in found.items():
                if known.get(kind, mark) != mark:
                    for affected in _WITH_MARK.get(kind, (kind,)):
                        self.tell(affected)
            known = found
            self._has_looked.set()
            pause = POLL_INTERVAL_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            blind_for = 0.0 if self._hub.connected else blind_for + pause
            if blind_for >= BLIND_SECONDS:
                blind_for = 0.0
                for kind in KINDS:
                    self.tell(kind)
            await asyncio.sleep(pause)
