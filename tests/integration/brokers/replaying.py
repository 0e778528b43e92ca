"""Dead letters of a topic and a group of their own, and a consumer made by hand: what tests of replays begin with."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import psycopg
from django.db import transaction

from brokers import dead_letter_topics, dead_letters, failure_counts, redeliveries, topics
from brokers.database import conninfo
from brokers.dead_letters import Origin, Payload
from brokers.deliveries import Delivery
from brokers.failure import Failure, describe
from brokers.models import ConsumerGroup, DeadLetter, Redelivery, ReplayItem
from brokers.record import JSON, Record
from brokers.replays import runner
from brokers.selectors import replays as reads
from brokers.selectors.dead_letter_filter import Filter
from tests.server import unique


def failure(message: str = "no plane") -> Failure:
    """A failure whose fingerprint is its message."""
    try:
        raise LookupError(message)
    except LookupError as error:
        return describe(error)


class Stage:
    """A topic of three partitions, and a group that failed. `handled` are the records that its consumer has seen."""

    def __init__(self, topic: str | None = None, group: str | None = None) -> None:
        self.topic = topic or topics.create(unique("stage"), partitions=3).name
        self.group = group or unique("group")
        self.group_id = ConsumerGroup.objects.get_or_create(name=self.group)[0].pk
        self.partition_ids = topics.lookup(self.topic).partition_ids
        self.handled: list[Record] = []
        self.offset = 0

    def letter(self, key: bytes | None = b"k", value: bytes | None = b'{"n":1}', **changes: Any) -> int:
        """One more dead letter, on the partition named or the first one."""
        partition = changes.pop("partition", 0)
        payload = Payload(key, value, changes.pop("encoding", JSON), changes.pop("headers", {}))
        self.offset += 1
        origin = Origin(
            source_kind=changes.pop("source_kind", "topic"),
            source=self.topic,
            group=self.group,
            group_id=self.group_id,
            partition_id=self.partition_ids[partition],
            partition=partition,
            offset=changes.pop("offset", self.offset),
            timestamp=1_700_000_000_000,
            **changes,
        )
        with transaction.atomic():
            return dead_letters.add(origin, payload, "exception", failure())

    def letters(self, count: int, **changes: Any) -> list[int]:
        return [self.letter(**changes) for _ in range(count)]

    def many(self, count: int) -> None:
        """So many dead letters in two statements, a hundred keys, on all partitions."""
        sample = self.letter()
        group = DeadLetter.objects.values_list("failure_group_id", flat=True).get(pk=sample)
        with psycopg.connect(conninfo()) as conn:
            conn.execute(
                "with made as (insert into brokers_dead_letter (reason, failure_group_id, source_kind, source,"
                " group_name, partition_id, partition, record_offset, record_timestamp, size, first_failed_at,"
                " failed_at) select 'exception', %s, 'topic', %s, %s, (%s::int[])[n %% 3 + 1], n %% 3, n, 0, 9, now(),"
                " now() from generate_series(1, %s) n returning id, record_offset)"
                " insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)"
                " select id, 1, (record_offset %% 100)::text::bytea, '{\"n\":1}', 1, '{}' from made",
                [group, self.topic, self.group, list(self.partition_ids), count - 1],
            )

    @property
    def all(self) -> Filter:
        """Every dead letter of this topic and group."""
        return Filter(source=self.topic, group=self.group)

    def consume(self, fails: Callable[[Record], str | None] = lambda _: None, skips: Collection[int] = ()) -> int:
        """Handles what is due in the group's lanes, as a listener does; `fails` names what a record fails with."""
        before = len(self.handled)
        dead_letter_topics.prepare(self.topic, len(self.partition_ids))
        for partition_id in self.partition_ids:
            while found := redeliveries.due(self.group_id, partition_id, 100):
                for redelivered, record in found:
                    delivery = Delivery(self.group, self.group_id, "handler", partition_id, record, redelivered)
                    self.handled.append(record)
                    message = fails(record)
                    with transaction.atomic():
                        if message is None:
                            skipped = [redelivered.id] if redelivered.dead_letter_id in skips else []
                            assert redeliveries.settle([delivery], skipped) == 1
                        else:
                            dead_letters.give_up(delivery, "exception", failure(message))
        return len(self.handled) - before

    def in_lane(self) -> int:
        return Redelivery.objects.filter(group_id=self.group_id).count()


def ids(*numbers: int) -> Filter:
    return Filter(ids=tuple(numbers))


def states(numbers: Sequence[int]) -> list[str]:
    """States of dead letters, in the order given."""
    found = dict(DeadLetter.objects.filter(pk__in=numbers).values_list("pk", "state"))
    return [found.get(number, "none") for number in numbers]


def outcomes(replay_id: int) -> dict[int, tuple[str, str]]:
    """Outcome and why by dead letter, in order."""
    items = ReplayItem.objects.filter(replay_id=replay_id).order_by("position")
    return {item.dead_letter_id: (item.outcome, item.why) for item in items}


def check_counters(replay_id: int) -> None:
    """The counters say what the items say, folded or not."""
    for fold in (False, True):
        if fold:
            failure_counts.fold()
        replay = reads.get(replay_id)
        items = list(ReplayItem.objects.filter(replay_id=replay_id))
        counted = [item.outcome for item in items]
        assert replay.sent == sum(item.sent_at is not None for item in items)
        assert replay.succeeded == counted.count("succeeded")
        assert replay.failed_again == counted.count("failed_again")
        assert replay.skipped == counted.count("skipped")
        assert replay.waiting == counted.count("waiting")
        assert replay.total + sum(replay.skips.values()) == len(items)


def state(replay_id: int) -> str:
    return reads.get(replay_id).state


def run_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Moves replays until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        runner.advance()
