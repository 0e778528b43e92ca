"""Sends broadcasts to all processes, over Redis: from any process, from any thread, without waiting.

A thread gathers what comes while it sends; the order is kept. Broadcasts are for those subscribed now, and so nothing
is stored: what finds Redis away, or no room, is lost, and the log says so once. Called by `broadcasting` and by
frames sent to a plain destination.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from realtime.subscribers import BroadcastEvent

log = logging.getLogger("waystation.broadcasts")

CHANNELS: Final = 64
CHANNEL: Final = "waystation:broadcast:"
MAX_GATHERED: Final = 10_000
"""Broadcasts kept while Redis is slow or away."""
MAX_GATHERED_BYTES: Final = 32 * 1024 * 1024
_MESSAGE_BYTES: Final = 256 * 1024
"""Bodies joined in one message of Redis, about; a larger one goes alone."""
_RETRY_SECONDS: Final = 0.5
_EXIT_SECONDS: Final = 2.0
USER_PREFIX: Final = "/user/"

encode = msgspec.msgpack.Encoder().encode


def user_destination(user: str, destination: str) -> str:
    """How `/user{destination}` of this user travels: the name is %-escaped, and so has no `/` and no wildcard."""
    return f"{USER_PREFIX}{quote(user, safe='')}{destination}"


def channel_of(destination: str) -> int:
    """The channel of a destination; all destinations of one user have the same."""
    if destination.startswith(USER_PREFIX):
        destination = destination[: destination.find("/", len(USER_PREFIX))]
    return zlib.crc32(destination.encode(errors="surrogatepass")) % CHANNELS


class Announcer:
    """Sends broadcasts from one thread of this process."""

    def __init__(self) -> None:
        self._gathered: deque[BroadcastEvent] = deque(maxlen=MAX_GATHERED)
        self._bytes = 0
        self._sending = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._full = False
        self._waiting: list[asyncio.Future[None]] = []
        self.lost = 0
        """Broadcasts that did not fit, or found Redis away."""

    def announce(self, destination: str, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        """Hands a broadcast over and returns at once."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # none yet, or this is a forked child
                self._restart()
            if len(self._gathered) >= MAX_GATHERED or self._bytes + len(body) > MAX_GATHERED_BYTES:
                self.lost += 1
                if not self._full:
                    log.warning("broadcasts are lost: more come than redis takes", extra={"destination": destination})
                    self._full = True
                return
            self._full = False
            name = f"{self._origin}-{next(self._numbers)}"
            self._gathered.append(BroadcastEvent(destination, body, content_type, headers, name))
            self._bytes += len(body)
            self._changed.notify_all()

    def crowded(self) -> bool:
        """Whether so much waits that whoever can should wait for `room`."""
        return len(self._gathered) >= MAX_GATHERED // 2 or self._bytes >= MAX_GATHERED_BYTES // 2

    async def room(self) -> None:
        """Returns once what waited is on its way, or lost: a client that sends much is slowed down by Redis."""
        with self._changed:
            if not self.crowded():
                return
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
        await future

    def flush(self, seconds: float) -> bool:
        """Waits until all that was handed over is sent or lost; False when it took longer."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                return not self._gathered
            return self._changed.wait_for(lambda: not self._gathered and not self._sending, seconds)

    def _restart(self) -> None:
        self._origin = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._gathered.clear()  # a forked child's parent sends them
        self._waiting = []
        self._bytes = self._sending = 0
        self._thread = threading.Thread(target=self._run, name="waystation-broadcasts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # A connection that broke meanwhile is made anew once; whoever receives knows a message that comes twice.
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2.0, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 1)
        )
        origin, numbers = self._origin, itertools.count(1)
        away = False
        while True:
            events = self._taken()
            sent = 0
            try:
                for channel, messages in _by_channel(events).items():
                    for message in messages:
                        client.publish(f"{CHANNEL}{channel}", encode((origin, next(numbers), message)))
                        sent += len(message)
                away = False
            except redis.RedisError as error:
                self.lost += len(events) - sent
                if not away:
                    log.warning("redis is away, broadcasts are lost", extra={"error": str(error)})
                    away = True
            finally:
                with self._changed:
                    self._sending = 0
                    self._changed.notify_all()
            if away:
                time.sleep(_RETRY_SECONDS)

    def _taken(self) -> list[BroadcastEvent]:
        with self._changed:
            self._changed.wait_for(lambda: self._gathered)
            events = list(self._gathered)
            self._gathered.clear()
            self._bytes = 0
            self._sending = len(events)
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            with contextlib.suppress(RuntimeError):  # its event loop has ended
                future.get_loop().call_soon_threadsafe(_tell, future)
        return events


def _tell(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _by_channel(events: list[BroadcastEvent]) -> dict[int, list[list[BroadcastEvent]]]:
    """Messages of Redis, in order, by their channel."""
    channels: dict[int, list[BroadcastEvent]] = {}
    for event in events:
        channels.setdefault(channel_of(event.destination), []).append(event)
    return {channel: list(_messages(of_channel)) for channel, of_channel in channels.items()}


def _messages(events: list[BroadcastEvent]) -> Iterator[list[BroadcastEvent]]:
    message: list[BroadcastEvent] = []
    size = 0
    for event in events:
        if message and size + len(event.body) > _MESSAGE_BYTES:
            yield message
            message, size = [], 0
        message.append(event)
        size += len(event.body) + 256
    yield message


_announcer = Announcer()
announce = _announcer.announce
crowded = _announcer.crowded
room = _announcer.room
flush = _announcer.flush
atexit.register(flush, _EXIT_SECONDS)  # a command that broadcasts and ends is heard
