"""A listener worker: all members and consumers of one process, with what they share, within a `with` block.

`manage.py listen` runs one beside its housekeeping; tests and benchmarks run one in their own process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from brokers import access, topics
from brokers.listeners.handlers import Handler
from brokers.listeners.hints import Hints
from brokers.listeners.keeper import Keeper
from brokers.listeners.member import Member
from brokers.listeners.queue_member import QueueMember
from brokers.listeners.queue_registration import QueueListener
from brokers.listeners.registration import Listener
from brokers.listeners.threads import ListenerThread
from brokers.queues import topology

log = logging.getLogger("waystation.listeners")

DRAIN_SECONDS: Final = 5.0
"""How long the end waits for the records under way; what is not committed by then is handled again."""


class Worker:
    """Serves listeners. At the exit each thread finishes what is under way, commits, and leaves."""

    def __init__(self, listeners: Sequence[Handler], drain_seconds: float = DRAIN_SECONDS) -> None:
        self._stopping = threading.Event()
        self._drain_seconds = drain_seconds
        self._keeper = Keeper()
        self._hints = Hints(_forget)
        self._shared = ExitStack()
        wanted = [(listener, number) for listener in listeners for number in range(1, listener.concurrency + 1)]
        shared = (self._keeper, self._hints, self._stopping)
        self.members = [Member(one, number, *shared) for one, number in wanted if isinstance(one, Listener)]
        self.consumers = [QueueMember(one, number, *shared) for one, number in wanted if isinstance(one, QueueListener)]
        self.threads: list[ListenerThread] = [*self.members, *self.consumers]

    def __enter__(self) -> Self:
        if self.threads:
            self._shared.enter_context(self._hints)
            self._shared.enter_context(self._keeper)
            for thread in self.threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        deadline = time.monotonic() + self._drain_seconds
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread.name for thread in self.threads if thread.is_alive()]
        if late:
            log.warning("handlers did not end in time: their records will be handled again", extra={"handlers": late})
        self._shared.close()

    def stop(self) -> None:
        """Lets the members come to an end; the exit waits for it."""
        self._stopping.set()
        for thread in self.threads:
            thread.wake()

    def is_alive(self) -> bool:
        """Whether everything runs; what does not has logged why. A handler that hangs asks for another process."""
        if not self.threads:
            return True
        stuck = [thread.name for thread in self.threads if thread.is_stuck()]
        if stuck:
            log.error("handlers took too long", extra={"handlers": stuck})
        running = self._keeper.is_alive() and self._hints.is_alive() and all(one.is_alive() for one in self.threads)
        return running and not stuck

    def hears(self) -> bool:
        """Whether hints arrive; while they do not, threads look each second."""
        return self._hints.listening.is_set()

    @property
    def slot(self) -> int | None:
        """The worker's slot."""
        return self._keeper.slot


def _forget(kind: str, name: str) -> None:
    """What another process has changed is read again."""
    if kind == "t":
        topics.forget(name)
    elif kind == "x":
        topology.forget()
    elif kind == "k":
        access.forget(name)
