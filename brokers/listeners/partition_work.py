"""Records of a partition as the work of a transaction: of its log, settled by an offset, or of its redelivery lane."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

from brokers import dead_letter_topics, dead_letters, deliveries, redeliveries, topics
from brokers.deliveries import Attempt, Delivery, Redelivered
from brokers.errors import TopicNotFound
from brokers.failure import Failure
from brokers.listeners.partitions import Partition
from brokers.listeners.registration import Listener
from brokers.listeners.settling import SQL
from brokers.listeners.work import Again, ClaimLost, Outcome, Settled, Settlement, Verdict, Work
from brokers.record import Record

_value = attrgetter("value")


class Membership(NamedTuple):
    """Whose work it is."""

    listener: Listener
    group_id: int
    member: int


class PartitionWork(Work):
    """Records of one partition, of its log or of its lane.

    `attempts` are the earlier ones, by offset; of the lane by the redelivery's id. `found` are the redeliveries of each
    record, when they are from the lane.
    """

    noun = "record"

    def __init__(
        self,
        membership: Membership,
        partition: Partition,
        records: Sequence[Record],
        attempts: Mapping[int, Sequence[Attempt]],
        found: Sequence[Redelivered] = (),
        with_care: bool = False,
    ) -> None:
        super().__init__(records)
        self.decode = _value
        self.membership = membership
        self.partition = partition
        self.records = records
        self.attempts = attempts
        self.redeliveries = found
        self.is_lane = bool(found)
        self.with_care = with_care
        self._past_care = False

    @property
    def is_numbered(self) -> bool:
        """As `Work.is_numbered`."""
        return bool(self.attempts) or self.with_care

    def number(self, index: int) -> int:
        """As `Work.number`."""
        earlier = self.earlier(index)
        return earlier[-1].number + 1 if earlier else 1

    def set_number(self, index: int) -> None:
        """As `Work.set_number`."""
        self.records[index].attempt = self.number(index)

    def earlier(self, index: int) -> Sequence[Attempt]:
        """As `Work.earlier`."""
        if not self.attempts:
            return ()
        return self.attempts.get(self.redeliveries[index].id if self.is_lane else self.records[index].offset, ())

    def order_key(self, index: int) -> bytes | None:
        """As `Work.order_key`: the lane keeps the order of each key, and the log waits as a whole."""
        return self.records[index].key_bytes if self.is_lane else None

    def alone(self, index: int) -> PartitionWork:
        """As `Work.alone`."""
        found = self.redeliveries[index : index + 1]
        return PartitionWork(self.membership, self.partition, [self.records[index]], self.attempts, found)

    def facts(self, index: int) -> dict[str, object]:
        """As `Work.facts`."""
        record = self.records[index]
        return {
            "consumer_group": self.membership.listener.group,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
        }

    def delivery(self, index: int, key: str | None = None) -> Delivery:
        """One of the records and whom it is for."""
        listener, group_id, _ = self.membership
        return Delivery(
            listener.group,
            group_id,
            listener.name,
            self.partition.lane.partition_id,
            self.records[index],
            self.redeliveries[index] if self.is_lane else None,
            key,
        )

    # -- failures -------------------------------------------------------------------------------------------------

    def can_give_up(self, index: int) -> bool:
        """Whether there is a dead-letter topic with enough partitions, or can be none."""
        topic = self.records[index].topic
        name = dead_letter_topics.name_for(topic)
        if name is None:
            return True
        try:
            return len(topics.lookup(name).partition_ids) >= len(topics.lookup(topic).partition_ids)
        except TopicNotFound:
            return False

    def prepare(self) -> None:
        """Makes sure of the topic's dead-letter topic."""
        topic = self.partition.lane.topic
        dead_letter_topics.prepare(topic, len(topics.lookup(topic).partition_ids))

    def keep_attempts(
        self, indexes: Sequence[int], duration_ms: int, failure: Failure, delay_ms: int | None, worker: str
    ) -> None:
        """As `Work.keep_attempts`."""
        failing = [self.delivery(index) for index in indexes]
        numbers = [self.number(index) for index in indexes]
        deliveries.all_failed(failing, numbers, duration_ms, failure, delay_ms, worker)

    def retry(self, index: int, delay_ms: int) -> Outcome:
        """It waits at the head of its partition, or in the lane."""
        is_parked = self.is_lane or not self.membership.listener.policy.blocking
        if is_parked:
            delivery = self.delivery(index)
            redeliveries.park(delivery, delay_ms)
            if delivery.redelivery is None:
                deliveries.follow_into_lane(delivery)
        return Outcome(is_parked)

    def give_up(self, index: int, reason: str, failure: Failure | None, key: str | None) -> Outcome:
        """As `Work.give_up`; it goes to the dead-letter topic, too."""
        try:
            return Outcome(False, dead_letters.give_up(self.delivery(index, key), reason, failure))
        except TopicNotFound:  # somebody has deleted the dead-letter topic just now
            raise Again({}, prepare=True) from None

    # -- the end --------------------------------------------------------------------------------------------------

    def clear_up(self, through: Sequence[int], skipped: Collection[int]) -> None:
        """Removes attempts, and rows of the lane."""
        if self.is_lane:
            done = [self.delivery(index) for index in through]
            if redeliveries.settle(done, {self.redeliveries[index].id for index in skipped}) != len(done):
                raise ClaimLost  # somebody has emptied the lane
        if self.is_numbered:
            tried = [index for index in through if self.with_care or self.earlier(index)]
            deliveries.forget([self.delivery(index) for index in tried])

    def settlement(self, passed: int, through: Sequence[int]) -> Settlement:
        """The offset, under the claim; without one it only asks whether the claim holds."""
        partition = self.partition
        following = partition.handled if self.is_lane else partition.end_of(passed)
        self._past_care = partition.is_past_care(following)
        parameters = (
            self.membership.group_id,
            self.membership.member,
            partition.lane.partition_id,
            partition.claim,
            following if following != partition.handled else None,
            self._past_care,
        )
        return Settlement(SQL.settle, parameters)

    def committed(self, answer: tuple[Any, ...], passed: int, verdicts: Sequence[Verdict]) -> Settled:
        """The partition moves on, or waits for its head and remembers the attempt."""
        partition = self.partition
        for verdict in verdicts:
            if verdict.waits:
                self._wait(verdict)
        if self._past_care:
            partition.is_marked = False
        if not self.is_lane:
            partition.pass_over(passed)
            if partition.careful_until is not None and partition.handled >= partition.careful_until:
                partition.careful_until = None
        return Settled(passed, any(verdict.outcome.is_parked for verdict in verdicts), *answer)

    def _wait(self, verdict: Verdict) -> None:
        assert verdict.retry_ms is not None
        assert verdict.failure is not None
        offset, now = self.records[verdict.place].offset, datetime.now(UTC)
        self.partition.waits_until = time.monotonic() + verdict.retry_ms / 1000
        attempt = Attempt(verdict.number, now, now, verdict.failure.exception_class, verdict.retry_ms)
        self.partition.attempts.setdefault(offset, []).append(attempt)
