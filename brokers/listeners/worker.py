"""A listener worker: all members of one process, with what they share, from entry to exit of a `with` block.

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
from brokers.listeners.hints import Hints
from brokers.listeners.keeper import Keeper
from brokers.listeners.member import Member
from brokers.listeners.registration import Listener

log = logging.getLogger("waystation.listeners")

DRAIN_SECONDS: Final = 5.0
"""How long the end waits for the records under way; what is not committed by then is handled again."""


class Worker:
    """Serves listeners. At the exit each member finishes the record under way, commits, and leaves its group."""

    def __init__(self, listeners: Sequence[Listener], drain_seconds: float = DRAIN_SECONDS) -> None:
        self._stopping = threading.Event()
        self._drain_seconds = drain_seconds
        self._keeper = Keeper()
        self._hints = Hints(_forget)
        self._shared = ExitStack()
        self.members = [
            Member(listener, number, self._keeper, self._hints, self._stopping)
            for listener in listeners
            for number in range(1, listener.concurrency + 1)
        ]

    def __enter__(self) -> Self:
        if self.members:
            self._shared.enter_context(self._hints)
            self._shared.enter_context(self._keeper)
            for member in self.members:
                member.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        deadline = time.monotonic() + self._drain_seconds
        for member in self.members:
            member.join(max(0.0, deadline - time.monotonic()))
        late = [member.listener.name for member in self.members if member.is_alive()]
        if late:
            log.warning("handlers did not end in time: their records will be handled again", extra={"handlers": late})
        self._shared.close()

    def stop(self) -> None:
        """Lets the members come to an end; the exit waits for it."""
        self._stopping.set()
        for member in self.members:
            member.wake()

    def is_alive(self) -> bool:
        """Whether everything runs; what does not has logged why. A handler that hangs asks for another process."""
        if not self.members:
            return True
        stuck = [member.listener.name for member in self.members if member.is_stuck()]
        if stuck:
            log.error("handlers took longer than max_poll_interval_ms", extra={"handlers": stuck})
        running = self._keeper.is_alive() and self._hints.is_alive() and all(one.is_alive() for one in self.members)
        return running and not stuck

    def hears(self) -> bool:
        """Whether hints arrive; while they do not, members look each second."""
        return self._hints.listening.is_set()

    @property
    def slot(self) -> int | None:
        """The worker's slot."""
        return self._keeper.slot


def _forget(kind: str, name: str) -> None:
    """What another process has changed is read again."""
    if kind == "t":
        topics.forget(name)
    elif kind == "k":
        access.forget(name)
