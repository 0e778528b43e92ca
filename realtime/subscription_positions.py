"""Where a subscription stands, for whoever watches its connection: offsets and lag of a topic, claims of a queue.

Subscriptions say it when they are asked (`Connection.positions`); `connection_details` asks, once a second and only
while somebody watches. What is to be reported is bounded whatever the number of partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import Final, Literal

import msgspec

from brokers.topic_log import PartitionEnds
from realtime.feeds import Joined

MOST_PARTITIONS: Final = 50
"""Reported of one subscription, those furthest behind; all are counted."""
LONGEST_TOKEN: Final = 300
"""Characters; the token of a topic of very many partitions is not reported."""

Kind = Literal["topic", "queue", "broadcast", "stream"]


class PartitionPosition(msgspec.Struct, frozen=True):
    """Where a subscription stands in one partition."""

    partition: int
    offset: int
    """The next one that it gets."""
    lag: int | None
    """Records of the partition from there to its end, whether they pass the subscription's filter or not."""


class SubscriptionPosition(msgspec.Struct):
    """Where one subscription of a connection stands."""

    id: str
    """As the client named it."""
    destination: str
    kind: Kind
    name: str = ""
    """Of the topic or queue."""
    ack: str = "auto"
    filter: Literal["", "partition", "key"] = ""
    """What of the topic it gets."""
    catching_up: bool = False
    """It is given what the log holds already, and not yet records as they come."""
    token: str = ""
    """The position token of what it has been given; empty for one that is too long to be shown."""
    partitions: list[PartitionPosition] = []
    partition_count: int = 0
    lag: int | None = None
    """Over all partitions that it follows; None if it is none of a topic, or the log could not be asked."""
    unacknowledged: int | None = None
    """Messages of the queue that the client has and has not settled."""
    prefetch: int | None = None
    """How many of them it may have."""
    topic_id: int = 0
    offsets: dict[int, int] = {}
    """By partition; what `measure` reports is in `partitions`."""


def of_topic(name: str, destination: str, topic: str, joined: Joined | None, ack: str = "auto") -> SubscriptionPosition:
    """A subscription to a topic of the log, or a stream of one."""
    made = SubscriptionPosition(name, destination, "topic", topic, ack)
    if joined is not None:
        limits = joined.filter
        made.filter = "partition" if limits.partition is not None else "key" if limits.key is not None else ""
        made.catching_up = not joined.caught_up
        token = joined.position()
        made.token = token if len(token) <= LONGEST_TOKEN else ""
        made.topic_id = joined.topic_id
        made.offsets = joined.offsets()
    return made


def measure(position: SubscriptionPosition, ends: Mapping[int, Sequence[PartitionEnds]] | None) -> None:
    """Fills in partitions and lag from the ends of topics, read before; without them the lag is not known."""
    if not position.topic_id:
        return
    known = None if ends is None else ends.get(position.topic_id)
    offsets, position.offsets = position.offsets, {}
    lags: dict[int, int] = {}
    if known is not None:
        lags = {n: max(0, known[n].latest_offset - offset) for n, offset in offsets.items() if n < len(known)}
    position.lag = sum(lags.values()) if lags and len(lags) == len(offsets) else None
    position.partition_count = len(offsets)
    furthest = nsmallest(MOST_PARTITIONS, offsets, key=lambda number: (-lags.get(number, 0), number))
    position.partitions = [PartitionPosition(n, offsets[n], lags.get(n)) for n in sorted(furthest)]
