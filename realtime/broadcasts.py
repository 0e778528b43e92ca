"""Broadcasts and user destinations as one web process hears them: one Redis subscription for all who are subscribed.

Destinations are hashed into channels; an exact destination needs one, a pattern all of them. What arrives is matched
here and given to subscribers as `Batch`, in the order in which each destination's publisher sent it. Lives on one event
loop; publishers are in `announcing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from brokers.errors import InvalidValue, shown
from realtime import patterns
from realtime.announcing import CHANNEL, CHANNELS, USER_PREFIX, channel_of, user_destination
from realtime.subscribers import Batch, BroadcastEvent, Subscriber

log = logging.getLogger("waystation.broadcasts")

_BASE = f"{CHANNEL}base"
"""Always subscribed to, so that the connection is there before the first subscriber."""
_CONFIRM_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.5
_LINGER_SECONDS: Final = 60.0
"""How long a channel is kept after its last subscriber."""
_MAX_ORIGINS: Final = 4096
_MAX_MATCHED: Final = 10_000

_decode = msgspec.msgpack.Decoder(tuple[str, int, list[BroadcastEvent]]).decode
Allowed = Callable[[str], bool]


@dataclass(slots=True)
class _Listening:
    """Who is subscribed to one destination or pattern."""

    destination: str
    of_user: bool
    pattern: re.Pattern[str] | None
    subscribers: dict[int, tuple[Subscriber, Allowed | None]] = field(default_factory=dict)


class Broadcasts:
    """The subscriptions of one process to broadcasts."""

    def __init__(self) -> None:
        self._exact: dict[str, _Listening] = {}
        self._patterns: dict[str, _Listening] = {}
        self._matched: dict[str, tuple[_Listening, ...]] = {}
        self._references = [0] * CHANNELS
        self._left: dict[int, float] = {}
        self._asked: set[int] = set()
        self._confirmed: set[int] = set()
        self._waiting: dict[int, asyncio.Event] = {}
        self._wanted = asyncio.Event()
        self._last: OrderedDict[tuple[bytes, str], int] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def start(self) -> None:
        """Begins to listen; the subscription is renewed until `stop`."""
        self._task = asyncio.create_task(self._listen(), name="waystation-broadcasts")

    async def stop(self) -> None:
        """Ends the subscription."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def subscribe(
        self, destination: str, subscriber: Subscriber, user: str | None = None, allowed: Allowed | None = None
    ) -> None:
        """Delivers what is sent to a destination, or to all that match a pattern, from now on.

        With `user` the destination (`/queue/x`) is this user's own, and its events come as of `/user/queue/x`.
        `allowed` says of each destination whether it may be delivered. When this returns, every later broadcast is
        received, unless Redis is away. Raises `InvalidValue` for a pattern that cannot be.
        """
        if user is None and destination.startswith(USER_PREFIX):
            raise InvalidValue(f"a user's destination is subscribed to as its user: {shown(destination)}")
        travels = destination if user is None else user_destination(user, destination)
        known = self._patterns if patterns.is_pattern(travels) else self._exact
        listening = known.get(travels)
        if listening is None:
            pattern = patterns.compiled(travels) if known is self._patterns else None
            if pattern is not None:
                self._matched.clear()
            listening = known[travels] = _Listening(travels, user is not None, pattern)
        if id(subscriber) in listening.subscribers:
            return
        listening.subscribers[id(subscriber)] = subscriber, allowed
        needed = self._channels(travels)
        for channel in needed:
            self._references[channel] += 1
            self._left.pop(channel, None)
        await self._confirmation(needed)

    def unsubscribe(self, destination: str, subscriber: Subscriber, user: str | None = None) -> None:
        """Delivers nothing more of it to this subscriber."""
        travels = destination if user is None else user_destination(user, destination)
        known = self._patterns if patterns.is_pattern(travels) else self._exact
        listening = known.get(travels)
        if listening is None or listening.subscribers.pop(id(subscriber), None) is None:
            return
        if not listening.subscribers:
            del known[travels]
            if known is self._patterns:
                self._matched.clear()
        for channel in self._channels(travels):
            self._references[channel] -= 1
            if not self._references[channel]:
                self._left[channel] = time.monotonic()

    @staticmethod
    def _channels(destination: str) -> Iterable[int]:
        if destination.startswith(USER_PREFIX) or not patterns.is_pattern(destination):
            return (channel_of(destination),)
        return range(CHANNELS)

    async def _confirmation(self, channels: Iterable[int]) -> None:
        missing = [channel for channel in channels if channel not in self._confirmed]
        if not missing:
            return
        self._wanted.set()
        if not self.connected:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONFIRM_SECONDS):
                for waiting in [self._waiting.setdefault(channel, asyncio.Event()) for channel in missing]:
                    await waiting.wait()

    # -- what arrives ---------------------------------------------------------------------------------------------

    def _receive(self, channel: bytes, data: bytes) -> None:
        try:
            origin, number, events = _decode(data)
        except msgspec.DecodeError as error:
            log.warning("a broadcast that cannot be read", extra={"error": str(error)})
            return
        if self._is_repeated(channel, origin, number):
            return
        try:
            self._deliver(events)
        except Exception:  # what goes wrong with one message must not end the hearing of all
            log.exception("a broadcast could not be delivered")

    def _is_repeated(self, channel: bytes, origin: str, number: int) -> bool:
        """Whether this came before: a sender whose connection broke may send its last message again."""
        last = self._last.pop((channel, origin), 0)
        self._last[channel, origin] = max(last, number)
        if len(self._last) > _MAX_ORIGINS:
            self._last.popitem(last=False)
        return number <= last

    def _deliver(self, events: Sequence[BroadcastEvent]) -> None:
        by_destination: dict[str, list[BroadcastEvent]] = {}
        by_pattern: dict[str, list[BroadcastEvent]] = {}
        for event in events:
            if event.destination in self._exact:
                by_destination.setdefault(event.destination, []).append(event)
            if self._patterns:
                for listening in self._matching(event.destination):
                    by_pattern.setdefault(listening.destination, []).append(event)
        for destination, found in by_destination.items():
            _give(self._exact.get(destination), found)
        for pattern, found in by_pattern.items():
            _give(self._patterns.get(pattern), found)

    def _matching(self, destination: str) -> tuple[_Listening, ...]:
        """The patterns that match; a pattern without a user never matches a user's destination."""
        found = self._matched.get(destination)
        if found is None:
            if len(self._matched) >= _MAX_MATCHED:
                self._matched.clear()
            of_user = destination.startswith(USER_PREFIX)
            found = self._matched[destination] = tuple(
                listening
                for listening in self._patterns.values()
                if listening.of_user == of_user and listening.pattern and listening.pattern.fullmatch(destination)
            )
        return found

    # -- the subscription of Redis --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        warned = False
        while True:
            client = redis.asyncio.Redis.from_url(
                settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_connect_timeout=2.0
            )
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(_BASE)
                    self.connected = True
                    self._wanted.set()
                    if warned:
                        log.info("broadcasts are received again")
                        warned = False
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._read(subscription))
                        tasks.create_task(self._keep_channels(subscription))
            except* (redis.RedisError, OSError) as errors:
                if not warned:
                    error = str(errors.exceptions[0])
                    log.warning("redis is away, broadcasts are not received", extra={"error": error})
                    warned = True
            finally:
                self.connected = False
                self._asked.clear()
                self._confirmed.clear()
                self._release()
                await client.aclose()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(timeout=10.0)
            if message is None:
                continue
            if message["type"] == "message":
                self._receive(message["channel"], message["data"])
            elif message["type"] == "subscribe" and message["channel"] != _BASE.encode():
                channel = int(message["channel"].removeprefix(CHANNEL.encode()))
                self._confirmed.add(channel)
                if (waiting := self._waiting.pop(channel, None)) is not None:
                    waiting.set()

    async def _keep_channels(self, subscription: PubSub) -> None:
        """Subscribes to the channels that are needed, and leaves those that have not been for a while."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()
            missing = [n for n in range(CHANNELS) if self._references[n] and n not in self._asked]
            if missing:
                self._asked.update(missing)
                await subscription.subscribe(*(f"{CHANNEL}{n}" for n in missing))
            before = time.monotonic() - _LINGER_SECONDS
            unused = [n for n, left in self._left.items() if left < before]
            for channel in unused:
                del self._left[channel]
            if leaving := [n for n in unused if n in self._asked]:
                self._asked.difference_update(leaving)
                self._confirmed.difference_update(leaving)
                await subscription.unsubscribe(*(f"{CHANNEL}{n}" for n in leaving))

    def _release(self) -> None:
        """Lets those go on who wait for a confirmation that will not come."""
        for waiting in self._waiting.values():
            waiting.set()
        self._waiting.clear()


def _give(listening: _Listening | None, events: Sequence[BroadcastEvent]) -> None:
    if listening is None:
        return
    if listening.of_user:
        # The user's name is no part of what the user subscribed to.
        events = [event._replace(destination=_as_own(event.destination)) for event in events]
    batch = Batch(events)
    one = listening.pattern is None or len(events) == 1
    for subscriber, allowed in tuple(listening.subscribers.values()):
        if allowed is None:
            subscriber.take(batch)
        elif one:
            if allowed(events[0].destination):
                subscriber.take(batch)
        elif mine := [event for event in events if allowed(event.destination)]:
            subscriber.take(batch if len(mine) == len(events) else Batch(mine))


def _as_own(destination: str) -> str:
    """`/user/queue/x` of `/user/<name>/queue/x`."""
    return f"/user{destination[destination.find('/', len(USER_PREFIX)) :]}"
