"""The partitions that a member owns, and whose turn it is: log and lane of each, one transaction after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Final

from brokers import deliveries, group_views, redeliveries, topic_log, topics
from brokers.database import sync_cursor
from brokers.deliveries import Attempt
from brokers.errors import NoCommittedOffset, OffsetOutOfRange, TopicNotFound
from brokers.group_views import Lane, View
from brokers.listeners.delivery import MAX_SAVEPOINTS
from brokers.listeners.keeper import SQL
from brokers.listeners.partition_deliverer import PartitionDeliverer
from brokers.listeners.partition_work import PartitionWork
from brokers.listeners.partitions import Partition
from brokers.listeners.registration import Listener
from brokers.listeners.work import Settled
from brokers.record import Record

log = logging.getLogger("waystation.listeners")

READ_RECORDS: Final = 1000
"""Records read at once, of one partition; they are handled in transactions of `max_poll_records`."""
READ_AHEAD: Final = 16
"""With more partitions than that, what was read and not handled at once is read again."""


class Owned:
    """What one member owns, as far as it knows."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._group_id = 0
        self._member = 0
        self._partitions: dict[int, Partition] = {}
        self._turns: list[Partition] = []
        """Whose turn is next comes first."""
        self._refused: set[tuple[int, int]] = set()
        """Partitions and claims without a place to begin, as `auto_offset_reset` is none."""
        self.generation = -1
        self.is_paused = False
        self.has_doubts = False
        """Something suggests that the group has changed: look soon."""

    def places(self) -> list[tuple[str, int]]:
        """Topics and numbers of the partitions."""
        return sorted((partition.lane.topic, partition.lane.number) for partition in self._turns)

    def forget(self) -> None:
        """The next look finds everything new."""
        self._partitions, self._turns, self.generation = {}, [], -1

    # -- looking --------------------------------------------------------------------------------------------------

    def look(self, member_id: str) -> View:
        """Asks what the member owns now, and where what is new begins. Raises `UnknownMember` and `Unavailable`."""
        view = group_views.look(self._listener.group, member_id)
        self.has_doubts = False
        self._group_id, self._member = view.group_id, view.member
        lanes = {lane.partition_id: lane for lane in view.lanes()}
        kept = {
            number: partition
            for number, partition in self._partitions.items()
            if number in lanes and lanes[number].claim == partition.claim
        }
        for number, partition in kept.items():
            partition.lane = lanes[number]
            if partition.lane.latest > partition.position:
                partition.is_dry = False
        taken = self._take(view, [lane for number, lane in lanes.items() if number not in kept])
        changed = bool(taken) or len(kept) < len(self._partitions)
        self._partitions = kept | taken
        self._turns = [partition for partition in self._turns if kept.get(partition.lane.partition_id) is partition]
        self._turns += taken.values()
        self.generation, self.is_paused = view.generation, view.paused
        self._look_into_lanes(list(self._partitions))
        if changed:
            facts = {"handler": self._listener.name, "consumer_group": self._listener.group}
            places = [f"{topic}/{number}" for topic, number in self.places()]
            log.info("partitions assigned", extra=facts | {"generation": view.generation, "partitions": places})
        return view

    def _take(self, view: View, lanes: Sequence[Lane]) -> dict[int, Partition]:
        """New claims: where to begin, what was tried before, and whether with care."""
        if not lanes:
            return {}
        with sync_cursor() as cursor:
            asked = (self._group_id, [lane.partition_id for lane in lanes])
            careful = {row[0] for row in cursor.execute(SQL.careful, asked).fetchall()}
        taken = {}
        for lane in lanes:
            start = self._start(view, lane)
            if start is not None:
                taken[lane.partition_id] = self._begin(lane, start, lane.partition_id in careful)
        return taken

    def _start(self, view: View, lane: Lane) -> int | None:
        try:
            start, by_policy = lane.start(None, view.reset)
        except (NoCommittedOffset, OffsetOutOfRange) as error:
            if (lane.partition_id, lane.claim) not in self._refused:
                self._refused.add((lane.partition_id, lane.claim))
                log.error("partition not read", extra={"handler": self._listener.name, "error": error.detail})
            return None
        if by_policy and lane.committed is None:
            group_views.pin(self._group_id, self._member, lane, start)
        elif by_policy:
            facts = {"handler": self._listener.name, "topic": lane.topic, "partition": lane.number}
            log.warning("records removed before they were read", extra=facts | {"from": lane.committed, "to": start})
        return start

    def _begin(self, lane: Lane, start: int, is_careful: bool) -> Partition:
        partition = Partition(lane, start, start, is_dry=start >= lane.latest)
        partition.attempts = deliveries.pending(self._group_id, lane.partition_id, start)
        if is_careful:
            partition.is_marked = True
            partition.careful_until = min(start + self._listener.max_poll_records, lane.latest)
            partition.careful_redelivery = redeliveries.newest(self._group_id, lane.partition_id)
        before = partition.attempts.get(start)
        if before and before[-1].ended_at is not None and before[-1].delay_ms:
            left = deliveries.back_off_left(self._group_id, lane.partition_id, start)
            partition.waits_until = time.monotonic() + left
        return partition

    def _look_into_lanes(self, partition_ids: Collection[int]) -> None:
        if not partition_ids:
            return
        due, now = redeliveries.next_due(self._group_id, partition_ids), time.monotonic()
        for number in partition_ids:
            partition = self._partitions[number]
            seconds = due.get(number)
            partition.lane_due_at = None if seconds is None else now + seconds
            if seconds != 0.0:
                partition.careful_redelivery = 0  # all that was due at the takeover has been tried

    def hear(self, records: Collection[int], lanes: Collection[int]) -> None:
        """Hints for partitions. One that is not owned, or has nothing new, means that the group may have changed."""
        for number in records:
            partition = self._partitions.get(number)
            if partition is None:
                self.has_doubts = True
            else:
                partition.is_dry = False
                partition.was_announced = True
        self._look_into_lanes([number for number in lanes if number in self._partitions])

    # -- serving --------------------------------------------------------------------------------------------------

    def wait_seconds(self, now: float) -> float:
        """Seconds until a back-off is over or a redelivery is due."""
        waits = [seconds for partition in self._turns if (seconds := partition.wait_seconds(now)) is not None]
        return min(waits, default=float("inf")) if not self.is_paused else float("inf")

    def serve(self, deliverer: PartitionDeliverer) -> Settled | None:
        """One transaction for the partition whose turn it is; None when there is nothing to do now.

        Raises `ClaimLost` and `Unavailable`.
        """
        if self.is_paused:
            return None
        for _ in range(len(self._turns)):
            partition = self._turns.pop(0)
            self._turns.append(partition)
            settled = self._serve(partition, deliverer)
            if settled is not None:
                return settled
        return None

    def _serve(self, partition: Partition, deliverer: PartitionDeliverer) -> Settled | None:
        now = time.monotonic()
        lane_first = partition.serve_lane_next
        partition.serve_lane_next = not lane_first
        settled = None
        if lane_first and partition.is_lane_ready(now):
            settled = self._serve_lane(partition, deliverer)
        if settled is None and partition.is_log_ready(now):
            settled = self._serve_log(partition, deliverer)
        if settled is None and not lane_first and partition.is_lane_ready(now):
            settled = self._serve_lane(partition, deliverer)
        return settled

    def _serve_log(self, partition: Partition, deliverer: PartitionDeliverer) -> Settled | None:
        if not partition.has_read():
            self._read(partition)
        if not partition.has_read() and partition.position == partition.handled:
            return None
        is_careful = partition.is_careful
        alone = is_careful or self._listener.ack_mode == "record"
        records = partition.upcoming(1 if alone else self._listener.max_poll_records)
        if partition.attempts and self._listener.batch:
            records = _alike(records, partition.attempts)
        work = PartitionWork(deliverer.membership, partition, records, partition.attempts, with_care=is_careful)
        settled = deliverer.deliver(work)
        if partition.has_read() and len(self._turns) > READ_AHEAD:
            partition.rewind(partition.handled)
        return settled

    def _read(self, partition: Partition) -> None:
        lane = partition.lane
        limit = READ_RECORDS if len(self._turns) <= READ_AHEAD else self._listener.max_poll_records
        try:
            if topics.lookup(lane.topic).partition_id(lane.number) != lane.partition_id:
                raise TopicNotFound(f"{lane.topic} was deleted and made anew")
            found = topic_log.fetch(lane.topic, lane.number, partition.position, limit)
        except OffsetOutOfRange:  # the next look begins by policy
            self._partitions.pop(lane.partition_id)
            self._turns.remove(partition)
            self.has_doubts = True
            return
        partition.fill(found.records, found.next_offset)
        partition.is_dry = found.next_offset >= found.latest_offset
        self.has_doubts |= partition.was_announced and not found.records
        partition.was_announced = False

    def _serve_lane(self, partition: Partition, deliverer: PartitionDeliverer) -> Settled | None:
        limit = 1 if self._listener.ack_mode == "record" else min(self._listener.max_poll_records, MAX_SAVEPOINTS)
        number = partition.lane.partition_id
        rows = redeliveries.due(self._group_id, number, limit)
        if not rows:
            self._look_into_lanes([number])
            return None
        is_careful = rows[0][0].id <= partition.careful_redelivery
        if is_careful:
            rows = rows[:1]
        rows = list(takewhile(lambda row: is_careful or row[0].id > partition.careful_redelivery, rows))
        found = [redelivery for redelivery, _ in rows]
        records: list[Record] = [record for _, record in rows]
        attempts = deliveries.pending_redeliveries(redelivery.id for redelivery in found)
        work = PartitionWork(deliverer.membership, partition, records, attempts, found, is_careful)
        return deliverer.deliver(work)


def _alike(records: Sequence[Record], attempts: dict[int, list[Attempt]]) -> Sequence[Record]:
    """The first records that were tried as often as the first: what failed together is retried together."""
    tried = len(attempts.get(records[0].offset, ()))
    for index, record in enumerate(records):
        if len(attempts.get(record.offset, ())) != tried:
            return records[:index]
    return records
