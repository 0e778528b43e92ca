"""Subscriptions to topics of the log: new records, or from a position on, without a gap or a duplicate.

Headers of SUBSCRIBE: `offset` (`earliest`, `latest`, or with `partition` a number), `resume` (the `message-id` seen
last, which wins over `offset`), and the filters `partition` and `key`. Without any of them new records alone come.
"""

from __future__ import annotations

from typing import Final

from brokers import strict_json
from brokers.access import authorize
from brokers.errors import BrokerError, InvalidValue
from brokers.record_input import key_bytes
from brokers.topics import TopicInfo
from realtime.errors import ProtocolError
from realtime.feed_starts import At, Earliest, Latest, Resume, Start
from realtime.feeds import Joined
from realtime.stomp import delivery
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import Context, Subscription
from realtime.subscribers import Batch
from realtime.subscription_positions import SubscriptionPosition, of_topic

_OF_RECORDS: Final = ("offset", "resume", "partition", "key")


def asks_for_records(frame: Frame) -> bool:
    """Whether the frame names a position, which only a topic of the log has."""
    return any(name in frame.headers for name in _OF_RECORDS)


async def begin(context: Context, frame: Frame, text: str, info: TopicInfo) -> Subscription:
    """Subscribes to a topic; the caller has authorised it.

    The position is fixed when this returns. Raises `ProtocolError` `invalid_offset`, `PartitionNotFound`,
    `TopicNotFound` and `Unavailable`.
    """
    made = TopicSubscription(context, frame, text, info.name)
    partition = _partition(frame, info)
    key = key_bytes(frame.headers.get("key"))
    made.joined = await context.live.feeds.join(
        info, made, _start(frame, info, partition), partition=partition, key=key
    )
    return made


def _partition(frame: Frame, info: TopicInfo) -> int | None:
    text = frame.headers.get("partition")
    if text is None:
        return None
    number = _number("partition", text)
    info.partition_id(number)
    return number


def _start(frame: Frame, info: TopicInfo, partition: int | None) -> Start:
    resume, offset = frame.headers.get("resume"), frame.headers.get("offset", "latest")
    if resume:
        return Resume(resume)
    if offset == "latest":
        return Latest()
    if offset == "earliest":
        return Earliest()
    if partition is None and len(info.partition_ids) > 1:
        raise ProtocolError(
            f"an offset needs its partition: {info.name} has {len(info.partition_ids)}", "invalid_offset"
        )
    return At(partition or 0, _number("offset", offset))


def _number(header: str, text: str) -> int:
    try:
        return strict_json.parse_integer(text, minimum=0)
    except InvalidValue as error:
        raise ProtocolError(f"the header {header}: {error.detail}", "invalid_offset") from error


class TopicSubscription(Subscription):
    """A subscription to one topic."""

    joined: Joined | None = None

    def __init__(self, context: Context, frame: Frame, text: str, topic: str) -> None:
        super().__init__(context, frame, text)
        self._topic = topic

    def check_rights(self) -> None:
        """As of any subscription."""
        authorize(self.context.principal, "read", "topic", self._topic)

    def position(self) -> SubscriptionPosition:
        """As of any subscription."""
        return of_topic(self.id, self.description, self._topic, self.joined, self.mode)

    def take(self, batch: Batch) -> None:
        """Delivers at once."""
        delivery.write(self, batch)

    async def take_waiting(self, batch: Batch) -> bool:
        """Delivers when there is room."""
        return await delivery.write_waiting(self, batch)

    def stop(self, error: BrokerError) -> None:
        """Ends the connection with the error."""
        self.connection.fail(error)

    async def close(self) -> None:
        """Receives nothing more."""
        if self.joined is not None:
            self.joined.leave()
