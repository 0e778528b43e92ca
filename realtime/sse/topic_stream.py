"""The stream of a topic: `GET /api/v1/topics/{topic}/stream`.

A subscriber of the process's feeds (`realtime.feeds`), whose events carry position tokens as ids. Made by `sse.app`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from brokers import topics
from brokers.access import Principal, authorize
from brokers.errors import BrokerError, InvalidLastEventId
from brokers.topics import TopicInfo
from realtime.connections import Connection
from realtime.errors import ProtocolError
from realtime.feeds import Earliest, Feeds, Joined, Latest, Resume, Start
from realtime.sse import event
from realtime.subscribers import Batch
from realtime.subscription_positions import of_topic

_ENCODED: Final = "sse"


class TopicStreamQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Where to begin, and what of the topic."""

    start: Literal["latest", "earliest"] = msgspec.field(name="from", default="latest")
    """With what is published from now on, or with the oldest record kept."""
    partition: int | None = None
    """Only records of this partition; event ids are then short."""
    key: str | None = None
    """Only records of this key."""
    last_event_id: str | None = None
    """Where a client that cannot set the header `Last-Event-ID` goes on; the header wins over it."""
    ticket: str | None = None
    """From `POST /api/v1/tickets`, in place of the Authorization header."""


class TopicStream:
    """One client's; also the `Subscriber` that the feed delivers to."""

    def __init__(self, feeds: Feeds, topic: str, query: TopicStreamQuery, last_event_id: str | None) -> None:
        self.description = f"topic {topic}"
        self._feeds = feeds
        self._topic = topic
        self._query = query
        self._last_event_id = last_event_id
        self._info: TopicInfo | None = None
        self._joined: Joined | None = None
        self._connection: Connection | None = None
        self._position = ""

    def check(self, principal: Principal) -> None:
        """Raises `AccessDenied` unless the caller may read the topic."""
        authorize(principal, "read", "topic", self._topic)

    async def find(self) -> None:
        """Looks the topic up; raises `TopicNotFound`."""
        self._info = await topics.alookup(self._topic)

    async def open(self, connection: Connection) -> None:
        """Joins the topic's feed; raises what it raises, and `InvalidLastEventId`."""
        assert self._info is not None
        self._connection = connection
        info = self._info
        query = self._query
        key = None if query.key is None else query.key.encode()
        start: Start = Earliest() if query.start == "earliest" else Latest()
        if self._last_event_id is not None:
            start = Resume(self._last_event_id)
        try:
            joined = await self._feeds.join(info, self, start, partition=query.partition, key=key)
        except ProtocolError as error:
            raise InvalidLastEventId(error.detail) from error
        self._joined = joined
        self._position = joined.position()
        connection.positions = lambda: [of_topic("stream", self.description, self._topic, self._joined)]
        connected = {"topic": info.name, "partitions": len(info.partition_ids)}
        connection.write(event.event("connected", event.to_json(connected), self._position))

    def keep_alive(self) -> bytes:
        """Tells of gaps that no record came after, and moves the client's position past what its filter left out."""
        if self._joined is None:
            return event.KEEP_ALIVE
        gaps = [event.gap(*found) for found in sorted(self._joined.tell_gaps().items())]
        position = self._joined.position()
        if not gaps and position == self._position:
            return event.KEEP_ALIVE
        self._position = position
        return b"".join([event.KEEP_ALIVE, *gaps, event.id_only(position)])

    def close(self) -> None:
        """Leaves the feed."""
        joined, self._joined = self._joined, None
        if joined is not None:
            joined.leave()

    # -- what the feed calls -------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Writes the batch, encoded once for all streams."""
        if self._connection is not None:
            self._connection.put(batch.encoded(_ENCODED, event.records), len(batch.events))

    async def take_waiting(self, batch: Batch) -> bool:
        """The same when there is room."""
        if self._connection is None or not await self._connection.space():
            return False
        return self._connection.put(batch.encoded(_ENCODED, event.records), len(batch.events))

    def stop(self, error: BrokerError) -> None:
        """Ends the stream with an `error` event."""
        if self._connection is not None:
            self._connection.fail(error)
