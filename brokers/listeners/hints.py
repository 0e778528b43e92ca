"""What wakes the threads of a worker: one Redis subscription for all of its threads.

As everywhere, hints only say "look again": a member that hears nothing looks each second. While Redis is away, or in
a test without it, that is all there is.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self

import redis
from django.conf import settings

from brokers.wakeup import CHANNEL

log = logging.getLogger("waystation.listeners")

RETRY_SECONDS: Final = 1.0
_LISTEN_SECONDS: Final = 0.1
"""How soon the thread notices that it should end."""
_JOIN_SECONDS: Final = 2.0


class Heard(ABC):
    """What one thread has heard since it last asked, and the event that it waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()

    @abstractmethod
    def hear(self, kind: str, number: int) -> None:
        """A hint: `p` for records of a partition, or a change of its group, `l` for its lane, `q` for a queue."""

    def wake(self) -> None:
        """Lets the thread look at once, whatever it waits for."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Until something is heard, or the time is over."""
        self._event.wait(seconds)


class PartitionHints(Heard):
    """A member's: partitions with new records, and those with something new in their lane."""

    def __init__(self) -> None:
        super().__init__()
        self._watched: frozenset[int] = frozenset()
        self._records: set[int] = set()
        self._lanes: set[int] = set()

    def watch(self, partition_ids: Collection[int]) -> None:
        """From now on only hints for these partitions are heard."""
        self._watched = frozenset(partition_ids)

    def hear(self, kind: str, number: int) -> None:
        """As `Heard.hear`."""
        if kind != "q" and number in self._watched:
            with self._lock:
                (self._records if kind == "p" else self._lanes).add(number)
            self._event.set()

    def take(self) -> tuple[set[int], set[int]]:
        """What was heard since the last call."""
        self._event.clear()
        with self._lock:
            records, self._records = self._records, set()
            lanes, self._lanes = self._lanes, set()
        return records, lanes


class QueueHints(Heard):
    """A queue consumer's: whether there is something new in its queue."""

    def __init__(self) -> None:
        super().__init__()
        self._queue_id: int | None = None
        self._was_announced = False

    def watch(self, queue_id: int) -> None:
        """From now on hints for this queue are heard."""
        self._queue_id = queue_id

    def hear(self, kind: str, number: int) -> None:
        """As `Heard.hear`."""
        if kind == "q" and number == self._queue_id:
            with self._lock:
                self._was_announced = True
            self._event.set()

    def take(self) -> bool:
        """Whether something was heard since the last call."""
        self._event.clear()
        with self._lock:
            was_announced, self._was_announced = self._was_announced, False
        return was_announced


class Hints:
    """The thread that listens, from entry to exit of a `with` block; `on_change` is as `wakeup.Hub`'s."""

    def __init__(self, on_change: Callable[[str, str], None]) -> None:
        self._on_change = on_change
        self._members: set[Heard] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waystation-hints", daemon=True)
        self.listening = threading.Event()
        """The subscription stands."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def add(self, heard: Heard) -> None:
        """A thread that hears from now on, until `forget`."""
        self._members = self._members | {heard}  # a new set each time: the thread goes through the old one

    def forget(self, heard: Heard) -> None:
        """The thread is over."""
        self._members = self._members - {heard}

    def _run(self) -> None:
        warned = False
        while not self._stopping.is_set():
            client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5)
            try:
                with client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
                    subscription.subscribe(CHANNEL)
                    self.listening.set()
                    warned = False
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=_LISTEN_SECONDS)
                        if message is not None:
                            self._pass_on(message["data"].decode(errors="replace"))
            except (redis.RedisError, OSError) as error:
                if not warned:
                    log.warning("redis is away, listeners poll instead", extra={"error": str(error)})
                    warned = True
                self._stopping.wait(RETRY_SECONDS)
            finally:
                self.listening.clear()
                client.close()

    def _pass_on(self, message: str) -> None:
        for hint in message.split(" "):
            kind, rest = hint[:1], hint[1:]
            if kind in ("p", "l", "q"):
                if rest.isdecimal():
                    for heard in self._members:
                        heard.hear(kind, int(rest))
            else:
                self._on_change(kind, rest)
