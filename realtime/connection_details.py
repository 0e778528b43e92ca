"""What the console shows of one connection that is looked at: its last frames, positions and how it kept up.

`examine` marks a connection for some seconds and reads what was reported of it. The web process that holds it gives it
a recorder and reports once a second, until nobody has looked for so long; nothing at all is kept of the others. Of a
connection that ends meanwhile the last report stays for two minutes. All of it is in Redis, which may lose it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import redis
import redis.asyncio
from django.conf import settings

from brokers import topic_log
from brokers.errors import Unavailable
from brokers.topic_log import PartitionEnds
from realtime.connection_reports import LASTS_SECONDS, MOST_SUBSCRIPTIONS, ConnectionReport, report_of
from realtime.connections import Connection
from realtime.frame_recorder import FrameRecorder, FrameReport, Sample
from realtime.subscription_positions import SubscriptionPosition, measure

EXAMINED: Final = "waystation:connections:examined"
"""A sorted set: ids by when they were looked at last."""
_KEY: Final = "waystation:connections:detail:"
EXAMINED_SECONDS: Final = 30
"""How long a connection is recorded after somebody looked."""
MOST_EXAMINED: Final = 100
"""Connections looked at, in all processes."""
MOST_RECORDED: Final = 20
"""Of them in one process: those looked at last."""
OVER_SECONDS: Final = 120
"""How long the last report of a connection is kept that ended while it was looked at."""


class ConnectionDetail(msgspec.Struct, frozen=True):
    """One connection that is looked at, as it was at most some seconds ago."""

    connection: ConnectionReport
    """As in the list, which has not room for everybody."""
    process: str
    """Which web process holds it, as `ProcessReport` names it."""
    pid: int
    at: float
    """When it was reported, in seconds since 1970."""
    since: float
    """When recording began."""
    is_over: bool
    """It has ended; this is what was known then."""
    positions: list[SubscriptionPosition]
    frames: list[FrameReport]
    """The newest last."""
    samples: list[Sample]
    """The newest last."""


class Examined(NamedTuple):
    """What is known of a connection that somebody looks at."""

    detail: ConnectionDetail | None
    is_first: bool
    """Nobody looked at it before: whoever holds it answers within a second or two."""


_decoder = msgspec.json.Decoder(ConnectionDetail)


def examine(connection_id: str) -> Examined:
    """What was reported of a connection, and asks the process that holds it to go on; nothing while Redis is away."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)
    now = time.time()
    try:
        pipeline = client.pipeline(transaction=False)
        pipeline.zremrangebyscore(EXAMINED, "-inf", now - EXAMINED_SECONDS)
        pipeline.zadd(EXAMINED, {connection_id: now})
        pipeline.zremrangebyrank(EXAMINED, 0, -MOST_EXAMINED - 1)
        pipeline.expire(EXAMINED, EXAMINED_SECONDS)
        pipeline.get(f"{_KEY}{connection_id}")
        _, added, _, _, found = pipeline.execute()
    except redis.RedisError:
        return Examined(None, is_first=False)
    finally:
        client.close()
    return Examined(None if found is None else _decoder.decode(found), bool(added))


class _Recording(NamedTuple):
    """A connection that is looked at."""

    connection: Connection
    recorder: FrameRecorder
    since: float


class Examiner:
    """Records and reports what is looked at of this process's connections; part of `connection_reports.Reporter`."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections
        self._recordings: dict[str, _Recording] = {}
        self._told: dict[str, list[SubscriptionPosition]] = {}

    async def report(self, client: redis.asyncio.Redis, process: str) -> bool:
        """Reports every connection that somebody looks at; whether a page would look different now.

        Raises: redis.RedisError.
        """
        wanted: Any = await client.zrange(EXAMINED, 0, MOST_EXAMINED - 1, desc=True)
        self._choose([name.decode() for name in wanted])
        if not self._recordings:
            return False
        ends = await self._ends()
        changed = False
        pipeline: Any = client.pipeline(transaction=False)
        for name, recording in list(self._recordings.items()):
            changed = recording.recorder.look() or changed
            positions = _positions(recording.connection)
            for position in positions:
                measure(position, ends)
            detail = _detail(recording, positions, process)
            if detail.is_over:
                self._forget(name)
            changed = changed or detail.is_over or self._told.get(name) != positions
            if not detail.is_over:
                self._told[name] = positions
            pipeline.set(
                f"{_KEY}{name}", msgspec.json.encode(detail), ex=OVER_SECONDS if detail.is_over else LASTS_SECONDS
            )
        await pipeline.execute()
        return changed

    def stop(self) -> None:
        """Nobody looks at anything."""
        for name in list(self._recordings):
            self._forget(name)

    def _choose(self, wanted: Sequence[str]) -> None:
        here = [name for name in wanted if name in self._connections or name in self._recordings][:MOST_RECORDED]
        for name in list(self._recordings):
            if name not in here:
                self._forget(name)
        for name in here:
            if name not in self._recordings:
                connection = self._connections[name]
                connection.recorder = FrameRecorder(connection)
                self._recordings[name] = _Recording(connection, connection.recorder, time.time())

    def _forget(self, name: str) -> None:
        self._recordings.pop(name).connection.recorder = None
        self._told.pop(name, None)

    async def _ends(self) -> Mapping[int, Sequence[PartitionEnds]] | None:
        """The ends of all topics that are subscribed to; None when the database is away."""
        topics = {
            position.topic_id
            for recording in self._recordings.values()
            for position in _positions(recording.connection)
            if position.topic_id
        }
        try:
            return await topic_log.aends_of_topics(sorted(topics)) if topics else {}
        except Unavailable:
            return None


def _positions(connection: Connection) -> list[SubscriptionPosition]:
    return [] if connection.positions is None else connection.positions()[:MOST_SUBSCRIPTIONS]


def _detail(recording: _Recording, positions: list[SubscriptionPosition], process: str) -> ConnectionDetail:
    connection, recorder = recording.connection, recording.recorder
    samples = recorder.samples
    rate = None
    if len(samples) > 1:
        before, last = samples[-2:]
        rate = round((last.sent - before.sent) / max(last.at - before.at, 0.001), 1)
    return ConnectionDetail(
        connection=report_of(connection, rate),
        process=process,
        pid=os.getpid(),
        at=time.time(),
        since=recording.since,
        is_over=connection.ended,
        positions=positions,
        frames=recorder.frames,
        samples=samples,
    )
