"""Tells waiters that something may be there, over Redis, and lets them wait for it.

Redis carries hints only: a lost one costs a waiter `POLL_INTERVAL_SECONDS` and never a record or message, because
whoever waits looks into PostgreSQL anyway. Announcing never blocks and never fails: a thread sends what has gathered.
Called by `publish` and `send` after the commit, by the caches when something changed, and by all who wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import redis
import redis.asyncio
from django.conf import settings

from brokers.settings import POLL_INTERVAL_SECONDS

log = logging.getLogger("waystation.wakeup")

CHANNEL = "waystation:hints"
_MAX_GATHERED = 10_000
"""Hints kept while Redis is away; beyond them the poll alone wakes the waiters."""
_AWAITED = ("p", "q")
"""Hints that `Hub.wait_for` waits for: of partitions and queues."""
_RETRY_SECONDS = 1.0
_REMEMBERED = 1000
"""Announcements that `Hub.wait` looks back on."""
_GATHER_SECONDS = 0.002
"""Pause between two messages: the first hint goes at once, those of the next two milliseconds go together."""


class Announcer:
    """Sends hints from one thread of this process, gathering those that come while it sends."""

    def __init__(self) -> None:
        self._gathered: set[str] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def announce(self, hints: Iterable[str]) -> None:
        """Returns at once; what does not fit is dropped."""
        with self._lock:
            if len(self._gathered) < _MAX_GATHERED:
                self._gathered.update(hints)
            if self._thread is None or not self._thread.is_alive():  # none yet, or this is a forked child
                self._thread = threading.Thread(target=self._run, name="waystation-announcer", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)
        warned = False
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                hints, self._gathered = self._gathered, set()
            if not hints:
                continue
            try:
                client.publish(CHANNEL, " ".join(hints))
                warned = False
                time.sleep(_GATHER_SECONDS)
            except redis.RedisError as error:
                if not warned:
                    log.warning("redis is away, waiters poll instead", extra={"error": str(error)})
                    warned = True
                time.sleep(_RETRY_SECONDS)


_announcer = Announcer()


def announce_partitions(partition_ids: Iterable[int]) -> None:
    """Wakes whoever waits for records of these partitions. Call it after the commit."""
    _announcer.announce([f"p{number}" for number in partition_ids])


def announce_lanes(partition_ids: Iterable[int]) -> None:
    """Wakes the listeners of these partitions: something is in their redelivery lane. Call it after the commit."""
    _announcer.announce([f"l{number}" for number in partition_ids])


def announce_queues(queue_ids: Iterable[int]) -> None:
    """Wakes whoever waits for messages of these queues. Call it after the commit."""
    _announcer.announce([f"q{number}" for number in queue_ids])


def announce_replays() -> None:
    """Wakes whoever moves replays: one was made or changed."""
    _announcer.announce(["r"])


def announce_change(kind: str, name: str) -> None:
    """Tells every process to forget what it remembers of a topic (`t`), token (`k`) or group (`g`).

    So for the topology of exchanges and queues (`x`), the list of live connections (`c`), and scheduled tasks and their
    runs (`s`), which have no name.
    """
    _announcer.announce([f"{kind}{name}"])


def announce_disconnect(connection_id: str) -> None:
    """Tells the process that holds this live connection to end it."""
    _announcer.announce([f"d{connection_id}"])


def announce_streams(hints: Iterable[str]) -> None:
    """Wakes who waits for notifications (`n`, then an inbox), progress (`u`, a task) or a durable call (`b`, its id).

    Call it after the commit.
    """
    _announcer.announce(hints)


class Hub:
    """What one event loop waits for: a single Redis subscription, however many wait.

    `on_change` is called with kind and name of each change announced by any process.
    """

    def __init__(self, on_change: Callable[[str, str], None]) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._heard = 0
        self._on_change = on_change
        self._watching: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.connected = False
        self.closing = False
        """The process is about to stop: nobody should go on waiting."""

    def watch(self, heard: Callable[[str], None]) -> None:
        """Has `heard` called in the event loop with every hint from now on; it must return at once.

        An empty hint says that the subscription was just made (again): hints may have been missed before it.
        """
        self._watching.append(heard)

    def start(self) -> None:
        """Begins to listen; the subscription is renewed until `stop`."""
        self._task = asyncio.create_task(self._listen(), name="waystation-wakeup")

    async def stop(self) -> None:
        """Ends the subscription and wakes all waiters."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.close()

    def close(self) -> None:
        """Lets every waiter answer with what it has; waiting is over in this process."""
        self.closing = True
        self.wake_all()

    def wake_all(self) -> None:
        """Lets every waiter look again now."""
        for hint in list(self._waiting):
            self._wake(hint)

    def mark(self) -> int:
        """This moment: take it before looking into the log or a queue, and give it to `wait` or `wait_for`."""
        return self._heard

    async def wait(self, partition_ids: Iterable[int], seconds: float, since: int | None = None) -> bool:
        """`wait_for` new records of one of the partitions."""
        return await self.wait_for([f"p{number}" for number in partition_ids], seconds, since)

    async def wait_for(self, hints: Iterable[str], seconds: float, since: int | None = None) -> bool:
        """Waits until one of the hints is announced, at most `POLL_INTERVAL_SECONDS` or `seconds`.

        Hints are of partitions (`p1`) and queues (`q1`). What was announced after the mark `since` counts too, and so
        nothing is missed between a look into the store and the wait. Says whether one was announced; look again either
        way.
        """
        wanted = list(hints)
        if since is not None and self._announced(wanted, since):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for hint in wanted:
            self._waiting.setdefault(hint, set()).add(future)
        try:
            async with asyncio.timeout(min(seconds, POLL_INTERVAL_SECONDS)):
                await future
            return True
        except TimeoutError:
            return False
        finally:
            for hint in wanted:
                futures = self._waiting.get(hint)
                if futures is not None:
                    futures.discard(future)
                    if not futures:
                        del self._waiting[hint]

    def _announced(self, hints: list[str], since: int) -> bool:
        new = self._heard - since
        if new > len(self._recent):
            return True
        return any(hint in hints for hint in itertools.islice(reversed(self._recent), new))

    def _wake(self, hint: str) -> None:
        for future in self._waiting.pop(hint, ()):
            if not future.done():
                future.set_result(None)

    def _hear(self, message: str) -> None:
        for hint in message.split(" "):
            kind, rest = hint[:1], hint[1:]
            self._tell(hint)
            if kind not in _AWAITED:
                self._on_change(kind, rest)
            elif rest.isdecimal():
                self._recent.append(hint)
                self._heard += 1
                self._wake(hint)

    def _tell(self, hint: str) -> None:
        for heard in self._watching:
            heard(hint)

    async def _listen(self) -> None:
        while True:
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    self.connected = True
                    self._tell("")
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=10.0)
                        if message is not None:
                            self._hear(message["data"].decode(errors="replace"))
            except (redis.RedisError, OSError) as error:
                if self.connected:
                    log.warning("redis is away, waiters poll instead", extra={"error": str(error)})
                self.connected = False
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                self.connected = False
                await client.aclose()


class Subscription:
    """The same for a synchronous consumer: waits on a connection of its own. Use it as a context manager."""

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._subscribed = False

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pubsub.close()
        self._client.close()

    def wait(self, partition_ids: Iterable[int], seconds: float) -> bool:
        """As `Hub.wait`; while Redis is away it only waits the time out."""
        return self.wait_for([f"p{number}" for number in partition_ids], seconds)

    def wait_for(self, hints: Iterable[str], seconds: float) -> bool:
        """The same for any hints, such as the `r` of replays."""
        ids = {hint.encode() for hint in hints}
        deadline = time.monotonic() + min(seconds, POLL_INTERVAL_SECONDS)
        while (left := deadline - time.monotonic()) > 0:
            try:
                if not self._subscribed:
                    self._pubsub.subscribe(CHANNEL)
                    self._subscribed = True
                message = self._pubsub.get_message(timeout=left)
            except redis.RedisError:
                self._subscribed = False
                time.sleep(left)
                return False
            if message is not None and not ids.isdisjoint(message["data"].split(b" ")):
                return True
        return False
