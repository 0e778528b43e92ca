"""What the console shows of live connections: each web process writes a summary of its own to Redis while asked to.

A page that looks (`reports`) leaves a mark that lasts some seconds; the processes that see it write their summaries,
which last hardly longer. Nobody looking costs one read of a mark per process and second. A summary that differs from
the last one is announced (`c`), so that open pages look again. Redis may lose all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Final, Protocol

import msgspec
import redis
import redis.asyncio
from django.conf import settings

from brokers import wakeup
from realtime.connections import Connection

WATCHED: Final = "waystation:connections:watched"
_KEY: Final = "waystation:connections:of:"
WATCH_SECONDS: Final = 30
"""How long processes go on reporting after somebody looked."""
_EVERY_SECONDS: Final = 1.0
LASTS_SECONDS: Final = 5
MOST_LISTED: Final = 1000
"""Connections listed of one process; all are counted."""
MOST_SUBSCRIPTIONS: Final = 100


class ConnectionReport(msgspec.Struct, frozen=True):
    """One live connection, as it was at most some seconds ago."""

    id: str
    protocol: str
    transport: str
    user: str | None
    token_id: str | None
    principal: str | None
    address: str
    user_agent: str
    connected_at: float
    """Seconds since 1970."""
    sent: int
    received: int
    dropped: int
    buffered: int
    """Bytes that wait for the client to read."""
    last_error: str | None
    subscriptions: dict[str, str]
    rate: float | None = None
    """Messages sent per second since the report before; None in the first one."""
    silent_s: int | None = None
    """Seconds since the client sent anything, be it a heart-beat; None for a stream, whose clients send nothing."""


class ProcessReport(msgspec.Struct, frozen=True):
    """The live connections of one web process."""

    process: str
    pid: int
    at: float
    """When it was written, in seconds since 1970."""
    total: int
    """How many there are, listed or not."""
    connections: list[ConnectionReport]


_decoder = msgspec.json.Decoder(ProcessReport)


@dataclass(frozen=True, slots=True)
class Look:
    """What the console found."""

    processes: list[ProcessReport]
    available: bool
    """Redis answered; without it nothing is known."""

    def connections(self) -> Iterable[ConnectionReport]:
        """All connections that are listed, of all processes."""
        for process in self.processes:
            yield from process.connections


def look() -> Look:
    """The live connections of all processes, and asks them to go on reporting.

    The first look after a while finds nothing yet: the processes answer within a second.
    """
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)
    try:
        client.set(WATCHED, "1", ex=WATCH_SECONDS)
        keys = list(client.scan_iter(match=f"{_KEY}*", count=100))
        values: list[Any] = client.mget(keys) if keys else []
    except redis.RedisError:
        return Look([], available=False)
    finally:
        client.close()
    return Look([_decoder.decode(value) for value in values if value is not None], available=True)


def reports() -> list[ProcessReport]:
    """`look`, for whoever does not mind whether Redis answered."""
    return look().processes


def report_of(connection: Connection, rate: float | None = None) -> ConnectionReport:
    """A connection as it is now; it is sent so many messages per second."""
    principal = connection.principal
    return ConnectionReport(
        id=connection.id,
        protocol=connection.protocol,
        transport=connection.transport.kind,
        user=principal.user_name() if principal else None,
        token_id=principal.token_id if principal else None,
        principal=principal.name if principal else None,
        address=connection.address,
        user_agent=connection.user_agent,
        connected_at=connection.connected_at,
        sent=connection.sent,
        received=connection.received,
        dropped=connection.dropped,
        buffered=connection.transport.buffered(),
        last_error=connection.last_error,
        subscriptions=dict(list(connection.subscriptions.items())[:MOST_SUBSCRIPTIONS]),
        rate=rate,
        silent_s=None if connection.protocol == "sse" else round(connection.silent_for()),
    )


class Details(Protocol):
    """What is reported besides of connections that are looked at one by one (`connection_details.Examiner`)."""

    async def report(self, client: redis.asyncio.Redis, process: str) -> bool:
        """Reports it; whether it is anything new. Raises: redis.RedisError."""

    def stop(self) -> None:
        """Nobody looks any more."""


class Reporter:
    """Writes this process's summary while somebody looks; part of `registry.Registry`."""

    def __init__(self, connections: Mapping[str, Connection], details: Details | None = None) -> None:
        self._connections = connections
        self._details = details
        self._process = uuid.uuid4().hex
        self._sent: dict[str, int] = {}
        """What each connection had been sent at the summary before."""
        self._summed_at: float | None = None

    def summary(self) -> ProcessReport:
        """The connections of this process, at most `MOST_LISTED`: those with most waiting bytes, then the newest."""
        now = time.monotonic()
        seconds = None if self._summed_at is None else max(now - self._summed_at, 0.001)
        everybody = self._connections.values()
        chosen = nlargest(MOST_LISTED, everybody, key=lambda each: (each.transport.buffered(), each.connected_at))
        listed = [report_of(each, self._rate(each, seconds)) for each in chosen]
        self._summed_at, self._sent = now, {each.id: each.sent for each in chosen}
        return ProcessReport(self._process, os.getpid(), time.time(), len(everybody), listed)

    def _rate(self, connection: Connection, seconds: float | None) -> float | None:
        before = self._sent.get(connection.id)
        return None if seconds is None or before is None else round((connection.sent - before) / seconds, 1)

    def _nobody_looks(self) -> None:
        self._sent, self._summed_at = {}, None
        if self._details is not None:
            self._details.stop()

    async def run(self) -> None:
        """Reports until it is cancelled, then takes the report back."""
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=2.0, socket_connect_timeout=2.0)
        key = f"{_KEY}{self._process}"
        announced: list[ConnectionReport] | None = None
        this = asyncio.current_task()
        assert this is not None
        try:
            while not this.cancelling():  # the client of Redis may swallow the cancellation
                try:
                    if await client.exists(WATCHED):
                        summary = self.summary()
                        await client.set(key, msgspec.json.encode(summary), ex=LASTS_SECONDS)
                        shown = [msgspec.structs.replace(each, silent_s=None) for each in summary.connections]
                        is_new = self._details is not None and await self._details.report(client, self._process)
                        if is_new or shown != announced:
                            announced = shown
                            wakeup.announce_change("c", "")
                    else:
                        self._nobody_looks()
                except (redis.RedisError, OSError):
                    pass  # the console says that it knows nothing
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            self._nobody_looks()
            if announced is not None:
                with contextlib.suppress(redis.RedisError, OSError):
                    await client.delete(key)
                wakeup.announce_change("c", "")
            await client.aclose()
