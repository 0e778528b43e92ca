"""A thread of the worker that serves one listener: its life, and how it waits while the database is away.

`member` makes one a member of a consumer group, `queue_member` a consumer of a queue.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from abc import ABC, abstractmethod
from typing import Final

from django.db import close_old_connections, connections

from brokers.database import in_handler, sync_cursor
from brokers.errors import Unavailable
from brokers.listeners.delivery import unforeseen
from brokers.listeners.handlers import Handler
from brokers.listeners.hints import Heard, Hints
from brokers.listeners.keeper import SQL, Keeper
from brokers.processed import current_consumer

log = logging.getLogger("waystation.listeners")

AWAY_SECONDS: Final = 0.2
"""First pause while the database is away; each further one is twice as long, up to the longest."""
LONGEST_AWAY_SECONDS: Final = 2.0
REFUSED_SECONDS: Final = 1.0
"""Pause before another try to begin, when there is no such topic or queue, or the group is full."""


def introduce(name: str, idle_ms: int) -> str:
    """Names this thread's connection, and bounds how long it may hold a transaction without a word.

    Answers its search path, which handlers may change.
    """
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.introduce, (name, str(idle_ms))).fetchone()
    assert row is not None
    return str(row[2])


def worker_name(slot: int) -> str:
    """What attempts are signed with."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}#{slot}"


class ListenerThread(ABC):
    """`number` counts the listener's threads from 1; `consumer` is whom the handler processes for."""

    def __init__(
        self,
        listener: Handler,
        number: int,
        consumer: str,
        keeper: Keeper,
        hints: Hints,
        heard: Heard,
        stopping: threading.Event,
    ) -> None:
        self._handler = listener
        self._consumer = consumer
        self._number = number
        self._keeper = keeper
        self._hints = hints
        self._stopping = stopping
        self._heard = heard
        self._complaint = ""
        self._away = 0.0
        self._thread = threading.Thread(target=self._run, name=f"{listener.name}#{number}", daemon=True)

    @property
    def name(self) -> str:
        """The listener's."""
        return self._handler.name

    def start(self) -> None:
        """Begins in a thread of its own."""
        self._hints.add(self._heard)
        self._thread.start()

    def wake(self) -> None:
        """Lets it notice that the worker stops."""
        self._heard.wake()

    def join(self, seconds: float) -> None:
        """Waits for the thread's end."""
        self._thread.join(seconds)

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @abstractmethod
    def is_stuck(self) -> bool:
        """Whether its handler has taken so long that its work is no longer its own: nothing frees the thread."""

    @property
    @abstractmethod
    def has_looked(self) -> bool:
        """Whether it knows what it serves."""

    def _run(self) -> None:
        current_consumer.set(self._consumer)
        in_handler.set(True)
        try:
            while not self._stopping.is_set():
                pause = REFUSED_SECONDS
                with unforeseen(self._handler.name):
                    pause = self._step()
                if pause:
                    self._heard.wait(pause)
            with unforeseen(self._handler.name):
                self._leave()
        finally:
            self._hints.forget(self._heard)
            connections.close_all()

    @abstractmethod
    def _step(self) -> float:
        """Does one thing; answers the seconds until there may be another."""

    @abstractmethod
    def _leave(self) -> None:
        """Gives to others at once what it has, if the database is there to tell."""

    @abstractmethod
    def _forget_all(self) -> None:
        """What is remembered may be wrong: the next step looks, and reads everything anew."""

    def _be_away(self, error: Unavailable) -> float:
        if not self._away:
            log.warning("the database is away", extra=self._facts() | {"error": error.detail})
        self._forget_all()
        close_old_connections()
        self._away = min(max(AWAY_SECONDS, self._away * 2), LONGEST_AWAY_SECONDS)
        return self._away

    def _complain(self, message: str, error: str) -> None:
        """Says once why nothing is served."""
        if self._complaint != error:
            log.warning(message, extra=self._facts() | {"error": error})
        self._complaint = error

    def _facts(self) -> dict[str, object]:
        return {"handler": self._handler.name, "member": self._number}
